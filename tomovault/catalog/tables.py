"""Every table of the catalogue: rows per scan, product and replica, never per frame."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

from tomovault.catalog.backup_tables import backup_copy as backup_copy
from tomovault.catalog.backup_tables import catalogue_backup as catalogue_backup
from tomovault.catalog.columns import Json, PathBytes, SafeText, Time
from tomovault.catalog.drill_tables import drill as drill
from tomovault.catalog.notice_tables import delivery as delivery
from tomovault.catalog.notice_tables import notice as notice
from tomovault.catalog.notice_tables import owner_warning as owner_warning
from tomovault.catalog.notice_tables import standing_alarm as standing_alarm
from tomovault.catalog.table_parts import ID, KEY, index_of_few
from tomovault.catalog.table_parts import metadata as metadata

#: Every name that a replica's `tier` may be. `counts` is False where its copies count for no removal.
tier = Table(
    "tier",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("tier_class", String(16), nullable=False),
    Column("counts", Boolean, nullable=False),
    Column("area", SafeText),
)

area = Table(
    "area",
    metadata,
    Column("name", SafeText, ForeignKey("tier.name"), primary_key=True),
    Column("path", PathBytes, nullable=False),
    Column("uuid", SafeText, nullable=False),
    Column("fsid", SafeText, nullable=False),
    Column("mount_source", SafeText, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("tier_class", String(16), nullable=False),
    Column("recorded_at", Time, nullable=False),
)

candidate = Table(
    "candidate",
    metadata,
    Column("key_hash", KEY, primary_key=True),
    Column("area", SafeText, ForeignKey("area.name"), nullable=False, index=True),
    Column("format", SafeText, nullable=False),
    Column("folder", PathBytes, nullable=False),
    Column("key", PathBytes, nullable=False),
    Column("metadata_folder", PathBytes),
    Column("snapshot", SafeText, nullable=False),
    Column("settled", Boolean, nullable=False),
    Column("inspected_snapshot", SafeText),
    Column("inspected_settled", Boolean, nullable=False),
    Column("inspected_at", Time),
    Column("first_seen_at", Time, nullable=False),
    Column("changed_at", Time, nullable=False),
    Column("problem", SafeText, nullable=False),
)

#: Symbolic links in areas; `leads_to` is an absolute path, by the words in the link.
link = Table(
    "link",
    metadata,
    Column("key_hash", KEY, primary_key=True),
    Column("area", SafeText, ForeignKey("area.name"), nullable=False),
    Column("folder_hash", KEY, nullable=False),
    Column("path", PathBytes, nullable=False),
    Column("leads_to", PathBytes, nullable=False),
    Column("seen_at", Time, nullable=False),
    Index("ix_link_area", "area", "folder_hash"),
)

scan_set = Table(
    "scan_set",
    metadata,
    Column("id", ID, primary_key=True),
    Column("area", SafeText, ForeignKey("area.name"), nullable=False),
    Column("name", SafeText, nullable=False),
    Column("size", Integer),
    UniqueConstraint("area", "name"),
)


scan = Table(
    "scan",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", SafeText, nullable=False, index=True),
    Column("area", SafeText, ForeignKey("area.name"), nullable=False, index=True),
    Column("format", SafeText, nullable=False),
    Column("root", PathBytes, nullable=False),
    Column("entry", SafeText, nullable=False),
    Column("identity", SafeText, nullable=False),
    Column("place_hash", KEY, nullable=False, index=True),
    Column("root_hash", KEY, nullable=False, index=True),
    Column("master", PathBytes),
    Column("master_hash", KEY, index=True),
    Column("candidate", KEY, ForeignKey("candidate.key_hash"), index=True),
    Column("verdict", String(16), nullable=False),
    Column("certificate", Json, nullable=False),
    Column("settled", Boolean, nullable=False),
    Column("ever_complete", Boolean, nullable=False),
    Column("newest_mtime_ns", BigInteger),
    Column("first_seen_at", Time, nullable=False),
    Column("changed_at", Time, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("acquired_at", Time),
    Column("beamline", SafeText),
    Column("proposal", SafeText),
    Column("sample", SafeText),
    Column("owner", SafeText),
    Column("sources", Json, nullable=False),
    Column("set_id", ID, ForeignKey("scan_set.id"), index=True),
    Column("superseded_by", ID, ForeignKey("scan.id", deferrable=True, initially="DEFERRED")),
    Column("declared_verdict", String(16)),
    Column("declared_by", SafeText),
    Column("declared_reason", SafeText),
    Column("declared_at", Time),
    Column("accepted_by", SafeText),
    Column("accepted_digest", KEY),
    Column("metadata", Json, nullable=False),
    Column("facts_seq", BigInteger, nullable=False),
    Column("next_due_at", Time, index=True),
    CheckConstraint("bytes >= 0 AND files >= 0", name="not_negative"),
    index_of_few("uq_scan_current_place", "place_hash", unique=True, where="superseded_by IS NULL"),
)

condition = Table(
    "condition",
    metadata,
    Column("scan_id", ID, ForeignKey("scan.id"), primary_key=True),
    Column("name", SafeText, primary_key=True),
    Column("value_type", String(8), nullable=False),
    Column("value_number", Double),
    Column("value_text", SafeText),
    Column("unit", SafeText),
    Column("source", SafeText, nullable=False),
)

product = Table(
    "product",
    metadata,
    Column("id", ID, primary_key=True),
    Column("scan_id", ID, ForeignKey("scan.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("digest", KEY, nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("lossless", Boolean, nullable=False),
    Column("made_by_us", Boolean, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("details", Json, nullable=False),
    UniqueConstraint("scan_id", "kind", "digest"),
    Index("ix_product_newest", "scan_id", "kind", "created_at", "id", "lossless"),
)

replica = Table(
    "replica",
    metadata,
    Column("id", ID, primary_key=True),
    Column("scan_id", ID, ForeignKey("scan.id"), nullable=False, index=True),
    Column("product_id", ID, ForeignKey("product.id"), nullable=False),
    Column("form", String(16), nullable=False),
    Column("tier", SafeText, ForeignKey("tier.name"), nullable=False),
    Column("domain", SafeText, nullable=False),
    Column("location", PathBytes, nullable=False),
    Column("location_hash", KEY, nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("sha256", KEY, nullable=False),
    Column("written_at", Time),
    Column("verified_at", Time),
    Column("parts", Json, nullable=False),
    UniqueConstraint("product_id", "tier", "form", "location_hash"),
    CheckConstraint("bytes >= 0 AND files >= 0", name="not_negative"),
    CheckConstraint("state <> 'verified' OR verified_at IS NOT NULL", name="verified_has_a_date"),
    Index("ix_replica_tier_form_state", "tier", "form", "state"),
    index_of_few("ix_replica_suspect", "scan_id", where="state = 'suspect'"),
    # What sentences ask about good copies, so that no row is read for them. SQLite wants the state in it, too.
    index_of_few(
        "ix_replica_verified",
        *("scan_id", "product_id", "state", "form", "tier", "domain", "verified_at", "bytes"),
        where="state = 'verified'",
    ),
)

processing = Table(
    "processing",
    metadata,
    Column("id", ID, primary_key=True),
    Column("scan_id", ID, ForeignKey("scan.id"), nullable=False, index=True),
    Column("product_id", ID, ForeignKey("product.id"), nullable=False, index=True),
    Column("engine", SafeText, nullable=False),
    Column("engine_version", SafeText, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("started_at", Time, nullable=False),
    Column("finished_at", Time, nullable=False),
    Column("outputs", Json, nullable=False),
)

job = Table(
    "job",
    metadata,
    Column("id", ID, primary_key=True),
    Column("action", SafeText, nullable=False),
    Column("scan_id", ID, ForeignKey("scan.id"), index=True),
    Column("status", String(16), nullable=False),
    Column("dedup_key", SafeText, nullable=False, index=True),
    Column("rule", SafeText, nullable=False),
    Column("place", SafeText, nullable=False),
    Column("host", SafeText),
    Column("order", Json, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", SafeText, nullable=False),
    Column("hint", SafeText, nullable=False),
    Column("queued_at", Time, nullable=False),
    Column("not_before", Time),
    Column("finished_at", Time),
    Column("holder", SafeText),
    Column("token", BigInteger),
    Column("facts_seq", BigInteger),
    Column("result", Json),
    Index("ix_job_status_queued_at", "status", "queued_at"),
    index_of_few("ix_job_unfinished", "status", "action", "queued_at", where="finished_at IS NULL"),
    index_of_few("uq_job_unfinished", "dedup_key", unique=True, where="status IN ('todo', 'doing')"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("id", ID, primary_key=True),
    Column("job_id", ID, ForeignKey("job.id"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("holder", SafeText, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("started_at", Time, nullable=False),
    Column("finished_at", Time),
    Column("outcome", String(16)),
    Column("error", SafeText, nullable=False),
    Column("peak_bytes", BigInteger, nullable=False),
    Column("cpu_s", Double, nullable=False),
)

estimate = Table(
    "estimate",
    metadata,
    Column("job_id", ID, ForeignKey("job.id"), primary_key=True),
    Column("told_at", Time, nullable=False, index=True),
    Column("model_s", Double, nullable=False),
    Column("ends_at", Time, nullable=False),
)

pin = Table(
    "pin",
    metadata,
    Column("id", ID, primary_key=True),
    Column("scan_id", ID, ForeignKey("scan.id"), nullable=False, index=True),
    Column("owner", SafeText, nullable=False),
    Column("reason", SafeText, nullable=False),
    Column("until", Time, nullable=False),
    Column("tier", SafeText),
)

permit = Table(
    "permit",
    metadata,
    Column("id", ID, primary_key=True),
    Column("scan_id", ID, ForeignKey("scan.id"), nullable=False, index=True),
    Column("replica_id", ID, ForeignKey("replica.id"), nullable=False, index=True),
    Column("rule", SafeText, nullable=False),
    Column("phase", String(16), nullable=False),
    Column("granted_at", Time, nullable=False),
    Column("hold_until", Time),
    Column("relied_on", Json, nullable=False),
    Column("state_before", String(16), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("moved", Json, nullable=False),
    Column("left", Json, nullable=False),
    Column("ordered_by", SafeText, nullable=False, server_default=""),
    Column("reason", SafeText, nullable=False, server_default=""),
    index_of_few("ix_permit_open", "replica_id", where="phase IN ('granted', 'quarantined', 'leaving')"),
)

tombstone = Table(
    "tombstone",
    metadata,
    Column("id", ID, primary_key=True),
    Column("permit_id", ID, ForeignKey("permit.id"), nullable=False, unique=True),
    Column("scan_id", ID, ForeignKey("scan.id"), nullable=False, index=True),
    Column("replica_id", ID, ForeignKey("replica.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("form", String(16), nullable=False),
    Column("digest", KEY, nullable=False),
    Column("tier", SafeText, nullable=False),
    Column("location", PathBytes, nullable=False),
    Column("rule", SafeText, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("removed_at", Time, nullable=False),
)

transfer = Table(
    "transfer",
    metadata,
    Column("id", ID, primary_key=True),
    Column("scan_id", ID, ForeignKey("scan.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("digest", KEY, nullable=False),
    Column("collection", SafeText, nullable=False),
    Column("path", SafeText, nullable=False),
    Column("state", String(16), nullable=False),
    Column("asked_by", SafeText, nullable=False),
    Column("asked_at", Time, nullable=False),
    Column("submission_id", SafeText),
    Column("task_id", SafeText),
    Column("deadline", Time),
    Column("submitted_at", Time),
    Column("finished_at", Time),
    Column("error", SafeText, nullable=False),
    Column("receipt", Json),
    UniqueConstraint("submission_id"),
)

#: Bytes, files and scans by key. A row without a tier counts each scan once in its area, or once anywhere. `logical` is
#: what the stored bytes stand for, and `written` every byte that ever came: it only grows, and no recount can tell it.
usage = Table(
    "usage",
    metadata,
    Column("key_hash", KEY, primary_key=True),
    Column("area", SafeText),
    Column("tier", SafeText, index=True),
    Column("proposal", SafeText, index=True),
    Column("owner", SafeText, index=True),
    Column("beamline", SafeText, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("scans", BigInteger, nullable=False),
    Column("logical", BigInteger, nullable=False),
    Column("written", BigInteger, nullable=False),
    CheckConstraint("bytes >= 0 AND files >= 0 AND scans >= 0 AND logical >= 0 AND written >= 0", name="not_negative"),
)

#: What has a history of its usage: one value of one grouping. `over_since` is when it was first seen above its soft
#: limit, as long as it is.
usage_series = Table(
    "usage_series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("grouping", String(16), nullable=False),
    Column("value", SafeText),
    Column("key_hash", KEY, nullable=False, unique=True),
    Column("over_since", Time),
)

#: The usage as it was at a moment, in seconds since 1970; there is a row only where something was new.
usage_history = Table(
    "usage_history",
    metadata,
    Column("series", Integer, ForeignKey("usage_series.id"), primary_key=True, autoincrement=False),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("scans", BigInteger, nullable=False),
    Column("logical", BigInteger, nullable=False),
    Column("written", BigInteger, nullable=False),
)

#: The texts of policies by which scans of an area may have been planned last. Of the one `in_force` it is kept up to
#: which scan, by id, all were asked whether the others planned them otherwise; NULL when that is over, and the others
#: are gone then. The text of no name stands for what is not known.
planned_by = Table(
    "planned_by",
    metadata,
    Column("area", SafeText, primary_key=True),
    Column("policy", SafeText, primary_key=True),
    Column("sha256", KEY, primary_key=True),
    Column("in_force", Boolean, nullable=False),
    Column("looked_to", ID),
)

#: `expires` is in seconds since 1970 by the database's clock.
lease = Table(
    "lease",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("holder", SafeText, nullable=False),
    Column("expires", Double, nullable=False),
)

#: Numbers that only grow, such as the fencing token.
counter = Table(
    "counter",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Time, nullable=False),
    Column("actor", SafeText, nullable=False),
    Column("op", SafeText, nullable=False),
    Column("scan_id", ID, index=True),
    Column("body", Text, nullable=False),
    Column("prev_hash", KEY, nullable=False),
    Column("hash", KEY, nullable=False),
)

#: Seconds that leaders have seen pass, by the time that a machine has run since its `boot`, whatever its clock said.
seen_time = Table(
    "seen_time",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("passed_s", Double, nullable=False),
    Column("boot", SafeText, nullable=False),
    Column("running_s", Double, nullable=False),
)


def _among(column: ColumnElement[str], *values: str) -> ColumnElement[bool]:
    return column.in_([literal_column(f"'{value}'") for value in values])


#: What the indexes of few rows are of. A query finds its rows there only if it says so in these very words: with values
#: in parameters a database cannot know that the index holds all of them.
IS_UNFINISHED = _among(job.c.status, "todo", "doing")
IS_OPEN = _among(permit.c.phase, "granted", "quarantined", "leaving")
IS_SUSPECT = replica.c.state == literal_column("'suspect'")
IS_WAITING = delivery.c.state == literal_column("'waiting'")
IS_GIVEN_UP = delivery.c.state == literal_column("'given_up'")
