from __future__ import annotations

import shutil
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from tomovault.catalog.catalogue import Catalogue
from tomovault.core.record import Inspected, Made, Stored
from tomovault.core.replica import Form, ProductKind, StoredFile, TierClass
from tomovault.core.scan import (
    Candidate,
    Certificate,
    FileRole,
    FileState,
    FrameCounts,
    ScanFile,
    ScanReport,
    Verdict,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def now():
    return NOW


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "c.db"
    catalogue = Catalogue.open(f"sqlite:///{path}", manifests=str(path.parent))
    catalogue.upgrade(NOW)
    catalogue.close()
    return path


@pytest.fixture
def new_url(request, tmp_path):
    """Called for the URL of a new database, migrated or empty."""

    def make(backend: str, *, migrated: bool = True) -> str:
        if backend == "sqlite":
            path = tmp_path / f"{uuid.uuid4().hex[:8]}.db"
            if migrated:
                shutil.copy(request.getfixturevalue("sqlite_template"), path)
            return f"sqlite:///{path}"
        server = request.getfixturevalue("postgresql")
        return server.emptied() if migrated else server.new_database()

    return make


@pytest.fixture
def url(backend, new_url):
    return new_url(backend)


@pytest.fixture
def catalogue(url, tmp_path):
    opened = Catalogue.open(url, manifests=str(tmp_path / "manifests"))
    yield opened
    opened.close()


@pytest.fixture
def site(catalogue):
    """A catalogue with one area, a vault in it, two archives that count and one that does not."""
    with catalogue.writing() as tx:
        _record_site(catalogue, tx)
    return catalogue


def _record_site(catalogue, tx):
    catalogue.record_area(
        tx,
        "inhouse",
        path="/data/inhouse",
        uuid="u1",
        fsid="f1",
        mount_source="/dev/sda1",
        simulated=False,
        tier_class=TierClass.SERVER,
        now=NOW,
    )
    catalogue.record_tier(tx, "inhouse.vault", TierClass.SERVER, counts=True, area="inhouse")
    catalogue.record_tier(tx, "tape", TierClass.ARCHIVE, counts=True)
    catalogue.record_tier(tx, "emulated", TierClass.ARCHIVE, counts=False)
    catalogue.record_tier(tx, "mirror", TierClass.SERVER, counts=True)


def _file(path="a.edf", size=100, mtime_ns=1_000, role=FileRole.PROJECTION):
    return ScanFile(FileState(path, size, mtime_ns, mtime_ns, 1, 1, 0o100644), role)


def _report(root="/data/inhouse/s1", identity="one", verdict=Verdict.COMPLETE, **more):
    values = {
        "format": "edf",
        "name": root.rsplit("/", 1)[-1],
        "root": root,
        "entry": "",
        "identity": identity,
        "certificate": Certificate(verdict, FrameCounts(2, 1, 1), FrameCounts(2, 1, 1)),
        "files": (_file("a.edf"), _file("b.edf", 50)),
    }
    return ScanReport(**(values | more))


def _inspected(*reports, folder=None, settled=True, snapshot="snap", problem="", key=""):
    at = folder or (reports[0].root if reports else "/data/inhouse/s1")
    return Inspected(Candidate("edf", at, key), snapshot, settled, tuple(reports), problem)


def _digest(letter):
    return letter * 64


def _made(kind=ProductKind.ORIGINAL, digest=None, **more):
    return Made(kind, digest or _digest("d"), 150, 2, **more)


def _stored(
    tier="tape",
    domain="pool-a",
    *,
    kind=ProductKind.ORIGINAL,
    digest=None,
    form=Form.PACKAGE,
    location=None,
    size=60,
    verified_at=NOW,
    **more,
):
    place = location or f"/{tier}/{domain}/x"
    return Stored(
        kind,
        digest or _digest("d"),
        form,
        tier,
        domain,
        place,
        (StoredFile(place, size, _digest("e")),),
        size,
        _digest("e"),
        NOW,
        verified_at,
        **more,
    )


@pytest.fixture
def make():
    """Makers of reports and records."""
    return SimpleNamespace(
        file=_file,
        report=_report,
        inspected=_inspected,
        digest=_digest,
        made=_made,
        stored=_stored,
        site=_record_site,
        day=timedelta(days=1),
    )


@pytest.fixture
def scan_id(site, make):
    """A complete scan."""
    with site.writing() as tx:
        return site.record_inspected(tx, "inhouse", make.inspected(make.report()), NOW)[0]


@pytest.fixture
def archived(site, scan_id, make):
    """A complete scan with its files, a package in the vault and two archive copies; gives replica ids by place."""
    files = make.stored("inhouse", "disk", form=Form.FILES, location="/data/inhouse/s1", size=150)
    with site.writing() as tx:
        site.apply_records(
            tx,
            [
                files,
                make.made(),
                make.stored("inhouse.vault", "disk"),
                make.stored("tape", "pool-a"),
                make.stored("tape", "pool-b"),
            ],
            NOW,
            scan_id=scan_id,
        )
        scan = site.known(tx, scan_id)
    ids = {f"{r.tier}/{r.domain}": r.id for r in scan.replicas}
    return SimpleNamespace(id=scan_id, replica=ids)
