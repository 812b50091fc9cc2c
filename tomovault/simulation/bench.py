"""Machines that take one task at a time, from a queue for each lane; tape drives, which keep their cartridge."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

#: So many tasks of a lane are asked whether they can start, before the lane waits.
_ASKED = 64


@dataclass
class Task:
    """Work of so many seconds. `begin` is called when it starts, `done` when it is over; it waits for `room`."""

    seconds: Callable[[], float]
    done: Callable[[], None]
    lane: str = ""
    urgency: int = 1
    size: int = 0
    room: Callable[[], bool] = lambda: True
    begin: Callable[[], None] = lambda: None
    medium: str = ""


@dataclass
class Bench:
    """So many machines of a kind. Of the lanes with the most urgent work each has its turn.

    A machine with the task's medium in it is taken first; another one changes media, which takes `change_s`.
    """

    machines: int
    after: Callable[[float, Callable[[], None]], None]
    change_s: float = 0.0
    busy_s: float = 0.0
    finished: int = 0
    _queues: dict[tuple[int, str], deque[Task]] = field(default_factory=dict)
    _free: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._free = [""] * self.machines

    @property
    def waiting(self) -> int:
        """Tasks that were not begun."""
        return sum(len(queue) for queue in self._queues.values())

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the tasks that were not begun."""
        return sum(task.size for queue in self._queues.values() for task in queue)

    def is_blocked(self, lane: str) -> bool:
        """Whether tasks of the lane wait for room, and none of them has it."""
        waiting = [task for (_, name), queue in self._queues.items() if name == lane for task in queue]
        return bool(waiting) and not any(task.room() for task in waiting)

    def add(self, task: Task) -> None:
        """The task waits for a machine."""
        self._queues.setdefault((task.urgency, task.lane), deque()).append(task)

    def start(self) -> None:
        """Free machines have begun what can be begun."""
        while self._free and (task := self._take()) is not None:
            self._run(task)

    def _take(self) -> Task | None:
        for key in sorted(self._queues, key=lambda key: key[0]):
            queue = self._queues[key]
            for place in range(min(len(queue), _ASKED)):
                task = queue[place]
                if task.room():
                    del queue[place]
                    del self._queues[key]
                    if queue:
                        self._queues[key] = queue  # the lane has had its turn
                    return task
        return None

    def _run(self, task: Task) -> None:
        if task.medium in self._free:
            self._free.remove(task.medium)
            seconds = 0.0
        else:
            self._free.pop(0)
            seconds = self.change_s
        task.begin()
        seconds += task.seconds()
        self.busy_s += seconds

        def over() -> None:
            self._free.append(task.medium)
            self.finished += 1
            task.done()

        self.after(seconds, over)
