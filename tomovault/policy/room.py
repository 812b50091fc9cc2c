"""What goes from an area that is too full, and why the rest stays: within the brakes of law 5. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tomovault.core.destruction import NEED_COPIES
from tomovault.core.known import JobStatus, KnownScan, is_being_sent
from tomovault.core.life import Stage, Standing, Status, Wants, may_go
from tomovault.core.replica import Form, ProductKind, Replica
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.decide import forbidden
from tomovault.policy.document import Policy, Rule
from tomovault.policy.matching import Match
from tomovault.policy.quantity import show_size
from tomovault.policy.removing import PruneChoice, choose_for_watermark, removal_of
from tomovault.policy.warning import Hold

_ALONE = "alone more than the limits of"

#: Why a package stays that an export reads.
EXPORT_NOT_OVER = "export is not over"


@dataclass(frozen=True)
class Going:
    """A replica that would go now, and the rule that lets it."""

    choice: PruneChoice
    rule: Rule
    files: int


@dataclass(frozen=True)
class Waiting:
    """A replica that would go now, but that its owner is to be warned of it, or was not long enough ago."""

    going: Going
    hold: Hold


@dataclass
class Braked:
    """What would go now, in its order; what waits for a warning; what is stopped by a brake; what stops everything."""

    going: list[Going] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    stopped: dict[str, str] = field(default_factory=dict)
    full: str = ""


def why_it_stays(
    scan: KnownScan,
    replica: Replica,
    rule: Rule | None,
    standing: Standing,
    wants: Wants,
    policy: Policy,
    facts: AreaFacts,
    now: datetime,
    matches: Sequence[Match] | None = None,
) -> str:
    """'' if LIFE, the policy and law 4 all let the replica go, as far as can be said of what is known of the scan.

    `standing` is where its pruning stands, by the same facts and `wants`; `matches` as `matches_of` says, where the
    caller has asked already.
    """
    if scan.is_elsewhere(replica):
        return f"no rule removes the copy in {replica.location}: it was restored or found there"
    if replica.product is ProductKind.ORIGINAL and replica.form is Form.FILES and standing.status is not Status.DUE:
        return standing.reason or str(standing.status)
    if rule is None:
        what = replica.form if replica.product is ProductKind.ORIGINAL else replica.product
        return f"no rule lets its {what} go"
    if reason := forbidden(scan, policy, facts, now, matches).get(Stage.PRUNED):
        return reason
    if reason := wants.held.get(Stage.PRUNED, ""):
        return reason
    if reasons := may_go(removal_of(scan, replica, policy, facts, now, matches, rule=rule)):
        return "; ".join(reasons)
    if is_being_sent(scan, replica):
        return EXPORT_NOT_OVER
    at_work = [j.action for j in scan.jobs if j.status in (JobStatus.TODO, JobStatus.DOING)]
    needed = sorted(NEED_COPIES.intersection(at_work))
    return f"{needed[0]} is not over" if needed else ""


def within_brakes(
    choices: Sequence[PruneChoice],
    rules: Mapping[str, tuple[Rule, int]],
    holds: Mapping[str, Hold],
    *,
    bytes_to_free: int,
    policy_of: Callable[[PruneChoice], Policy],
    quarantine_bytes: int,
    quarantine_limit: int,
    under_way: Counter[tuple[str, str]],
) -> Braked:
    """Of these choices those that go: down to the low mark, while the quarantine is not full. Of one rule, no more
    bytes and files are on their way into it than its `limits` say.

    `policy_of` gives the policy that a choice was made by, `rules` the rule and the files of each replica, and `holds`
    what waits for a warning; `under_way` counts, by (rule without its version, 'bytes' or 'files'), what was permitted
    and is not in quarantine yet, and is counted on.
    """
    braked = Braked()
    waiting = quarantine_bytes
    for choice in choose_for_watermark(choices, bytes_to_free=bytes_to_free):
        rule, files = rules[choice.replica]
        if (hold := holds.get(choice.replica)) is not None:
            # It counts as room to come: what is later in the order must not go in its place.
            braked.waiting.append(Waiting(Going(choice, rule, files), hold))
            continue
        cited = policy_of(choice).cite(rule)
        counted = unversioned(cited)
        if waiting >= quarantine_limit:
            braked.full = f"the quarantine is full ({show_size(waiting)} of {show_size(quarantine_limit)})"
            braked.stopped[choice.replica] = braked.full
            break
        size, count = under_way[counted, "bytes"] + choice.bytes, under_way[counted, "files"] + files
        if choice.bytes > (rule.limits.bytes or choice.bytes) or files > (rule.limits.files or files):
            braked.stopped[choice.replica] = f"{_ALONE} {cited}"
            continue
        if size > (rule.limits.bytes or size) or count > (rule.limits.files or count):
            braked.stopped[choice.replica] = f"the limits of {cited} are reached"
            break  # what is later in the order must not go in its place
        under_way[counted, "bytes"], under_way[counted, "files"] = size, count
        waiting += choice.bytes
        braked.going.append(Going(choice, rule, files))
    return braked


def is_alone_too_much(reason: str) -> bool:
    """Whether that stops a replica which is larger than its rule lets go at a time, and not only for now."""
    return reason.startswith(_ALONE)


def unversioned(cited: str) -> str:
    """NAME@POLICY: an edit of the policy does not double what a rule may do."""
    return cited.rpartition(":")[0]
