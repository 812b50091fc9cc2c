"""Addresses of mail: those that a person wrote, and those that are made of an owner's name, which anybody may write."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LOCAL = r"[A-Za-z0-9._+-]{1,64}"
_ADDRESS = re.compile(rf"{_LOCAL}@[A-Za-z0-9](?:[A-Za-z0-9.-]{{0,251}}[A-Za-z0-9])?")

#: What stands for the owner of a scan in a recipient.
OWNER = "{owner}"


def is_address(value: object) -> bool:
    """Whether it is one plain address, with nothing in it that could begin another line or recipient."""
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None


def is_recipient(value: object) -> bool:
    """Whether it is an address, or becomes one with the name of an owner in it."""
    return isinstance(value, str) and is_address(value.replace(OWNER, "x"))


def recipients_for(patterns: Iterable[str], owner: str | None) -> tuple[str, ...]:
    """The addresses of a message about the data of an owner; one that would be none is left out."""
    made = (p.replace(OWNER, owner or "") for p in patterns)
    return tuple(dict.fromkeys(address for address in made if is_address(address)))
