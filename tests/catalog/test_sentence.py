"""The two readings of a sentence say the same of every scan, whatever the catalogue holds."""

from __future__ import annotations

import contextlib
import math
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from tomovault.catalog import tables
from tomovault.catalog.inspections import _condition_row
from tomovault.catalog.sentence import holds, kinds_asked, may_hold, over_scans, rule_conditions
from tomovault.catalog.summed import can_be_summed, over_most_scans
from tomovault.catalog.terms import Moment
from tomovault.core.replica import Form, ProductKind, ReplicaState, TierClass
from tomovault.core.scan import Certificate, Condition, Verdict
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import parse_policy
from tomovault.policy.expression import read_expression
from tomovault.policy.matching import matches_of
from tomovault.policy.prices import Prices
from tomovault.policy.reading import evaluate, may_come
from tomovault.policy.values import values_of

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
AREAS = {
    "inhouse": AreaFacts("inhouse", used_fraction=0.8, prices=Prices(byte_kept=1e-3, cpu_second=0.5)),
    "fast": AreaFacts("fast", TierClass.FAST, used_fraction=0.5, high=0.5, low=0.4),
}
#: One tier has the name of a class, and is of another.
TIERS = {
    "vault": TierClass.SERVER,
    "tape": TierClass.ARCHIVE,
    "emulated": TierClass.ARCHIVE,
    "archive": TierClass.REMOTE,
}
PLACES = ("inhouse", "fast", *TIERS)
NAMES = (None, "", "ma1", "o\udcffd\\'\x00")
NUMBERS = (2048, 2048.0, 1500.5, 0, -1, 2**31, 2**31 + 1, 2.0**31, 10**400, math.inf, math.nan, None, "2048")

some_of = st.sampled_from


@pytest.fixture
def areas(catalogue, now):
    """A catalogue with these areas and tiers and no scan."""
    with catalogue.writing() as tx:
        for name, facts in AREAS.items():
            catalogue.record_area(
                tx,
                name,
                path=f"/data/{name}",
                uuid=name,
                fsid="f",
                mount_source="/dev/sda1",
                simulated=False,
                tier_class=facts.tier_class,
                now=now,
            )
        for name, tier_class in TIERS.items():
            catalogue.record_tier(tx, name, tier_class, counts=name != "emulated")
    return catalogue


# --- catalogues ----------------------------------------------------------------------------------------

replicas = st.fixed_dictionaries(
    {
        "form": some_of([f.value for f in Form]),
        "tier": some_of(PLACES),
        "domain": some_of(["a", "b", "c", "d"]),
        "bytes": some_of([0, 1, 999, 1000, 1001, 2**53 + 1]),
        "state": some_of([ReplicaState.VERIFIED.value] * 4 + [s.value for s in ReplicaState]),
        "age": some_of([timedelta(0), INSTANT, -INSTANT, 5 * DAY, 5 * DAY + INSTANT, 400 * DAY]),
    }
)
runs = st.fixed_dictionaries(
    {
        "action": some_of(["reconstruct", "reconstruct", "preview"]),
        "outcome": some_of(["succeeded", "succeeded", "failed", None]),
        "error": some_of(["", "", "there was nothing to do"]),
        "cpu_s": some_of([0.0, 1.0, 1.998, 2.0, 2.002, 1e9]),
        "ended": some_of([timedelta(0), DAY]),
    }
)
products = st.fixed_dictionaries(
    {
        "kind": some_of([ProductKind.ORIGINAL.value] * 3 + [k.value for k in ProductKind]),
        "digest": some_of("de"),
        "lossless": some_of([True, True, True, False]),
        "age": some_of([DAY, 2 * DAY]),
        "replicas": st.lists(replicas, max_size=5),
    }
)
scans = st.fixed_dictionaries(
    {
        "area": some_of(sorted(AREAS)),
        "format": some_of(["edf", "nxtomo"]),
        "verdict": some_of([v.value for v in Verdict]),
        "settled": some_of([True, True, False]),
        "declared_verdict": some_of([None, None, "complete", "aborted"]),
        "bytes": some_of([0, 1, 2 * 10**9 - 1, 2 * 10**9, 2**53 + 1, 2**63 - 1]),
        "files": some_of([0, 1, 2, 10, 2**53 + 1]),
        "first_seen": some_of([timedelta(0), 31 * DAY]),
        "acquired": some_of(
            [
                None,
                timedelta(0),
                -INSTANT,
                INSTANT,
                28 * DAY,
                28 * DAY + INSTANT,
                30 * DAY,
                30 * DAY + INSTANT,
                365 * DAY,
            ]
        ),
        **{name: some_of(NAMES) for name in ("beamline", "proposal", "owner", "sample")},
        "accepted_by": some_of([None, "anna"]),
        "accepted_digest": some_of([None, "d", "e"]),
        "conditions": st.dictionaries(some_of(["frame_width", "frame_height", "n_projections"]), some_of(NUMBERS)),
        "runs": st.lists(runs, max_size=2),
        "products": st.lists(products, max_size=3, unique_by=lambda p: (p["kind"], p["digest"])),
    }
)


