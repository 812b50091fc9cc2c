"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SQLITE_GUARD = """
CREATE TRIGGER audit_no_{verb} BEFORE {VERB} ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
"""

_POSTGRESQL_GUARD = (
    """
    CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$
    """,
    """
    CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()
    """,
    """
    CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()
    """,
)


def upgrade() -> None:
    """Make every table and guard the audit log against change."""
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("op", sa.Text(), nullable=False),
        sa.Column("scan_id", sa.String(32)),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_scan_id", "audit", ["scan_id"])
    op.create_table(
        "counter",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counter"),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_lease"),
    )
    op.create_table(
        "tier",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tier_class", sa.String(16), nullable=False),
        sa.Column("counts", sa.Boolean(), nullable=False),
        sa.Column("area", sa.Text()),
        sa.PrimaryKeyConstraint("name", name="pk_tier"),
    )
    op.create_table(
        "usage",
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("area", sa.Text()),
        sa.Column("tier", sa.Text()),
        sa.Column("proposal", sa.Text()),
        sa.Column("owner", sa.Text()),
        sa.Column("beamline", sa.Text()),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("scans", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_hash", name="pk_usage"),
        sa.CheckConstraint("bytes >= 0 AND files >= 0 AND scans >= 0", name=op.f("ck_usage_not_negative")),
    )
    op.create_table(
        "area",
        sa.Column("name", sa.Text(), sa.ForeignKey("tier.name", name="fk_area_name"), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("fsid", sa.Text(), nullable=False),
        sa.Column("mount_source", sa.Text(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("tier_class", sa.String(16), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_area"),
    )
    op.create_table(
        "candidate",
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("area", sa.Text(), sa.ForeignKey("area.name", name="fk_candidate_area"), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("folder", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("metadata_folder", sa.LargeBinary()),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("inspected_snapshot", sa.Text()),
        sa.Column("inspected_settled", sa.Boolean(), nullable=False),
        sa.Column("inspected_at", sa.DateTime(timezone=True)),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key_hash", name="pk_candidate"),
    )
    op.create_index("ix_candidate_area", "candidate", ["area"])
    op.create_table(
        "scan_set",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("area", sa.Text(), sa.ForeignKey("area.name", name="fk_scan_set_area"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_scan_set"),
        sa.UniqueConstraint("area", "name", name="uq_scan_set_area_name"),
    )
    op.create_table(
        "scan",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("area", sa.Text(), sa.ForeignKey("area.name", name="fk_scan_area"), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("place_hash", sa.String(64), nullable=False),
        sa.Column("root_hash", sa.String(64), nullable=False),
        sa.Column("master", sa.LargeBinary()),
        sa.Column("master_hash", sa.String(64)),
        sa.Column("candidate", sa.String(64), sa.ForeignKey("candidate.key_hash", name="fk_scan_candidate")),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("ever_complete", sa.Boolean(), nullable=False),
        sa.Column("newest_mtime_ns", sa.BigInteger()),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("acquired_at", sa.DateTime(timezone=True)),
        sa.Column("beamline", sa.Text()),
        sa.Column("proposal", sa.Text()),
        sa.Column("sample", sa.Text()),
        sa.Column("owner", sa.Text()),
        sa.Column("sources", sa.Text(), nullable=False),
        sa.Column("set_id", sa.String(32), sa.ForeignKey("scan_set.id", name="fk_scan_set_id")),
        sa.Column(
            "superseded_by",
            sa.String(32),
            sa.ForeignKey("scan.id", name="fk_scan_superseded_by", deferrable=True, initially="DEFERRED"),
        ),
        sa.Column("declared_verdict", sa.String(16)),
        sa.Column("declared_by", sa.Text()),
        sa.Column("declared_reason", sa.Text()),
        sa.Column("declared_at", sa.DateTime(timezone=True)),
        sa.Column("accepted_by", sa.Text()),
        sa.Column("accepted_digest", sa.String(64)),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("facts_seq", sa.BigInteger(), nullable=False),
        sa.Column("next_due_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_scan"),
        sa.CheckConstraint("bytes >= 0 AND files >= 0", name=op.f("ck_scan_not_negative")),
    )
    op.create_index("ix_scan_area", "scan", ["area"])
    op.create_index("ix_scan_candidate", "scan", ["candidate"])
    op.create_index("ix_scan_master_hash", "scan", ["master_hash"])
    op.create_index("ix_scan_name", "scan", ["name"])
    op.create_index("ix_scan_next_due_at", "scan", ["next_due_at"])
    op.create_index("ix_scan_place_hash", "scan", ["place_hash"])
    op.create_index("ix_scan_root_hash", "scan", ["root_hash"])
    op.create_index("ix_scan_set_id", "scan", ["set_id"])
    op.create_index(
        "uq_scan_current_place",
        "scan",
        ["place_hash"],
        unique=True,
        sqlite_where=sa.text("superseded_by IS NULL"),
        postgresql_where=sa.text("superseded_by IS NULL"),
    )
    op.create_table(
        "condition",
        sa.Column("scan_id", sa.String(32), sa.ForeignKey("scan.id", name="fk_condition_scan_id"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value_type", sa.String(8), nullable=False),
        sa.Column("value_number", sa.Double()),
        sa.Column("value_text", sa.Text()),
        sa.Column("unit", sa.Text()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scan_id", "name", name="pk_condition"),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("scan_id", sa.String(32), sa.ForeignKey("scan.id", name="fk_job_scan_id")),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("dedup_key", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("host", sa.Text()),
        sa.Column("order", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("holder", sa.Text()),
        sa.Column("token", sa.BigInteger()),
        sa.Column("facts_seq", sa.BigInteger()),
        sa.Column("result", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
    )
    op.create_index("ix_job_dedup_key", "job", ["dedup_key"])
    op.create_index("ix_job_scan_id", "job", ["scan_id"])
    op.create_index("ix_job_status_queued_at", "job", ["status", "queued_at"])
    op.create_index(
        "uq_job_unfinished",
        "job",
        ["dedup_key"],
        unique=True,
        sqlite_where=sa.text("status IN ('todo', 'doing')"),
        postgresql_where=sa.text("status IN ('todo', 'doing')"),
    )
    op.create_table(
        "pin",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("scan_id", sa.String(32), sa.ForeignKey("scan.id", name="fk_pin_scan_id"), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tier", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_pin"),
    )
    op.create_index("ix_pin_scan_id", "pin", ["scan_id"])
    op.create_table(
        "product",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("scan_id", sa.String(32), sa.ForeignKey("scan.id", name="fk_product_scan_id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("lossless", sa.Boolean(), nullable=False),
        sa.Column("made_by_us", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_product"),
        sa.UniqueConstraint("scan_id", "kind", "digest", name="uq_product_scan_id_kind_digest"),
    )
    op.create_index("ix_product_digest", "product", ["digest"])
    op.create_table(
        "attempt",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("job_id", sa.String(32), sa.ForeignKey("job.id", name="fk_attempt_job_id"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("outcome", sa.String(16)),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("peak_bytes", sa.BigInteger(), nullable=False),
        sa.Column("cpu_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attempt"),
    )
    op.create_index("ix_attempt_job_id", "attempt", ["job_id"])
    op.create_table(
        "processing",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("scan_id", sa.String(32), sa.ForeignKey("scan.id", name="fk_processing_scan_id"), nullable=False),
        sa.Column("product_id", sa.String(32), sa.ForeignKey("product.id", name="fk_processing_product_id"), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("engine_version", sa.Text(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_processing"),
    )
    op.create_index("ix_processing_product_id", "processing", ["product_id"])
    op.create_index("ix_processing_scan_id", "processing", ["scan_id"])
    op.create_table(
        "replica",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("scan_id", sa.String(32), sa.ForeignKey("scan.id", name="fk_replica_scan_id"), nullable=False),
        sa.Column("product_id", sa.String(32), sa.ForeignKey("product.id", name="fk_replica_product_id"), nullable=False),
        sa.Column("form", sa.String(16), nullable=False),
        sa.Column("tier", sa.Text(), sa.ForeignKey("tier.name", name="fk_replica_tier"), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("location", sa.LargeBinary(), nullable=False),
        sa.Column("location_hash", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True)),
        sa.Column("verified_at", sa.DateTime(timezone=True)),
        sa.Column("parts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replica"),
        sa.CheckConstraint("bytes >= 0 AND files >= 0", name=op.f("ck_replica_not_negative")),
        sa.CheckConstraint("state <> 'verified' OR verified_at IS NOT NULL", name=op.f("ck_replica_verified_has_a_date")),
        sa.UniqueConstraint("product_id", "tier", "form", "location_hash", name="uq_replica_product_id_tier_form_location_hash"),
    )
    op.create_index("ix_replica_location_hash", "replica", ["location_hash"])
    op.create_index("ix_replica_product_id", "replica", ["product_id"])
    op.create_index("ix_replica_scan_id", "replica", ["scan_id"])
    op.create_index("ix_replica_tier", "replica", ["tier"])
    op.create_table(
        "permit",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("scan_id", sa.String(32), sa.ForeignKey("scan.id", name="fk_permit_scan_id"), nullable=False),
        sa.Column("replica_id", sa.String(32), sa.ForeignKey("replica.id", name="fk_permit_replica_id"), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hold_until", sa.DateTime(timezone=True)),
        sa.Column("relied_on", sa.Text(), nullable=False),
        sa.Column("state_before", sa.String(16), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("moved", sa.Text(), nullable=False),
        sa.Column("left", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_permit"),
    )
    op.create_index("ix_permit_replica_id", "permit", ["replica_id"])
    op.create_index("ix_permit_scan_id", "permit", ["scan_id"])
    op.create_table(
        "tombstone",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("permit_id", sa.String(32), sa.ForeignKey("permit.id", name="fk_tombstone_permit_id"), nullable=False),
        sa.Column("scan_id", sa.String(32), sa.ForeignKey("scan.id", name="fk_tombstone_scan_id"), nullable=False),
        sa.Column("replica_id", sa.String(32), sa.ForeignKey("replica.id", name="fk_tombstone_replica_id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("form", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("location", sa.LargeBinary(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tombstone"),
        sa.UniqueConstraint("permit_id", name="uq_tombstone_permit_id"),
    )
    op.create_index("ix_tombstone_scan_id", "tombstone", ["scan_id"])
    _guard_audit()


def _guard_audit() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("update", "delete"):
            op.execute(_SQLITE_GUARD.format(verb=verb, VERB=verb.upper()))
    else:
        for statement in _POSTGRESQL_GUARD:
            op.execute(statement)
