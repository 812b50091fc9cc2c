from __future__ import annotations

import contextlib
import shutil
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from tomovault.catalog import tables
from tomovault.catalog import usage as usages
from tomovault.catalog.catalogue import Catalogue
from tomovault.core.errors import IntegrityError, Refused, UserError
from tomovault.core.record import Checked, Made, PutBack, Quarantined, Removed
from tomovault.core.replica import Form, ProductKind, TierClass
from tomovault.core.scan import Verdict


def _by(site, tx, by):
    return {r.value: (r.bytes, r.files, r.scans) for r in site.usage(tx, by)}


def test_usage_by_each_grouping(site, archived, make, now):
    with site.writing() as tx:
        other = make.report("/data/inhouse/s2", proposal="ma1", owner="ann", beamline="ID19")
        site.record_inspected(tx, "inhouse", make.inspected(other), now)
        assert _by(site, tx, "area") == {"inhouse": (150 + 60 + 150, 4, 2)}
        assert _by(site, tx, "tier") == {
            "inhouse": (300, 3, 2),
            "inhouse.vault": (60, 1, 1),
            "tape": (120, 2, 1),
            "emulated": (0, 0, 0),
            "mirror": (0, 0, 0),
        }
        assert _by(site, tx, "proposal") == {None: (330, 4, 1), "ma1": (150, 2, 1)}
        assert _by(site, tx, "owner") == {None: (330, 4, 1), "ann": (150, 2, 1)}
        assert _by(site, tx, "beamline") == {None: (330, 4, 1), "ID19": (150, 2, 1)}
        with pytest.raises(UserError, match="colour"):
            site.usage(tx, "colour")


def test_what_is_limited_is_looked_up_by_itself_and_as_the_roll_up_says(site, archived, make, now):
    with site.writing() as tx:
        for number in range(3):
            other = make.report(f"/data/inhouse/p{number}", proposal=f"ma{number}", owner="ann", beamline="ID19")
            site.record_inspected(tx, "inhouse", make.inspected(other), now)
        for by in ("tier", "proposal", "owner", "beamline"):
            kept = {value: held[:2] for value, held in _by(site, tx, by).items() if value and held[2]}
            assert usages.usage_of(tx, by, [*kept, "nobody"]) == kept
            assert usages.usage_above(tx, by, bytes=-1, files=None) == kept
            assert usages.usage_above(tx, by, bytes=150, files=None) == {v: h for v, h in kept.items() if h[0] > 150}
            assert usages.usage_above(tx, by, bytes=10**9, files=2) == {v: h for v, h in kept.items() if h[1] > 2}
            assert usages.usage_above(tx, by, bytes=None, files=None) == {}


def test_a_changed_owner_takes_the_bytes_along(site, scan_id, make, now):
    with site.writing() as tx:
        site.record_inspected(tx, "inhouse", make.inspected(make.report(owner="bob")), now)
        assert _by(site, tx, "owner") == {"bob": (150, 2, 1)}
        assert site.recount(tx) == []


def test_a_recount_names_what_differs_and_a_rebuild_mends_it(site, archived, now):
    with site.writing() as tx:
        tx.run(update(tables.usage).where(tables.usage.c.tier == "tape").values(bytes=7))
        (problem,) = site.recount(tx)
        assert "tier=tape" in problem
        assert "kept 7 bytes" in problem
    assert any("tier=tape" in p for p in site.check())
    with site.writing() as tx:
        site.rebuild_usage(tx)
        assert site.recount(tx) == []
    assert site.check() == []


def _in_turns(site, between=lambda turn: None):
    turns, counting = 0, site.recount_in_turns()
    while True:
        try:
            next(counting)
        except StopIteration as end:
            return turns, end.value
        turns += 1
        between(turns)


def test_a_recount_in_turns_finds_the_same(site, make, now, monkeypatch):
    monkeypatch.setattr(usages, "_IN_A_TURN", 2)
    with site.writing() as tx:
        for n in range(5):
            report = make.report(root=f"/data/inhouse/n{n}", identity=f"n{n}", name=f"n{n}")
            site.record_inspected(tx, "inhouse", make.inspected(report), now)
    assert _in_turns(site) == (2, [])
    with site.writing() as tx:
        tx.run(update(tables.usage).where(tables.usage.c.owner.is_(None)).values(bytes=tables.usage.c.bytes + 7))
        found = site.recount(tx)
    assert found
    assert _in_turns(site) == (4, found)
    assert _in_turns(site) == (2, []), "it was mended"


