"""Bytes read and written on each server for each raw byte, through the whole life of scans, as the kernel counts them.

    python benchmarks/traffic.py [--scans 6] [--frames 60] [--folder DIR] [--json]

Needs root and loop devices: the fast disk, the file server and the archive are file systems of their own, with direct
I/O, so that what their devices did is known to the sector, with journals, metadata and what read-back costs; what the
page cache gave is not in it. EDF scans are written to the fast disk; they are packed, moved to the server, archived
twice, previewed, and pruned from the fast disk; then one is restored from the archive to a folder on the server.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from walker import mounted

SHAPE = (2048, 2048)
SECTOR = 512
SERVERS = ("fast", "server", "archive")
#: Bytes that a file system takes for each raw byte, at the most: two copies of everything that is kept, and room.
ROOM = 3

POLICY = """\
name: traffic
version: 1
description: Everything at once, so that every step is in the count.
presets: {quick: {}}
rules:
  - {name: pack, when: true, do: pack}
  - {name: move, when: packed, do: replicate, with: {form: files, to: server}}
  - {name: archive, when: packed, do: archive, with: {copies: 2}}
  - {name: preview, when: complete, do: preview, with: {preset: quick}}
  - {name: empty, when: replicas(server) >= 1 and usage > high, do: prune, with: {forms: [files]}}
"""


class Moved(NamedTuple):
    read: int
    written: int

    def __sub__(self, before: object) -> Moved:
        assert isinstance(before, Moved)
        return Moved(self.read - before.read, self.written - before.written)


class Server(NamedTuple):
    """A file system, where it is mounted and the device below it."""

    at: Path
    device: str

    def moved(self) -> Moved:
        """What its device read and wrote since it is there (Documentation/block/stat.rst: fields 3 and 7)."""
        fields = Path(f"/sys/block/{self.device}/stat").read_text("ascii").split()
        return Moved(int(fields[2]) * SECTOR, int(fields[6]) * SECTOR)


@contextmanager
def new_server(folder: Path, name: str, size: int) -> Iterator[Server]:
    image, at = folder / f"{name}.image", folder / name
    at.mkdir()
    with image.open("wb") as made:
        made.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image)], check=True)
    with mounted(image, at) as device:
        yield Server(at, device)


def forget() -> None:
    """What is to be written is written, and no file is in the page cache."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3", "ascii")


def measured(servers: Mapping[str, Server], work: Callable[[], object]) -> dict[str, Moved]:
    forget()
    before = {name: server.moved() for name, server in servers.items()}
    work()
    forget()
    return {name: server.moved() - before[name] for name, server in servers.items()}


# --- the site ------------------------------------------------------------------------------------------


def make_site(folder: Path, servers: Mapping[str, Server], raw: int) -> Path:
    """The fast disk is moved to the server and emptied; packages and previews lie on the server."""
    from tomovault.vault.editing import change_site
    from tomovault.vault.setting_up import set_up_site

    site = folder / "site"
    areas = {name: servers[name].at / "data" for name in ("fast", "server")}
    tape = servers["archive"].at / "tape"
    for path in (*areas.values(), tape):
        path.mkdir()
    fast = {
        "class": "fast",
        "vault": str(servers["server"].at / "fast.vault"),
        "prune": "on",
        "quota": raw,
        "high": "50%",
        "low": "1%",
    }
    server = {"vault": str(servers["server"].at / "server.vault")}
    settings = {
        "watch": {"poll": "1s", "quiet": "2s"},
        "quarantine": {"hold": "0s"},
        "areas": {"fast": fast, "server": server},
        "tiers": {"tape": {"path": str(tape)}},
    }
    set_up_site(site, {name: str(path) for name, path in areas.items()}, simulated=True, settings=settings)
    (site / "policies" / "traffic.yaml").write_text(POLICY, "utf-8")
    change_site(site, {"areas": {"fast": {"policy": "traffic"}}})
    return site


def tomovault(site: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "tomovault", "--site", str(site), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"tomovault {arguments[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
    return done.stdout


def write_scans(area: Path, count: int, frames: int) -> int:
    """Scans with the noise of the two detectors in turn; returns their bytes."""
    from tomovault.testing.edf_scan import write_edf_scan

    for number in range(count):
        detector = ("frelon", "scmos")[number % 2]
        name = f"scan{number:02d}_"
        write_edf_scan(str(area), name, seed=number, shape=SHAPE, projections=frames, detector=detector, fast=True)
    return sum(p.stat().st_size for p in area.rglob("*.edf"))


def check_life(site: Path, area: Path) -> list[dict[str, Any]]:
    """Every scan is archived and gone from the fast disk, else there is nothing to report."""
    pages = [
        json.loads(tomovault(site, "scan", "show", scan["id"], "--json"))
        for scan in json.loads(tomovault(site, "scan", "list", "--json"))["scans"]
    ]
    for page in pages:
        missing = [s for s in ("packed", "replicated", "archived", "previewed") if page["stages"][s] != "done"]
        if missing:
            raise SystemExit(f"{page['path']} is not {', '.join(missing)}")
    if left := [str(p) for p in area.rglob("*.edf")]:
        raise SystemExit(f"{len(left)} frames are on the fast disk still, {left[0]} among them")
    return pages


# --- what is told --------------------------------------------------------------------------------------


def compare(folder: Path, scans: int, frames: int) -> dict[str, Any]:
    raw = scans * (frames + 7) * SHAPE[0] * SHAPE[1] * 2
    with ExitStack() as stack:
        servers = {s: stack.enter_context(new_server(folder, s, ROOM * raw + (1 << 28))) for s in SERVERS}
        site = make_site(folder, servers, raw)
        area = servers["fast"].at / "data"
        raw = write_scans(area, scans, frames)
        life = measured(servers, lambda: tomovault(site, "run", "--until-idle"))
        pages = check_life(site, area)
        back = servers["server"].at / "back"
        restored = pages[0]["id"]

        def restore() -> None:
            tomovault(site, "restore", restored, "--to", str(back), "--from", "tape")
            tomovault(site, "run", "--until-idle")

        one = measured(servers, restore)
        again = sum(p.stat().st_size for p in back.rglob("*.edf"))
        if not again:
            raise SystemExit("nothing was restored")
    return {"scans": scans, "raw": raw, "life": told(life, raw), "restored": again, "restore": told(one, again)}


def told(moved: Mapping[str, Moved], raw: int) -> dict[str, dict[str, float]]:
    return {name: {"read": one.read / raw, "written": one.written / raw} for name, one in moved.items()}


def show(result: dict[str, Any]) -> None:
    print(f"{result['scans']} scans, {result['raw'] / 1e6:.0f} MB; bytes for each raw byte\n")
    print(f"{'':10}{'its whole life':^24}{'restored from the archive':^28}")
    print(f"{'':10}{'read':>12}{'written':>12}{'read':>14}{'written':>14}")
    for name in SERVERS:
        life, back = result["life"][name], result["restore"][name]
        print(f"{name:10}{life['read']:12.2f}{life['written']:12.2f}{back['read']:14.2f}{back['written']:14.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=6)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--folder", help="where to work (a new folder below it); by default a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("file systems can be mounted by root only; run it as root")
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="tomovault-bench-") as folder:
        result = compare(Path(folder), chosen.scans, chosen.frames)
    print(json.dumps(result)) if chosen.json else show(result)


if __name__ == "__main__":
    main()
