"""The text of the project speaks of the project alone."""

import re
import tempfile
from pathlib import Path

# In two pieces each, so that this file does not name one.
REGISTRIES = [
    a + b
    for a, b in [
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("deb.", "debian.org"),
        ("conda", ".io"),
        ("npm", "js.org"),
        ("anaconda", ".org"),
        ("security.", "debian.org"),
    ]
]


def _texts(paths):
    for path in paths:
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            yield path, data.decode("utf-8", "replace")


def test_no_path_of_this_machine(project_files, repository):
    places = {str(repository), str(repository.parent / "shared"), f"{Path.home()}/"} - {"/"}
    places |= {f"{tempfile.gettempdir()}/{name}" for name in ("bash_jobs", "pytest-of")}
    found = [f"{p.name}: {place}" for p, text in _texts(project_files) for place in places if place in text]
    assert found == []


def test_no_registry_is_named(project_files):
    found = [f"{p.name}: {host}" for p, text in _texts(project_files) for host in REGISTRIES if host in text]
    assert found == []


def test_no_unfinished_work_is_left_in_the_code(project_files):
    mark = re.compile(r"#\s*(TODO|FIXME|XXX)\b")
    found = [p.name for p, text in _texts(project_files) if p.suffix == ".py" and mark.search(text)]
    assert found == []
