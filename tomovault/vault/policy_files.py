"""The policies of a site as their files are, and as the daemon has taken them up."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tomovault.core.errors import UserError
from tomovault.policy.document import Policy, parse_policy
from tomovault.vault.preset_files import preset_names, read_yaml
from tomovault.vault.site_settings import POLICIES, find_policy

if TYPE_CHECKING:
    from tomovault.catalog.policies import RecordedPolicy


@dataclass(frozen=True)
class PolicyFile:
    """What a file holds: its text, the rules in it, and the digest of its bytes."""

    policy: Policy
    text: str
    sha256: str


def read_policy_file(folder: str | os.PathLike[str], name: str) -> PolicyFile:
    """A policy by name. Raises UserError where it is not found, or with every problem of its file."""
    path = find_policy(folder, name)
    if path is None:
        raise UserError(f"there is no policy {name!r}", hint=f"write it in {Path(folder, POLICIES, name + '.yaml')}")
    data, text = read_yaml(path)
    return PolicyFile(parse_policy(text, str(path), preset_names(folder)), text, hashlib.sha256(data).hexdigest())


def read_path(path: Path) -> PolicyFile:
    """The policy in a file. Raises UserError where it cannot be read, or with every problem of it.

    Its rules may name the presets that stand beside `policies/`, where the file is in one, and those that are shipped.
    """
    data, text = read_yaml(path)
    beside = path.absolute().parent.parent
    return PolicyFile(parse_policy(text, str(path), preset_names(beside)), text, hashlib.sha256(data).hexdigest())


def policies_in_force(folder: str, names: Iterable[str], recorded: Iterable[RecordedPolicy]) -> dict[str, Policy]:
    """Each policy as its file says or, where somebody is editing it and it is wrong now, as it was last taken up.

    Raises UserError for one that is wrong and was never in force.
    """
    last = {one.name: one.text for one in recorded}
    found = {}
    for name in names:
        try:
            found[name] = read_policy_file(folder, name).policy
        except UserError:
            if name not in last:
                raise
            found[name] = parse_policy(last[name], name, None)
    return found


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the file of a policy; one that `is_wrong` cannot be taken up."""

    text: str
    is_wrong: bool


def troubles(folder: str, names: Iterable[str], recorded: Iterable[RecordedPolicy]) -> Mapping[str, Trouble]:
    """What is wrong with the files of policies, by the policy's name: the first error of one that cannot be taken up,
    or a text that differs from one that was in force under the same version.
    """
    listed, found = list(recorded), {}
    for name in names:
        try:
            file = read_policy_file(folder, name)
        except UserError as problem:
            found[name] = Trouble(wrong_text(name, problem), True)
            continue
        if reused(file, name, listed):
            found[name] = Trouble(reused_text(name, file.policy.version), False)
    return found


def reused(file: PolicyFile, name: str, recorded: Iterable[RecordedPolicy]) -> bool:
    """Whether another text was in force under the version of this one."""
    return any((r.name, r.version) == (name, file.policy.version) and r.sha256 != file.sha256 for r in recorded)


def wrong_text(name: str, problem: UserError) -> str:
    """What to tell of a policy that cannot be taken up: its first error."""
    return f"{_wrong(name)}, so the rules before that hold: {problem.message.splitlines()[0]}"


def tells_wrong(text: str, name: str) -> bool:
    """Whether a text is what `wrong_text` once said of a policy."""
    return text.startswith(_wrong(name))


def _wrong(name: str) -> str:
    return f"the policy {name!r} was edited and is wrong"


def reused_text(name: str, version: int) -> str:
    """What to tell of a policy whose version stands for two texts."""
    return f"the policy {name!r} was in force as version {version} with another text: raise its `version`"
