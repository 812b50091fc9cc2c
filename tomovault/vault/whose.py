"""Whose a scan is: from its path, from its files' owner, from its metadata, in that order, each with its source."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping

from tomovault.core.scan import ScanReport
from tomovault.vault.site import Area

FIELDS = ("proposal", "sample", "owner", "beamline")


def whose(report: ScanReport, area: Area) -> Mapping[str, tuple[str, str]]:
    """(value, source) for each of proposal, sample, owner and beamline that is known."""
    found: dict[str, tuple[str, str]] = {}
    for field in FIELDS:
        told = getattr(report, field)
        if told:
            found[field] = (str(told), "metadata")
    owner = _file_owner(report)
    if owner is not None:
        found["owner"] = (owner, "file owner")
    if area.beamline:
        found["beamline"] = (area.beamline, "tomovault.yaml")
    for field, value in _by_template(report.root, area).items():
        if field in FIELDS:
            found[field] = (value, "path")
    return found


def _file_owner(report: ScanReport) -> str | None:
    if not report.files:
        return None
    uid = report.files[0].state.uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _by_template(root: str, area: Area) -> Mapping[str, str]:
    """Named parts of the path below the area; a template '{proposal}/{sample}' may stop above the scan's folder."""
    if not area.template:
        return {}
    below = os.path.relpath(root, str(area.path)).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    pattern = "/".join(
        re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(part)) for part in area.template.strip("/").split("/")
    )
    match = re.match(pattern + r"(?:/|$)", below)
    return match.groupdict() if match else {}
