"""A message as the plain values that programs get."""

from __future__ import annotations

from typing import Any

from tomovault.core.notice import Message
from tomovault.core.wire import to_plain


def as_json(message: Message) -> dict[str, Any]:
    """The object that a webhook is posted, and a command reads."""
    return {
        "id": message.id,
        "topic": message.topic,
        "site": message.site,
        "subject": message.subject,
        "text": message.text,
        "at": message.at.isoformat().replace("+00:00", "Z"),
        "recipients": list(message.recipients),
        "facts": to_plain(message.facts),
    }
