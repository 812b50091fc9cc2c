"""What became of a life: its facts, what is lost, and whether what is called verified re-reads."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tomovault.catalog.jobs import count_jobs
from tomovault.catalog.permits import RemovalPhase
from tomovault.core.known import JobStatus
from tomovault.core.ports import Placed
from tomovault.core.replica import Form, ProductKind, ReplicaState
from tomovault.vault.scan_pages import scan_page
from tomovault.vault.vault import Vault
from tomovault.vault.workbench import open_tier
from tomovault.watch.guard import NoThrottle

#: The scans of a life, each with the name of its area, which is that of its format.
SCANS = {"alpha": "edf", "beta_0001": "bliss"}


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by its path there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Checks:
    """What can be asked of a life. It has `base`, the folder of its `site`, and the `sources` as they were written."""

    base: Path
    sources: Path
    site: Path

    @contextmanager
    def vault(self) -> Iterator[Vault]:
        vault = Vault.open(self.site, upgrade=False)
        try:
            yield vault
        finally:
            vault.close()

    def known(self) -> dict[str, Any]:
        with self.vault() as vault, vault.catalogue.reading() as tx:
            ids = [vault.catalogue.find_scans(tx, name) for name in SCANS]
            return {rows[0][1]: vault.catalogue.known(tx, rows[0][0]) for rows in ids if rows}

    def jobs(self) -> dict[str, int]:
        """How many jobs are in each status but success."""
        with self.vault() as vault, vault.catalogue.reading() as tx:
            return {s.value: n for s, n in count_jobs(tx).items() if s is not JobStatus.SUCCEEDED}

    def facts(self) -> dict[str, Any]:
        """The final facts without ids, dates and places on tape, which no two lives have in common."""
        now = datetime.now(UTC)
        facts: dict[str, Any] = {"jobs": self.jobs()}
        with self.vault() as vault, vault.catalogue.reading() as tx:
            facts["differences"] = list(vault.catalogue.recount(tx))
            for name in SCANS:
                ((scan_id, *_),) = vault.catalogue.find_scans(tx, name)
                scan = vault.catalogue.known(tx, scan_id)
                page = scan_page(vault.view(scan, vault.area_facts(tx, scan.area, now), now), now)
                facts[name] = self._plain(scan, page)
        facts["files"] = self.listing()
        return json.loads(json.dumps(facts))

    def _plain(self, scan: Any, page: Mapping[str, Any]) -> dict[str, Any]:
        forms = {r.id: (r.product.value, r.form.value, r.tier) for r in scan.replicas}
        return {
            "verdict": page["verdict"],
            "settled": page["settled"],
            "stages": page["stages"],
            "products": sorted([p.kind.value, p.bytes, p.files, p.digest * p.lossless] for p in scan.products),
            "replicas": sorted(
                [
                    *forms[r.id],
                    r.domain,
                    r.state.value,
                    r.verified_at is not None,
                    r.digest * (r.product is ProductKind.ORIGINAL),
                    r.location.removeprefix(str(self.base)) if r.location.startswith("/") else "",
                ]
                for r in scan.replicas
            ),
            "permits": sorted(
                [*forms[p.replica], p.phase.value, p.rule, p.files, sorted(p.left)] for p in scan.permits
            ),
            "pins": sorted([p.owner, p.reason, p.tier or ""] for p in scan.pins),
        }

    def listing(self) -> list[str]:
        """Every file and folder that is not a log, a lock, or the content of a cartridge."""
        every = [str(p.relative_to(self.base)) for p in sorted(self.base.rglob("*"))]
        ignored = re.compile(r"output$|flags|once|passes|site/(catalogue\.db-(wal|shm)|run/.*log|tape/(locks|drives)/)")
        return [path for path in every if not ignored.match(path)]

    def lost(self) -> list[str]:
        """Original files that are neither in place nor in quarantine, though no permit says that they may be gone."""
        known = self.known()
        gone = (RemovalPhase.LEAVING, RemovalPhase.GONE)
        lost = []
        for name, kind in SCANS.items():
            scan = known.get(name)
            files = {r.id for r in scan.replicas if r.form is Form.FILES} if scan else set()
            if scan and any(p.phase in gone and p.replica in files for p in scan.permits):
                continue
            area = self.base / kind
            quarantined = set(digests(area / ".tomovault").values()) if (area / ".tomovault").exists() else set()
            for path, digest in digests(self.sources / kind).items():
                in_place = area / path
                here = in_place.exists() and hashlib.sha256(in_place.read_bytes()).hexdigest() == digest
                if not here and digest not in quarantined:
                    lost.append(path)
        return lost

    def lying(self, *, tape: bool) -> list[str]:
        """Replicas that are called verified and do not re-read to their digests."""
        wrong = []
        with self.vault() as vault, vault.catalogue.reading() as tx:
            for scan in self.known().values():
                for replica in scan.replicas:
                    if replica.state is not ReplicaState.VERIFIED or replica.form is not Form.PACKAGE:
                        continue
                    parts = tuple(vault.catalogue.replica_parts(tx, replica.id))
                    if replica.tier in SCANS.values():
                        right = all(
                            hashlib.sha256(Path(p.location).read_bytes()).hexdigest() == p.sha256 for p in parts
                        )
                        problem = "" if right else "other bytes"
                    elif tape:
                        tier = open_tier(vault.site, replica.tier)
                        placed = Placed(replica.location, replica.domain, parts)
                        (problem,) = tier.verify([placed], throttle=NoThrottle())
                    else:
                        continue
                    if problem:
                        wrong.append(f"{replica.location}: {problem}")
        return wrong

    def told(self, output: str) -> str:
        """What went on, for the message of a failed test."""
        logs = sorted((self.site / "run").glob("daemon*.log"))
        return f"{output[-3000:]}\n--- log\n" + "".join(log.read_text("utf-8")[-4000:] for log in logs)

    def assert_same_as(self, undisturbed: Mapping[str, Any]) -> None:
        """The final facts are the undisturbed ones, and both scans came back bit for bit."""
        facts = self.facts()
        here, there = set(facts["files"]), set(undisturbed.get("files", facts["files"]))
        stray = f"only here: {sorted(here - there)}, only there: {sorted(there - here)}"
        for key in undisturbed:
            assert facts[key] == undisturbed[key], f"{key} differs; {stray}\n{self.told('')}"
        for name in SCANS:
            assert digests(self.base / "back" / name) == self.originals(name), name

    def assert_only_whole_files(self) -> None:
        """Of what is given back so far, every file is as it was."""
        for name in SCANS:
            assert digests(self.base / "back" / name).items() <= self.originals(name).items(), name

    def originals(self, name: str) -> dict[str, str]:
        """sha256 of every file of a scan as it was written, by its path in the scan."""
        (root,) = [p for p in (self.sources / SCANS[name]).rglob("*") if p.is_dir() and _is_root(p, name)]
        return digests(root)


def _is_root(folder: Path, name: str) -> bool:
    return any(p.is_file() and p.name.startswith(name) for p in folder.iterdir())
