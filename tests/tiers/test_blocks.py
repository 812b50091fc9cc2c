import hashlib
import os

import pytest

from tomovault.core.errors import IntegrityError
from tomovault.core.replica import StoredFile
from tomovault.tiers.blocks import deliver


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "..", ".", "", "a/b", "a\0b", "\ud800", "x" * 256])
def test_nothing_is_delivered_but_into_the_folder(tmp_path, name):
    stored = StoredFile("far:1", 4, hashlib.sha256(b"ours").hexdigest())
    (tmp_path / "in" / "a").mkdir(parents=True)
    with pytest.raises(IntegrityError, match="no file's name"):
        deliver(stored, name, str(tmp_path / "in"), iter([b"ours"]), lambda _count: None)
    assert not any(files for _, _, files in os.walk(tmp_path))
