"""Every way of writing a scan, watched in virtual time: what is said of it is never wrong, missing or late."""

import pytest

from tomovault.testing.variants import VARIANTS

SEEDS = 20
_BLOCK = 5


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_a_variant_is_judged_as_it_is(run_variant, variant):
    words = run_variant(variant, 0).words
    assert not words, "\n".join(words)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, SEEDS, _BLOCK))
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_every_seed_of_a_variant_is_judged_as_it_is(run_variant, variant, first):
    words = [word for seed in range(first, first + _BLOCK) for word in run_variant(variant, seed).words]
    assert not words, "\n".join(words)
