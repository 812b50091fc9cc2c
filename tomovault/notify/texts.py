"""The texts of messages: templates with $names in them, the site's own where it has one, else the shipped one.

A template is text and nothing else: no expression in it is ever evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from tomovault.core.errors import UserError
from tomovault.core.notice import harmless

#: The folder of a site's own templates.
TEMPLATES = "templates"

_SUBJECT = "Subject:"

#: Every template, with the names that its text may use. Those of parts have no subject.
FIELDS: Mapping[str, frozenset[str]] = {
    "alarm_begun": frozenset({"site", "at", "area", "text", "began_at"}),
    "alarm_lasts": frozenset({"site", "at", "area", "text", "began_at"}),
    "alarm_over": frozenset({"site", "at", "area", "text", "began_at"}),
    "warning": frozenset(
        {
            "site",
            "at",
            "area",
            "owner",
            "rule",
            "scan_count",
            "bytes",
            "not_before",
            "scans",
            "extend_days",
            "extend_command",
        }
    ),
    "warning_scan": frozenset({"id", "name", "path", "bytes", "form", "copies", "back", "extend_days", "not_before"}),
    "failures": frozenset({"site", "at", "job_count", "jobs"}),
    "failures_job": frozenset({"job", "action", "scan", "place", "error", "hint", "attempts", "rule"}),
    "rule_did": frozenset({"site", "at", "rule", "action", "description", "scan_count", "scans"}),
    "rule_did_scan": frozenset({"id", "name", "path", "area", "owner", "bytes", "why"}),
    "unexplained": frozenset({"site", "at", "area", "owner", "folder_count", "bytes", "deadline", "folders"}),
    "unexplained_folder": frozenset({"folder", "files", "bytes", "newest", "since", "deadline"}),
    "digest": frozenset({"site", "at", "date", "areas", "jobs", "alarms", "warnings", "outbox"}),
    "digest_area": frozenset({"area", "used", "quota", "fraction", "high", "low", "quarantine", "scans"}),
    "test": frozenset({"site", "at", "channel", "by"}),
}

#: Templates of one entry of a list; the texts of all of them are one value of the whole.
PARTS = frozenset({"warning_scan", "failures_job", "digest_area", "rule_did_scan", "unexplained_folder"})

#: Values that are made of parts, which are harmless already.
_OF_PARTS = frozenset({"scans", "jobs", "areas", "folders"})

_LONGEST_SUBJECT = 200

#: Bytes of the longest template that is read.
_MOST = 100_000


def find_template(folder: Path, name: str) -> Path | None:
    """The site's own file of a template; None where it has none."""
    path = folder / TEMPLATES / f"{name}.txt"
    return path if path.is_file() else None


def template_files(folder: Path) -> list[Path]:
    """A site's own templates."""
    return sorted((folder / TEMPLATES).glob("*.txt"))


def check_template(path: Path) -> None:
    """The file is a template that can be used. Raises UserError with the line of what is wrong."""
    if path.stem not in FIELDS:
        raise UserError(f"{path}: no message has this name; they are: {', '.join(sorted(FIELDS))}")
    _check(path.stem, _read(path), str(path))


def render(folder: Path, name: str, values: Mapping[str, object]) -> tuple[str, str]:
    """(subject, text) by the site's template or, where that is missing or wrong, by the shipped one.

    A message must go out even if somebody edits its template at that moment. Values that are not made of parts are
    brought to one harmless line each.
    """
    fields = {
        key: str(value) if key in _OF_PARTS and name not in PARTS else harmless(value) for key, value in values.items()
    }
    own = find_template(folder, name)
    if own is not None:
        try:
            text = _read(own)
            _check(name, text, str(own))
            return _filled(name, text, fields)
        except UserError:
            pass
    return _filled(name, shipped(name), fields)


def shipped(name: str) -> str:
    """The template that comes with tomovault."""
    return files("tomovault.notify").joinpath("templates", f"{name}.txt").read_text("utf-8")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST + 1)
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}") from problem
    if len(raw) > _MOST:
        raise UserError(f"{path} is longer than {_MOST} bytes")
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as problem:
        raise UserError(f"{path}: is not UTF-8 text (byte {problem.start})") from problem


def _check(name: str, text: str, told: str) -> None:
    legal = FIELDS[name]
    for number, line in enumerate(text.split("\n"), start=1):
        template = Template(line)
        if not template.is_valid():
            raise UserError(f"{told}:{number}: a $ that begins no name; write $$ for the sign itself")
        for field in template.get_identifiers():
            if field not in legal:
                raise UserError(f"{told}:{number}: ${field} is not known here; these are: {', '.join(sorted(legal))}")
    if name not in PARTS and not text.startswith(_SUBJECT):
        raise UserError(f"{told}:1: the first line is the subject: {_SUBJECT} TEXT")


def _filled(name: str, text: str, fields: Mapping[str, str]) -> tuple[str, str]:
    if name in PARTS:
        return "", Template(text).substitute(fields)
    first, _, rest = text.partition("\n")
    subject = Template(first.removeprefix(_SUBJECT).strip()).substitute(fields)
    if len(subject) > _LONGEST_SUBJECT:
        subject = subject[: _LONGEST_SUBJECT - 3] + "..."
    return subject, Template(rest.lstrip("\n")).substitute(fields)
