"""What tomovault tells people: messages by topic, and the channels that bring them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol

#: The longest single value in a message: names come from whoever wrote the scan.
_LONGEST = 2000


class Topic(enum.StrEnum):
    """What a message is about; the site's file says who is told of each."""

    ALARMS = "alarms"
    WARNINGS = "warnings"
    FAILURES = "failures"
    DIGEST = "digest"
    RULES = "rules"


@dataclass(frozen=True)
class Message:
    """One message for one channel. `id` is the same at every try, so that whoever gets it twice can tell.

    `recipients` is empty on a channel that is not addressed. `facts` are the plain values that the text was made of.
    """

    id: str
    topic: str
    site: str
    subject: str
    text: str
    at: datetime
    recipients: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Channel(Protocol):
    """A way to people: the plug-in `notify/<kind>.py`."""

    #: The keys that its section of the site's file may have, besides `kind`.
    OPTIONS: ClassVar[frozenset[str]]
    #: Whether it brings messages to addresses: then each recipient has a delivery of its own.
    ADDRESSED: ClassVar[bool]

    def __init__(self, name: str, options: Mapping[str, Any]) -> None: ...

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        """(key, what is wrong with it) for each value that cannot be right; nothing outside is asked."""

    def send(self, message: Message) -> None:
        """Return once the other side has taken the message. Raises Transient or UserError, naming no secret."""

    def health(self) -> str:
        """How messages go out, in words, as far as that can be told without sending one. Raises UserError."""


@dataclass(frozen=True)
class OwnerWarning:
    """The owner of a scan was told, or is to be told, that a replica of it will go.

    `days` is what was promised. `sent_at` is None until every delivery is over and one has arrived; `passed` is the
    time since then that a daemon has seen pass, whatever the clocks said.
    """

    replica: str
    rule: str
    days: timedelta
    asked_at: datetime
    sent_at: datetime | None = None
    passed: timedelta = timedelta(0)


def harmless(value: object) -> str:
    """A value as text on one line, that no terminal and no mail can be upset with."""
    safe = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in safe)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
