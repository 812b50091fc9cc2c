from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tomovault.core.known import (
    CODED_FRAMES,
    Declared,
    KnownScan,
    Permit,
    Pin,
    Product,
    RemovalPhase,
    facts_of,
    files_lost,
    frames_lacking,
    let_go,
)
from tomovault.core.life import Facts
from tomovault.core.record import Processing
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, TierClass
from tomovault.core.scan import Certificate, Verdict

NOW = datetime(2030, 1, 10, tzinfo=UTC)
DAY = timedelta(days=1)


def product(kind=ProductKind.ORIGINAL, digest="d", created_at=NOW - DAY):
    return Product(f"{kind}-{digest}", kind, digest, 1, 1, True, kind is not ProductKind.ORIGINAL, created_at)


def copy(name, form=Form.PACKAGE, tier="inhouse", tier_class=TierClass.SERVER, **change):
    made = Replica(
        name,
        ProductKind.ORIGINAL,
        "d",
        True,
        form,
        tier,
        tier_class,
        name,
        f"/{name}",
        10,
        ReplicaState.VERIFIED,
        "s",
        NOW - DAY,
        NOW - DAY,
    )
    return replace(made, **change)


FILES = copy("f", Form.FILES, location="/data/bone")
PACKAGE = copy("p")
TAPES = (copy("t1", tier="tape", tier_class=TierClass.ARCHIVE), copy("t2", tier="tape", tier_class=TierClass.ARCHIVE))


def scan(*replicas, **change):
    known = KnownScan(
        "s",
        "bone",
        "/data/bone",
        "inhouse",
        "edf",
        "",
        "i",
        Certificate(Verdict.COMPLETE),
        True,
        NOW - 9 * DAY,
        NOW - 8 * DAY,
        10,
        2,
        products=(product(),),
        replicas=replicas,
    )
    return replace(known, **change)


def facts(known, **kwargs):
    return facts_of(known, **{"now": NOW, "keep_after": 7 * DAY, **kwargs})


def test_a_scan_that_was_only_seen():
    assert facts(scan(products=(), settled=False)) == Facts()


def test_a_scan_that_is_done():
    found = facts(scan(FILES, PACKAGE, *TAPES), wanted_tiers=frozenset({"tape", "far"}))
    assert found.complete
    assert found.package
    assert found.archive_copies == 2
    assert found.tiers_lacking == 1
    assert not found.files_pruned


@pytest.mark.parametrize(
    ("verdict", "settled", "complete"),
    [
        (Verdict.COMPLETE, True, True),
        (Verdict.COMPLETE, False, False),
        (Verdict.ABORTED, True, True),
        (Verdict.ACQUIRING, True, False),
        (Verdict.INCOMPLETE, True, False),
        (Verdict.UNDECIDED, True, False),
        (Verdict.UNREADABLE, True, False),
    ],
)
def test_only_a_settled_certificate_completes(verdict, settled, complete):
    found = facts(scan(certificate=Certificate(verdict), settled=settled))
    assert found.complete is complete
    assert found.aborted is (verdict is Verdict.ABORTED)


def test_a_person_overrules_the_certificate():
    word = Declared(Verdict.ABORTED, "anna", "beam lost", NOW)
    found = facts(scan(certificate=Certificate(Verdict.INCOMPLETE), declared=word))
    assert found.complete
    assert found.aborted
    assert not facts(scan(declared=replace(word, verdict=Verdict.INCOMPLETE))).complete


@pytest.mark.parametrize(
    ("verdict", "rested", "settled", "kept"),
    [
        (Verdict.INCOMPLETE, 7, True, True),
        (Verdict.UNDECIDED, 9, True, True),
        (Verdict.INCOMPLETE, 6, True, False),
        (Verdict.INCOMPLETE, 9, False, False),
        (Verdict.ACQUIRING, 9, True, False),
        (Verdict.UNREADABLE, 9, True, False),
        (Verdict.COMPLETE, 9, True, False),
        (Verdict.INCOMPLETE, -300, True, False),
    ],
)
def test_what_is_kept_as_found(verdict, rested, settled, kept):
    known = scan(certificate=Certificate(verdict), settled=settled, changed_at=NOW - rested * DAY)
    assert facts(known).kept_as_found is kept


