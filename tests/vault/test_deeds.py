"""What a rule did, or that its sentence holds, is told to whom its `notify` names: once, and not one text a scan."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from tomovault.catalog import tables
from tomovault.catalog.outbox import list_deliveries
from tomovault.core.errors import UserError
from tomovault.core.known import JobStatus
from tomovault.core.record import Outcome, Quarantined, Result
from tomovault.core.replica import Form
from tomovault.daemon.planner import Planner
from tomovault.policy.document import parse_policy
from tomovault.policy.edit import edit_of
from tomovault.policy.review import review
from tomovault.vault.checking_policies import places_of
from tomovault.vault.deeds import listeners
from tomovault.vault.foreman import Foreman
from tomovault.vault.notices import message_of
from tomovault.vault.removal_pages import preview_page
from tomovault.vault.removals import grant
from tomovault.vault.site_file import parse_site

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CHANNELS = {
    "mail": {"kind": "smtp", "host": "localhost", "from": "v@example.org"},
    "chat": {"kind": "webhook", "url": "https://chat.example.org/x"},
}
RULES = {"channels": ["mail", "chat"], "to": ["data@example.org", "{owner}@example.org"]}


@pytest.fixture
def town(town):
    """A site that tells people, whose scans belong to anna, and whose only rules are those of a test."""
    town.change(notify={"channels": CHANNELS, "rules": RULES})
    return town


def rules(town, *texts):
    lines = "".join(f"  - {{{text}}}\n" for text in texts)
    (town.folder / "policies" / "standard.yaml").write_text(f"name: standard\nversion: 4\nrules:\n{lines}", "utf-8")
    town.change()


def scans(town, *names, owner="anna", **more):
    made = [town.scan(name, **more) for name in names]
    with town.vault.catalogue.writing() as tx:
        tx.run(update(tables.scan).where(tables.scan.c.id.in_(made)).values(owner=owner))
    return made


def told(town):
    """(channel, recipient, the names of the scans) of everything that is in the outbox."""
    found = []
    for channel in CHANNELS:
        for delivery in deliveries(town, channel):
            names = sorted(one["name"] for one in delivery.facts["scans"])
            found.append((channel, delivery.recipient, names))
    return sorted(found)


def deliveries(town, channel):
    with town.vault.catalogue.reading() as tx:
        return list_deliveries(tx, channel, town.now + DAY, 99)


def plan(town, now=None):
    planner = Planner(town.vault)
    while planner.plan_scans(now or town.now):
        pass


# --- the language ------------------------------------------------------------------------------------


def policy(*lines):
    return parse_policy("name: p\nversion: 1\nrules:\n" + "".join(f"  - {{{line}}}\n" for line in lines), "p.yaml")


def test_one_name_or_a_list_of_them():
    assert policy("name: a, do: pack, notify: chat").rules[0].notify == ("chat",)
    assert policy("name: a, do: notify, when: age > 1 year, notify: [chat, owner]").rules[0].notify == ("chat", "owner")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("name: a, do: notify", "'notify' needs the key 'notify'"),
        ("name: a, do: pack, notify: [chat, 5]", "p.yaml:4:"),
        ("name: a, do: forbid, with: {actions: [prune]}, notify: chat", "does nothing that anybody could be told of"),
        ("name: a, do: verify, with: {verified_within: 9d}, notify: chat", "does nothing that anybody"),
        ("name: a, do: notify, notify: chat, with: {to: x}", "has no settings at all"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_place(line, problem):
    with pytest.raises(UserError, match=r"p\.yaml:4:") as refusal:
        policy(line)
    assert problem in refusal.value.message


@pytest.mark.parametrize(
    ("notify", "name", "problem"),
    [
        ({"channels": CHANNELS, "rules": RULES}, "chat", ""),
        ({"channels": CHANNELS, "rules": RULES}, "mail", ""),
        ({"channels": CHANNELS, "rules": RULES}, "owner", ""),
        ({"channels": CHANNELS, "rules": RULES}, "chta", "no channel 'chta'; did you mean 'chat'?"),
        ({"channels": CHANNELS}, "chat", ""),
        ({"channels": CHANNELS}, "mail", "mail goes to addresses"),
        ({"channels": CHANNELS}, "owner", "made with {owner}"),
        ({"channels": CHANNELS, "rules": {"channels": "mail", "to": "{owner}@b.c"}}, "mail", "mail goes to addresses"),
        ({"channels": CHANNELS, "rules": {"channels": "chat", "to": "{owner}@b.c"}}, "owner", "made with {owner}"),
        (None, "chat", "no `notify` section"),
    ],
)
def test_who_would_not_hear_is_an_error_where_the_site_is_known(tmp_path, notify, name, problem):
    site = parse_site(json.dumps({"notify": notify} if notify else {}), "tomovault.yaml", tmp_path)
    rules = policy(f"name: a, do: pack, notify: {name}")
    found = review(rules, datetime.now(UTC), places_of(site, "standard"))
    assert [one.is_error for one in found] == [True] * bool(problem)
    assert problem in "".join(one.fault.text for one in found)


def test_everything_that_a_rule_may_name_is_listed(town):
    assert listeners(town.vault.site.notify) == {"mail": "", "chat": "", "owner": ""}


# --- deeds -------------------------------------------------------------------------------------------


def prune(town, scan, result):
    """The files of a scan were to leave by the rule `room`, and this came of it."""
    rule = next(r for r in town.vault.policy_of("inhouse").rules if r.do == "prune")
    with town.vault.catalogue.writing() as tx:
        known = town.vault.catalogue.known(tx, scan)
        permit = grant(town.vault, tx, known, town.replica(scan, Form.FILES).id, rule=rule, now=town.now)
    foreman = Foreman(town.vault, "here")
    claimed = foreman.claim(datetime.now(UTC), actions=frozenset({"prune"}))
    return foreman._end(claimed, result(permit.id))


def moved(permit):
    return Result(Outcome.SUCCEEDED, (Quarantined(permit, ("a.edf",), 400),))


ROOM = "name: room, do: prune, when: usage > high, notify: [chat, owner]"


def test_two_deeds_of_a_rule_are_one_text_to_each_who_is_to_know(town):
    rules(town, ROOM)
    first, second = scans(town, "one", "two")
    (third,) = scans(town, "three", owner="bert")
    town.room()
    for scan in (first, second, third):
        assert prune(town, scan, moved) is JobStatus.SUCCEEDED
    assert told(town) == [
        ("chat", "", ["one", "three", "two"]),
        ("mail", "anna@example.org", ["one", "two"]),
        ("mail", "bert@example.org", ["three"]),
    ]


def test_the_text_says_which_rule_did_what_to_which_scan(town):
    rules(town, ROOM)
    (scan,) = scans(town, "one")
    town.room()
    prune(town, scan, moved)
    (delivery,) = deliveries(town, "chat")
    message = message_of(town.vault.site, delivery, town.now)
    assert message.subject == "[site] room@standard:4: prune, 1 scan"
    for word in (
        "in quarantine now: the files of these scans",
        "one",
        scan,
        str(town.area / "one"),
        "400 B in inhouse",
        "by job j",
    ):
        assert word in message.text, word


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TRANSIENT, Outcome.WAITING])
def test_what_was_not_done_is_not_told(town, outcome):
    rules(town, ROOM)
    (scan,) = scans(town, "one")
    town.room()
    prune(town, scan, lambda _permit: Result(outcome, error="no"))
    assert told(town) == []


def test_a_rule_that_names_nobody_tells_nobody(town):
    rules(town, ROOM.replace(", notify: [chat, owner]", ""))
    (scan,) = scans(town, "one")
    town.room()
    prune(town, scan, moved)
    assert told(town) == []


# --- telling is all that is wanted -------------------------------------------------------------------

OVER = "name: over, do: notify, when: age > 10 years, notify: [mail, owner]"


def old(town, *names, **more):
    return scans(town, *names, acquired_at=town.now - timedelta(days=11 * 366), **more)


def test_when_a_retention_is_over_it_is_told_once_and_nothing_is_done(town):
    rules(town, OVER)
    first, second = old(town, "one", "two")
    scans(town, "young")
    town.room()
    for _ in range(3):
        with town.vault.catalogue.writing() as tx:
            for scan in (first, second):
                town.vault.catalogue.set_next_due(tx, scan, town.now)
        plan(town)
    everything = ["one", "two"]
    assert told(town) == [("mail", "anna@example.org", everything), ("mail", "data@example.org", everything)]
    (job,) = town.known(first).jobs
    assert (job.action, job.status, job.rule) == ("notify", JobStatus.SUCCEEDED, "over@standard:4")
    assert len(town.known(first).replicas) == 4


def test_it_is_told_at_the_moment_when_it_becomes_so(town):
    rules(town, "name: over, do: notify, when: age > 30d, notify: chat")
    (scan,) = scans(town, "one", acquired_at=town.now - 30 * DAY + HOUR)
    planner = Planner(town.vault)
    planner.plan_scans(town.now)
    assert told(town) == []
    planner.plan_scans(town.now + HOUR)
    assert told(town) == []
    planner.plan_scans(town.now + HOUR + timedelta(seconds=1))
    assert told(town) == [("chat", "", ["one"])]
    assert len(town.jobs(scan, "notify")) == 1


def test_an_edited_rule_does_not_tell_again_and_another_one_does(town):
    rules(town, OVER)
    (scan,) = old(town, "one")
    plan(town)
    rules(town, OVER.replace("10 years", "9 years"), OVER.replace("name: over", "name: also"))
    with town.vault.catalogue.writing() as tx:
        town.vault.catalogue.set_next_due(tx, scan, town.now)
    plan(town)
    assert sorted(j.order["rule"] for j in town.jobs(scan, "notify")) == ["also", "over"]


def test_while_there_is_nobody_to_be_told_nobody_was(town):
    rules(town, "name: over, do: notify, when: age > 10 years, notify: owner")
    (scan,) = old(town, "one", owner=None)
    plan(town)
    assert (told(town), town.jobs(scan, "notify")) == ([], [])
    with town.vault.catalogue.writing() as tx:
        tx.run(update(tables.scan).values(owner="bert"))
        town.vault.catalogue.set_next_due(tx, scan, town.now)
    plan(town)
    assert told(town) == [("mail", "bert@example.org", ["one"])]


def test_an_edit_that_brings_a_rule_to_tell_or_another_audience_is_one_for_the_scans_there_are(town):
    plain = "name: pack, do: pack"
    assert [r.name for r in edit_of(policy(plain), policy(plain, OVER), town.now).come] == ["over"]
    other = OVER.replace("[mail, owner]", "chat")
    edit = edit_of(policy(OVER), policy(other), town.now)
    assert [r.notify for r in (*edit.gone, *edit.come)] == [("mail", "owner"), ("chat",)]
    assert edit_of(policy(plain), policy(plain + ", notify: chat"), town.now).changes_nothing


def test_the_preview_lists_what_would_be_told(town):
    rules(town, OVER)
    (scan,) = old(town, "one")
    with town.vault.catalogue.reading() as tx:
        (row,) = preview_page(town.vault, tx, town.now)["rules"]
    assert (row["action"], row["scans"], told(town)) == ("notify", [scan], [])
    plan(town)
    with town.vault.catalogue.reading() as tx:
        assert preview_page(town.vault, tx, town.now)["rules"][0]["scans"] == []
