"""What can go wrong, in four families, each with its exit code.

A message is one line that says what happened; `hint` says what to do next. The command line shows
both in one place (`tomovault.cli`), so nothing below it prints.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import ClassVar


class TomovaultError(Exception):
    """Base of every error that a user may see; anything else is a defect of ours (exit code 1)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(TomovaultError):
    """The request, the site file or a policy is wrong; nothing was done."""

    exit_code = 2


class NoScan(UserError):
    """What a format was asked about can be read, or is known well enough, and is no scan of that format; says why."""


class LostFrames(UserError):
    """Frames that a reconstruction would use hold nothing: no light, or no number. `frames`: their indices."""

    def __init__(self, message: str, frames: Sequence[int], *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.frames = tuple(frames)


class Refused(TomovaultError):
    """A rule, a pin or a law forbids it; `by` names which one."""

    exit_code = 3

    def __init__(self, message: str, *, by: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.by = by


class IntegrityError(TomovaultError):
    """Bytes are not what they were recorded to be. Never retried by itself."""

    exit_code = 4


class Transient(TomovaultError):
    """It cannot be done now (no space, tier absent, drive busy, database locked); trying again may help."""

    exit_code = 75


class NotYet(Transient):
    """Something else has to come first, such as a tape to its drive; to wait for it uses up no attempt of a job. It is
    looked at again `PAUSE_S` seconds later, or as soon as any job that is tried again.
    """

    PAUSE_S: ClassVar[float] = 0.0


class InUse(NotYet):
    """Another process has what is needed: a drive, a cartridge, a pool. It will be free again."""


class Recalling(NotYet):
    """What is to be read is being brought from a medium, which may take hours or days; that goes on by itself."""

    @classmethod
    def waiting_for(cls, locations: Sequence[str]) -> Recalling:
        """That of one place or more, each asked for."""
        more = f" and {len(locations) - 1} more" if len(locations) > 1 else ""
        hint = "it was asked for, and is re-read when it is there"
        return cls(f"{locations[0]}{more} cannot be read yet", hint=hint)

    #: Longer than a daemon that runs until it is idle waits for.
    PAUSE_S: ClassVar[float] = 90.0


class NoRoomYet(NotYet):
    """A disk or a tier is too full for what is to be written there; it is looked at again after `PAUSE_S` seconds, and
    ever more seldom.
    """

    #: Longer than a daemon that runs until it is idle waits for.
    PAUSE_S: ClassVar[float] = 90.0


class PlaceAbsent(NotYet):
    """A vault, or the folder of a tier, has not the marker that was recorded: nothing in it is damaged for that, and
    nothing is written there.
    """

    PAUSE_S: ClassVar[float] = 90.0


class SourceChanged(Transient):
    """A user's file was modified, moved or removed while it was read; the attempt left nothing behind."""


class AreaAbsent(Transient):
    """An area's marker, file system or mount source is not what was recorded: absence is never an order."""


class NoSpace(Transient):
    """Writing would cross the floor that is kept free for the acquisition, or the disk is full."""


@contextlib.contextmanager
def waits_for_room() -> Iterator[None]:
    """A lack of room is raised as NoRoomYet: it uses up no attempt, and needs no person but one who makes room.

    Only for a look before the first byte is read or written, since it is repeated for as long as there is no room; and
    only for what frees nothing later, since a job that waits keeps the copies of its scan where they are.
    """
    try:
        yield
    except NoSpace as full:
        raise NoRoomYet(full.message, hint=full.hint or "it goes on by itself when there is room") from full