@pytest.mark.parametrize("state", [s for s in ReplicaState if s is not ReplicaState.VERIFIED])
def test_a_copy_that_was_not_re_read_proves_nothing(state):
    bad = [replace(r, state=state) for r in (PACKAGE, *TAPES)]
    found = facts(scan(*bad), wanted_tiers=frozenset({"tape"}))
    assert not found.package
    assert found.archive_copies == 0
    assert found.tiers_lacking == 1


def test_copies_of_an_older_manifest_are_not_of_this_scan():
    newer = product(digest="new", created_at=NOW)
    found = facts(scan(PACKAGE, *TAPES, products=(product(), newer)))
    assert not found.package
    assert found.archive_copies == 0


def test_packed_holds_while_any_tier_has_the_bytes():
    assert facts(scan(TAPES[0])).package


def test_two_copies_in_one_pool_are_one():
    assert facts(scan(TAPES[0], replace(TAPES[1], domain="t1"))).archive_copies == 1


def test_a_copy_on_an_emulated_library_archives_a_scan_of_a_real_site():
    assert facts(scan(*(replace(t, counts=False) for t in TAPES))).archive_copies == 2


@pytest.mark.parametrize("kind", [ProductKind.PREVIEW, ProductKind.VOLUME, ProductKind.REDUCED])
def test_what_we_made(kind):
    name = {"reduced": "reduced", "volume": "volume", "preview": "preview"}[kind]
    made = product(kind, "m")
    good = replace(PACKAGE, product=kind, digest="m")
    assert getattr(facts(scan(good, products=(product(), made))), name)
    assert not getattr(facts(scan(replace(good, state=ReplicaState.SUSPECT), products=(product(), made))), name)
    assert not getattr(facts(scan(products=(product(), made))), name)


@pytest.mark.parametrize(
    ("phase", "pruned"),
    [
        (RemovalPhase.GRANTED, False),
        (RemovalPhase.QUARANTINED, True),
        (RemovalPhase.LEAVING, True),
        (RemovalPhase.GONE, True),
        (RemovalPhase.UNDONE, False),
    ],
)
def test_pruned_goes_by_the_permit(phase, pruned):
    permit = Permit("x", "f", "r", phase, NOW, None, ())
    states = {RemovalPhase.UNDONE: ReplicaState.VERIFIED, RemovalPhase.GONE: ReplicaState.GONE}
    files = replace(FILES, state=states.get(phase, ReplicaState.LEAVING))
    assert facts(scan(files, PACKAGE, permits=(permit,))).files_pruned is pruned
    both = scan(FILES, copy("f2", Form.FILES, location="/data/bone"), permits=(permit,))
    assert facts(both).files_pruned is False


def test_a_copy_elsewhere_is_not_what_was_pruned():
    gone = replace(FILES, state=ReplicaState.GONE)
    restored = copy("f2", Form.FILES, location="/data/again")
    permit = Permit("m", "f", "room@p:1", RemovalPhase.GONE, NOW, None, ())
    assert facts(scan(gone, restored, PACKAGE, permits=(permit,))).files_pruned
    assert not facts(scan(restored, PACKAGE, permits=(permit,))).files_pruned
    known = scan(gone, restored, PACKAGE)
    assert [known.is_elsewhere(r) for r in known.replicas] == [False, True, False]


def test_files_that_vanished_without_a_permit_were_not_pruned():
    known = scan(replace(FILES, state=ReplicaState.GONE), PACKAGE)
    assert not facts(known).files_pruned
    assert files_lost(known) == "its files are gone, and not by a prune"
    assert "overwritten in place by scan s2" in files_lost(replace(known, superseded_by="s2"))
    assert files_lost(scan(FILES, PACKAGE)) == files_lost(scan(PACKAGE)) == ""


def test_pins_end():
    known = scan(pins=(Pin("1", "anna", "thesis", NOW + DAY), Pin("2", "bob", "old", NOW - DAY)))
    assert known.pinned_by(NOW).startswith("anna until 2030-01-11 (thesis)")
    assert known.pinned_by(NOW + 2 * DAY) == ""


