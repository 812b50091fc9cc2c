"""What would be seen of mistakes: each is planted into the code, and a history tells which law does not hold.

Each life is lived once without any: it is a life like any other.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tomovault.catalog import tables
from tomovault.core.record import Outcome, PutBack
from tomovault.policy.area_facts import bytes_to_free

_SCANS = [("established", 4, 5), ("established", 3, 7)]
_MONTH = [("established", 5, 3), *_SCANS, ("live", 3, 0)]
_REMOVED = [("time", 4, 0), ("live", 3, 0), ("live", 3, 0)]

#: What happens, by the name of the life.
LIVES = {
    "a month": _MONTH,
    "a month and its end": [*_MONTH, *_REMOVED],
    "a pin": [("established", 3, 7), ("pin", 0, 3), ("mark", 2, 0), ("live", 3, 0)],
    "many small scans": [("mark", 1, 0), *[("established", 3, 1)] * 12, ("live", 3, 0)],
    "a clock that jumps": [("live", 0, 0), ("jump", 6, 0), *_MONTH],
    "a clock that jumps in the hold": [*_MONTH, ("jump", 4, 0), ("live", 3, 0)],
    "no tape yet": [("fast_policy", 1, 0), ("arrive", 2, 5), ("arrive", 2, 5), ("live", 3, 0), ("live", 3, 0)],
    "an absence": [("policy", 2, 1), *_SCANS, ("live", 0, 0), ("absence", 0, 0), ("policy", 0, 0), ("live", 2, 0)],
    "off": [("mark", 3, 0), *_SCANS, ("live", 2, 0)],
    "forbidden": [("policy", 1, 1), *_SCANS, ("live", 2, 0)],
    "too young": [("policy", 0, 1), ("established", 1, 7), ("established", 1, 7), ("live", 2, 0)],
    "before its date": [("fast_policy", 4, 0), ("established", 2, 3), ("live", 3, 0)],
    "a small volume": [("policy", 1, 0), ("arrive", 0, 0), ("live", 3, 0), ("live", 3, 0)],
    "an edit": [("live", 0, 0), ("policy", 6, 0), ("arrive", 0, 0), ("live", 0, 0)],
    "incomplete": [("arrive", 0, 7), ("arrive", 0, 7), ("live", 2, 0), ("time", 5, 0), ("live", 3, 0)],
    "a bad copy": [("established", 3, 3), ("spoil", 0, 1), ("time", 1, 0), ("verify", 0, 0), ("live", 2, 0)],
    "files that vanish": [("established", 0, 0), ("live", 0, 0), ("vanish", 0, 0), *[("live", 0, 0)] * 4],
    "taken back": [*_MONTH, ("undo", 0, 0), ("live", 2, 0)],
    "a failure": [("arrive", 0, 0), ("live", 0, 0), ("fault", 1, 0), ("live", 2, 0), ("live", 2, 0)],
    "a tape": [("mark", 2, 0), ("arrive", 0, 5), ("arrive", 0, 5), ("live", 3, 0), *_REMOVED],
    "sent": [("policy", 6, 1), ("arrive", 0, 3), ("live", 3, 0), ("time", 1, 0), ("live", 3, 0)],
    "sent from a full area": [
        *[("policy", 4, 0), ("established", 3, 7), ("live", 0, 0)],
        *[("time", 6, 0), ("time", 5, 0), ("filled", 7, 0), ("fault", 0, 0), ("live", 3, 0)],
    ],
    "too late to send": [
        *[("policy", 4, 0), ("time", 7, 0), ("time", 6, 0), ("time", 5, 0), ("time", 5, 0)],
        *[("arrive", 0, 0), ("live", 3, 0), ("live", 3, 0)],
    ],
    "an embargo": [("policy", 4, 0), ("arrive", 0, 0), ("live", 3, 0), ("time", 6, 0), ("live", 3, 0)],
    "to be warned of": [("policy", 5, 0), ("mark", 2, 0), *_SCANS, ("live", 2, 0)],
    "told by a rule": [("policy", 4, 0), ("established", 0, 0), ("live", 2, 0), ("verify", 0, 0), ("live", 2, 0)],
    "told of what failed": [("policy", 3, 0), ("established", 3, 0), ("fault", 3, 0), ("live", 1, 0)],
}


def _set(monkeypatch, what, *places):
    for place in places:
        monkeypatch.setattr(f"tomovault.{place}", what)


# --- copies and reads --------------------------------------------------------------------------------


def no_law(monkeypatch):
    """Every reason against a removal is forgotten, where a permit is given and where one is looked for."""
    places = ("catalog.permits", "policy.room", "policy.removing", "policy.decide", "vault.removals")
    _set(monkeypatch, lambda _removal: (), *(f"{place}.may_go" for place in places))


def nothing_is_incomplete(monkeypatch):
    _set(monkeypatch, property(lambda _scan: True), "core.known.KnownScan.complete")


def bad_is_right(monkeypatch):
    """What was re-read and is bad is called right."""
    from tomovault.catalog.records import record_checked

    def record(tx, checked, now):
        record_checked(tx, replace(checked, ok=True, reason=""), now)

    _set(monkeypatch, record, "catalog.records.record_checked")


def absence_is_an_order(monkeypatch):
    """What is not found is gone."""

    def record(tx, replica, _reason, _now):
        tx.run(sa.update(tables.replica).where(tables.replica.c.id == replica).values(state="gone"))

    _set(monkeypatch, record, "catalog.work.record_missing")


def one_cartridge_for_two(monkeypatch):
    """What is told to be on two cartridges is on one."""
    from tomovault.testing.ground import Ground

    put = Ground._put

    def put_on_first(ground, source, tier, domain):
        told = put(ground, source, tier, domain)
        ground.copies[told.location].domain = "tape-1"
        return told

    monkeypatch.setattr(Ground, "_put", put_on_first)


# --- removals ----------------------------------------------------------------------------------------


def no_hold(monkeypatch):
    """The hold of a permit is none."""
    _set(monkeypatch, lambda **_seconds: timedelta(0), "vault.removals.timedelta")


def one_phase(monkeypatch):
    """What is in quarantine is leaving at once."""
    from tomovault.catalog.removals import _set_permit
    from tomovault.core.known import RemovalPhase

    def set_permit(tx, row, phase, **values):
        _set_permit(tx, row, RemovalPhase.LEAVING if phase is RemovalPhase.QUARANTINED else phase, **values)

    _set(monkeypatch, set_permit, "catalog.removals._set_permit")


def no_tombstone(monkeypatch):
    _set(monkeypatch, lambda *_what: None, "catalog.removals._bury")


def another_folder(monkeypatch):
    """What is moved is the folder above the one of the permit."""
    _set(monkeypatch, lambda *_what: "..", "vault.removal_orders._within")


def put_back_in_words(monkeypatch):
    """What is told to be back is in quarantine still."""
    lie = staticmethod(lambda order: iter([PutBack(order["permit"], 1, 100)]))
    _set(monkeypatch, lie, "testing.ground.Ground.undo_prune")


def stays_leaving(monkeypatch):
    """What was put back is leaving still."""
    _set(monkeypatch, lambda *_what: None, "catalog.removals._set_replica")


def no_brake(monkeypatch):
    """A clock that jumped is believed."""
    _set(monkeypatch, lambda *_what: "", "daemon.clock.WallClock.look", "daemon.clock.WallClock._doubt")


def nothing_rests(monkeypatch):
    """Something may go from an area that is absent."""
    _set(monkeypatch, lambda _presence: frozenset(), "daemon.presence.Presence.resting")


def greed(monkeypatch):
    """Room is made for ten times the bytes that are wanted."""
    _set(monkeypatch, lambda facts: 10 * bytes_to_free(facts), "vault.room.bytes_to_free")
    _set(monkeypatch, lambda facts: 10 * bytes_to_free(facts), "daemon.room_maker.bytes_to_free")


# --- people ------------------------------------------------------------------------------------------


def no_pins(monkeypatch):
    _set(monkeypatch, lambda _scan, _now: "", "core.known.KnownScan.pinned_by")


def always_on(monkeypatch):
    """Whether something may be removed from an area is not asked."""
    from tomovault.vault.vault import Vault

    facts = Vault.area_facts
    monkeypatch.setattr(Vault, "area_facts", lambda *what, **how: replace(facts(*what, **how), prune_on=True))


def no_warning(monkeypatch):
    places = ("vault.evidence", "vault.owner_warnings", "vault.room", "policy.warning")
    _set(monkeypatch, lambda *_what, **_how: None, *(f"{place}.why_unwarned" for place in places))


def told_again(monkeypatch):
    _set(monkeypatch, lambda *_what: False, "vault.deeds.was_told")


def told_of_a_failure(monkeypatch):
    from tomovault.vault.deeds import tell_of_job

    def tell(vault, tx, claimed, result, now):
        tell_of_job(vault, tx, claimed, replace(result, outcome=Outcome.SUCCEEDED), now)

    _set(monkeypatch, tell, "vault.foreman.tell_of_job")


# --- policies ----------------------------------------------------------------------------------------


def nothing_is_forbidden(monkeypatch):
    _set(monkeypatch, lambda *_what: {}, "policy.decide._forbidden")


def everything_is_old(monkeypatch):
    from tomovault.policy.values import values_of

    def values(*what, **how):
        return {**values_of(*what, **how), "age": timedelta(days=999)}

    _set(monkeypatch, values, "policy.matching.values_of", "policy.removing.values_of")


def no_dates(monkeypatch):
    _set(monkeypatch, lambda _rule, _now: True, "policy.document.Rule.is_in_force")


def sends_for_ever(monkeypatch):
    """The end of a rule that sends is not the end."""
    from tomovault.policy.document import Rule

    is_in_force = Rule.is_in_force
    monkeypatch.setattr(Rule, "is_in_force", lambda rule, now: rule.do == "export" or is_in_force(rule, now))


def other_prices(monkeypatch):
    _set(monkeypatch, lambda *_what: (1.0, 0.0), "policy.values.costs_of_volume")


def every_form(monkeypatch):
    """A rule lets go of whatever there is."""
    reaches = lambda rule, *_what: rule.do == "prune"  # noqa: E731 - as short as the mistake
    _set(monkeypatch, reaches, "policy.removing.reaches", "policy.decide.reaches")


def never_edited(monkeypatch):
    _set(monkeypatch, lambda *_what, **_how: False, "daemon.policies.PolicyWatch.take_up")


# --- work --------------------------------------------------------------------------------------------


def never_the_same(monkeypatch):
    """Every look finds other facts."""
    count = itertools.count()
    _set(monkeypatch, lambda *_what: str(next(count)), "daemon.planner.fingerprint")


def looked_at_again(monkeypatch):
    """What was inspected is inspected again after each sweep."""
    count = itertools.count()
    _set(monkeypatch, lambda _lookout, sweep: list(sweep.seen), "daemon.lookout.Lookout._changed")
    _set(monkeypatch, lambda *_what: True, "daemon.lookout.Lookout._note")
    _set(monkeypatch, lambda *_what: str(next(count)), "daemon.lookout._inspected_at")


def never_sent(monkeypatch):
    """What was sent is forgotten."""
    from tomovault.vault.exports import _wanted

    def wanted(site, scan, *rest):
        return _wanted(site, replace(scan, transfers=()), *rest)

    _set(monkeypatch, wanted, "vault.exports._wanted")


def sent_as_it_goes(monkeypatch):
    _set(monkeypatch, lambda *_what: False, "policy.room.is_being_sent", "vault.removals.is_being_sent")


def not_recorded_first(monkeypatch):
    """A transfer is submitted under an id that nobody recorded."""
    from tomovault.vault.transfer_orders import order_export

    def order(request):
        return {**order_export(request), "submission_id": "at once"}

    monkeypatch.setitem(__import__("tomovault.vault.orders", fromlist=["_BUILDERS"])._BUILDERS, "export", order)


def never_received(monkeypatch):
    """A receipt is written of what never arrived."""

    class Nowhere(list):
        def append(self, _one):
            """Nothing arrives."""

    from tomovault.testing.ground import Ground

    plain = Ground.__init__

    def init(ground, *what):
        plain(ground, *what)
        ground.delivered = Nowhere()

    monkeypatch.setattr(Ground, "__init__", init)


def not_counted(monkeypatch):
    """Nothing that is written to a tier is in its usage."""
    _set(monkeypatch, lambda *_what: None, "catalog.usage._add")


def broken_chain(monkeypatch):
    """The hash of an entry of the audit log is never twice the same."""
    from tomovault.catalog.audit import _hash

    count = itertools.count()
    _set(monkeypatch, lambda *what: _hash(*what[:-1], f"{what[-1]}{next(count)}"), "catalog.audit._hash")


def log_cut_short(monkeypatch):
    """What was told last is taken out of the audit log, and nothing prevents it."""
    from tomovault.daemon.upkeep import Upkeep

    take = Upkeep.take

    def cut(upkeep):
        with upkeep._vault.catalogue.writing() as tx:
            tx.run(sa.text("DROP TRIGGER IF EXISTS audit_no_delete"))
            tx.run(sa.text("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)"))
        return take(upkeep)

    monkeypatch.setattr(Upkeep, "take", cut)


CHEAP, LONG = (), (pytest.mark.soak,)

#: The mistake, the life in which it is seen, by which law, and whether that is for the long run alone.
MISTAKES = (
    (no_law, "no tape yet", "law 4", CHEAP),
    (nothing_is_incomplete, "incomplete", "law 4: complete", LONG),
    (bad_is_right, "a bad copy", "law 2: verified", CHEAP),
    (absence_is_an_order, "files that vanish", "law 3: absence", CHEAP),
    (one_cartridge_for_two, "a tape", "law 4: what is left", LONG),
    (no_hold, "a month", "law 5: the hold", CHEAP),
    (no_brake, "a clock that jumps in the hold", "law 5: the hold really passed", LONG),
    (one_phase, "a month", "law 5: two phases", LONG),
    (no_tombstone, "a month and its end", "law 4: a tombstone", LONG),
    (another_folder, "a month", "law 5: only what the permit names", LONG),
    (put_back_in_words, "taken back", "law 5: quarantine", LONG),
    (stays_leaving, "taken back", "law 5: leaving", LONG),
    (no_brake, "a clock that jumps", "laws 3 and 5: brakes", CHEAP),
    (nothing_rests, "an absence", "is not there", LONG),
    (greed, "many small scans", "watermark", CHEAP),
    (no_pins, "a pin", "pins", CHEAP),
    (always_on, "off", "prune: off", LONG),
    (no_warning, "to be warned of", "warnings", CHEAP),
    (told_again, "told by a rule", "notices: once", LONG),
    (told_of_a_failure, "told of what failed", "notices: what was done", LONG),
    (nothing_is_forbidden, "forbidden", "the policy: forbids", LONG),
    (everything_is_old, "too young", "the policy: age", LONG),
    (no_dates, "before its date", "the policy: dates", LONG),
    (other_prices, "a small volume", "the policy: prices", LONG),
    (every_form, "a month", "the policy: its copies", LONG),
    (never_edited, "an edit", "the policy: the newest", LONG),
    (never_the_same, "a failure", "no action twice", LONG),
    (looked_at_again, "an edit", "rest", LONG),
    (never_sent, "sent", "exports: once", LONG),
    (sent_as_it_goes, "sent from a full area", "goes while it is sent", LONG),
    (sends_for_ever, "too late to send", "exports: dates", LONG),
    (nothing_is_forbidden, "an embargo", "exports: embargo", LONG),
    (not_recorded_first, "sent", "law 6", LONG),
    (never_received, "sent", "law 2: a receipt", LONG),
    (not_counted, "a month", "usage", LONG),
    (broken_chain, "an edit", "the catalogue", LONG),
    (log_cut_short, "a month", "law 9", CHEAP),
)


@pytest.mark.soak
@pytest.mark.parametrize("name", LIVES)
def test_a_life_without_a_mistake(life, name):
    life(*LIVES[name])


@pytest.mark.parametrize(
    ("plant", "name", "law"),
    [pytest.param(*row, marks=marks, id=f"{row[0].__name__}, {row[2]}") for *row, marks in MISTAKES],
)
def test_a_mistake_is_found(life, broken, monkeypatch, plant, name, law):
    plant(monkeypatch)
    with broken(match=law):
        life(*LIVES[name])


def test_every_life_is_lived_with_a_mistake():
    assert {name for _, name, _, _ in MISTAKES} == set(LIVES)


@pytest.mark.soak
def test_a_mistake_is_found_by_chance(by_chance, broken, monkeypatch):
    """No life was written for this one: pins are forgotten, and some history tells."""
    no_pins(monkeypatch)
    with broken(match="pins"):
        by_chance(100, shrink=False)


# --- two daemons -------------------------------------------------------------------------------------


def led_for_ever(monkeypatch):
    """Whoever led once leads."""
    _set(monkeypatch, lambda _lead: True, "daemon.lead.Lead.renew")


@pytest.mark.soak
@pytest.mark.component("postgresql")
@pytest.mark.timeout(1200)
def test_a_mistake_of_two_daemons_is_found(life, broken, monkeypatch, postgresql):
    """Where the one that hangs is stopped decides what is seen: some life tells."""
    led_for_ever(monkeypatch)
    with broken(match="law 7: one leads"):
        for steps in range(8):
            happens = [("arrive", 0, 3), *_SCANS, ("hang", steps, 1), ("live", 2, 0), ("hang", 7 - steps, 2)]
            life(*happens, url=postgresql.emptied(), hosts=("one", "two"))
