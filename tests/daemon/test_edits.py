"""After an edit of a policy only the scans are looked at that it plans otherwise, and nothing is missed by that."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from tomovault.catalog import tables
from tomovault.catalog.terms import Moment
from tomovault.core.replica import TierClass
from tomovault.daemon.planner import Planner
from tomovault.policy.document import parse_policy
from tomovault.policy.edit import edit_of

DAY = timedelta(days=1)

some_of = st.sampled_from

leaves = some_of(
    [
        *("true", "complete", "aborted", "packed", "archived", "previewed", "volume", "volume accepted"),
        *("proposal = ma1", "proposal in (ma1, ma2)", "size > 400", "usage > 50%", "usage > high"),
        *("age > 10d", "age > 20d", "age <= 20d", "age < 1 month", "age >= 1 month", "age > 60d"),
        *("replicas(tape) >= 1", "replicas(tape) < 3", "replicas(inhouse) = 2", "replicas(archive) >= 3"),
        *("replicas(tape, verified within 5d) >= 1", "replicas(tape, verified within 40d) >= 2"),
    ]
)
sentences = st.recursive(
    leaves,
    lambda parts: st.one_of(
        st.builds("not ({})".format, parts),
        st.builds("({} and {})".format, parts, parts),
        st.builds("({} or {})".format, parts, parts),
    ),
    max_leaves=4,
)
results = some_of(
    [
        *("do: preview, with: {preset: quick}", "do: preview, with: {preset: slow}"),
        *("do: reconstruct, with: {preset: quick}", "do: reconstruct, order: 1"),
        *("do: archive, with: {copies: 3}", "do: archive, with: {copies: 4}", "do: archive"),
        *("do: replicate, with: {tiers: [mirror]}", "do: replicate, with: {tiers: [mirror, tape]}"),
        *("do: prune", "do: prune, with: {copies: 4}", "do: prune, with: {forms: [package]}"),
        *("do: forbid, with: {actions: [archive, replicate]}", "do: forbid, with: {actions: [prune]}"),
        *("do: forbid, with: {actions: [preview, reconstruct]}", "do: verify, with: {verified_within: 9d}"),
    ]
)
dates = some_of(["", "", "", "", ", from: {soon}", ", until: {soon}", ", from: {past}", ", until: {past}"])
rules = st.builds("when: '{}', {}{}".format, sentences, results, dates)
NAMES = "abc"


@st.composite
def edits(draw):
    """The rules of a policy by name, and those of the same one after an edit or two."""
    old = {name: draw(rules) for name in NAMES}
    new = dict(old)
    for _ in range(draw(some_of([1, 1, 2]))):
        name = draw(some_of(NAMES))
        how = draw(some_of(["when", "when", "all", "gone", "come", "last"]))
        rule = new.pop(name, None)
        if how == "when" and rule is not None:
            new[name] = f"when: '{draw(sentences)}', {rule.partition(chr(39) + ', ')[2]}"
        elif how == "last" and rule is not None:
            new[name] = rule
            continue
        elif how in ("all", "come"):
            new["new" if how == "come" else name] = draw(rules)
        new = {name: new[name] for name in (*NAMES, "new") if name in new}
    return old, new


recencies = some_of(["{}", "{}", "{}", "{disk: 15d}", "{archive: 30d}"])
lives = st.fixed_dictionaries(
    {
        "age": some_of([0, 5, 9, 10, 15, 20, 25, 28, 31, 45, 70]),
        "settled": some_of([True] * 5 + [False]),
        "declared_verdict": some_of([None] * 5 + ["aborted", "incomplete"]),
        "proposal": some_of([None, "ma1", "ma2", "ma3"]),
        "copies": st.lists(st.tuples(some_of(["verified", "verified", "suspect", "gone"]), some_of([0, 3, 8, 39, 90]))),
    }
)


def _policy(named, version, recency, now):
    moments = {"soon": (now + 5 * DAY).date().isoformat(), "past": (now - 5 * DAY).date().isoformat()}
    presets = "{quick: {}, slow: {filter: hann}}"
    head = f"name: standard\nversion: {version}\nverified_within: {recency}\npresets: {presets}\n"
    listed = "".join(f"  - {{name: {name}, {rule}}}\n" for name, rule in named.items())
    for word, moment in moments.items():
        listed = listed.replace(f"{{{word}}}", moment)
    return parse_policy(head + ("rules:\n" + listed if listed else "rules: []\n"), "p.yaml")


class _Undone(Exception):
    pass


@contextlib.contextmanager
def _undone(tx):
    """What is written inside is not there any more afterwards."""
    with contextlib.suppress(_Undone), tx.conn.begin_nested():
        yield
        raise _Undone


@pytest.fixture
def some(town):
    """Three scans of a site, with three copies on tape each; its one transaction is never committed."""
    town.room(quota="1GB")
    town.vault.space_of = lambda _area: None
    scans = [town.scan(name, size=size, copies=3) for name, size in (("one", 300), ("two", 400), ("three", 500))]
    catalogue = town.vault.catalogue
    with contextlib.suppress(_Undone), catalogue.writing() as tx:
        catalogue.record_tier(tx, "mirror", TierClass.SERVER, counts=True)
        catalogue.writing = catalogue.reading = lambda: contextlib.nullcontext(tx)
        yield Looks(town, tx, scans)
        raise _Undone


class Looks:
    """Plans scans of a town in one transaction."""

    def __init__(self, town, tx, scans):
        self.vault, self.tx, self.scans, self.now = town.vault, tx, scans, town.now

    def live(self, scan_id, life):
        scan, replica = tables.scan, tables.replica
        told = {"declared_by": "bob", "declared_reason": "seen", "declared_at": self.now}
        self.tx.run(
            update(scan)
            .where(scan.c.id == scan_id)
            .values(
                acquired_at=self.now - life["age"] * DAY,
                settled=life["settled"],
                proposal=life["proposal"],
                declared_verdict=life["declared_verdict"],
                **(told if life["declared_verdict"] else {}),
            )
        )
        mine = self.tx.rows(select(replica.c.id).where(replica.c.scan_id == scan_id).order_by(replica.c.location_hash))
        for row, (state, days) in zip(mine, life["copies"], strict=False):
            values = {"state": state, "verified_at": self.now - days * DAY}
            self.tx.run(update(replica).where(replica.c.id == row.id).values(**values))

    def rule(self, policy):
        self.vault.policies = {"standard": policy}

    def due(self, scans, now):
        for scan in scans:
            self.vault.catalogue.set_next_due(self.tx, scan, now)

    def plan(self, now):
        """Whatever is due was planned; returns what is queued."""
        planner = Planner(self.vault)
        planner._evidence.wake = lambda *_: None  # what is missed after an edit is not found by a start
        while planner.plan_scans(now):
            pass
        assert planner.alarms == {}
        return self.jobs

    @property
    def jobs(self):
        jobs = self.vault.catalogue.list_jobs(self.tx)
        removals = sorted(("prune", p.replica, p.rule.partition(":")[0]) for s in self.scans for p in self._permits(s))
        return sorted((j.action, j.scan, str(j.order)) for j in jobs if j.action != "prune") + removals

    def _permits(self, scan_id):
        return self.vault.catalogue.known(self.tx, scan_id).permits

    def sleeping(self, now):
        """The scans that nobody looks at before `now`, and then."""
        scan = tables.scan
        rows = self.tx.rows(select(scan.c.id, scan.c.next_due_at))
        return [row.id for row in rows if row.next_due_at is None or row.next_due_at > now]

    def chosen(self, old, new, now):
        facts = {"inhouse": self.vault.area_facts(self.tx, "inhouse", now)}
        edit = edit_of(old, new, now)
        found, after = [], ""
        while after is not None:
            page = self.vault.catalogue.choose_page(self.tx, ["inhouse"], [edit], Moment(now, facts), after, size=2)
            found += page.scans
            after = page.to
        return found


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    edits(), recencies, recencies, st.tuples(lives, lives, lives), some_of([0, 1, 6, 12]), some_of([0.5, 4, 5, 11, 35])
)
def test_to_plan_the_chosen_scans_queues_what_to_plan_all_of_them_would(
    some, edit, recency, other_recency, how, then, later
):
    old = _policy(edit[0], 1, recency, some.now)
    new = _policy(edit[1], 2, other_recency if recency == "{}" else recency, some.now)
    with _undone(some.tx):
        for scan, life in zip(some.scans, how, strict=True):
            some.live(scan, life)
        some.rule(old)
        some.due(some.scans, some.now)
        some.plan(some.now)
        edited_at = some.now + then * DAY
        some.plan(edited_at)
        some.rule(new)
        with _undone(some.tx):
            some.due(some.scans, edited_at)
            by_all = some.plan(edited_at)
        chosen = some.chosen(old, new, edited_at)
        some.due(chosen, edited_at)
        assert some.plan(edited_at) == by_all
        missed = some.sleeping(edited_at + later * DAY)
        some.due(some.scans, None)
        some.due(missed, edited_at)
        assert some.plan(edited_at + later * DAY) == by_all, "nothing was due for them before the next look at them"
