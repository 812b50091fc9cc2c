"""What a catalogue with very many scans costs: the daemon's own questions, the commands, memory, and a new scan's life.

    python benchmarks/catalogue.py [--scans 1000000] [--folder DIR] [--json]

One scan lives its whole life: packed, archived twice, previewed, its files and its package pruned under permits. Its
rows are then copied in the catalogue, each copy with names, paths and dates of its own (not those of the audit log:
its chain cannot be copied). The same is asked of a site with that one scan and of the site with the copies, in turn.
A million scans need 30 GB and a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

LIMIT_BYTES = 150e6
RUNS = 5

#: Reads everything, in turns: minutes for a million scans.
ONCE = frozenset({"recount, all turns"})
AT_ONCE = 2000

#: Tables whose rows belong to a scan, parents first.
TABLES = (
    "candidate",
    "scan",
    "condition",
    "product",
    "replica",
    "processing",
    "job",
    "attempt",
    "permit",
    "tombstone",
)

#: Columns that name a row of a copied table, and those that hold the hash of something that each copy has for itself.
IDS = frozenset({"id", "scan_id", "product_id", "replica_id", "job_id", "permit_id"})
HASHES = frozenset({"key_hash", "candidate", "place_hash", "root_hash", "location_hash", "digest"})
PATHS = frozenset({"folder", "root", "location"})
TIMES = frozenset({"acquired_at", "first_seen_at", "queued_at"})


# --- the sites -----------------------------------------------------------------------------------------


def tomovault(site: Path, *words: str) -> str:
    command = [sys.executable, "-m", "tomovault", "--site", str(site), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def site_of_one(base: Path) -> Path:
    """A site whose one scan was archived, and whose files and package are gone."""
    from tomovault.testing.edf_scan import write_edf_scan
    from tomovault.vault.setting_up import set_up_site

    settings = {
        "watch": {"poll": "0.5s", "quiet": "1s"},
        "quarantine": {"hold": "0s"},
        "areas": {"area": {"prune": "on", "quota": "10kB", "high": "50%", "low": "10%"}},
    }
    site, area = base / "site", base / "area"
    set_up_site(site, {"area": str(area)}, simulated=True, settings=settings)
    write_edf_scan(str(area), "first_", seed=1, projections=60)
    tomovault(site, "run", "--until-idle", "--quiet")
    (scan,) = json.loads(tomovault(site, "scan", "list", "--json"))["scans"]
    if scan["stages"]["pruned"] != "done":
        raise SystemExit(f"the first scan was not pruned: {scan['stages']}")
    return site


def copied(base: Path, to: Path, scans: int) -> Path:
    """The same site at another place, with so many scans. The areas stay where they are: nothing in them is ours."""
    shutil.copytree(base, to)
    site = to / "site"
    settings = (site / "tomovault.yaml").read_text("utf-8").replace(str(base), str(to))
    (site / "tomovault.yaml").write_text(settings, "utf-8")
    with sqlite3.connect(site / "catalogue.db") as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA foreign_keys = OFF")
        _move(db, str(base), str(to))
        _copy(db, scans)
    db.close()
    return site


def _move(db: sqlite3.Connection, old: str, new: str) -> None:
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in set(tables) - {"audit", "alembic_version"}:
        for column in [row[1] for row in db.execute(f"PRAGMA table_info({table})")]:
            kept = f"""CASE typeof("{column}") WHEN 'blob' THEN CAST({{}} AS BLOB) ELSE {{}} END"""
            changed = f"""replace(CAST("{column}" AS TEXT), ?, ?)"""
            db.execute(
                f"""UPDATE {table} SET "{column}" = {kept.format(changed, changed)} WHERE instr("{column}", ?)""",
                (old, new, old, new, old.encode() if column in PATHS else old),
            )


def _copy(db: sqlite3.Connection, scans: int) -> None:
    rows = {table: [dict(row) for row in _rows(db, table)] for table in TABLES}
    for start in range(1, scans, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, scans))
        for table, templates in rows.items():
            if not templates:
                continue
            names = ", ".join(f'"{name}"' for name in templates[0])
            marks = ", ".join("?" * len(templates[0]))
            made = (tuple(_own(table, row, number)) for number in numbers for row in templates)
            db.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", made)
        db.commit()
        if sys.stderr.isatty():
            print(f"\r{numbers[-1] + 1:,} of {scans:,} scans", end="", file=sys.stderr, flush=True)


def _rows(db: sqlite3.Connection, table: str) -> Iterator[sqlite3.Row]:
    db.row_factory = sqlite3.Row
    return db.execute(f"SELECT * FROM {table}")


def _own(table: str, row: dict[str, Any], number: int) -> Iterator[Any]:
    """The values of one copy, one for each scan an hour earlier."""
    for name, value in row.items():
        if value is None:
            yield None
        elif name in IDS:
            # Counted from its own, so that no copy has the number of a row that is there.
            yield f"{value[0]}{(int(value[1:7], 16) + number) % 2**24:06x}{value[7:]}"
        elif name in HASHES and table != "product":
            yield f"{number:08x}{value[8:]}"
        elif name in PATHS:
            yield bytes(value) + b"/%07d" % number
        elif name == "name" and table == "scan":
            yield f"scan{number:07d}_"
        elif name == "dedup_key":
            yield f"{value}{number}"
        elif name in TIMES:
            yield _earlier(value, number)
        else:
            yield value


def _earlier(value: Any, hours: int) -> Any:
    """An hour is 3600 million microseconds where a time is a number, else a text whose year says how long ago."""
    if isinstance(value, int):
        return value - hours * 3_600_000_000
    return f"{int(value[:4]) - hours // 8766:04d}{value[4:]}"


# --- what is asked of them -----------------------------------------------------------------------------


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def questions(site: Path) -> dict[str, Callable[[], object]]:
    """What the daemon asks every turn or minute, and what people ask."""
    from tomovault.catalog.scans import list_due
    from tomovault.catalog.work import has_work_before, list_inspected
    from tomovault.vault.quota_pages import quota_page
    from tomovault.vault.room import choose_room
    from tomovault.vault.status_pages import status_page
    from tomovault.vault.vault import Vault

    vault = Vault.open(site)

    def read(question: Callable[[Any, datetime], object]) -> Callable[[], object]:
        def asked() -> object:
            with vault.catalogue.reading() as tx:
                return question(tx, datetime.now(UTC))

        return asked

    return {
        "what is due": read(lambda tx, now: list_due(tx, now, 20)),
        "is there work": read(lambda tx, now: has_work_before(tx, now, now, hosts={vault.host})),
        "how full is the area": read(lambda tx, now: vault.area_facts(tx, "area", now)),
        "what may go": read(lambda tx, now: choose_room(vault, tx, vault.area_facts(tx, "area", now), now)),
        "what is to be re-read": read(lambda tx, now: vault.overdue(tx, "area", now, limit=20)),
        "what was looked at (start)": read(lambda tx, _now: list(list_inspected(tx, "area"))),
        "status": read(lambda tx, now: status_page(vault, tx, {}, now)),
        "quota --by proposal": read(lambda tx, now: quota_page(vault, tx, "proposal", now)),
        "recount, all turns": lambda: list(vault.catalogue.recount_in_turns()),
    }


def commands(site: Path) -> dict[str, Callable[[], object]]:
    return {
        "tomovault status": lambda: tomovault(site, "status"),
        "tomovault explain first_": lambda: tomovault(site, "explain", "first_"),
        "tomovault scan list | head": lambda: _first_lines(site, "scan", "list"),
    }


def _first_lines(site: Path, *words: str) -> None:
    command = [sys.executable, "-m", "tomovault", "--site", str(site), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for _ in range(10):
            process.stdout.readline()
        process.stdout.close()


def at_rest(site: Path, area: Path) -> dict[str, float]:
    """The daemon's most memory in bytes, and how long a new scan takes from its last byte to its second copy."""
    from tomovault.testing.edf_scan import write_edf_scan

    daemon = subprocess.Popen([sys.executable, "-m", "tomovault", "--site", str(site), "run", "--quiet"])
    try:
        process, most = psutil.Process(daemon.pid), 0
        begun = time.monotonic()
        write_edf_scan(str(area), "newest_", seed=7, projections=60)
        while not _is_archived(site, "newest_"):
            most = max(most, process.memory_info().rss)
            if time.monotonic() - begun > 600:
                raise SystemExit("the new scan was not archived within 10 minutes")
            time.sleep(0.2)
        life = time.monotonic() - begun
        return {"life_s": life, "rss": max(most, process.memory_info().rss)}
    finally:
        daemon.terminate()
        daemon.wait(60)


