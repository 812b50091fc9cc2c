"""The section `globus` of `tomovault.yaml`: its model, its checks, and the way from there to `GlobusSettings`."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from tomovault.policy.quantity import show_found
from tomovault.policy.yaml_text import Duration, Strict, Whole, Word
from tomovault.vault.site_settings import GlobusSettings

_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


def _parse_collection(value: object) -> str:
    if not isinstance(value, str):
        _refuse_collection(value)
    try:
        return str(uuid.UUID(value))
    except ValueError:
        _refuse_collection(value)


def _refuse_collection(value: object) -> NoReturn:
    raise ValueError(f"{show_found(value)} is not the UUID of a collection, as its page at Globus shows it")


def _parse_folder(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError(f"{show_found(value)} is not a path from the root")
    return "/" + os.path.normpath(value).lstrip("/")


def _parse_file(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"{show_found(value)} is not a path")
    return os.path.expanduser(value)


def _parse_service(value: object) -> str:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{show_found(value)} is not a URL, such as http://127.0.0.1:8900")
    if parts.scheme == "http" and parts.hostname not in _THIS_MACHINE:
        raise ValueError("a service without TLS must be on this machine: the token would travel in the clear")
    return str(value).rstrip("/")


def _after_now(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("a transfer would have to be over before it begins; such as 2d")
    return value


def _nothing_is_empty(value: object) -> object:
    return {} if value is None else value


Collection = Annotated[str, BeforeValidator(_parse_collection)]
Folder = Annotated[str, BeforeValidator(_parse_folder)]
FileText = Annotated[str, BeforeValidator(_parse_file)]


class GlobusSection(Strict):
    """The section as it is written."""

    collection: Collection
    paths: Mapping[Folder, Folder] = Field(min_length=1)
    names: Annotated[Mapping[Word, Collection], BeforeValidator(_nothing_is_empty)] = Field(default_factory=dict)
    service: Annotated[str, BeforeValidator(_parse_service)] | None = None
    token: FileText = "globus-token"
    client: FileText = "globus-client"
    deadline: Annotated[Duration, AfterValidator(_after_now)] = timedelta(days=2)
    at_once: Whole = Field(default=4, ge=1, le=100)

    def settings(self, folder: Path) -> GlobusSettings:
        """The settings, with the files of credentials below the site's folder where they are named without one."""
        return GlobusSettings(
            collection=self.collection,
            paths=dict(self.paths),
            names=dict(self.names),
            service=self.service,
            token_file=os.path.normpath(folder / self.token),
            client_file=os.path.normpath(folder / self.client),
            deadline_s=self.deadline.total_seconds(),
            at_once=self.at_once,
        )
