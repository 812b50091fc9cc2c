from __future__ import annotations

import pytest

from tomovault.core.errors import UserError
from tomovault.formats import limits
from tomovault.transfer.credentials import TOKEN_VARIABLE, Credentials, read_credentials


@pytest.fixture
def place(tmp_path):
    def write(name, text, mode=0o600):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)

    write.read = lambda env=None: read_credentials(str(tmp_path / "token"), str(tmp_path / "client"), env or {})
    return write


def test_the_environment_goes_before_the_file_and_the_file_before_the_client(place):
    place("client", '{"client_id": "c", "client_secret": "s"}')
    assert place.read() == Credentials(None, "c", "s")
    place("token", "from-the-file\n")
    assert place.read() == Credentials("from-the-file")
    assert place.read({"TOMOVAULT_GLOBUS_TOKEN": " from-the-environment "}) == Credentials("from-the-environment")


def test_without_any_it_is_said_where_to_put_one(place):
    with pytest.raises(UserError) as told:
        place.read({"TOMOVAULT_GLOBUS_TOKEN": " "})
    assert "TOMOVAULT_GLOBUS_TOKEN" in told.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
@pytest.mark.parametrize("name", ["token", "client"])
def test_a_file_that_others_can_read_is_refused(place, name, mode):
    place(name, "secret", mode)
    with pytest.raises(UserError, match="read or written by others") as told:
        place.read()
    assert told.value.hint.startswith("chmod 600")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("token", ""),
        ("token", "two words-of-a-secret"),
        ("token", b"\xff\xfe"),
        ("client", "words-of-a-secret"),
        ("client", '{"client_id": "words-of-a-secret"}'),
        ("client", '{"client_id": "", "client_secret": "words-of-a-secret"}'),
        ("client", "[1]"),
    ],
)
def test_a_file_with_something_else_in_it_is_refused_and_not_quoted(place, name, text):
    place(name, text)
    with pytest.raises(UserError) as told:
        place.read()
    assert "words-of-a-secret" not in told.value.message + told.value.hint


def test_whoever_reads_a_foreign_file_does_not_get_the_token(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    assert "secret" not in limits.child_environment().values()
