from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from tomovault.cli import main
from tomovault.core.known import JobStatus
from tomovault.core.record import Inspected, Made, Outcome, Quarantined, Result, Stored
from tomovault.core.replica import Form, ProductKind, StoredFile
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
from tomovault.vault.editing import change_site
from tomovault.vault.setting_up import set_up_site
from tomovault.vault.vault import Vault

ROOM = {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%"}


class Town:
    """A simulated site with one area, and scans put into its catalogue as their jobs would."""

    def __init__(self, base: Path, empty_catalogue: Path, url: str = "") -> None:
        """With a `url` the catalogue is in that database, else in a copy of the `empty_catalogue`."""
        self.base = base
        self.folder = base / "site"
        self.area = base / "inhouse"
        self.area.mkdir()
        (base / "inhouse.vault").mkdir()
        self.folder.mkdir()
        if not url:
            shutil.copy(empty_catalogue, self.folder / "catalogue.db")
        settings = {"catalogue": url} if url else {}
        set_up_site(self.folder, {"inhouse": str(self.area)}, simulated=True, settings=settings)
        self.now = datetime.now(UTC)
        self.vault = Vault.open(self.folder)
        self._count = 0

    def change(self, **changes) -> None:
        """The site's file says this now, and the vault was opened anew."""
        change_site(self.folder, changes)
        self.vault.close()
        self.vault = Vault.open(self.folder)

    def room(self, **more) -> None:
        self.change(areas={"inhouse": {**ROOM, **more}})

    def policy(self, *edits: tuple[str, str]) -> None:
        path = self.folder / "policies" / "standard.yaml"
        text = path.read_text("utf-8")
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text, "utf-8")
        self.vault.close()
        self.vault = Vault.open(self.folder)

    def scan(
        self, name: str, *, size: int = 400, root: str | None = None, paths=("a.edf",), copies: int = 2, **report
    ) -> str:
        """A complete scan with its files, a package and archive copies, all re-read just now; returns its id.

        `report` changes what the format says of it.
        """
        self._count += 1
        at = root or str(self.area / name)
        files = tuple(
            ScanFile(FileState(p, size, 1000, 1000, n + 1, 1, 0o100644), FileRole.PROJECTION)
            for n, p in enumerate(paths)
        )
        told = {
            "format": "edf",
            "certificate": Certificate(Verdict.COMPLETE, FrameCounts(2, 1, 1), FrameCounts(2, 1, 1)),
            "acquired_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=self._count),
        } | report
        seen_as = ScanReport(name=name, root=at, entry=name if root else "", identity=name, files=files, **told)
        catalogue = self.vault.catalogue
        seen = Inspected(Candidate("edf", at, ""), "snap", True, (seen_as,))
        with catalogue.writing() as tx:
            known = catalogue.record_inspected(tx, "inhouse", seen, self.now)[0]
            catalogue.apply_records(tx, self.copies(name, at, size, paths, copies), self.now, scan_id=known)
        return known

    def copies(self, name, at, size, paths, copies) -> list:
        digest = os.fsencode(name).hex().ljust(64, "0")[:64]
        manifest = json.dumps({"files": [{"path": p, "role": "side"} for p in paths]})
        made = Made(ProductKind.ORIGINAL, digest, size, len(paths), manifest=manifest)

        def stored(tier, domain, form, location, count):
            there = (StoredFile(location, count, digest),) if form is Form.PACKAGE else ()
            return Stored(
                ProductKind.ORIGINAL, digest, form, tier, domain, location, there, count, digest, self.now, self.now
            )

        package = str(Path(self.vault.site.areas["inhouse"].vault, f"{name}.{self._count}.tomo.h5"))
        return [
            made,
            stored("inhouse", "area:inhouse", Form.FILES, at, size),
            stored("inhouse", "area:inhouse", Form.PACKAGE, package, size // 2),
            *(stored("tape", f"pool-{n}", Form.PACKAGE, f"A{n}#{self._count}", size // 2) for n in range(copies)),
        ]

    def known(self, scan_id: str):
        with self.vault.catalogue.reading() as tx:
            return self.vault.catalogue.known(tx, scan_id)

    def replica(self, scan_id: str, form: Form):
        return next(r for r in self.known(scan_id).replicas if r.form is form and r.tier == "inhouse")

    def jobs(self, scan_id: str, action: str) -> list:
        return [j for j in self.known(scan_id).jobs if j.action == action]

    def finish(self, action: str, result: Result) -> JobStatus:
        """The oldest job of an action was done, with this result."""
        catalogue = self.vault.catalogue
        with catalogue.writing() as tx:
            job = catalogue.claim_job(tx, "somebody", now=self.now + timedelta(days=9), actions=[action])
            return catalogue.finish_job(tx, job.id, job.token, result, now=self.now, retry_after_s=1.0, max_attempts=1)

    def quarantine(self, scan_id: str) -> str:
        """The scan's open permit is through phase one; returns it."""
        permit = next(p for p in self.known(scan_id).permits if p.phase.value == "granted")
        moved = Quarantined(permit.id, ("a.edf",), permit.bytes)
        assert self.finish("prune", Result(Outcome.SUCCEEDED, (moved,))) is JobStatus.SUCCEEDED
        return permit.id

    def pin(self, scan_id: str) -> None:
        catalogue = self.vault.catalogue
        with catalogue.writing() as tx:
            catalogue.add_pin(tx, scan_id, "anna", "mine", self.now + timedelta(days=1), self.now)

    def rested(self) -> None:
        """Nothing is due: every scan was looked at."""
        catalogue = self.vault.catalogue
        with catalogue.writing() as tx:
            for scan in catalogue.list_scans(tx):
                catalogue.set_next_due(tx, scan.id, None)


@pytest.fixture
def town(tmp_path, empty_catalogue, backend, request):
    url = request.getfixturevalue("postgresql").emptied() if backend == "postgresql" else ""
    made = Town(tmp_path, empty_catalogue, url)
    yield made
    made.vault.close()


@pytest.fixture
def say(town):
    """A command of a person: exit code, standard output and error."""

    def run(*arguments):
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(["--site", str(town.folder), *arguments])
            except SystemExit as end:
                code = int(end.code or 0)
        return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())

    return run


@pytest.fixture
def ask(say):
    """The page of a command that must end with `code`: one JSON object and nothing else."""

    def run(*arguments, code=0):
        said = say(*arguments, "--json")
        assert said.code == code, said
        page = json.loads(said.out)
        assert isinstance(page, dict)
        return page

    return run
