"""Symbolic links seen in areas, and those that lead to files of a scan."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

from tomovault.catalog import tables
from tomovault.catalog.links import drop_other_links, links_to_scan, note_links
from tomovault.core.replica import Form

AREA = "inhouse"
ROOT = "/data/inhouse/s1"


@pytest.fixture
def note(site, now):
    def note(at, /, **links):
        with site.writing() as tx:
            note_links(tx, AREA, at, links, now)

    return note


@pytest.fixture
def known(site):
    """Every link that is known, with where it leads."""

    def known():
        with site.reading() as tx:
            return {row.path: row.leads_to for row in tx.rows(select(tables.link))}

    return known


@pytest.fixture
def leading(site):
    def leading(scan_id):
        with site.reading() as tx:
            return [link.path for link in links_to_scan(tx, site.known(tx, scan_id))]

    return leading


def test_links_are_known_as_they_were_seen_last(note, known):
    note("/data/inhouse/a", one="../s1/a.edf", two="/data//elsewhere/./x", **{"odd \udcff": "/"})
    assert known() == {
        "/data/inhouse/a/one": "/data/inhouse/s1/a.edf",
        "/data/inhouse/a/two": "/data/elsewhere/x",
        "/data/inhouse/a/odd \udcff": "/",
    }
    note("/data/inhouse/a", one="b", three="//server/c")
    assert known() == {"/data/inhouse/a/one": "/data/inhouse/a/b", "/data/inhouse/a/three": "/server/c"}
    note("/data/inhouse/a")
    assert known() == {}


def test_what_a_first_sweep_did_not_see_is_known_no_more(site, note, known):
    note("/data/inhouse/a", one="x")
    note("/data/inhouse/b", one="x")
    with site.writing() as tx:
        drop_other_links(tx, AREA, {"/data/inhouse/b"})
    assert list(known()) == ["/data/inhouse/b/one"]
    with site.writing() as tx:
        drop_other_links(tx, AREA, ())
    assert known() == {}


def test_links_from_elsewhere_lead_to_a_scan(site, note, scan_id, leading):
    note("/data/inhouse", folder="s1", slashed="s1/", beside="s12/a.edf", above=".")
    note("/data/inhouse/paper", figure="/data/inhouse/s1/deep/a.edf", other="/data/inhouse/s2")
    note(ROOT, inside="a.edf")
    assert leading(scan_id) == ["/data/inhouse/folder", "/data/inhouse/paper/figure", "/data/inhouse/slashed"]


def test_of_scans_in_one_folder_each_has_its_own(site, make, now, note, scan_id, leading):
    """By the manifest: a link to a file of another scan, or to a folder without a file of this one, is not meant."""
    text = json.dumps({"files": [{"path": "a.edf", "role": "side"}, {"path": "below/b.edf", "role": "side"}]})
    there = make.stored(AREA, "disk", form=Form.FILES, location=ROOT, size=150)
    with site.writing() as tx:
        site.apply_records(tx, [make.made(manifest=text), there], now, scan_id=scan_id)
    note("/data/inhouse/paper", one="../s1/a.edf", below="../s1/below", no="../s1/other.edf", folder="../s1/empty")
    note(ROOT, latest="a.edf", other="other.edf")
    assert leading(scan_id) == ["/data/inhouse/paper/below", "/data/inhouse/paper/one", f"{ROOT}/latest"]
