"""The section `metrics` of `tomovault.yaml`, and addresses to listen at."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

from tomovault.policy.quantity import show_found
from tomovault.policy.yaml_text import Strict

_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})")


def parse_listen(value: object) -> str:
    """An address and a port such as 127.0.0.1:9464 or [::1]:9464. Raises ValueError for anything else."""
    found = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[2]) > 65535:
        raise ValueError(f"{show_found(value)} is not an address and a port, such as 127.0.0.1:9464")
    return found[0]


def split_listen(listen: str) -> tuple[str, int]:
    """(address, port) of what `parse_listen` took."""
    address, _, port = listen.rpartition(":")
    return address.strip("[]"), int(port)


class MetricsSection(Strict):
    """The section as it is written."""

    listen: Annotated[str, BeforeValidator(parse_listen)]
