from datetime import timedelta

from tomovault.vault.verifying import choose_replicas


def _overdue(town, days, **more):
    with town.vault.catalogue.reading() as tx:
        return town.vault.overdue(tx, "inhouse", town.now + timedelta(days=days), **{"limit": 10, **more})


def test_copies_are_overdue_when_the_law_would_not_count_them(town):
    scan = town.scan("one")
    assert _overdue(town, 89) == []
    assert [s for s, _ in _overdue(town, 91)] == [scan]
    assert len(_overdue(town, 401)) == 3


def test_a_verify_rule_asks_sooner_of_the_scans_that_it_is_for(town):
    rule = "  - {name: often, do: verify, when: 'size > 1kB', with: {verified_within: 5d, tiers: [tape]}}\n"
    town.policy(("rules:\n", f"rules:\n{rule}"))
    large, small = town.scan("large", size=4000), town.scan("small")
    assert _overdue(town, 4) == []
    found = _overdue(town, 6)
    assert [s for s, _ in found] == [large, large]
    assert {r.tier for r in town.known(large).replicas if r.id in {one for _, one in found}} == {"tape"}
    assert _overdue(town, 6, limit=1, skip=[found[0][1]]) == [found[1]]
    assert {s for s, _ in _overdue(town, 91)} == {large, small}
    chosen = choose_replicas(town.vault, [], everything=False, due=True, now=town.now + timedelta(days=6))
    assert chosen == {large: tuple(r for _, r in found)}
