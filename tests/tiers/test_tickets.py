import os
from datetime import UTC, datetime

import pytest

from tomovault.tiers.tickets import Tickets

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def tickets(tmp_path):
    return Tickets(str(tmp_path), "tape")


def test_two_that_ask_for_the_same_at_once_both_have_the_ticket(tickets, tmp_path, monkeypatch):
    real, asked = os.replace, []

    def replace(source, target):
        """Another process asks for the same just before the file has its name."""
        asked.append(source)
        if len(asked) == 1:
            assert Tickets(str(tmp_path), "tape").write(["A1#1"], ["A1#1"], NOW)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    ticket = tickets.write(["A1#1"], ["A1#1"], NOW)
    assert len(set(asked)) == 2
    assert tickets.read(ticket) == ["A1#1"]
    assert os.listdir(tmp_path) == [f"{ticket}.json"]
