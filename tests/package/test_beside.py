import json

import pytest

from tomovault.core.errors import UserError
from tomovault.package.beside import write_beside
from tomovault.package.names import beside_name, stem_of


def test_the_manifest_stands_beside_its_package(series):
    written = series.pack()
    package = written.files[0].location
    place = series.vault / beside_name(stem_of(package))
    place.write_text("of another package")
    write_beside(package, "j7")
    assert place.read_text("utf-8") == written.manifest
    assert json.loads(place.read_text("utf-8"))["files"]
    assert [p.name for p in series.vault.iterdir() if "j7" in p.name] == []


def test_what_is_no_package_has_nothing_beside_it(series):
    (series.vault).mkdir(exist_ok=True)
    with pytest.raises(UserError):
        write_beside(str(series.vault / "notes.txt"), "j7")
    assert list(series.vault.iterdir()) == []