def test_what_is_written_during_a_recount_is_no_difference(site, make, now, monkeypatch):
    monkeypatch.setattr(usages, "_IN_A_TURN", 1)
    ids = []
    with site.writing() as tx:
        for n in range(3):
            report = make.report(root=f"/data/inhouse/n{n}", identity=f"n{n}", name=f"n{n}")
            ids += site.record_inspected(tx, "inhouse", make.inspected(report), now)

    def write(turn):
        if turn in (1, 5):
            with site.writing() as tx:
                stored = make.stored("inhouse.vault", "disk", location=f"/p/{turn}", size=10**turn)
                site.apply_records(tx, [make.made(), stored], now, scan_id=min(ids))

    turns, found = _in_turns(site, write)
    assert turns > 3, "the first pass met a difference, so there was a second one"
    assert found == []


def test_usage_that_drifted_refuses_no_fact_and_is_mended(site, archived, now):
    """Never negative; the next recount puts it right, with what was recorded since."""
    package = archived.replica["inhouse.vault/disk"]
    with site.writing() as tx:
        tx.run(update(tables.usage).where(tables.usage.c.tier == "inhouse.vault").values(bytes=1))
        with usages.accounted(tx, archived.id):
            tx.run(update(tables.replica).where(tables.replica.c.id == package).values(state="gone"))
        assert _by(site, tx, "tier")["inhouse.vault"] == (0, 0, 0)
        tx.run(update(tables.usage).where(tables.usage.c.tier == "tape").values(bytes=5))
    assert _in_turns(site)[1] != []
    with site.reading() as tx:
        assert site.recount(tx) == []


def test_a_tier_that_moves_to_an_area_counts_there(site, archived):
    with site.writing() as tx:
        site.record_tier(tx, "tape", TierClass.ARCHIVE, counts=True, area="inhouse")
        assert _by(site, tx, "area") == {"inhouse": (330, 4, 1)}
        assert site.recount(tx) == []


