"""The section `notify` of `tomovault.yaml`: its model, its checks, and the way from there to `NotifySettings`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from tomovault.core.errors import UserError
from tomovault.core.notice import Topic
from tomovault.notify.address import OWNER, is_recipient
from tomovault.policy.quantity import parse_duration, show_found
from tomovault.policy.yaml_text import Duration, Fault, Strict, Whole, Word, faults, nearest
from tomovault.vault.plugins import list_kinds, load_plugin
from tomovault.vault.site_settings import ChannelSettings, ExtendSettings, NotifySettings, RouteSettings

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")

#: Keys of any channel that name files: below the site's folder where they are named without one.
_FILES = ("password_file", "secret_file", "ca_file")


def _parse_clock(value: object) -> tuple[int, int]:
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{show_found(value)} is not a time of day; write it as '07:00', in quotes")
    return int(found[1]), int(found[2])


def _parse_recipient(value: object) -> str:
    if not isinstance(value, str) or not is_recipient(value):
        raise ValueError(f"{show_found(value)} is not an address, such as data@example.org or '{OWNER}@example.org'")
    return value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Clock = Annotated[tuple[int, int], BeforeValidator(_parse_clock)]
Recipient = Annotated[str, BeforeValidator(_parse_recipient)]


class _Channel(Strict):
    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str

    @model_validator(mode="after")
    def _check_options(self) -> _Channel:
        try:
            plugin = load_plugin("notify", self.kind)
        except UserError as problem:
            told = f"unknown kind {self.kind!r} of channel{nearest(self.kind, list_kinds('notify'))}"
            raise faults([Fault(told, ("kind",))]) from problem
        given = self.model_extra or {}
        found = [
            Fault(_unknown(self.kind, key, plugin.OPTIONS), (key,), at_key=True)
            for key in sorted(given.keys() - plugin.OPTIONS)
        ]
        problems = plugin.problems(_with_seconds(given))
        found += [Fault(f"{key}: {text}", (key,) if key in given else ("kind",)) for key, text in problems]
        if found:
            raise faults(found)
        return self

    def options(self, folder: Path) -> dict[str, Any]:
        """What the plug-in is given: every key but kind, with absolute paths and the timeout in seconds."""
        given = _with_seconds(self.model_extra or {})
        paths = {k: os.path.normpath(folder / os.path.expanduser(given[k])) for k in _FILES if k in given}
        return given | paths


def _unknown(kind: str, key: str, legal: frozenset[str]) -> str:
    if key in ("password", "secret"):
        return f"a {key} does not stand in the site's file; use {key}_file or {key}_variable"
    return f"a channel of kind {kind!r} has no key {key!r}{nearest(key, legal)}"


def _with_seconds(given: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(given)
    if "timeout" in options:
        try:
            options["timeout"] = parse_duration(options["timeout"]).total_seconds()
        except ValueError:
            options["timeout"] = None  # the plug-in says what is legal
    return options


class _Route(Strict):
    channels: Annotated[tuple[Word, ...], BeforeValidator(_listed)] = Field(min_length=1)
    to: Annotated[tuple[Recipient, ...], BeforeValidator(_listed)] = ()


class _Extend(Strict):
    days: Whole = Field(default=30, ge=1, le=3650)
    times: Whole = Field(default=3, ge=1, le=1000)


class NotifySection(Strict):
    """The section as it is written."""

    site: str | None = Field(default=None, min_length=1, max_length=80)
    channels: Mapping[Word, _Channel] = Field(min_length=1)
    alarms: _Route | None = None
    warnings: _Route | None = None
    failures: _Route | None = None
    digest: _Route | None = None
    rules: _Route | None = None
    digest_at: Clock = (7, 0)
    warn: Duration = timedelta(0)
    gather: Duration = timedelta(minutes=10)
    repeat: Duration = timedelta(days=1)
    give_up: Duration = timedelta(days=7)
    extend: _Extend = _Extend()

    def routes(self) -> dict[Topic, _Route]:
        """Who is told of what."""
        every = {topic: getattr(self, topic.value) for topic in Topic}
        return {topic: route for topic, route in every.items() if route is not None}

    @model_validator(mode="after")
    def _check_routes(self) -> NotifySection:
        found = [fault for topic, route in self.routes().items() for fault in self._problems(topic, route)]
        if self.repeat < timedelta(minutes=1):
            found.append(Fault("an alarm that lasts is not told again more often than once a minute", ("repeat",)))
        if self.warn and self.warnings is None:
            found.append(Fault("somebody has to be told: name the channels under 'warnings'", ("warn",)))
        if found:
            raise faults(found)
        return self

    def _problems(self, topic: Topic, route: _Route) -> Iterator[Fault]:
        for at, name in enumerate(route.channels):
            if name not in self.channels:
                told = f"there is no channel {name!r}{nearest(name, self.channels)}"
                yield Fault(told, (topic.value, "channels", at))
        kinds = [self.channels[name].kind for name in route.channels if name in self.channels]
        addressed = any(load_plugin("notify", kind).ADDRESSED for kind in kinds)
        if addressed and not route.to:
            yield Fault("mail needs somebody to go to: name addresses under 'to'", (topic.value, "channels"))
        if topic not in (Topic.WARNINGS, Topic.RULES) and any(OWNER in to for to in route.to):
            told = f"only warnings, and what rules did, are about the data of one owner: no {OWNER} here"
            yield Fault(told, (topic.value, "to"))

    def settings(self, folder: Path) -> NotifySettings:
        """The settings, with every default filled in."""
        return NotifySettings(
            site=self.site or folder.name or "tomovault",
            channels={n: ChannelSettings(n, c.kind, c.options(folder)) for n, c in self.channels.items()},
            routes={topic: RouteSettings(route.channels, route.to) for topic, route in self.routes().items()},
            digest_at=self.digest_at,
            warn_s=self.warn.total_seconds(),
            gather_s=self.gather.total_seconds(),
            repeat_s=self.repeat.total_seconds(),
            give_up_s=self.give_up.total_seconds(),
            extend=ExtendSettings(self.extend.days, self.extend.times),
        )
