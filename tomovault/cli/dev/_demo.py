"""The demonstration: a site, two simulated beamlines, a daemon, a full server, and everything given back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tomovault.cli import say, say_json
from tomovault.cli._table import bar, table
from tomovault.core.errors import IntegrityError, UserError
from tomovault.core.known import KnownScan
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass
from tomovault.daemon.loop import Daemon
from tomovault.daemon.screen import open_screen
from tomovault.vault.asking import ask, raise_if_failed
from tomovault.vault.logs import start_log
from tomovault.vault.page_text import name_of
from tomovault.vault.quota_pages import quota_page
from tomovault.vault.scan_pages import views_of
from tomovault.vault.setting_up import refuse_used, set_up_site
from tomovault.vault.sizes import show_bytes
from tomovault.vault.vault import Vault

#: Written into the folder, so that only what a demonstration made is ever cleared away for the next.
_MARK = ".tomovault-demo"

#: (area, writer, name, scans, frame size, projections). Half a minute of writing together.
_BEAMLINES = (("id19", "edf", "bone", 3, 256, 180), ("bm05", "bliss", "foam", 2, 256, 180))

_AREA_QUOTA = {"id19": "270MB", "bm05": "400MB"}


@dataclass(frozen=True)
class Back:
    """One scan that was given back and compared."""

    name: str
    files: int
    bytes: int
    where: str
    seconds: float


def run_demo(folder: Path, catalogue: str | None, *, quiet: bool) -> None:
    """The demonstration ran to its end. Raises UserError, before anything is cleared away, for a database that is in
    use; IntegrityError if one byte that came back is not as it was written.
    """
    began = time.monotonic()
    folder = folder.absolute()
    if catalogue is not None and not catalogue.startswith("sqlite"):
        refuse_used(catalogue)
    _clear(folder)
    areas = {area: str(folder / "servers" / area) for area, *_ in _BEAMLINES}
    for path in areas.values():
        Path(path).mkdir(parents=True)
    site = folder / "site"
    set_up_demo_site(site, areas, catalogue)
    _headline(quiet, f"A site in {site}, two beamlines writing into {folder / 'servers'}")
    vault = Vault.open(site)
    start_log(vault.run_folder / f"{vault.daemon_name}.log")
    writers = [_start_writer(folder, *beamline) for beamline in _BEAMLINES]
    try:
        _live(vault, writers, quiet)
    finally:
        for writer in writers:
            writer.wait()
    vault.close()
    if any(writer.returncode for writer in writers):
        raise UserError("a simulated beamline failed; its messages are above")
    truth = _digests_written(folder)

    _headline(quiet, "One server is given less room, so that a package must go too")
    _shrink_quota(site, "id19")
    vault = Vault.open(site)
    _live(vault, [], quiet)
    back = _give_back(vault, folder, truth, quiet)
    _summary(vault, folder, back, time.monotonic() - began, quiet)
    vault.close()


def set_up_demo_site(site: Path, areas: Mapping[str, str], catalogue: str | None) -> None:
    """A simulated site with small quotas, prune on, no hold, and eyes that look often."""
    set_up_site(site, areas, simulated=True, settings=_settings(areas, catalogue))


def _settings(areas: Mapping[str, str], catalogue: str | None) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "watch": {"poll": "0.5s", "quiet": "1.5s"},
        "quarantine": {"hold": "0s"},
        "areas": {
            name: {"quota": _AREA_QUOTA[name], "high": "80%", "low": "70%", "prune": "on", "beamline": name.upper()}
            for name in areas
        },
    }
    if catalogue:
        settings["catalogue"] = catalogue
    return settings


def _clear(folder: Path) -> None:
    if folder.exists():
        if not (folder / _MARK).exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not a demonstration's folder", hint="name another with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARK).write_text("tomovault dev demo makes this folder anew each time.\n")


def _start_writer(
    folder: Path, area: str, writer: str, name: str, scans: int, size: int, projections: int
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tomovault", "dev", "beamline", str(folder / "servers" / area)]
    command += ["--writer", writer, "--name", name, "--scans", str(scans), "--size", str(size)]
    command += ["--projections", str(projections), "--speed", "4", "--json"]
    with (folder / f"{area}.written.json").open("wb") as told:
        return subprocess.Popen(command, stdout=told, stdin=subprocess.DEVNULL)


def _live(vault: Vault, writers: list[subprocess.Popen[bytes]], quiet: bool) -> None:
    def writing() -> bool:
        return any(writer.poll() is None for writer in writers)

    with open_screen(vault, quiet=quiet) as screen:
        daemon = Daemon(vault, tell=screen.tell, busy=writing)
        failed = daemon.run(until_idle=True)
    if failed:
        raise UserError(f"{failed} jobs failed; see: tomovault --site {vault.site.folder} status")


def _digests_written(folder: Path) -> dict[str, str]:
    """What the simulated beamlines wrote, by absolute path: hex sha256."""
    digests: dict[str, str] = {}
    for told in sorted(folder.glob("*.written.json")):
        for scan in json.loads(told.read_text("utf-8"))["scans"]:
            digests.update({os.path.join(scan["folder"], path): digest for path, digest in scan["files"].items()})
    return digests


def _shrink_quota(site: Path, area: str) -> None:
    """The quota of an area becomes so small that exactly the oldest package has to go as well."""
    from tomovault.vault.editing import change_site

    vault = Vault.open(site)
    try:
        with vault.catalogue.reading() as tx:
            facts = vault.area_facts(tx, area, datetime.now(UTC))
            scans = [s for s in vault.catalogue.list_scans(tx, area) if s.superseded_by is None]
        scans.sort(key=lambda s: s.acquired_at or s.first_seen_at)
        files = sum(r.bytes for s in scans for r in s.replicas_of(ProductKind.ORIGINAL, Form.FILES))
        oldest = scans[0].replicas_of(ProductKind.ORIGINAL, Form.PACKAGE)
        package = next(r.bytes for r in oldest if r.tier_class is not TierClass.ARCHIVE)
        quota = int((facts.used_bytes - files - package / 2) / 0.6)
    finally:
        vault.close()
    change_site(site, {"areas": {area: {"quota": quota, "high": "61%", "low": "60%"}}})


def _give_back(vault: Vault, folder: Path, truth: Mapping[str, str], quiet: bool) -> list[Back]:
    _headline(quiet, "Everything is asked back, and compared with what was written")
    with vault.catalogue.reading() as tx:
        scans = vault.catalogue.list_scans(tx)
    back = []
    for scan in sorted(scans, key=lambda s: s.name):
        target = folder / "restored" / scan.name
        began = time.monotonic()
        on_disk = [
            r
            for r in scan.replicas_of(ProductKind.ORIGINAL, Form.PACKAGE)
            if r.tier_class is not TierClass.ARCHIVE and r.state is ReplicaState.VERIFIED
        ]
        wish = {"to": str(target), "from": None if on_disk else "tape"}
        answer = ask(vault, "restore", scan.id, wish, by="demo", wait=True)
        raise_if_failed(answer)
        given = answer.given[0]
        _compare(scan, target, truth)
        where = f"{given.tier}, cartridge {given.cartridge}" if given.cartridge else f"the package on {given.tier}"
        back.append(Back(scan.name, given.files, given.bytes, where, time.monotonic() - began))
        if not quiet:
            say(f"  {name_of(scan.name)}: {given.files} files, {show_bytes(given.bytes)}, from {where}: all as written")
    return back


def _compare(scan: KnownScan, target: Path, truth: Mapping[str, str]) -> None:
    compared = 0
    for path in sorted(p for p in target.rglob("*") if p.is_file()):
        original = os.path.join(scan.root, path.relative_to(target))
        if original not in truth:
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != truth[original]:
            raise IntegrityError(f"{path} is not what was written")
        compared += 1
    if compared == 0:
        raise IntegrityError(f"nothing of {scan.name} could be compared with what was written")


def _summary(vault: Vault, folder: Path, back: list[Back], seconds: float, quiet: bool) -> None:
    now = datetime.now(UTC)
    with vault.catalogue.reading() as tx:
        views = list(views_of(vault, tx, now))
        quota = quota_page(vault, tx, "area", now)
        tiers = quota_page(vault, tx, "tier", now)
    if quiet:
        say_json({"scans": len(views), "restored": len(back), "seconds": round(seconds, 1)})
        return
    say("\nScans")
    rows = []
    for view in sorted(views, key=lambda v: v.scan.name):
        scan = view.scan
        packages = [r for r in scan.replicas_of(ProductKind.ORIGINAL, Form.PACKAGE) if r.state is ReplicaState.VERIFIED]
        packed = max((r.bytes for r in packages), default=0)
        copies = ", ".join(r.location if "#" in r.location else f"package on {r.tier}" for r in packages)
        stages = [s.value for s, standing in view.standings.items() if standing.status == "done"]
        rows.append(
            [
                name_of(scan.name),
                scan.verdict.value,
                show_bytes(scan.bytes),
                show_bytes(packed),
                f"{packed / scan.bytes:.0%}" if scan.bytes else "",
                copies,
                " ".join(stages),
            ]
        )
    say(table(["scan", "verdict", "written", "packed", "", "copies", "done"], rows, right=[2, 3, 4]))
    say("\nQuota")
    rows = [
        [r["area"], show_bytes(r["bytes"]), show_bytes(r["limit_bytes"]), bar(r["full_fraction"], high=r["high"])]
        for r in quota["rows"]
    ]
    rows += [[r["tier"], show_bytes(r["bytes"]), "", ""] for r in tiers["rows"] if r["tier"] in vault.site.tiers]
    say(table(["", "stored", "quota", ""], rows, right=[1, 2]))
    site = os.path.relpath(vault.site.folder)
    first = name_of(sorted(v.scan.name for v in views)[0])
    say(
        f"\n{len(views)} scans lived, {sum(b.files for b in back)} files came back bit for bit, in {seconds:.0f} s.\n"
        f"\nLook around:\n"
        f"  export PATH=$PATH:{os.path.dirname(sys.executable)} TOMOVAULT_SITE={site}\n"
        f"  tomovault scan list\n"
        f"  tomovault scan show {first}\n"
        f"  tomovault explain {first}\n"
        f"  tomovault verify --all\n"
        f"  tomovault quota\n"
        f"  tomovault audit show\n"
        f"  tomovault restore {first} --to /tmp/back --frames 0:10 --wait\n"
        f"  ls {os.path.relpath(folder)}/servers/*.vault/    previews are .preview.png, volumes .volume.h5"
    )


def _headline(quiet: bool, text: str) -> None:
    if not quiet:
        say(f"\n== {text}")
