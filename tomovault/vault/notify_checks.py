"""Trying out who is told of what: channels, templates, and whether owners can be warned."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

from tomovault.core.errors import TomovaultError, UserError
from tomovault.core.notice import Message, Topic
from tomovault.notify.address import OWNER, is_address
from tomovault.notify.texts import check_template, template_files
from tomovault.policy.yaml_text import nearest
from tomovault.vault.notices import message_to_test, open_channel
from tomovault.vault.plugins import load_plugin
from tomovault.vault.site_settings import NotifySettings, Site
from tomovault.vault.vault import Vault


def send_test(site: Site, channel: str, by: str, now: datetime, recipient: str | None = None) -> Message:
    """A test message was taken by a channel; returns it. Raises UserError, or Transient where it was not taken."""
    conf = site.notify
    known = conf.channels if conf is not None else {}
    if conf is None or channel not in known:
        told = f"the site has no channel {channel!r}{nearest(channel, known)}"
        raise UserError(told, hint="channels stand in the section `notify` of tomovault.yaml")
    recipients: tuple[str, ...] = ()
    if load_plugin("notify", known[channel].kind).ADDRESSED:
        recipients = (recipient,) if recipient is not None else _addresses(conf, channel)
        if not recipients or not all(map(is_address, recipients)):
            raise UserError("there is no address to send it to", hint="--to ADDRESS")
    elif recipient is not None:
        raise UserError(f"the channel {channel} has no addresses", hint="leave out --to")
    message = message_to_test(site, channel, by, recipients, now)
    open_channel(known[channel]).send(message)
    return message


def _addresses(conf: NotifySettings, channel: str) -> tuple[str, ...]:
    """Every address that stands in a route of the channel as it is."""
    routes = (route for route in conf.routes.values() if channel in route.channels)
    return tuple(dict.fromkeys(to for route in routes for to in route.to if OWNER not in to))


def problems_of_templates(folder: Path) -> list[str]:
    """What is wrong with each of the site's own templates that is wrong."""
    found = []
    for path in template_files(folder):
        try:
            check_template(path)
        except UserError as problem:
            found.append(problem.message)
    return found


def problems_of_channels(site: Site) -> Iterator[tuple[str, bool, str, str]]:
    """(channel, whether it can be used, how or why not, hint) as far as can be told without sending anything."""
    for name, conf in (site.notify.channels if site.notify is not None else {}).items():
        try:
            yield name, True, open_channel(conf).health(), f"tomovault notify test {name}"
        except TomovaultError as problem:
            yield name, False, problem.message, problem.hint


def why_nobody_hears(site: Site, usable: Collection[str]) -> str:
    """Why a site that has a section `notify` tells nobody of anything; '' where somebody hears of something, and where
    it has none. `usable` are the channels that can be used.
    """
    conf = site.notify
    if conf is None or any(set(route.channels) & set(usable) for route in conf.routes.values()):
        return ""
    if not conf.routes:
        return "the section `notify` names nobody who is told of anything: no alarms, warnings, failures or digest"
    return "none of the channels that the section `notify` tells anything by can be used: nobody hears of an alarm"


def rules_that_warn_nobody(vault: Vault) -> list[str]:
    """Prune rules that ask for warnings where no channel brings them: nothing would ever go by those."""
    conf = vault.site.notify
    if conf is not None and Topic.WARNINGS in conf.routes:
        return []
    policies = {area.policy: vault.policy_of(name) for name, area in vault.site.areas.items()}
    return [
        policy.cite(rule)
        for _, policy in sorted(policies.items())
        for rule in policy.rules
        if rule.do == "prune" and rule.settings.warn
    ]