def _digest(letter):
    return letter and letter * 64


def _insert(tx, number, made, now):
    scan_id, at = f"s{number}", dict(made)
    first_seen, acquired = at.pop("first_seen"), at.pop("acquired")
    conditions, bodies, done = at.pop("conditions"), at.pop("products"), at.pop("runs")
    declared = at["declared_verdict"] and {"declared_by": "bob", "declared_reason": "seen", "declared_at": now}
    tx.run(
        insert(tables.scan).values(
            id=scan_id,
            name=scan_id,
            root=f"/data/{scan_id}",
            entry="",
            identity="i",
            place_hash=scan_id,
            root_hash=scan_id,
            certificate=Certificate(Verdict(at["verdict"])),
            ever_complete=False,
            first_seen_at=now - first_seen,
            acquired_at=None if acquired is None else now - acquired,
            changed_at=now,
            sources={},
            metadata={},
            facts_seq=1,
            **at | {"accepted_digest": _digest(at["accepted_digest"])},
            **declared or {},
        )
    )
    for name, value in conditions.items():
        tx.run(insert(tables.condition).values(**_condition_row(scan_id, name, Condition(value, None, "x"))))
    for count, run in enumerate(done):
        _insert_run(tx, scan_id, f"{scan_id}.{count}", dict(run), now)
    for count, body in enumerate(bodies):
        _insert_product(tx, scan_id, f"{scan_id}.{count}", dict(body), now)


def _insert_run(tx, scan_id, job_id, run, now):
    action, ended = run.pop("action"), now - run.pop("ended")
    job = {"status": "failed", "dedup_key": job_id, "rule": "", "place": "inhouse", "order": {}, "attempts": 1}
    tx.run(
        insert(tables.job).values(
            id=job_id, action=action, scan_id=scan_id, error="", hint="", queued_at=now, finished_at=now, **job
        )
    )
    over = {"started_at": ended, "finished_at": ended, "peak_bytes": 0}
    tx.run(insert(tables.attempt).values(id=job_id, job_id=job_id, number=1, holder="x", token=1, **over, **run))


def _insert_product(tx, scan_id, product_id, body, now):
    age, copies, digest = body.pop("age"), body.pop("replicas"), _digest(body.pop("digest"))
    sizes = {"bytes": 1, "files": 1}
    tx.run(
        insert(tables.product).values(
            id=product_id,
            scan_id=scan_id,
            digest=digest,
            made_by_us=False,
            created_at=now - age,
            details={},
            **sizes,
            **body,
        )
    )
    for count, copy in enumerate(copies):
        values = dict(copy)
        read = now - values.pop("age")
        place = f"{product_id}.{count}"
        tx.run(
            insert(tables.replica).values(
                id=place,
                scan_id=scan_id,
                product_id=product_id,
                location=place,
                location_hash=place,
                sha256=digest,
                written_at=read,
                verified_at=read if values["state"] == "verified" else None,
                parts=[],
                files=1,
                **values,
            )
        )


class _TakeBack(Exception):
    pass


@contextlib.contextmanager
def _catalogue_of(site, made, now):
    """A transaction in which the catalogue holds these scans; nothing of it stays."""
    with contextlib.suppress(_TakeBack), site.writing() as tx:
        for number, one in enumerate(made):
            _insert(tx, number, one, now)
        yield tx
        raise _TakeBack


# --- sentences -----------------------------------------------------------------------------------------

signs = some_of(["<", "<=", "=", "!=", ">=", ">"])
leaves = st.one_of(
    some_of(["true", "complete", "aborted", "packed", "archived", "previewed", "volume", "volume accepted"]),
    some_of(["cheaper to recompute"]),
    st.builds(
        "{} {} {}".format,
        some_of(["area", "format", "beamline", "proposal", "owner", "sample"]),
        some_of(["=", "!="]),
        some_of(["ma1", "fast", "edf", '""']),
    ),
    st.builds(
        "{} {} ({})".format,
        some_of(["area", "format", "proposal", "owner"]),
        some_of(["in", "not in"]),
        some_of(["ma1", "edf, fast", 'inhouse, "", tiff']),
    ),
    st.builds("age {} {}".format, signs, some_of(["0s", "30d", "31d", "36500d", "1 month", "1 year", "100 years"])),
    st.builds("size {} {}".format, signs, some_of(["0", "2GB", "9007199254740992", "9007199254740993", "99999PB"])),
    st.builds(
        "{} {} {}".format,
        some_of(["files", "width", "height", "n_projections", "pixels"]),
        signs,
        some_of(["0", "1", "1.5", "2048", "4194304", "2147483648", "1e999", "nan", '"-3"', "9" * 30]),
    ),
    st.builds("usage {} {}".format, signs, some_of(["high", "low", "50%", "80%", "0.4"])),
    st.builds(
        "replicas({}{}) {} {}".format,
        some_of([*PLACES, "server", "remote", "nowhere"]),
        some_of(["", ", verified within 5d", ", verified within 0s"]),
        signs,
        some_of(["0", "1", "2", "3", "9" * 30]),
    ),
)
sentences = st.recursive(
    leaves,
    lambda parts: st.one_of(
        st.builds("not ({})".format, parts),
        st.builds("({} and {})".format, parts, parts),
        st.builds("({} or {} or {})".format, parts, parts, parts),
    ),
    max_leaves=6,
)