class TestFramesLacking:
    """Where an engine may read the frames of a scan: its files, or a package on a disk that has them as frames."""

    CODED = (replace(product(), details={CODED_FRAMES: 12}),)
    GONE = replace(FILES, state=ReplicaState.GONE)

    @pytest.mark.parametrize(
        "known",
        [
            scan(products=()),
            scan(FILES),
            scan(FILES, PACKAGE, products=CODED),
            scan(GONE, PACKAGE),
            scan(GONE, PACKAGE, products=(replace(product(), details={CODED_FRAMES: 0}),)),
        ],
    )
    def test_they_are_there(self, known):
        assert frames_lacking(known) == ""

    @pytest.mark.parametrize(
        ("known", "why"),
        [
            (scan(GONE, PACKAGE, products=CODED), "compressed inside its files"),
            (scan(replace(FILES, state=ReplicaState.LEAVING), PACKAGE, products=CODED), "compressed inside its files"),
            (scan(replace(FILES, state=ReplicaState.SUSPECT), PACKAGE, products=CODED), "compressed inside its files"),
            (scan(GONE, replace(FILES, location="/home/ann"), PACKAGE, products=CODED), "compressed inside its files"),
            (scan(FILES, PACKAGE, products=CODED, superseded_by="s2"), "compressed inside its files"),
            (scan(GONE, *TAPES), "neither its files nor a package"),
            (scan(GONE, replace(PACKAGE, state=ReplicaState.SUSPECT), *TAPES), "neither its files nor a package"),
        ],
    )
    def test_they_are_not(self, known, why):
        assert why in frames_lacking(known)
        assert "tomovault restore s --to /data/bone" in frames_lacking(known)


# --- what went and can be made again -----------------------------------------------------------------------

VOLUME = ProductKind.VOLUME


def made(*states, parameters=None, phase=RemovalPhase.GONE, ordered_by="", permitted=None):
    """A scan with copies of its volume in these states, and permits of as many of them as are `permitted`."""
    copies = [
        copy(f"v{n}", product=VOLUME, digest="v", lossless=False, state=state, domain=f"v{n}")
        for n, state in enumerate(states)
    ]
    permits = tuple(
        Permit(f"m{n}", r.id, "old@p:1", phase, NOW - n * DAY, None, (), ordered_by=ordered_by)
        for n, r in enumerate(copies[: len(copies) if permitted is None else permitted])
    )
    run = Processing("fourier", "1", {"centre": 1.0} if parameters is None else parameters, NOW, NOW, ("v",))
    return scan(
        *TAPES,
        *copies,
        products=(product(), product(VOLUME, "v")),
        permits=permits,
        processings=(("x1", run),),
    )


GONE, LEAVING, BAD = ReplicaState.GONE, ReplicaState.LEAVING, ReplicaState.SUSPECT


@pytest.mark.parametrize("states", [(GONE,), (LEAVING,), (GONE, LEAVING)])
def test_a_volume_that_a_rule_let_go_is_not_wanted_again(states):
    known = made(*states)
    assert let_go(known, VOLUME).id == "m0", "the last permit"
    assert facts_of(known, now=NOW, keep_after=DAY).volume


@pytest.mark.parametrize(
    "known",
    [
        made(GONE, parameters={}),
        made(GONE, phase=RemovalPhase.UNDONE),
        made(GONE, ordered_by="anna"),
        made(GONE, GONE, permitted=1),
        made(GONE, BAD),
        made(GONE, permitted=0),
    ],
    ids=["no parameters", "taken back", "by a person", "one was lost", "one is bad", "lost"],
)
def test_a_volume_that_went_otherwise_or_cannot_be_made_again_is(known):
    assert let_go(known, VOLUME) is None
    assert not facts_of(known, now=NOW, keep_after=DAY).volume


def test_a_volume_that_stands_beside_one_that_went_is_there():
    known = made(GONE, ReplicaState.VERIFIED)
    assert let_go(known, VOLUME) is None
    assert facts_of(known, now=NOW, keep_after=DAY).volume
    assert facts_of(made(), now=NOW, keep_after=DAY).volume is False


def test_a_new_volume_with_another_digest_asks_for_nothing_old():
    known = made(GONE)
    newer = replace(known, products=(*known.products, product(VOLUME, "w", created_at=NOW)))
    assert let_go(newer, VOLUME) is None
