"""The catalogue's public face: open it, then hand a transaction to every question and every record.

    with catalogue.writing() as tx:
        job = catalogue.claim_job(tx, holder, now=now)

Writing transactions exclude each other on both databases, so what is read in one stays true until it commits.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Engine

from tomovault.catalog import (
    areas,
    audit,
    backups,
    candidates,
    census,
    destructions,
    drills,
    dumping,
    edits,
    engine,
    holding,
    inspections,
    jobs,
    joins,
    judgements,
    leases,
    links,
    manifests,
    permits,
    policies,
    records,
    removals,
    scans,
    schema,
    taped,
    transfers,
    unclaimed,
    usage_history,
)
from tomovault.catalog import usage as roll_up
from tomovault.catalog.transaction import Tx, translated


class Catalogue:
    """One open catalogue. Safe to share between threads; a transaction is of one thread."""

    def __init__(self, opened: Engine, manifests_folder: str) -> None:
        self._engine = opened
        self._manifests = manifests_folder
        self._life = engine.sqlite_path(opened.url) if opened.dialect.name == "sqlite" else None

    @classmethod
    def open(cls, url: str, *, manifests: str) -> Catalogue:
        """Open a catalogue; nothing is made or changed. `manifests` is the folder of manifest texts.

        Raises UserError for a URL that cannot be a catalogue, or SQLite on a network file system.
        """
        return cls(engine.open_engine(url), manifests)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @property
    def sqlite_path(self) -> str | None:
        """The database file, or None on PostgreSQL."""
        return self._life

    def upgrade(self, now: datetime | None = None, *, asked: bool = True) -> str | None:
        """Bring the tables to the newest revision, all or nothing; returns the backup made before it, if any. One that
        others may be using only where a person `asked` for it, else Refused.
        """
        with translated():
            return schema.upgrade(self._engine, now or datetime.now(UTC), asked=asked)

    @property
    def revision(self) -> str:
        """The revision of the tables that this program works with."""
        return schema.newest_revision()

    def revision_problem(self) -> str:
        """'' if the tables are of this program's revision, else what is wrong."""
        engine.require_file(self._engine)
        return schema.revision_problem(self._engine)

    def check(self, exported: tuple[int, str] | None = None) -> list[str]:
        """Every problem of the catalogue: revision, file, references, usage and the audit chain; empty if none.

        `exported` is an audit head from `read_exported`, which the chain must hold.
        """
        behind = self.revision_problem()
        if behind:
            return [behind]
        with self.reading() as tx:
            problems = schema.database_problems(tx.conn)
            problems += roll_up.recount(tx)
            chain = audit.verify_audit(tx, exported)
        return problems + ([] if chain.ok else [f"audit: {chain.problem}"])

    def recount_in_turns(self) -> Generator[None, None, list[str]]:
        """As `recount`, in many short transactions: the caller does something else after each. What differs is mended
        at the end, and the texts are returned.
        """
        return roll_up.recount_in_turns(self.reading, self.writing)

    def thin_history_in_turns(self, now: datetime) -> Generator[None, None, None]:
        """Old days of the history of usage keep only their last row; the caller does something else after each turn."""
        return usage_history.thin_in_turns(self.writing, now)

    def backup(self, path: str, *, pg_dump: str = dumping.PG_DUMP) -> str:
        """Copy the catalogue, as of one moment, to a new file; returns its path. One on PostgreSQL is written by the
        program `pg_dump` in its own format. Raises UserError where that program cannot be had.
        """
        engine.require_file(self._engine)
        if self._engine.dialect.name != "sqlite":
            return dumping.dump(self._engine.url, path, pg_dump)
        return schema.backup(self._engine, path)

    @contextmanager
    def writing(self) -> Iterator[Tx]:
        """The one writing transaction, committed at the end and rolled back on any exception.

        Raises Transient when another writer held it too long or the database is not there, NoSpace when its
        disk is full.
        """
        engine.require_file(self._engine)
        with engine.writing(self._engine) as conn:
            yield Tx(conn, self._manifests, self._life)

    @contextmanager
    def reading(self) -> Iterator[Tx]:
        """A read-only transaction over one snapshot."""
        engine.require_file(self._engine)
        with engine.reading(self._engine) as conn:
            yield Tx(conn, self._manifests, self._life)

    def hold_life(self, holder: str) -> leases.LifeLock | None:
        """On SQLite, prove for as long as the lock is open that `holder` lives; None if it is held already.

        On PostgreSQL leases go by the clock alone, and None is returned.
        """
        return leases.hold_life_lock(leases.life_path(self._life, holder)) if self._life else None

    def bury_the_dead(self) -> None:
        """On SQLite, remove what holders left that are not alive. Only for one who has the leases that they had."""
        if self._life:
            leases.remove_dead_locks(self._life)

    def manifest_path(self, digest: str) -> str:
        """Where the manifest text of a digest is, or would be."""
        return manifests.manifest_path(self._manifests, digest)

    def files_of(self, digest: str) -> frozenset[str] | None:
        """The files that the manifest of a digest lists, None where there is none, or a damaged one."""
        return census.files_of(self._manifests, digest)

    def read_manifest(self, digest: str) -> str | None:
        """The manifest text of a digest, or None."""
        return manifests.read_manifest(self._manifests, digest)

    record_area = staticmethod(areas.record_area)
    list_areas = staticmethod(areas.list_areas)
    record_tier = staticmethod(areas.record_tier)
    list_tiers = staticmethod(areas.list_tiers)

    note_candidate = staticmethod(candidates.note_candidate)
    list_candidates = staticmethod(candidates.list_candidates)
    list_problems = staticmethod(candidates.list_problems)
    list_unbelieved = staticmethod(candidates.list_unbelieved)
    list_unclaimed = staticmethod(unclaimed.list_unclaimed)
    note_links = staticmethod(links.note_links)
    drop_other_links = staticmethod(links.drop_other_links)
    list_readings = staticmethod(taped.list_readings)
    list_copies_at = staticmethod(taped.list_copies_at)
    record_inspected = staticmethod(inspections.record_inspected)

    known = staticmethod(scans.known)
    known_many = staticmethod(scans.known_many)
    find_scans = staticmethod(scans.find_scans)
    list_scans = staticmethod(scans.list_scans)
    walk_scans = staticmethod(scans.walk_scans)
    walk_holding = staticmethod(holding.walk_holding)
    walk_wanted = staticmethod(holding.walk_wanted)
    wake_leaving = staticmethod(holding.wake_leaving)
    count_holding = staticmethod(holding.count_holding)
    list_due = staticmethod(scans.list_due)
    set_next_due = staticmethod(scans.set_next_due)
    area_of = staticmethod(scans.area_of)
    touch = staticmethod(scans.touch)
    replica_parts = staticmethod(scans.replica_parts)

    queue_job = staticmethod(jobs.queue_job)
    claim_job = staticmethod(jobs.claim_job)
    next_claimable = staticmethod(jobs.next_claimable)
    token_is_current = staticmethod(jobs.token_is_current)
    finish_job = staticmethod(jobs.finish_job)
    release_job = staticmethod(jobs.release_job)
    requeue_orphans = staticmethod(jobs.requeue_orphans)
    cancel_job = staticmethod(jobs.cancel_job)
    retry_job = staticmethod(jobs.retry_job)
    list_jobs = staticmethod(jobs.list_jobs)
    read_job = staticmethod(jobs.read_job)
    read_job_result = staticmethod(jobs.read_job_result)
    count_jobs = staticmethod(jobs.count_jobs)

    follow_moved = staticmethod(joins.follow_moved)
    apply_records = staticmethod(records.apply_records)
    record_missing = staticmethod(records.record_missing)

    record_policy = staticmethod(policies.record_policy)
    recorded_policies = staticmethod(policies.recorded_policies)
    keep_areas = staticmethod(policies.keep_areas)
    areas_ruled = staticmethod(policies.areas_ruled)
    rule_area = staticmethod(policies.rule_area)
    list_changes = staticmethod(policies.list_changes)
    look_again = staticmethod(policies.look_again)
    choose_page = staticmethod(edits.choose_page)

    grant_permit = staticmethod(permits.grant_permit)
    regrant = staticmethod(permits.regrant)
    withdraw_permit = staticmethod(removals.withdraw_permit)
    grant_destruction = staticmethod(destructions.grant_destruction)
    regrant_destruction = staticmethod(destructions.regrant_destruction)
    record_put_back = staticmethod(removals.record_put_back)

    add_pin = staticmethod(judgements.add_pin)
    remove_pins = staticmethod(judgements.remove_pins)
    declare = staticmethod(judgements.declare)
    accept = staticmethod(judgements.accept)

    add_transfer = staticmethod(transfers.add_transfer)
    read_transfer = staticmethod(transfers.read_transfer)
    first_namesake_sent = staticmethod(transfers.first_namesake_sent)
    exports_under_way = staticmethod(transfers.exports_under_way)
    why_exports_fail = staticmethod(transfers.why_exports_fail)

    usage = staticmethod(roll_up.usage)
    recount = staticmethod(roll_up.recount)
    rebuild_usage = staticmethod(roll_up.rebuild_usage)
    record_usage = staticmethod(usage_history.record_usage)
    list_history = staticmethod(usage_history.list_history)
    growth = staticmethod(usage_history.growth)

    record_backup = staticmethod(backups.record_backup)
    begin_backup_copy = staticmethod(backups.begin_copy)
    end_backup_copy = staticmethod(backups.end_copy)
    reread_backup_copy = staticmethod(backups.reread_copy)
    fail_backup_copy = staticmethod(backups.fail_copy)
    record_found_backup = staticmethod(backups.record_found)
    list_backups = staticmethod(backups.list_backups)

    list_drawable = staticmethod(drills.list_drawable)
    begin_drill = staticmethod(drills.begin_drill)
    end_drill = staticmethod(drills.end_drill)
    list_drills = staticmethod(drills.list_drills)
    count_drills = staticmethod(drills.count_drills)
    last_drill_at = staticmethod(drills.last_drill_at)
    do_people_wait = staticmethod(drills.do_people_wait)

    take_lease = staticmethod(leases.take_lease)
    renew_lease = staticmethod(leases.renew_lease)
    drop_lease = staticmethod(leases.drop_lease)
    lease_holder = staticmethod(leases.lease_holder)
    list_leases = staticmethod(leases.list_leases)
    renew_leases = staticmethod(leases.renew_leases)
    drop_leases = staticmethod(leases.drop_leases)
    holder_is_dead = staticmethod(leases.holder_is_dead)

    add_audit = staticmethod(audit.add_audit)
    list_audit = staticmethod(audit.list_audit)
    find_audit_around = staticmethod(audit.find_audit_around)
    verify_audit = staticmethod(audit.verify_audit)
    export_head = staticmethod(audit.export_head)
    read_exported = staticmethod(audit.read_exported)
