"""A month of the beamline that tomovault was begun for, in small: its eight areas, half full when the census is taken,
its policy, and a scan a day; a terabyte of the beamline is a megabyte here. Each night the daemon runs until nothing is
left to do, and what it tells is compared with what is on the disks. In the end every command is asked.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from tomovault.core.replica import Form, ProductKind, TierClass, good_domains
from tomovault.policy.document import parse_policy
from tomovault.simulation.model_file import parse_model

pytestmark = pytest.mark.sqlite_only("its processes live on other days than a server of databases does")

POLICIES = Path(__file__).parents[2] / "policies"
SCALE = 10**6  # bytes of the beamline for one of ours
FRAME = (128, 128)
README = "TOMOVAULT-README.txt"

#: What no quota counts: what tomovault writes about copies, and what belongs to no scan.
BESIDE = (README, "area.json", "place.json", "journal.jsonl", "notes.mat")

#: What a small beamline writes to the scaled areas, for `tomovault simulate` and `forecast --add`.
MODEL = """\
arrivals: {per_day: 1MB, beam_times: {shortest: 1d, longest: 3d}, scans: [{size: 1MB, of: 100%}]}
work: {pack: 167kB/s, pack_while_written: 45kB/s}
tape: {rate: 300kB/s}
"""


@dataclass
class Month:
    """The site and what is true of it: the digests of every scan as it was written, by name."""

    site: object
    digests: object
    plans: dict
    written: dict[str, dict[str, str]] = field(default_factory=dict)
    roots: dict[str, Path] = field(default_factory=dict)
    by_day: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    held_above: list = field(default_factory=list)

    def write(self, area: str, name: str, *, days_ago: float = 0.0) -> int:
        """A scan is written on that day of the site; returns its bytes."""
        at = self.site.now - timedelta(days=days_ago, hours=1)
        number = len(self.written)
        root = self.site.write(
            "edf", name, area=area, shape=FRAME, projections=24, flats=2, darks=2, seed=number, started_at=at
        )
        for path in root.rglob("*"):
            os.utime(path, (at.timestamp(), at.timestamp()))
        self.written[name], self.roots[name] = self.digests(root), root
        return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())

    # --- what is on the disks ----------------------------------------------------------------------

    def on_disk(self, area: str) -> int:
        """Bytes of all copies in an area, its vault and its quarantine."""
        places = (self.site.areas[area], Path(f"{self.site.areas[area]}.vault"))
        files = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
        copies = (path for path in files if path.name not in BESIDE and not path.name.endswith(".manifest.json"))
        return sum(path.stat().st_size for path in copies)

    # --- every evening -----------------------------------------------------------------------------

    def live(self) -> None:
        """The daemon has run, and what it says is true."""
        self.site.live()
        self.check_room()
        self.check_copies()

    def check_room(self) -> None:
        """The quota is what is on the disk; an area above its high mark has an alarm that says why."""
        status = {line["area"]: line for line in self.site.ask("status")["areas"]}
        for row in self.site.ask("quota")["rows"]:
            area, line = row["area"], status[row["area"]]
            assert row["bytes"] == self.on_disk(area), area
            assert line["used_bytes"] == row["bytes"]
            kept = line["used_bytes"] - line["quarantine_bytes"]
            if kept > line["high"] * line["quota_bytes"]:
                self.held_above.append((self.site.now, area, line["alarms"]))
                assert line["alarms"], f"{area} stands at {kept} of {line['quota_bytes']} and nobody is told why"
            assert not line["problems"]

    def check_copies(self) -> None:
        """Every scan has the two copies that the policy asks for, on media that hold them."""
        for scan in self.known().values():
            good = good_domains(scan.replicas_of(ProductKind.ORIGINAL), TierClass.ARCHIVE)
            assert len(good) >= 2, f"{scan.name} has {len(good)} archive copies"
            for copy in scan.replicas_of(ProductKind.ORIGINAL, Form.PACKAGE):
                if copy.tier_class is TierClass.ARCHIVE:
                    cartridge = copy.location.partition("#")[0]
                    assert (self.site.folder / "tape" / "cartridges" / cartridge).stat().st_size >= copy.bytes

    def known(self) -> dict:
        """Every scan as the catalogue knows it, by name."""
        from tomovault.vault.vault import Vault

        vault = Vault.open(self.site.folder, upgrade=False)
        try:
            with vault.catalogue.reading() as tx:
                return {scan.name: scan for scan in vault.catalogue.walk_scans(tx)}
        finally:
            vault.close()

    def there(self, name: str, form: Form) -> bool:
        """Whether the files, or the package, of a scan stand in its area."""
        if form is Form.FILES:
            return all((self.roots[name] / path).exists() for path in self.written[name])
        area = self.roots[name].parent
        return any(Path(f"{area}.vault").rglob(f"{name}*.tomo.h5"))


@pytest.fixture(scope="session")
def live_a_month(new_site, digests):
    """Called with names of areas and a number of days for what is left of that time, two days before today."""

    def live(names, days: int, *, preview: bool = True) -> Month:
        policy = (POLICIES / "esrf-id19.yaml").read_text("utf-8")
        model = parse_model((POLICIES / "models" / "esrf-id19.yaml").read_text("utf-8"), "model")
        plans = {n: p for n, p in model.areas(parse_policy(policy, "policy")).items() if n in names}
        site = new_site(*plans, without=(), day=-(days + 2))
        site.patience_s = 2000.0  # on its first day it takes in all that is there
        if not preview:
            policy = policy.replace("- name: preview\n    when: complete", "- name: preview\n    when: size > 1TB")
        (site.folder / "policies" / "esrf-id19.yaml").write_text(policy, "utf-8")
        areas = {
            name: {
                "policy": "esrf-id19",
                "prune": "on",
                "quota": f"{plan.quota // SCALE}B",
                "high": f"{plan.high:.0%}",
                "low": f"{plan.low:.0%}",
                "floor": f"{plan.floor_bytes // SCALE}B",
                "beamline": "ID19",
            }
            for name, plan in plans.items()
        }
        site.change(areas=areas, quarantine={"hold": "12h", "limit": "60%"})
        month = Month(site, digests, plans)
        _fill(month)
        for day, area in zip(range(days), itertools.cycle(n for n in plans for _ in range(2)), strict=False):
            site.on_day(day - days - 2)
            month.by_day[day] += month.write(area, f"day{day:02d}_")
            month.live()
        return month

    return live


def _fill(month: Month) -> None:
    """Scans of the last half year fill half of each area, and the census takes them in and touches nothing."""
    site = month.site
    for area, plan in month.plans.items():
        size, count = 0, 0
        while size < plan.quota / SCALE / 2:
            count += 1
            size += month.write(area, f"{area}_before{count}_", days_ago=180 - 20 * count)
    area = next(iter(month.plans))
    (site.areas[area] / "matlab").mkdir()
    (site.areas[area] / "matlab" / "notes.mat").write_bytes(b"x" * 1000)
    for area in month.plans:
        before = month.digests(site.areas[area])
        page = site.ask("census", area)
        names = {name for name, root in month.roots.items() if root.parent == site.areas[area]}
        assert [(s["format"], s["verdict"], s["scans"]) for s in page["scans"]] == [("edf", "complete", len(names))]
        assert sum(s["files"] for s in page["scans"]) == sum(len(month.written[name]) for name in names)
        assert month.digests(site.areas[area]) == before
        unexplained = [(u["files"], u["bytes"]) for u in page["unexplained"]]
        assert unexplained == [(1, 1000)] * (area == next(iter(month.plans)))
    assert {action for action, _ in site.actions()} == {"inspect"}


def _lower(month: Month, area: str) -> dict:
    """The marks of an area are below what stands there; returns what it was said would go then."""
    line = month.site.area_status(area)
    share = (line["used_bytes"] - line["quarantine_bytes"]) / line["quota_bytes"]
    month.site.change(areas={area: {"high": f"{100 * share - 2:.1f}%", "low": f"{100 * share - 4:.1f}%"}})
    return {row["rule"]: row for row in month.site.ask("policy", "preview")["rules"]}


def check_every_command(month: Month, tmp_path: Path) -> None:
    """What every command says of a site after its month is true."""
    site = month.site
    check_policies_and_explanations(month)
    check_sums(month)
    check_simulation(month, tmp_path)
    taken = check_preview_prune_and_undo(month)
    check_destroying(month, taken)
    check_what_is_restored(month, tmp_path)
    assert site.ask("verify", "--all")["bad"] == []
    assert site.ask("catalogue", "check") == {"ok": True, "problems": []}
    assert site.ask("audit", "verify")["ok"] is True


def check_policies_and_explanations(month: Month) -> None:
    """`policy check`, `policy preview` of a site at rest, `explain` of each kind of scan."""
    site = month.site
    page = site.ask("policy", "check")
    assert page["ok"]
    assert not [row for row in page["files"] if row["errors"]]
    for row in site.ask("policy", "preview")["rules"]:
        assert row["rule"].endswith("@esrf-id19:1")
        assert (row["scans"], row["bytes_freed"]) == ([], {}), "the daemon was idle"
    for name, scan in list(month.known().items())[::5]:
        stages = {stage["stage"]: stage for stage in site.ask("explain", name)["stages"]}
        assert (stages["archived"]["status"], stages["archived"]["rule"]) == ("done", "archive@esrf-id19:1")
        if month.there(name, Form.FILES):
            assert stages["pruned"]["status"] in ("waiting", "held")
            assert "usage > high" in stages["pruned"]["reason"]
            assert stages["pruned"]["rule"] == "prune-files@esrf-id19:1"
        else:
            assert stages["pruned"]["status"] == "done"
            assert {p.rule for p in scan.permits} <= {"prune-files@esrf-id19:1", "prune-packages@esrf-id19:1"}
            text = (month.roots[name] / README).read_text("utf-8")
            assert scan.id in text


def check_sums(month: Month) -> None:
    """`quota` by everything adds up to the same; `quota forecast` knows as many days as there were."""
    site, scans = month.site, month.known()
    assert scans.keys() == month.written.keys()
    sums = {}
    for by in ("area", "tier", "proposal", "owner", "beamline"):
        rows = site.ask("quota", "--by", by)["rows"]
        sums[by] = sum(row["bytes"] for row in rows)
        if by not in ("area", "tier"):
            assert sum(row["scans"] for row in rows) == len(scans)
    of_scan = sum(r.bytes for scan in scans.values() for r in scan.replicas if r.live)
    assert sums["tier"] == sums["proposal"] == sums["owner"] == sums["beamline"] == of_scan
    assert sums["area"] == sum(month.on_disk(area) for area in month.plans)
    days = len(month.by_day)
    rows = site.ask("quota", "forecast")["rows"]
    assert all(row["not_counted"]["prune"] == "on" for row in rows)
    for row in rows:
        assert row["known"] is (days > 28 or row["days_to_full"] == 0)
        assert row["history_days"] <= days
    if days > 28:
        arrived = sum(month.by_day.values())
        told = sum(row["written_per_day"] for row in rows) * days
        assert arrived <= told <= 2 * arrived, "the files, and a package of them"
        assert site.ask("quota")["rows"][0]["days_to_full_why"] in ("", "not within 730 days")
    page = site.ask("quota", "forecast", "--add", "1MB", "--on", site.now.date().isoformat())
    for row in page["rows"]:
        room = row["limit_bytes"] - month.on_disk(row["area"])
        assert row["fits"] is (room >= 10**6)


def check_simulation(month: Month, tmp_path: Path) -> None:
    """`simulate` begins with what is there, and removes nothing below its copies."""
    model = tmp_path / "model.yaml"
    model.write_text(MODEL, "utf-8")
    page = month.site.ask("simulate", "esrf-id19", "--days", "10", "--arrivals", str(model), "--no-remedy")
    assert page["least_copies_at_a_removal"] in (None, 2)
    for area in page["areas"]:
        assert area["start_fill"] * area["quota"] == pytest.approx(month.on_disk(area["area"]), abs=1)


def check_preview_prune_and_undo(month: Month) -> str:
    """What `policy preview` says goes is what goes, and `prune undo` brings it back bit for bit. Returns what of."""
    site = month.site
    site.on_day(-2)
    site.live()
    assert site.ask("prune", "list")["quarantine"] == [], "every hold is over"
    room = {name: plan.high * plan.quota / SCALE - month.on_disk(name) for name, plan in month.plans.items()}
    area = max(room, key=room.__getitem__)
    month.write(area, "last_")
    month.live()
    assert month.there("last_", Form.FILES)
    before = month.on_disk(area)
    would = _lower(month, area)["prune-files@esrf-id19:1"]
    assert would["scans"]
    site.live()
    rows = [row for row in site.ask("prune", "list")["quarantine"] if row["area"] == area]
    assert {row["scan"] for row in rows} == set(would["scans"])
    assert sum(row["bytes"] for row in rows) == would["bytes_freed"][area]
    assert {row["rule"] for row in rows} == {"prune-files@esrf-id19:1"}
    assert month.on_disk(area) == before, "what is in quarantine takes its room until the hold is over"
    name = rows[0]["name"]
    assert not month.there(name, Form.FILES)
    back = site.ask("prune", "undo", name)
    assert [permit["phase"] for permit in back["permits"]] == ["undone"]
    assert month.digests(month.roots[name]) == month.written[name]
    site.live()
    assert month.digests(month.roots[name]) == month.written[name], "an undo pins"
    stage = next(s for s in site.ask("explain", name)["stages"] if s["stage"] == "pruned")
    assert stage["status"] == "held"
    assert "pinned by" in stage["reason"]
    plan = month.plans[area]
    site.change(areas={area: {"high": f"{plan.high:.0%}", "low": f"{plan.low:.0%}"}})
    return name


def check_destroying(month: Month, name: str) -> None:
    """`destroy` asks for the name, a pin stops it, and what it leaves is as it was."""
    site = month.site
    order = ("destroy", name, "--product", "original", "--tier", "tape", "--reason", "a test of the shutter")
    assert "asked for once more" in site.refuse(*order, code=2)
    assert "is not the name" in site.refuse(*order, "--confirm", f"{name}x", code=2)
    assert "pinned" in site.refuse(*order, "--confirm", name, code=3)
    site.ask("unpin", name)
    page = site.ask(*order, "--confirm", name)
    assert {copy["tier"] for copy in page["stays"]} == {month.known()[name].area}
    assert page["last"] is False
    others = {n: s for n, s in month.known().items() if n != name}
    site.on_day(-1)
    site.live()
    after = month.known()
    assert good_domains(after[name].replicas_of(ProductKind.ORIGINAL), TierClass.ARCHIVE) == frozenset()
    assert month.digests(month.roots[name]) == month.written[name]
    for other, scan in others.items():
        assert _on_tape(after[other]) == _on_tape(scan)
    site.live()
    assert _on_tape(month.known()[name]) == set(), "what a person destroyed no rule makes again"


def _on_tape(scan) -> set[str]:
    return {r.location for r in scan.replicas if r.tier_class is TierClass.ARCHIVE and r.good}


def check_what_is_restored(month: Month, tmp_path: Path) -> None:
    """Of each kind of scan, one comes back as it was written, wherever its copies are."""
    chosen = {}
    for name in month.written:
        chosen[month.there(name, Form.FILES), month.there(name, Form.PACKAGE)] = name
    for name in chosen.values():
        month.site.ask("restore", name, "--to", str(tmp_path / name), "--wait")
        assert month.digests(tmp_path / name) == month.written[name]


@pytest.mark.soak
def test_a_month_of_the_eight_areas(live_a_month, tmp_path):
    names = ("inhouse", "inhouse1", "external", "external1", "external2", "paleo", "lamino", "graintracking")
    month = live_a_month(names, 31)
    assert len(month.plans) == 8
    for at, area, alarms in month.held_above:
        print(f"{at:%Y-%m-%d} {area}: {alarms}")
    check_every_command(month, tmp_path)


@pytest.mark.soak
def test_two_days_of_one_area(live_a_month, tmp_path):
    month = live_a_month(("inhouse",), 2, preview=False)
    check_every_command(month, tmp_path)
