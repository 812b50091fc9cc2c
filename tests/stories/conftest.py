"""Small sites that live: real commands, a real daemon in a process of its own, real job processes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from tomovault.catalog.tables import job
from tomovault.cli import main
from tomovault.testing.bliss_scan import write_bliss_scan
from tomovault.testing.edf_scan import write_edf_scan
from tomovault.vault.editing import change_site
from tomovault.vault.vault import Vault

#: Rules of the standard policy that cost most of the time; a site has them only where a test asks for them.
COSTLY = ("preview", "reconstruct-small")

#: In this folder is what gives a process another clock.
_ANOTHER_DAY = Path(__file__).parent / "another_day"

_ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("TOMOVAULT_")}


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def page(self) -> Any:
        """What `--json` printed."""
        return json.loads(self.out)


@dataclass
class Site:
    """A site in `folder` whose areas lie beside it."""

    base: Path
    areas: dict[str, Path] = field(default_factory=dict)
    written: dict[str, dict[str, str]] = field(default_factory=dict)
    #: So long nobody has the place of a daemon that was killed; on SQLite it is free at once.
    lease_s: int = 0
    #: By so many seconds the clocks of its processes differ from the machine's.
    later_s: float = 0.0
    #: So long a daemon may take until nothing is left to do.
    patience_s: float = 200.0

    @property
    def folder(self) -> Path:
        return self.base / "site"

    @property
    def environment(self) -> dict[str, str]:
        """What the processes of this site are started with."""
        if not self.later_s:
            return dict(_ENVIRONMENT)
        path = f"{self.base}:{_ENVIRONMENT.get('PATH', os.defpath)}"
        return _ENVIRONMENT | {"PYTHONPATH": str(_ANOTHER_DAY), "STORY_LATER_S": str(self.later_s), "PATH": path}

    @property
    def now(self) -> datetime:
        """What the clocks of its processes say."""
        return datetime.now(UTC) + timedelta(seconds=self.later_s)

    def on_day(self, day: float) -> None:
        """From now on its processes live so many days from today, with a time service that says that this is right."""
        self.later_s = day * 86400.0
        service = self.base / "timedatectl"
        service.write_text("#!/bin/sh\necho yes\n")
        service.chmod(0o755)

    # --- commands ------------------------------------------------------------------------------------

    def say(self, *arguments: str) -> Said:
        """A command of a person, in this process where that has the right clock."""
        return self.run("--site", str(self.folder), *arguments)

    def run(self, *words: str) -> Said:
        """The same without naming the site."""
        if self.later_s:
            command = [sys.executable, "-m", "tomovault", *words]
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
            return Said(done.returncode, done.stdout, done.stderr)
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(list(words))
            except SystemExit as end:
                code = int(end.code or 0)
        return Said(code, out.getvalue(), err.getvalue())

    def ask(self, *arguments: str, code: int = 0) -> Any:
        """The page of a command with `--json` that must end with `code`."""
        said = self.say(*arguments, "--json")
        assert said.code == code, f"{arguments}: exit {said.code}\n{said.out[-2000:]}\n{said.err}"
        return said.page if said.out else None

    def refuse(self, *arguments: str, code: int) -> str:
        """What a command says that must fail with `code`."""
        said = self.say(*arguments)
        assert said.code == code, f"{arguments}: exit {said.code}\n{said.out[-2000:]}\n{said.err}"
        return said.err

    def start(self, *more: str, before: Sequence[str] = (), **settings: Any) -> subprocess.Popen[str]:
        """A daemon in a process of its own; `before` are words in front of its command."""
        command = [*before, sys.executable, "-m", "tomovault", "--site", str(self.folder), "run", *more]
        with (self.base / "daemon.out").open("a", encoding="utf-8") as out:
            wanted = {"env": self.environment} | settings
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True, **wanted)

    def live(self, *, failed_ok: bool = False, **settings: Any) -> str:
        """The daemon ran until nothing was left to do; returns what it said."""
        before = len(self.told())
        process = self.start("--until-idle", **settings)
        try:
            code = process.wait(self.patience_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            pytest.fail(f"not idle after {self.patience_s:.0f} s:\n{self.told()[-3000:]}")
        said = self.told()[before:]
        assert code == 0, f"exit {code}:\n{said[-3000:]}"
        if not failed_ok:
            failed = [j for j in self.ask("status")["failed"] if j["action"] != "restore"]
            assert not failed, f"{failed}\n{said[-3000:]}"
        return said

    def wait_for_its_place(self) -> None:
        """A daemon was just killed; another may start now."""
        time.sleep(self.lease_s)

    def told(self) -> str:
        """What every daemon of this site has said so far."""
        path = self.base / "daemon.out"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def change(self, **changes: Any) -> None:
        """The site's file says this now."""
        change_site(self.folder, changes)

    # --- what is known -------------------------------------------------------------------------------

    def scans(self) -> dict[str, dict[str, Any]]:
        """Every scan by name, as `scan list` tells it."""
        return {s["name"]: s for s in self.ask("scan", "list")["scans"]}

    def show(self, name: str) -> dict[str, Any]:
        """A scan as `scan show` tells it."""
        return self.ask("scan", "show", name)

    def area_status(self, area: str) -> dict[str, Any]:
        """What `status` tells of an area."""
        return next(a for a in self.ask("status")["areas"] if a["area"] == area)

    def actions(self) -> list[tuple[str, str]]:
        """(action, status) of every job there ever was, in order."""
        jobs = select(job.c.action, job.c.status).order_by(job.c.queued_at, job.c.id)
        with contextlib.closing(Vault.open(self.folder, upgrade=False)) as vault, vault.catalogue.reading() as tx:
            return [tuple(row) for row in tx.rows(jobs)]

    @contextlib.contextmanager
    def database(self) -> Iterator[Connection]:
        """The catalogue's database, for what no command would write; committed at the end."""
        with contextlib.closing(Vault.open(self.folder, upgrade=False)) as vault, vault.catalogue.writing() as tx:
            yield tx.conn

    def pruned(self, name: str) -> None:
        """The area of a scan is given so little room that the originals of every scan in it have to go."""
        area = self.show(name)["area"]
        self.change(areas={area: {"prune": "on", "quota": "1kB", "high": "50%", "low": "20%"}})

    # --- writing scans -------------------------------------------------------------------------------

    def write(self, kind: str, name: str, *, area: str | None = None, **more: Any) -> Path:
        """A tiny scan is written; returns its folder."""
        settings: dict[str, Any] = {
            "shape": (24, 32),
            "projections": 8,
            "flats": 2,
            "darks": 2,
            "started_at": datetime(2026, 3, 1, tzinfo=UTC),
        }
        write = write_edf_scan if kind == "edf" else write_bliss_scan
        written = write(str(self.areas[area or kind]), name, **(settings | more))
        return Path(written.scans[-1].folder)

    def age(self, seconds: float = 3600.0) -> None:
        """Every file of the areas is dated so many seconds earlier than it is."""
        for area in self.areas.values():
            for path in area.rglob("*"):
                if ".tomovault" not in path.parts and path.is_file() and not path.is_symlink():
                    state = path.stat()
                    os.utime(path, (state.st_atime - seconds, state.st_mtime - seconds))


