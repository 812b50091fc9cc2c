import os
from dataclasses import replace

import pytest

from tomovault.core.scan import Certificate, FileRole, FileState, ScanFile, ScanReport, Verdict
from tomovault.vault.whose import whose


@pytest.fixture
def told(town):
    """Called for whose a scan is that lies at a path below the area."""

    def ask(below, *, uid=None, template=None, of_area=None, **metadata):
        state = FileState("a.edf", 1, 1, 1, 1, 1, 0o100644, uid=os.getuid() if uid is None else uid)
        files = (ScanFile(state, FileRole.PROJECTION),) if uid != -1 else ()
        report = ScanReport(
            "edf", "x", f"{town.area}/{below}", "", "i", Certificate(Verdict.COMPLETE), files, **metadata
        )
        return whose(report, replace(town.vault.site.areas["inhouse"], template=template, beamline=of_area))

    return ask


def test_the_path_says_more_than_the_files_owner_and_that_more_than_the_metadata(told):
    metadata = {"proposal": "md1", "sample": "bone", "owner": "eve", "beamline": "BM05"}
    found = told("ma42/foam/scan1", uid=4_000_000, template="{proposal}/{sample}", of_area="ID19", **metadata)
    assert found == {
        "proposal": ("ma42", "path"),
        "sample": ("foam", "path"),
        "owner": ("uid 4000000", "file owner"),
        "beamline": ("ID19", "tomovault.yaml"),
    }
    assert told("x", uid=-1, **metadata) == {k: (v, "metadata") for k, v in metadata.items()}


def test_an_owner_in_the_path_is_the_owner(told):
    assert told("anna/x", template="{owner}")["owner"] == ("anna", "path")


@pytest.mark.parametrize(
    ("below", "template", "proposal"),
    [
        ("ma42", "{proposal}", "ma42"),
        ("ma42/deep/er", "{proposal}", "ma42"),
        ("raw.d/ma42/x", "raw.d/{proposal}", "ma42"),
        ("rawxd/ma42/x", "raw.d/{proposal}", None),
        ("ma42", "{proposal}/{sample}", None),
        ("n\udcff/x", "{proposal}", "n\\xff"),
    ],
)
def test_a_template_names_parts_of_the_path(told, below, template, proposal):
    assert told(below, template=template).get("proposal", (None,))[0] == proposal


def test_nothing_is_made_up(told):
    assert told("x", uid=-1) == {}
