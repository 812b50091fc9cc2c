"""What we prove ourselves with to a transfer service: read where it is needed, kept nowhere, never shown."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from tomovault.core.errors import UserError

#: An access token, for those who do not want it in a file.
TOKEN_VARIABLE = "TOMOVAULT_GLOBUS_TOKEN"

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Credentials:
    """An access token, or the id and secret of a client that may fetch tokens by itself."""

    token: str | None = field(default=None, repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)


def read_credentials(token_file: str, client_file: str, env: Mapping[str, str]) -> Credentials:
    """The token of the environment, else that of its file, else a client's.

    Raises UserError where there is none, or a file can be read by others or does not hold what it should.
    """
    if token := env.get(TOKEN_VARIABLE, "").strip():
        return Credentials(token)
    text = _read_private(token_file)
    if text is not None:
        if len(text.split()) != 1:
            raise UserError(f"{token_file} does not hold one token", hint="write the token into it and nothing else")
        return Credentials(text.strip())
    text = _read_private(client_file)
    if text is not None:
        return _client(text, client_file)
    raise UserError(
        "there is nothing to prove to the transfer service who we are",
        hint=f"put a token into {token_file} or {TOKEN_VARIABLE}, or a client's id and secret into {client_file}",
    )


def _client(text: str, path: str) -> Credentials:
    try:
        plain = json.loads(text)
        client_id, secret = plain["client_id"], plain["client_secret"]
    except (ValueError, KeyError, TypeError):
        client_id = secret = None
    if not (isinstance(client_id, str) and client_id and isinstance(secret, str) and secret):
        # Nothing of the content is shown: it may be a secret in the wrong place.
        raise UserError(
            f"{path} has no client in it", hint='write {"client_id": "...", "client_secret": "..."} into it'
        )
    return Credentials(None, client_id, secret)


def _read_private(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise UserError(f"{path} can be read or written by others", hint=f"chmod 600 {path}")
            return file.read()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text") from None
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}") from problem
