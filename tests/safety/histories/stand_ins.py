"""What stands where a job's process would, where the thread that sweeps an area would, and where the laws will."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomovault.core.errors import TomovaultError, Transient
from tomovault.core.record import Outcome, Result
from tomovault.core.replica import Form
from tomovault.core.scan import Candidate
from tomovault.daemon.areas import Look
from tomovault.testing.ground import VOLUME_CPU_S, Ground
from tomovault.vault import job_folder
from tomovault.vault.job import result_of_failure, result_to_plain
from tomovault.watch.sweep import Seen, Sweep

if TYPE_CHECKING:
    from tomovault.daemon.clerk import Clerk

    from .site import Stage


class Process:
    """Stands where the process of a job would: what it does is done when somebody asks whether it still runs."""

    def __init__(self, folder: Path, stage: Stage, clerk: Clerk) -> None:
        self.folder, self._stage, self.clerk = folder, stage, clerk
        self._over = False
        self.told = json.loads((folder / job_folder.ORDER).read_text("utf-8"))
        stage.laws.before_start(self.told)
        stage.processes.append(self)

    def running(self) -> bool:
        if not self._over:
            self._over = True
            self._carry_out()
        return False

    def ended_how(self) -> str:
        return "was ended by SIGKILL"

    def stop(self) -> bool:
        self._over = True
        return True

    def _carry_out(self) -> None:
        told, stage, ground = self.told, self._stage, self._stage.ground
        with self.clerk.vault.catalogue.reading() as tx:
            if not self.clerk.vault.catalogue.token_is_current(tx, told["job"], told["token"]):
                return
        fault, ground.fault = ground.fault, ""
        records: list[Any] = []
        result = Result(Outcome.SUCCEEDED, cpu_s=VOLUME_CPU_S)
        try:
            if told["order"].get("area") in ground.absent:
                raise Transient("the area is not there")
            stage.laws.before_act(told)
            if fault in ("transient", "failed", "defect"):
                result = Result(Outcome(fault), error="planted")
            else:
                for record in getattr(ground, told["action"])(told["order"]):
                    if isinstance(record, Result):
                        result = record
                        continue
                    records.append(record)
                    if fault == "half":
                        result = Result(Outcome.TRANSIENT, error="planted, half way")
                        break
        except TomovaultError as problem:
            result = result_of_failure(problem)
        stage.point("job.acted")
        if fault != "lost":
            brought = result_to_plain(replace(result, records=tuple(records)))
            with contextlib.suppress(FileNotFoundError):  # the process dies where another leader took the job up
                job_folder.write_json(self.folder / job_folder.RESULT, brought, durable=False)
        stage.point("job.written")


class Watch:
    """Stands where the thread would that sweeps an area: it sees what the ground has."""

    def __init__(self, area: str, ground: Ground, known: list[str]) -> None:
        self._area, self._ground = area, ground
        self._known = dict.fromkeys(known, 0)
        self._leaving: set[str] = set()
        self.name, self.writing, self.mount_source = area, False, ""

    def look(self) -> Look:
        if self._area in self._ground.absent:
            return Look(self._area, None, "its marker is not there")
        there = {p: c for p, c in self._ground.copies.items() if c.form is Form.FILES and c.tier == self._area}
        self._known = {p: 0 if p in there else n + 1 for p, n in self._known.items()} | dict.fromkeys(there, 0)
        seen = tuple(
            Seen(Candidate("edf", path), f"v{copy.version}", True, 1e6, copy.size, copy.version)
            for path, copy in sorted(there.items())
        )
        missed = sorted((path, n) for path, n in self._known.items() if n and path not in self._leaving)
        absent = tuple((Candidate("edf", path), n) for path, n in missed)
        vanished = tuple(candidate for candidate, n in absent if n == 1)
        return Look(self._area, Sweep(seen, vanished, (), 1, 1, 0.0, changed=seen, absent=absent))

    def forget(self, candidates: list[Candidate]) -> None:
        for candidate in candidates:
            self._known.pop(candidate.folder, None)
        self.keep(candidates)

    def let_leave(self, candidates: list[Candidate]) -> None:
        self._leaving.update(candidate.folder for candidate in candidates)

    def keep(self, candidates: list[Candidate]) -> None:
        self._leaving.difference_update(candidate.folder for candidate in candidates)

    def start(self) -> None:
        """Nothing runs: the history asks for each look."""

    stop = start


class NoWatch:
    """Looks on, and finds nothing wrong."""

    def before_start(self, told: dict[str, Any]) -> None:
        """A job has its order."""

    def before_act(self, told: dict[str, Any]) -> None:
        """A job is about to touch bytes."""

    def after_turn(self, *, whole: bool = True) -> None:
        """A daemon did one thing, or was stopped in the middle of one."""

    def after_event(self) -> None:
        """Something happened, and all that the daemon did about it."""
