from datetime import UTC, datetime, timedelta

import pytest

from tomovault.core.known import KnownScan, Product
from tomovault.core.life import may_go
from tomovault.core.record import Processing
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, TierClass
from tomovault.core.scan import Certificate, Verdict
from tomovault.core.weighing import weigh_removal

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ORIGINAL, VOLUME = ProductKind.ORIGINAL, ProductKind.VOLUME
ARCHIVE, SERVER = TierClass.ARCHIVE, TierClass.SERVER


def _copy(name, tier_class=ARCHIVE, domain="", *, kind=ORIGINAL, days=1, form=Form.PACKAGE, **more):
    values = {"state": ReplicaState.VERIFIED, "counts": True, "lossless": kind is ORIGINAL, **more}
    return Replica(
        name, kind, kind.value, values.pop("lossless"), form, f"t{name}", tier_class, domain or name, f"/{name}", 10,
        sha256="s", verified_at=NOW - timedelta(days=days), **values,
    )  # fmt: skip


def _scan(*replicas, parameters=None):
    products = tuple(
        Product(kind.value, kind, kind.value, 10, 1, kind is ORIGINAL, kind is VOLUME, NOW)
        for kind in (ORIGINAL, VOLUME)
    )
    run = Processing("fourier", "1", parameters or {}, NOW, NOW, (VOLUME.value,))
    return KnownScan(
        "s", "s", "/s", "area", "edf", "", "i", Certificate(Verdict.COMPLETE), True, NOW, NOW, 10, 1,
        products=products, replicas=replicas, processings=(("x", run),),
    )  # fmt: skip


def _weigh(scan, victim):
    return weigh_removal(
        scan,
        victim,
        enabled=True,
        copies_asked=2,
        period=lambda _tier_class: timedelta(days=90),
        archiving_hopeful=True,
        now=NOW,
    )


FILES = _copy("files", SERVER, "disk", form=Form.FILES)


@pytest.mark.parametrize(
    "more",
    [{"days": 91}, {"days": -1}, {"counts": False}, {"state": ReplicaState.SUSPECT}, {"lossless": False}],
    ids=["old", "future", "uncounted", "suspect", "lossy"],
)
def test_only_copies_that_can_be_relied_on_are_counted(more):
    weighed = _weigh(_scan(FILES, _copy("a"), _copy("b", **more)), FILES)
    assert weighed.removal.archive_copies_elsewhere == 1
    assert [r.id for r in weighed.relied_on] == ["a"]
    assert may_go(weighed.removal)


def test_a_domain_counts_once_with_its_newest_copy():
    one_pool = [_copy("old", domain="pool", days=9), _copy("new", domain="pool", days=2)]
    weighed = _weigh(_scan(FILES, *one_pool, _copy("b")), FILES)
    assert [r.id for r in weighed.relied_on] == ["new", "b"]
    assert may_go(weighed.removal) == ()


def test_the_copy_that_goes_and_its_own_disk_are_not_elsewhere():
    beside = _copy("beside", SERVER, "disk")
    far = _copy("far", SERVER, "raid")
    weighed = _weigh(_scan(FILES, beside, far), FILES)
    assert weighed.removal.server_copies_elsewhere == 1
    archive = _copy("a")
    assert _weigh(_scan(archive, _copy("b")), archive).removal.archive_copies_elsewhere == 1


def test_of_what_we_made_the_original_is_counted_and_its_own_copies_elsewhere():
    volume = _copy("v", SERVER, "disk", kind=VOLUME)
    tapes = [_copy("a"), _copy("b")]
    made_again = _weigh(_scan(volume, *tapes, parameters={"centre": 1.0}), volume)
    assert made_again.removal.reproducible
    assert {r.id for r in made_again.relied_on} == {"a", "b"}
    assert may_go(_weigh(_scan(volume, *tapes), volume).removal)
    assert may_go(_weigh(_scan(volume, tapes[0], parameters={"centre": 1.0}), volume).removal)
    kept = _weigh(_scan(volume, _copy("w", SERVER, "raid", kind=VOLUME)), volume)
    assert (kept.removal.good_copies_elsewhere, may_go(kept.removal)) == (1, ())
    assert may_go(_weigh(_scan(volume, _copy("w", SERVER, "disk", kind=VOLUME)), volume).removal)
