"""Who is told of what, and the text of it: notices are put into the outbox here, and made into messages here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tomovault.catalog.outbox import Delivery, add_to_notice, is_posted, list_outbox, post_notice
from tomovault.catalog.owner_warnings import count_warnings
from tomovault.catalog.standing_alarms import list_standing
from tomovault.core.known import JobStatus
from tomovault.core.notice import Channel, Message, Topic
from tomovault.notify.address import recipients_for
from tomovault.notify.texts import render
from tomovault.vault.plugins import load_plugin
from tomovault.vault.site_settings import ChannelSettings, NotifySettings, Site
from tomovault.vault.sizes import counted, show_bytes
from tomovault.vault.vault import Vault

#: A text that waits for more is not added to for longer than this.
_OPEN_FOR = timedelta(days=1)


def open_channel(conf: ChannelSettings) -> Channel:
    """A channel of the site."""
    channel: Channel = load_plugin("notify", conf.kind)(conf.name, conf.options)
    return channel


def addressees(conf: NotifySettings | None, topic: Topic, owner: str | None = None) -> list[tuple[str, str]]:
    """(channel, recipient) of each delivery of a notice, none where nobody is told of the topic."""
    route = None if conf is None else conf.routes.get(topic)
    if conf is None or route is None:
        return []
    found: list[tuple[str, str]] = []
    for name in route.channels:
        if load_plugin("notify", conf.channels[name].kind).ADDRESSED:
            found += [(name, recipient) for recipient in recipients_for(route.to, owner)]
        else:
            found.append((name, ""))
    return found


def post(
    vault: Vault, tx: Any, topic: Topic, template: str, facts: Mapping[str, Any], now: datetime, *, key: str = ""
) -> str | None:
    """Whoever is to be told of the topic will be; returns the notice's id, None where nobody is."""
    to = addressees(vault.site.notify, topic)
    return post_notice(tx, topic, template, facts, to, now, key=key) if to else None


def gather(
    vault: Vault,
    tx: Any,
    topic: Topic,
    template: str,
    facts: Mapping[str, Any],
    entries: str,
    now: datetime,
    *,
    key: str,
    owner: str | None = None,
) -> str | None:
    """As `post`, with what else comes within `notify.gather` under the same key in one text, in its list `entries`."""
    to = addressees(vault.site.notify, topic, owner)
    return gather_for(vault, tx, to, topic, template, facts, entries, now, key=key)


def gather_for(
    vault: Vault,
    tx: Any,
    to: Sequence[tuple[str, str]],
    topic: Topic,
    template: str,
    facts: Mapping[str, Any],
    entries: str,
    now: datetime,
    *,
    key: str,
) -> str | None:
    """As `gather`, to these alone."""
    conf = vault.site.notify
    if conf is None or not to:
        return None
    joined = add_to_notice(tx, key, entries, facts[entries], now, made_since=now - _OPEN_FOR)
    if joined is not None:
        return joined
    later = now + timedelta(seconds=conf.gather_s)
    return post_notice(tx, topic, template, facts, to, now, key=key, not_before=later)


def post_failure(vault: Vault, tx: Any, job_id: str, place: str, now: datetime) -> None:
    """A job has failed for good: whoever is told of failures will be, in one text with others that fail soon after."""
    if not addressees(vault.site.notify, Topic.FAILURES):
        return
    job = vault.catalogue.read_job(tx, job_id)
    name = vault.catalogue.known(tx, job.scan).name if job.scan is not None else ""
    entry = {
        "job": job.id,
        "action": job.action,
        "scan": name or "-",
        "place": place,
        "error": job.error,
        "hint": job.hint,
        "attempts": job.attempts,
        "rule": job.rule,
    }
    gather(vault, tx, Topic.FAILURES, "failures", {"jobs": [entry]}, "jobs", now, key="failures")


def post_digest(vault: Vault, tx: Any, now: datetime) -> None:
    """How the site is will be told, once a day."""
    key = f"digest {now:%Y-%m-%d}"
    if not addressees(vault.site.notify, Topic.DIGEST) or is_posted(tx, key):
        return
    scans = {row.value: row.scans for row in vault.catalogue.usage(tx, "area")}
    areas = []
    for name in vault.site.areas:
        facts = vault.area_facts(tx, name, now)
        areas.append(
            {
                "area": name,
                "used": show_bytes(facts.used_bytes),
                "quota": show_bytes(facts.quota_bytes),
                "fraction": f"{facts.used_fraction:.0%}",
                "high": f"{facts.high:.0%}",
                "low": f"{facts.low:.0%}",
                "quarantine": show_bytes(facts.quarantine_bytes),
                "scans": scans.get(name, 0),
            }
        )
    counts = vault.catalogue.count_jobs(tx)
    shown = (JobStatus.TODO, JobStatus.DOING, JobStatus.FAILED)
    alarms = [f"{a.area}: {a.text}" for a in list_standing(tx)]
    asked, sent = count_warnings(tx)
    waiting = sum(row.count for row in list_outbox(tx) if row.state == "waiting")
    facts_of_day = {
        "date": f"{now:%Y-%m-%d}",
        "areas": areas,
        "jobs": ", ".join(f"{counts[status]} {status}" for status in shown),
        "alarms": "; ".join(alarms) or "none",
        "warnings": f"{sent} sent, {asked} on their way",
        "outbox": f"{waiting} messages wait",
    }
    post(vault, tx, Topic.DIGEST, "digest", facts_of_day, now, key=key)


