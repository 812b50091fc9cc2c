import dataclasses
import hashlib
import json
import os

import pytest

from tomovault.core.errors import IntegrityError
from tomovault.core.wire import to_plain
from tomovault.tiers.sidecar import SIDECAR, read_sidecar, sidecar_text


@pytest.fixture
def read(tmp_path):
    """Called with the text of a sidecar."""

    def run(text):
        (tmp_path / SIDECAR).write_bytes(text)
        folder = os.open(tmp_path, os.O_RDONLY)
        try:
            return read_sidecar(folder)
        finally:
            os.close(folder)

    return run


def text_of(parcel):
    """What a sidecar would be that says this, and has the right digest."""
    body = json.dumps(to_plain(parcel))
    return json.dumps(
        {"tomovault-parcel": 1, "sha256": hashlib.sha256(body.encode()).hexdigest(), "parcel": to_plain(parcel)}
    ).encode()


@pytest.mark.parametrize("lie", [{"location": "../s.0.h5"}, {"location": "/etc/s.0.h5"}, {"size": -1}])
def test_a_sidecar_names_files_that_can_be_beside_it(read, parcel, lie):
    sent = read(sidecar_text(parcel("s", b"s")))
    assert read(text_of(sent)) == sent
    wrong = dataclasses.replace(sent, files=(dataclasses.replace(sent.files[0], **lie),))
    with pytest.raises(IntegrityError, match="it names"):
        read(text_of(wrong))


def test_a_sidecar_of_brackets_is_damaged(read):
    with pytest.raises(IntegrityError, match="damaged"):
        read(b"[" * 100_000)