_TIERS = ("inhouse.vault", "tape", "emulated", "mirror")
_step = st.one_of(
    st.tuples(st.just("inspect"), st.integers(0, 2), st.sampled_from("abc"), st.sampled_from(list(Verdict)),
              st.booleans(), st.integers(0, 1000), st.sampled_from([None, "ann", "bob"])),
    st.tuples(st.just("unreadable"), st.integers(0, 2)),
    st.tuples(st.just("files"), st.integers(0, 2), st.sampled_from("def"), st.integers(0, 1000)),
    st.tuples(st.just("store"), st.integers(0, 2), st.sampled_from("def"), st.sampled_from(_TIERS),
              st.sampled_from("xy"), st.integers(0, 1000), st.booleans()),
    st.tuples(st.just("check"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("missing"), st.integers(0, 9)),
    st.tuples(st.just("grant"), st.integers(0, 9)),
    st.tuples(st.just("quarantine"), st.integers(0, 9), st.integers(0, 500)),
    st.tuples(st.just("remove"), st.integers(0, 9)),
    st.tuples(st.just("undo"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("withdraw"), st.integers(0, 9)),
    st.tuples(st.just("area"), st.sampled_from(_TIERS), st.sampled_from([None, "inhouse"])),
)  # fmt: skip


class _History:
    """Applies random steps; what the laws refuse is rolled back, as the daemon would."""

    def __init__(self, catalogue, make, now):
        self.catalogue, self.make, self.now = catalogue, make, now

    def apply(self, step):
        self.now += timedelta(seconds=1)
        with contextlib.suppress(Refused, UserError, IndexError), self.catalogue.writing() as tx:
            getattr(self, step[0])(tx, *step[1:])

    def _scan(self, tx, place):
        return self.catalogue.find_scans(tx, f"/data/inhouse/s{place}")[0].id

    def _records(self, tx, *records, scan=None):
        self.catalogue.apply_records(tx, records, self.now, scan_id=scan)

    def _replica(self, tx, n):
        return [r for s in self.catalogue.list_scans(tx) for r in s.replicas][n]

    def _permit(self, tx, n):
        return [p for s in self.catalogue.list_scans(tx) for p in s.permits][n].id

    def inspect(self, tx, place, identity, verdict, settled, size, owner):
        files = (self.make.file(size=size, mtime_ns=self.now.toordinal() * (ord(identity) - 96)),)
        report = self.make.report(f"/data/inhouse/s{place}", identity, verdict, owner=owner, files=files)
        self.catalogue.record_inspected(tx, "inhouse", self.make.inspected(report, settled=settled), self.now)

    def unreadable(self, tx, place):
        inspected = self.make.inspected(folder=f"/data/inhouse/s{place}", problem="EIO")
        self.catalogue.record_inspected(tx, "inhouse", inspected, self.now)

    def files(self, tx, place, letter, size):
        digest = self.make.digest(letter)
        files = self.make.stored(
            "inhouse", "disk", form=Form.FILES, location=f"/data/inhouse/s{place}", size=size, digest=digest
        )
        self._records(tx, files, Made(ProductKind.ORIGINAL, digest, size, 1), scan=self._scan(tx, place))

    def store(self, tx, place, letter, tier, domain, size, verified):
        kind = ProductKind.ORIGINAL if letter != "f" else ProductKind.VOLUME
        digest = self.make.digest(letter)
        stored = self.make.stored(
            tier,
            domain,
            kind=kind,
            digest=digest,
            location=f"/{tier}/{domain}/{place}-{kind}",
            size=size,
            verified_at=self.now if verified else None,
        )
        with contextlib.suppress(IntegrityError):
            self._records(tx, Made(kind, digest, 1, 1), stored, scan=self._scan(tx, place))

    def check(self, tx, n, ok):
        self._records(tx, Checked(self._replica(tx, n).id, ok, self.now))

    def missing(self, tx, n):
        self.catalogue.record_missing(tx, self._replica(tx, n).id, "x", self.now)

    def grant(self, tx, n):
        victim = self._replica(tx, n)
        scan = next(s for s in self.catalogue.list_scans(tx) if victim in s.replicas)
        self.catalogue.grant_permit(
            tx,
            scan.id,
            victim.id,
            removal_enabled=True,
            copies_asked=2,
            within={},
            rule="r",
            hold_until=None,
            archiving_hopeful=True,
            now=self.now,
        )

    def quarantine(self, tx, n, size):
        self._records(tx, Quarantined(self._permit(tx, n), ("a.edf",), size))

    def remove(self, tx, n):
        self._records(tx, Removed(self._permit(tx, n), 1, 1))

    def undo(self, tx, n, conflict):
        self._records(tx, PutBack(self._permit(tx, n), 1, 1, ("a",) if conflict else ()))

    def withdraw(self, tx, n):
        self.catalogue.withdraw_permit(tx, self._permit(tx, n), "x", self.now)

    def area(self, tx, tier, area):
        tier_class = TierClass.ARCHIVE if tier in ("tape", "emulated") else TierClass.SERVER
        self.catalogue.record_tier(tx, tier, tier_class, counts=True, area=area)


def _fresh(make, now, sqlite_template, folder):
    path = folder / "h.db"
    for name in ("h.db", "h.db-wal", "h.db-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(sqlite_template, path)
    catalogue = Catalogue.open(f"sqlite:///{path}", manifests=str(folder))
    with catalogue.writing() as tx:
        make.site(catalogue, tx)
    return _History(catalogue, make, now)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_step, max_size=30))
def test_the_roll_up_equals_a_recount_after_any_history(make, now, sqlite_template, tmp_path, steps):
    history = _fresh(make, now, sqlite_template, tmp_path)
    try:
        for step in steps:
            history.apply(step)
        assert history.catalogue.check() == []
    finally:
        history.catalogue.close()


def test_a_history_of_every_kind_of_step_really_happens(make, now, sqlite_template, tmp_path):
    """The property above would be empty if every step were refused."""
    history = _fresh(make, now, sqlite_template, tmp_path)
    steps = [
        ("inspect", 0, "a", Verdict.COMPLETE, True, 100, "ann"),
        ("files", 0, "d", 100),
        ("store", 0, "d", "tape", "x", 50, True),
        ("store", 0, "d", "tape", "y", 50, True),
        ("grant", 0),
        ("quarantine", 0, 90),
        ("remove", 0),
        ("inspect", 0, "b", Verdict.COMPLETE, True, 70, "bob"),
    ]
    for step in steps:
        history.apply(step)
    with history.catalogue.reading() as tx:
        assert _by(history.catalogue, tx, "tier")["tape"] == (100, 2, 1)
        assert _by(history.catalogue, tx, "tier")["inhouse"] == (70, 1, 1)
        assert _by(history.catalogue, tx, "owner") == {"ann": (100, 2, 1), "bob": (70, 1, 1)}
    history.catalogue.close()