def digests_of(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by its path there; of a link, where it points."""
    found = {}
    for at, _, files in os.walk(folder):
        for name in files:
            path = Path(at, name)
            raw = os.readlink(path).encode("utf-8", "surrogateescape") if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(folder))] = hashlib.sha256(raw).hexdigest()
    return found


@pytest.fixture(scope="session")
def digests() -> Callable[[Path], dict[str, str]]:
    """See `digests_of`."""
    return digests_of


@pytest.fixture(scope="session")
def replicas() -> Callable[..., list[Mapping[str, Any]]]:
    """Called with a page and wanted values for the replicas of the page that have them."""

    def choose(page: Mapping[str, Any], **wanted: str) -> list[Mapping[str, Any]]:
        return [r for r in page["replicas"] if all(r[key] == value for key, value in wanted.items())]

    return choose


def _without(policy: Path, names: Sequence[str]) -> None:
    rules = re.split(r"(?m)^(?=  - name: )", policy.read_text("utf-8"))
    kept = [rule for rule in rules if not rule.startswith(tuple(f"  - name: {name}\n" for name in names))]
    assert len(kept) == len(rules) - len(names)
    policy.write_text("".join(kept), "utf-8")


@pytest.fixture(scope="session")
def new_site(tmp_path_factory, new_catalogue) -> Callable[..., Site]:
    """Called with the names of areas for a site that looks often and settles soon."""

    def make(
        *names: str,
        simulated: bool = True,
        without: Sequence[str] = COSTLY,
        settings: Mapping[str, Any] | None = None,
        base: Path | None = None,
        day: float = 0.0,
    ) -> Site:
        """`day`: its life begins so many days from today."""
        site = Site(base or tmp_path_factory.mktemp("life"))
        if day:
            site.on_day(day)
        site.areas = {name: site.base / name for name in names}
        for path in site.areas.values():
            path.mkdir(exist_ok=True)
        url = new_catalogue()
        areas = [f"{name}={path}" for name, path in site.areas.items()]
        more = ["--simulated"] if simulated else []
        if not url:
            more += [word for area in areas for word in ("--area", area)]
        assert site.run("init", str(site.folder), *more, "--json").page["simulated"] is simulated
        if url:
            site.lease_s = 3
            site.change(catalogue=url, lease=f"{site.lease_s}s")
            for area in areas:
                site.ask("area", "add", area)
        _without(site.folder / "policies" / "standard.yaml", without)
        site.change(
            watch={"poll": "0.1s", "quiet": "0.4s"},
            retries={"attempts": 3, "after": "0.2s"},
            **({"quarantine": {"hold": "0s"}} if simulated else {}),
        )
        if settings:
            site.change(**settings)
        return site

    return make
