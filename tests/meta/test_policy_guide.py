"""docs/policies.md: every rule in it is right, and what it says of scans is so."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from tomovault.core.known import KnownScan, Product, facts_of
from tomovault.core.life import Stage, standings
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, TierClass
from tomovault.core.scan import Certificate, Verdict
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.decide import wants_of
from tomovault.policy.document import SETTINGS_OF, parse_policy
from tomovault.policy.expression import TERMS
from tomovault.policy.matching import asks_of
from tomovault.policy.review import review

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HEAD = "name: mine\nversion: 1\nrules:\n"


@dataclass(frozen=True)
class Section:
    title: str
    rules: str
    rows: tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "policies.md").read_text("utf-8")


@pytest.fixture(scope="module")
def sections(page):
    """Every question of the page with its rules and the lines of its table."""
    found = []
    for part in page.split("\n## ")[1:]:
        rules = "\n".join(line for line in part.splitlines() if re.match(r"    - \{", line))
        if rules:
            table = part.partition("| scan | explain |\n|---|---|\n")[2]
            rows = [tuple(c.strip() for c in line.strip("|").split("|")) for line in table.splitlines() if "|" in line]
            found.append(Section(part.splitlines()[0], rules, tuple(rows)))
    return found


def test_the_questions_end_with_rules_that_are_right_and_that_matter(sections):
    assert len(sections) == 14
    for section in sections:
        policy = parse_policy(HEAD + section.rules + "\n", section.title)
        assert review(policy, NOW) == [], section.title


def test_the_whole_example_is_right(page):
    text = re.search(r"\n((?:    [^\n]*\n)+)", page)[1]
    assert parse_policy("\n".join(line[4:] for line in text.splitlines()) + "\n", "mine.yaml").name == "mine"


def test_what_is_said_of_each_scan_is_so(sections):
    tried = 0
    for section in sections:
        policy = parse_policy(HEAD + section.rules + "\n", section.title)
        for facts, told in section.rows:
            tried += 1
            stage, status, *words = re.split(r": |, ", told, maxsplit=2)
            standing = _standing(policy, facts, Stage(stage))
            assert standing.status.value == status, (section.title, facts, standing)
            assert "".join(words) in standing.reason, (section.title, facts, standing)
    assert tried >= 20


def test_every_term_and_every_setting_is_explained(page):
    terms = page.partition("## What a sentence may say")[2].partition("## Try it")[0]
    named = set(re.findall(r"`([^`]+)`", terms))
    assert not {*TERMS, "true", "volume accepted", "replicas(TIER)"} - named
    for action, keys in SETTINGS_OF.items():
        row = next(line for line in terms.splitlines() if line.startswith("|") and f"`{action}`" in line.split("|")[1])
        assert all(f"`{key}" in row for key in keys), action


def test_the_page_is_short(page):
    assert len(page.splitlines()) <= 260


def _replica(name, form, tier, tier_class, read_at):
    return Replica(
        id=name,
        product=ProductKind.ORIGINAL,
        digest="d",
        lossless=True,
        form=form,
        tier=tier,
        tier_class=tier_class,
        domain=name,
        location=f"/{name}",
        bytes=1,
        state=ReplicaState.VERIFIED,
        sha256="s",
        written_at=read_at,
        verified_at=read_at,
    )


def _standing(policy, facts, stage):
    """Where a scan stands that is as a line of a table says."""
    known = [phrase.strip() for phrase in facts.split(", ")]
    said = dict(
        re.match(r"(looked at on|acquired|area|proposal|sample|in area|on|copies read)? ?(.*)", p).groups()
        for p in known
    )
    now = _day(said["looked at on"]) if "looked at on" in said else NOW
    acquired = _day(said["acquired"]) if "acquired" in said else now - timedelta(days=40)
    full = float(said["area"].split(" ")[0]) / 100 if "area" in said else 0.5
    read_at = now - timedelta(days=int(said["copies read"].split(" ")[0]) if "copies read" in said else 3)
    home = said.get("in area", "inhouse")
    sizes = [int(p.split(" ")[0]) * 10**9 for p in known if p.endswith(" GB")]
    replicas = [
        _replica("files", Form.FILES, home, TierClass.SERVER, read_at),
        *([] if "not packed" in known else [_replica("package", Form.PACKAGE, home, TierClass.SERVER, read_at)]),
        *(
            []
            if "not packed" in known
            else [_replica(f"t{n}", Form.PACKAGE, "tape", TierClass.ARCHIVE, read_at) for n in "12"]
        ),
        *([_replica("m", Form.PACKAGE, "mirror", TierClass.SERVER, read_at)] if "on" in said else []),
    ]
    products = [Product("p", ProductKind.ORIGINAL, "d", 1, 3, True, False, acquired)]
    if "volume" in known or "volume accepted" in known:
        products.append(Product("v", ProductKind.VOLUME, "v", 1, 1, True, True, acquired))
        made = _replica("v", Form.PACKAGE, home, TierClass.SERVER, read_at)
        replicas.append(replace(made, product=ProductKind.VOLUME, digest="v"))
    proposal = said.get("proposal", "ma1234")
    scan = KnownScan(
        id="s",
        name="s",
        root="/s",
        area=home,
        format="edf",
        entry="",
        identity="i",
        certificate=Certificate(Verdict.ABORTED if "aborted" in known else Verdict.COMPLETE),
        settled=True,
        first_seen_at=acquired,
        changed_at=acquired,
        acquired_at=acquired,
        bytes=sizes[0] if sizes else 10**9,
        files=3,
        proposal=None if proposal == "not known" else proposal,
        sample=said.get("sample"),
        accepted_by="anna" if "volume accepted" in known else None,
        products=tuple(products),
        replicas=tuple(replicas),
    )
    area = AreaFacts(
        home, prune_on=True, used_fraction=full, quota_bytes=1000, used_bytes=int(full * 1000), high=0.85, low=0.75
    )
    asks = asks_of(scan, policy, area, now)
    life = facts_of(
        scan, now=now, keep_after=timedelta(days=7), wanted_tiers=frozenset(asks.tiers), archive_wanted=asks.copies
    )
    return standings(life, wants_of(scan, policy, area, now))[stage]


def _day(text):
    return datetime.fromisoformat(text).replace(hour=12, tzinfo=UTC)