def outbox_page(vault: Vault, tx: Any) -> dict[str, Any]:
    """What `status` tells of messages: what waits, and what was given up."""
    rows = [row for row in list_outbox(tx) if vault.site.notify is not None or row.state == "waiting"]
    return {
        state: [
            {**asdict(row), "oldest_at": row.oldest_at.isoformat() if row.oldest_at else None}
            for row in rows
            if row.state == state
        ]
        for state in ("waiting", "given_up")
    }


# --- from a delivery to its message ------------------------------------------------------------------


def message_of(site: Site, delivery: Delivery, now: datetime) -> Message:
    """The message of a delivery, with the text that its template gives now."""
    conf = site.notify
    called = conf.site if conf is not None else "tomovault"
    folder = Path(site.folder)
    make = _VALUES.get(delivery.template, _plain_values)
    values = {"site": called, "at": _moment(now), **make(site, delivery.facts, now)}
    subject, text = render(folder, delivery.template, values)
    return Message(
        id=delivery.id,
        topic=delivery.topic,
        site=called,
        subject=subject,
        text=text,
        at=now,
        recipients=(delivery.recipient,) if delivery.recipient else (),
        facts=delivery.facts,
    )


def message_to_test(site: Site, channel: str, by: str, recipients: tuple[str, ...], now: datetime) -> Message:
    """A message that tests a channel of the site."""
    conf = site.notify
    called = conf.site if conf is not None else "tomovault"
    values = {"site": called, "at": _moment(now), "channel": channel, "by": by}
    subject, text = render(Path(site.folder), "test", values)
    return Message(f"test.{now:%Y%m%dT%H%M%S%f}", "test", called, subject, text, now, recipients, {"by": by})


def _plain_values(_site: Site, facts: Mapping[str, Any], _now: datetime) -> dict[str, Any]:
    return dict(facts)


def _alarm_values(_site: Site, facts: Mapping[str, Any], _now: datetime) -> dict[str, Any]:
    began_at = datetime.fromisoformat(facts["began_at"])
    return {"area": facts["area"], "text": facts["text"], "began_at": _moment(began_at)}


def _warning_values(site: Site, facts: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    days = site.notify.extend.days if site.notify is not None else 30
    scans = facts["scans"]
    shared = {"extend_days": days, "not_before": _moment(now + timedelta(seconds=facts["warn_s"]))}
    parts = [
        {key: one.get(key, "") for key in ("id", "name", "path", "form", "copies", "back")}
        | {"bytes": show_bytes(one["bytes"]), **shared}
        for one in scans
    ]
    return {
        "area": facts["area"],
        "owner": facts["owner"] or "whoever looks after data without a known owner",
        "rule": facts["rule"],
        "scan_count": len(scans),
        "bytes": show_bytes(sum(one["bytes"] for one in scans)),
        "scans": _parts(site, "warning_scan", parts),
        "extend_command": f"tomovault extend {scans[0]['id']} --days {days}",
        **shared,
    }


def _failure_values(site: Site, facts: Mapping[str, Any], _now: datetime) -> dict[str, Any]:
    jobs = facts["jobs"]
    return {"job_count": counted(len(jobs), "job"), "jobs": _parts(site, "failures_job", jobs)}


def _deed_values(site: Site, facts: Mapping[str, Any], _now: datetime) -> dict[str, Any]:
    scans = [{**one, "bytes": show_bytes(one["bytes"])} for one in facts["scans"]]
    shared = {key: facts[key] for key in ("rule", "action", "description")}
    return {**shared, "scan_count": counted(len(scans), "scan"), "scans": _parts(site, "rule_did_scan", scans)}


def _unexplained_values(site: Site, facts: Mapping[str, Any], _now: datetime) -> dict[str, Any]:
    folders = facts["folders"]
    parts = [
        {**one, "bytes": show_bytes(one["bytes"])} | {day: one[day][:10] for day in ("newest", "since", "deadline")}
        for one in folders
    ]
    return {
        "area": facts["area"],
        "owner": facts["owner"],
        "folder_count": counted(len(folders), "folder"),
        "bytes": show_bytes(sum(one["bytes"] for one in folders)),
        "deadline": min(one["deadline"] for one in folders)[:10],
        "folders": _parts(site, "unexplained_folder", parts),
    }


def _digest_values(site: Site, facts: Mapping[str, Any], _now: datetime) -> dict[str, Any]:
    return {**facts, "areas": _parts(site, "digest_area", facts["areas"])}


def _parts(site: Site, template: str, entries: list[dict[str, Any]]) -> str:
    return "".join(render(Path(site.folder), template, entry)[1] for entry in entries)


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


_VALUES: Mapping[str, Callable[[Site, Mapping[str, Any], datetime], dict[str, Any]]] = {
    "alarm_begun": _alarm_values,
    "alarm_lasts": _alarm_values,
    "alarm_over": _alarm_values,
    "warning": _warning_values,
    "failures": _failure_values,
    "rule_did": _deed_values,
    "unexplained": _unexplained_values,
    "digest": _digest_values,
}