def _is_archived(site: Path, name: str) -> bool:
    with sqlite3.connect(f"file:{site / 'catalogue.db'}?mode=ro", uri=True) as db:
        found = db.execute(
            "SELECT count(*) FROM replica JOIN scan ON scan.id = replica.scan_id"
            " WHERE scan.name = ? AND replica.tier = 'tape' AND replica.state = 'verified'",
            (name,),
        ).fetchone()
    db.close()
    return int(found[0]) >= 2


def compare(folder: Path, scans: int) -> dict[str, Any]:
    one = site_of_one(folder / "one")
    begun = time.monotonic()
    many = copied(folder / "one", folder / "many", scans)
    copying_s = time.monotonic() - begun
    rows = []
    for kind in (questions, commands):
        few, lots = kind(one), kind(many)
        for name in few:
            walls = {"one": [], "many": []}
            for _ in range(1 if name in ONCE else RUNS):
                walls["one"].append(seconds(few[name]))
                walls["many"].append(seconds(lots[name]))
            rows.append({"what": name, **{which: statistics.median(taken) for which, taken in walls.items()}})
    rest = {"one": at_rest(one, folder / "one" / "area"), "many": at_rest(many, folder / "many" / "area")}
    return {
        "scans": scans,
        "bytes": (many / "catalogue.db").stat().st_size,
        "copying_s": copying_s,
        "rows": rows,
        "rest": rest,
        "reached": rest["many"]["rss"] < LIMIT_BYTES,
        "load": os.getloadavg(),
    }


def show(found: dict[str, Any]) -> None:
    print(f"{found['scans']:,} scans, a catalogue of {found['bytes'] / 1e9:.1f} GB, load {found['load'][0]:.1f}\n")
    print(f"{'seconds, median of ' + str(RUNS):32}{'one scan':>12}{'all':>12}")
    for row in found["rows"]:
        print(f"{row['what']:32}{row['one']:12.4f}{row['many']:12.4f}")
    for what, unit in (("life_s", 1.0), ("rss", 1e6)):
        named = {"life_s": "a new scan, to two copies", "rss": "the daemon's memory, MB"}[what]
        print(f"{named:32}" + "".join(f"{found['rest'][which][what] / unit:12.1f}" for which in ("one", "many")))
    verdict = "reached" if found["reached"] else "MISSED"
    print(f"\nthe daemon's memory under {LIMIT_BYTES / 1e6:.0f} MB: {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=100_000)
    parser.add_argument("--folder", help="where to work (a new folder below it); by default a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="tomovault-bench-") as folder:
        found = compare(Path(folder), chosen.scans)
    print(json.dumps(found)) if chosen.json else show(found)


if __name__ == "__main__":
    main()
