"""Secrets of channels: in a file that nobody else can read or in the environment, and never in the site's file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from tomovault.core.errors import UserError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO

#: No password and no key is longer; a file that is has something else in it.
_MOST_BYTES = 4096


def keys_of(what: str) -> frozenset[str]:
    """The keys that say where a secret is."""
    return frozenset({f"{what}_file", f"{what}_variable"})


def problems_of(what: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with how a secret is named."""
    file, variable = f"{what}_file", f"{what}_variable"
    for key in (file, variable):
        if key in options and (not isinstance(options[key], str) or not options[key].strip() or "\0" in options[key]):
            yield key, "the name of a file" if key == file else "the name of a variable of the environment"
    if file in options and variable in options:
        yield variable, f"the {what} is in a file already"


def read_secret(what: str, options: Mapping[str, Any]) -> str | None:
    """The secret, without the newline at its end; None where none is named.

    Raises UserError, which shows nothing of the content, where it is not there or can be read by others.
    """
    if path := options.get(f"{what}_file"):
        return _read(what, str(path))
    if variable := options.get(f"{what}_variable"):
        value = os.environ.get(variable, "")
        if not value:
            raise UserError(f"{variable} is not set", hint=f"the {what} is to be in the environment of the daemon")
        return value
    return None


def _read(what: str, path: str) -> str:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise UserError(f"{path} can be read or written by others", hint=f"chmod 600 {path}")
            raw = file.read(_MOST_BYTES + 1)
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}", hint=f"write the {what} into it") from problem
    try:
        text = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text") from None
    if not text or len(raw) > _MOST_BYTES or "\n" in text:
        raise UserError(f"{path} does not hold one line with the {what}")
    return text
