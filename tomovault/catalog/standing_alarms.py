"""Alarms that people were told of and that are not over: what outlives the daemon that raised them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select, update

from tomovault.catalog import tables
from tomovault.catalog.transaction import Tx, place_hash


@dataclass(frozen=True)
class StandingAlarm:
    """`name` is a digest of what is wrong and where, so that a text which changes is the same alarm."""

    name: str
    area: str
    text: str
    began_at: datetime
    told_at: datetime


def alarm_name(*parts: str) -> str:
    """The name of an alarm."""
    return place_hash(*parts)


def list_standing(tx: Tx) -> list[StandingAlarm]:
    """Every alarm that stands, oldest first."""
    table = tables.standing_alarm
    rows = tx.rows(select(table).order_by(table.c.began_at, table.c.name))
    return [StandingAlarm(r.name, r.area, r.text, r.began_at, r.told_at) for r in rows]


def begin_alarm(tx: Tx, name: str, area: str, text: str, now: datetime) -> StandingAlarm:
    """It stands from now on, and was told."""
    table = tables.standing_alarm
    tx.run(delete(table).where(table.c.name == name))
    tx.run(insert(table).values(name=name, area=area, text=text, began_at=now, told_at=now))
    return StandingAlarm(name, area, text, now, now)


def tell_alarm_again(tx: Tx, name: str, text: str, now: datetime) -> None:
    """It was told once more, in the words that it has now."""
    table = tables.standing_alarm
    tx.run(update(table).where(table.c.name == name).values(text=text, told_at=now))


def end_alarm(tx: Tx, name: str) -> None:
    """It stands no more."""
    tx.run(delete(tables.standing_alarm).where(tables.standing_alarm.c.name == name))
