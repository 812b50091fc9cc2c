"""The folders that a site names, from the file to the walker."""

import pytest

from tomovault.core.errors import UserError
from tomovault.vault.area_formats import format_of, formats_of
from tomovault.vault.site import load_site
from tomovault.watch.listing import list_folder


@pytest.fixture
def load(tmp_path):
    (tmp_path / "site").mkdir()

    def make(text):
        (tmp_path / "site" / "tomovault.yaml").write_text(text, "utf-8")
        return load_site(tmp_path / "site")

    return make


def test_a_named_folder_is_a_candidate_in_its_area_only(load, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "other" / "exp").mkdir(parents=True)
    text = "areas:\n  a: {path: ../a, folders: ['other/*'], folder_done: '*.done'}\n  b: {path: ../b}\n"
    site = load(text)
    found = {}
    for name, area in site.areas.items():
        listing = list_folder(str(tmp_path / name / "other" / "exp"))
        found[name] = [c for kind in formats_of(area) for c in kind.recognise(listing)]
    assert [(c.format, c.key) for c in found["a"]] == [("folder", "*.done")]
    assert found["b"] == []
    assert format_of(site.areas["b"], "edf").name == "edf"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("folders: ['/x']", "not a pattern of folders"),
        ("folders: ['a/../b']", "not a pattern of folders"),
        ("folders: ['']", "not a pattern of folders"),
        ("folders: ['x'], folder_done: 'a/b'", "a file in the folder itself"),
        ("folder_done: DONE", "there are none"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(load, keys, words):
    with pytest.raises(UserError, match=words):
        load(f"areas: {{a: {{path: /d/a, {keys}}}}}")
