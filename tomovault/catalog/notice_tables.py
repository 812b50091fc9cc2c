"""The tables of what people are told."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, String, Table

from tomovault.catalog.columns import Json, SafeText, Time
from tomovault.catalog.table_parts import ID, KEY, index_of_few, metadata

#: Something that people are told, once: `template` says how, with the values in `facts`. Of one `key` there is one text
#: at a time that more can be added to.
notice = Table(
    "notice",
    metadata,
    Column("id", ID, primary_key=True),
    Column("topic", String(16), nullable=False),
    Column("template", String(32), nullable=False),
    Column("key", KEY, nullable=False, index=True),
    Column("facts", Json, nullable=False),
    Column("made_at", Time, nullable=False, index=True),
)

#: A notice on its way by one channel: waiting, sent, or given up. `recipient` is '' where the channel has no addresses.
delivery = Table(
    "delivery",
    metadata,
    Column("id", String(48), primary_key=True),
    Column("notice_id", ID, ForeignKey("notice.id"), nullable=False, index=True),
    Column("channel", SafeText, nullable=False),
    Column("recipient", SafeText, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Time, nullable=False),
    Column("ended_at", Time),
    Column("error", SafeText, nullable=False),
    index_of_few("ix_delivery_waiting", "not_before", where="state = 'waiting'"),
    index_of_few("ix_delivery_given_up", "not_before", where="state = 'given_up'"),
)

#: Alarms that people were told of and that are not over.
standing_alarm = Table(
    "standing_alarm",
    metadata,
    Column("name", KEY, primary_key=True),
    Column("area", SafeText, nullable=False),
    Column("text", SafeText, nullable=False),
    Column("began_at", Time, nullable=False),
    Column("told_at", Time, nullable=False),
)

#: The last warning that a replica will go. `sent_at_s` is what `seen_time` was when it had been sent.
owner_warning = Table(
    "owner_warning",
    metadata,
    Column("replica_id", ID, ForeignKey("replica.id"), primary_key=True),
    Column("scan_id", ID, ForeignKey("scan.id"), nullable=False, index=True),
    Column("notice_id", ID, ForeignKey("notice.id"), nullable=False, index=True),
    Column("rule", SafeText, nullable=False),
    Column("warn_s", BigInteger, nullable=False),
    Column("asked_at", Time, nullable=False),
    Column("sent_at", Time),
    Column("sent_at_s", BigInteger),
)