_given_a_catalogue = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
catalogues = st.lists(scans, min_size=1, max_size=5)


def _answers(tx, trees, *conditions):
    """What each condition says of each scan, by its id: the same whether copies are added up by scan or at once."""
    ids = select(tables.scan.c.id)
    by_scan = over_scans(ids.add_columns(*_named(conditions)), conditions, trees, sqlite=tx.sqlite)
    found = _read(tx, by_scan)
    if can_be_summed(conditions):
        joined, told = over_most_scans(ids, conditions, kinds_asked(trees), sqlite=tx.sqlite)
        assert found == _read(tx, joined.add_columns(*_named(told)))
    return found


def _named(conditions):
    return [condition.label(f"c{number}") for number, condition in enumerate(conditions)]


def _read(tx, query):
    return {row[0]: [answer if answer is None else bool(answer) for answer in row[1:]] for row in tx.rows(query)}


def _said(verdict):
    return None if verdict.doubtful else verdict.value


@_given_a_catalogue
@given(catalogues, st.lists(sentences, min_size=1, max_size=5))
def test_both_readings_answer_alike(areas, now, made, texts):
    trees = [read_expression(text) for text in texts]
    at = Moment(now, AREAS)
    with _catalogue_of(areas, made, now) as tx:
        second = _answers(tx, trees, *(read(tree, at) for tree in trees for read in (holds, may_hold)))
        for scan in areas.list_scans(tx):
            values = values_of(scan, AREAS[scan.area], now)
            first = [said for tree in trees for said in (_said(evaluate(tree, values)), may_come(tree, values))]
            assert second[scan.id] == first, (texts, scan)


@_given_a_catalogue
@given(catalogues)
def test_both_readings_count_what_a_volume_costs(areas, now, made):
    trees = [read_expression(text) for text in ("cheaper to recompute", "volume and not cheaper to recompute")]
    at = Moment(now, AREAS)
    with _catalogue_of(areas, made, now) as tx:
        second = _answers(tx, trees, *(holds(tree, at) for tree in trees))
        for scan in areas.list_scans(tx):
            values = values_of(scan, AREAS[scan.area], now)
            assert second[scan.id] == [_said(evaluate(tree, values)) for tree in trees], scan


ACTIONS = (
    "pack",
    "archive, with: {copies: 2}",
    "archive, with: {copies: 3}",
    "archive, with: {copies: 3}, until: 2026-03-01",
    "archive, with: {copies: 3}, from: 2026-03-02",
    "pack, from: 2026-03-02",
    "pack, until: 2026-03-02",
    "prune, with: {copies: 4}",
    "verify, with: {verified_within: 9d}",
)


def _policy(rules):
    listed = [f"  - {{name: rule{n}, when: '{when}', do: {do}}}\n" for n, (when, do) in enumerate(rules)]
    return parse_policy("name: p\nversion: 1\nrules:\n" + "".join(listed), "p.yaml")


@_given_a_catalogue
@given(
    st.lists(scans, min_size=1, max_size=4), st.lists(st.tuples(sentences, some_of(ACTIONS)), min_size=1, max_size=3)
)
def test_both_readings_ask_a_scan_for_as_many_copies(areas, now, made, rules):
    policy = _policy([*rules, ("archived", "pack")])
    trees = [rule.condition for rule in policy.rules]
    with _catalogue_of(areas, made, now) as tx:
        conditions = rule_conditions(policy, Moment(now, AREAS))
        second = _answers(tx, trees, *conditions.values())
        counted = [areas.count_holding(tx, policy, facts, now) for facts in AREAS.values()]
        wanted = {s.id for f in AREAS.values() for s in areas.walk_wanted(tx, policy, ["rule0"], f, now)}
        for scan in areas.list_scans(tx):
            first = [_said(m.verdict) for m in matches_of(scan, policy, AREAS[scan.area], now)]
            assert second[scan.id] == first, (rules, scan)
    for number, name in enumerate(conditions):
        assert sum(counts[name] for counts in counted) == sum(said[number] is True for said in second.values())
    assert wanted == {scan for scan, said in second.items() if said[0] is True}


@_given_a_catalogue
@given(catalogues, sentences)
def test_the_scans_that_a_sentence_holds_for_are_found_in_their_order(areas, now, made, text):
    tree = read_expression(text)
    with _catalogue_of(areas, made, now) as tx:
        for chosen in (AREAS, {"fast": AREAS["fast"]}):
            found = [s.id for s in areas.walk_holding(tx, tree, chosen, now, newest_first=True)]
            every = areas.walk_scans(tx, chosen, newest_first=True)
            assert found == [s.id for s in every if evaluate(tree, values_of(s, AREAS[s.area], now)).value]
