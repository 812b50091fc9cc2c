"""Policies that are edited while the daemon runs are taken up between two of its turns, each as a whole or not at all.

A file that is wrong changes nothing: the rules before the edit go on, and `tomovault status` names its first error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime

import structlog

from tomovault.core.errors import UserError
from tomovault.vault.policy_files import PolicyFile, read_policy_file, reused, reused_text, wrong_text
from tomovault.vault.site_settings import find_policy
from tomovault.vault.vault import Vault

log = structlog.get_logger(__name__)

#: By what it is seen that a file is another one now: its path, time, size and inode. None: it is not there.
_Look = tuple[str, int, int, int] | None


#: An edited file is read so many seconds after it was last written.
_SETTLED_S = 2.0


class PolicyWatch:
    """Knows how the file of each policy looked when it was last read, and what was right of it."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._looks: Mapping[str, _Look] = {}
        self._files: Mapping[str, PolicyFile] = {}
        self._compared = False

    def take_up(self, now: datetime, *, leads: bool) -> bool:
        """Whether other rules hold from now on: those of the vault.

        A daemon that leads records them, and every scan that they decide about is due to be looked at. Raises
        Transient where the catalogue is busy; then nothing has changed, and the next call tries again.
        """
        looks = {name: self._settled(name) for name in self._names}
        if looks == self._looks and (self._compared or not leads):
            return False
        files = {**self._files, **dict(self._read(name for name in looks if looks[name] != self._looks.get(name, ())))}
        changed = self._record(files, now) if leads else files != self._files
        self._vault.policies = {**self._vault.policies, **{name: file.policy for name, file in files.items()}}
        self._looks, self._files, self._compared = looks, files, leads
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
            try:
                yield name, read_policy_file(self._vault.site.folder, name)
            except UserError as problem:
                reason = wrong_text(name, problem)
                log.warning("a policy is not taken up", policy=name, reason=reason)

    def _record(self, files: Mapping[str, PolicyFile], now: datetime) -> bool:
        """Whether any of them was not the one that was last recorded as in force; it is now."""
        catalogue = self._vault.catalogue
        with catalogue.reading() as tx:
            recorded = catalogue.recorded_policies(tx)
        last = {one.name: one.sha256 for one in recorded}
        begun = {name: file for name, file in files.items() if last.get(name) != file.sha256}
        if not begun:
            return False
        with catalogue.writing() as tx:
            for name, file in begun.items():
                catalogue.record_policy(tx, name, file.policy.version, file.sha256, file.text, now)
            catalogue.look_again(tx, self._areas_of(begun), now)
        for name, file in begun.items():
            log.info("a policy is in force", policy=name, version=file.policy.version, sha256=file.sha256)
            if reused(file, name, recorded):
                log.warning("a version is used again", reason=reused_text(name, file.policy.version))
        return True

    def _areas_of(self, policies: Collection[str]) -> list[str]:
        return [name for name, area in self._vault.site.areas.items() if area.policy in policies]


def _look(vault: Vault, name: str) -> _Look:
    path = find_policy(vault.site.folder, name)
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        found = None
    return None if found is None else (str(path), found.st_mtime_ns, found.st_size, found.st_ino)
