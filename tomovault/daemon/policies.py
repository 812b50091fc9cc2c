"""Policies that are edited while the daemon runs are taken up between two of its turns, each as a whole or not at all.

Every scan is decided by the new rules from then on. Those that they plan otherwise are looked at soon, and found some
thousands at a time; a daemon that is started again goes on where the last one was.

A file that is wrong changes nothing: the rules before the edit go on, and an alarm names its first error. A daemon that
follows decides by the policies that the leader recorded, whatever its own files say.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import structlog

from tomovault.catalog.policies import Change, RecordedPolicy, Text
from tomovault.catalog.terms import Moment
from tomovault.core.errors import UserError
from tomovault.daemon.planner import Alarm
from tomovault.policy.document import parse_policy
from tomovault.policy.edit import Edit, edit_of
from tomovault.vault.policy_files import PolicyFile, read_policy_file, reused, reused_text, wrong_text
from tomovault.vault.site_settings import find_policy
from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)

#: By what it is seen that a file is another one now: its path, time, size and inode. None: it is not there.
_Look = tuple[str, int, int, int] | None


#: An edited file is read so many seconds after it was last written.
_SETTLED_S = 2.0

#: A daemon that follows asks this often which policies the leader decides by.
_FOLLOWED_EVERY_S = 1.0


class PolicyWatch:
    """Knows how the file of each policy looked when it was last read, and what was right of it."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._looks: Mapping[str, _Look] = {}
        self._files: Mapping[str, PolicyFile] = {}
        self._compared = False
        self._looking = False
        self._wrong: dict[str, str] = {}
        self._followed_at = float("-inf")
        self._followed: Mapping[str, str] = {}

    @property
    def alarms(self) -> dict[str, Alarm]:
        """What is wrong with the files of policies, for each area that is decided about by other rules."""
        return {
            f"policy {name}": Alarm(name, self._wrong[area.policy])
            for name, area in self._vault.site.areas.items()
            if area.policy in self._wrong
        }

    def take_up(self, now: datetime, *, leads: bool) -> bool:
        """Whether other rules hold from now on: those of the vault.

        A daemon that leads records them, and `look_on` finds the scans that are to be looked at. Raises Transient where
        the catalogue is busy; then nothing has changed, and the next call tries again.
        """
        if not leads:
            return self._follow()
        if not self._compared:
            self._looks = {}
        looks = {name: self._settled(name) for name in self._names}
        if looks == self._looks and self._compared:
            return False
        files = {**self._files, **dict(self._read(name for name in looks if looks[name] != self._looks.get(name, ())))}
        changed = self._record(files, now)
        self._vault.policies = {**self._vault.policies, **{name: file.policy for name, file in files.items()}}
        self._looks, self._files, self._compared = looks, files, True
        return changed

    def _settled(self, name: str) -> _Look:
        """How the file of a policy looks; one that was written just now as it looked before, since an editor may be in
        the middle of it, and the half of a policy may well be a policy.
        """
        look = _look(self._vault, name)
        if look is None or look == self._looks.get(name) or name not in self._looks:
            return look
        return self._looks[name] if 0 <= time.time() - look[1] / 1e9 < _SETTLED_S else look

    @property
    def _names(self) -> list[str]:
        return sorted({area.policy for area in self._vault.site.areas.values()})

    def _read(self, names: Iterator[str]) -> Iterator[tuple[str, PolicyFile]]:
        """Those that are right."""
        for name in names:
            self._wrong.pop(name, None)
            try:
                yield name, read_policy_file(self._vault.site.folder, name)
            except UserError as problem:
                self._wrong[name] = wrong_text(name, problem)
                log.warning("a policy is not taken up", policy=name, reason=self._wrong[name])

    def _follow(self) -> bool:
        """Whether other rules hold here from now on: those that were last recorded as in force. A policy that never
        was is as this daemon found it; one that this version cannot read changes nothing.
        """
        if time.monotonic() - self._followed_at < _FOLLOWED_EVERY_S:
            return False
        with self._vault.catalogue.reading() as tx:
            recorded = {r.name: r for r in self._vault.catalogue.recorded_policies(tx) if r.name in self._names}
        self._followed_at, self._compared = time.monotonic(), False
        taken, wrong = dict(self._followed), {}
        policies = dict(self._vault.policies)
        for name, one in recorded.items():
            try:
                if taken.get(name) != one.sha256:
                    policies[name], taken[name] = parse_policy(one.text, name, None), one.sha256
                wrong[name] = self._difference(name, one)
            except UserError as problem:
                wrong[name] = f"the policy {name!r} that the leader decides by cannot be read here: {problem.message}"
        self._wrong = {name: told for name, told in wrong.items() if told}
        changed = policies != self._vault.policies
        self._vault.policies, self._followed = policies, taken
        return changed

    def _difference(self, name: str, recorded: RecordedPolicy) -> str:
        """What to tell where the file of this machine is another one than the leader's; '' where it is the same."""
        look = self._settled(name)
        if name not in self._looks or look != self._looks[name]:
            self._looks = {**self._looks, name: look}
            others = {n: file for n, file in self._files.items() if n != name}
            self._files = {**others, **dict(self._read(iter([name])))}
        mine = self._files.get(name)
        if mine is not None and mine.sha256 == recorded.sha256:
            return ""
        return (
            f"the file of the policy {name!r} on {self._vault.host} is not the one that the leader decides by:"
            f" the rules of that one hold here, too (version {recorded.version}, of {recorded.at:%Y-%m-%d %H:%M} UTC)"
        )

    def _record(self, files: Mapping[str, PolicyFile], now: datetime) -> bool:
        """Whether any of them was not the one last recorded as in force, or the one that ruled its areas; it is now."""
        catalogue = self._vault.catalogue
        with catalogue.reading() as tx:
            recorded = catalogue.recorded_policies(tx)
            ruled = catalogue.areas_ruled(tx)
        last = {one.name: one.sha256 for one in recorded}
        begun = {name: file for name, file in files.items() if last.get(name) != file.sha256}
        wanted = {
            area.name: Text(area.policy, files[area.policy].sha256)
            for area in self._vault.site.areas.values()
            if area.policy in files
        }
        changed = {area: text for area, text in wanted.items() if ruled.get(area) != text}
        self._looking = True
        if not begun and not changed and ruled.keys() <= self._vault.site.areas.keys():
            return False
        with catalogue.writing() as tx:
            catalogue.keep_areas(tx, self._vault.site.areas)
            for name, file in begun.items():
                catalogue.record_policy(tx, name, file.policy.version, file.sha256, file.text, now)
            for area, text in changed.items():
                catalogue.rule_area(tx, area, text)
        for name, file in begun.items():
            log.info("a policy is in force", policy=name, version=file.policy.version, sha256=file.sha256)
            if reused(file, name, recorded):
                log.warning("a version is used again", reason=reused_text(name, file.policy.version))
        return bool(begun or changed)

    # --- scans that are planned otherwise --------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether every scan is due to be looked at that the rules of now plan otherwise, for one who leads."""
        return not self._looking

    def look_on(self, now: datetime) -> int:
        """Some more scans were asked whether other rules than before plan them otherwise, and those are due to be
        looked at; returns how many turns that took, 0 where none was left to ask. How far it came the catalogue keeps.

        Raises Transient where the catalogue is busy; then the next call asks the same scans again.
        """
        if not self._looking:
            return 0
        catalogue = self._vault.catalogue
        with catalogue.reading() as tx:
            change = next(iter(catalogue.list_changes(tx)), None)
            if change is None:
                self._looking = False
                return 0
            areas = {name: self._vault.area_facts(tx, name, now) for name in change.areas}
            edits = self._edits(tx, change, now)
            page = catalogue.choose_page(tx, change.areas, edits, Moment(now, areas), change.to)
        with catalogue.writing() as tx:
            catalogue.look_again(tx, change, page.scans, page.to, now)
        if page.to is None:
            log.info("all scans were asked after an edit", areas=change.areas, policy=change.policy.policy)
        return 1

    def _edits(self, tx: Any, change: Change, now: datetime) -> list[Edit] | None:
        """What differs from each text before; None where one is not known, or cannot be read any more."""
        if change.before is None:
            return None
        texts = {Text(one.name, one.sha256): one.text for one in self._vault.catalogue.recorded_policies(tx)}
        try:
            before = [parse_policy(texts[text], text.policy, None) for text in sorted(change.before)]
        except (KeyError, UserError):
            return None
        return [edit_of(old, self._vault.policies[change.policy.policy], now) for old in before]


def _look(vault: Vault, name: str) -> _Look:
    path = find_policy(vault.site.folder, name)
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        found = None
    return None if found is None else (str(path), found.st_mtime_ns, found.st_size, found.st_ino)
