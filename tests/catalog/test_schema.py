from __future__ import annotations

import os
import shutil
import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select

from tomovault.catalog import engine, schema, tables
from tomovault.catalog.catalogue import Catalogue
from tomovault.core.errors import IntegrityError, NoSpace, Refused, UserError
from tomovault.core.replica import TierClass

HEAD = schema.newest_revision()

NEXT = f'''
"""Next."""
import sqlalchemy as sa
from alembic import op
revision = "9999"
down_revision = "{HEAD}"
branch_labels = None
depends_on = None

def upgrade():
    with op.batch_alter_table("tier") as table:
        table.add_column(sa.Column("note", sa.Text()))
    {{then}}
'''


@pytest.fixture
def longer(tmp_path):
    """A folder of migrations with one more, whose last statement can be chosen."""

    def make(then: str) -> str:
        folder = tmp_path / "more"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(schema.migrations_folder(), folder)
        (folder / "versions" / "9999_next.py").write_text(NEXT.format(then=then))
        return str(folder)

    return make


def _columns(opened, table):
    with engine.reading(opened) as conn:
        return {c["name"] for c in inspect(conn).get_columns(table)}


def test_the_newest_revision_is_that_of_the_scripts(longer):
    for folder in (schema.migrations_folder(), longer("pass")):
        scripts = ScriptDirectory(folder)
        assert schema.newest_revision(folder) == scripts.get_current_head()
        assert [s.revision for s in scripts.walk_revisions()] == sorted(
            (s.revision for s in scripts.walk_revisions()), reverse=True
        )


def test_the_migrated_tables_are_those_of_the_program(catalogue, url):
    opened = engine.open_engine(url)
    with engine.reading(opened) as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True, "target_metadata": tables.metadata})
        assert compare_metadata(context, tables.metadata) == []
        found = {i["name"] for t in tables.metadata.tables for i in inspect(conn).get_indexes(t)}
        assert {i.name for t in tables.metadata.tables.values() for i in t.indexes} <= found
        checks = {c["name"] for t in tables.metadata.tables for c in inspect(conn).get_check_constraints(t)}
        assert {"ck_usage_not_negative", "ck_replica_verified_has_a_date"} <= checks
    opened.dispose()


def test_an_upgrade_fills_an_empty_database_and_then_does_nothing(backend, new_url, tmp_path, now):
    catalogue = Catalogue.open(new_url(backend, migrated=False), manifests=str(tmp_path))
    assert catalogue.upgrade(now) is None
    assert catalogue.upgrade(now) is None
    assert catalogue.revision_problem() == ""
    assert catalogue.check() == []
    assert [f for f in os.listdir(tmp_path) if "backup" in f] == []
    catalogue.close()


def test_a_migration_that_fails_half_way_is_taken_back(site, url, longer, now):
    opened = engine.open_engine(url)
    with pytest.raises(ZeroDivisionError):
        schema.upgrade(opened, now, longer("1 / 0"))
    assert "note" not in _columns(opened, "tier")
    assert site.revision_problem() == ""
    schema.upgrade(opened, now, longer("pass"))
    assert "note" in _columns(opened, "tier")
    assert "9999" in site.revision_problem()
    with site.reading() as tx:
        assert len(site.list_areas(tx)) == 1, "remaking a table others refer to kept its rows"
    with pytest.raises(UserError, match="does not know"):
        site.upgrade(now)
    opened.dispose()
    if "postgresql" in url:
        _take_back(url)


def _take_back(url):
    opened = engine.open_engine(url)
    with engine.writing(opened) as conn:
        conn.exec_driver_sql("ALTER TABLE tier DROP COLUMN note")
        conn.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{HEAD}'")
    opened.dispose()


def test_a_backup_is_made_before_a_change(new_url, longer, now, tmp_path, make):
    url = new_url("sqlite")
    catalogue = Catalogue.open(url, manifests=str(tmp_path))
    with catalogue.writing() as tx:
        make.site(catalogue, tx)
    opened = engine.open_engine(url)
    saved = schema.upgrade(opened, now, longer("pass"))
    assert saved == url.removeprefix("sqlite:///") + f".20260301T120000Z.{HEAD}.backup"
    with sqlite3.connect(saved) as conn:
        assert conn.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
        assert conn.execute("SELECT count(*) FROM area").fetchone() == (1,)
    conn.close()
    opened.dispose()
    catalogue.close()


def test_an_upgrade_that_leaves_dangling_references_is_taken_back(new_url, longer, now, tmp_path, make):
    url = new_url("sqlite")
    catalogue = Catalogue.open(url, manifests=str(tmp_path))
    with catalogue.writing() as tx:
        make.site(catalogue, tx)
    opened = engine.open_engine(url)
    with pytest.raises(IntegrityError, match="taken back"):
        schema.upgrade(opened, now, longer("op.execute('DELETE FROM tier')"))
    with catalogue.reading() as tx:
        assert len(catalogue.list_tiers(tx)) == 5
    assert catalogue.revision_problem() == ""
    opened.dispose()
    catalogue.close()


def test_a_backup_is_whole_while_others_write(new_url, tmp_path, make, now):
    catalogue = Catalogue.open(new_url("sqlite"), manifests=str(tmp_path))
    with catalogue.writing() as tx:
        make.site(catalogue, tx)
    with catalogue.writing() as tx:
        catalogue.record_tier(tx, "more", TierClass.REMOTE, counts=True)
        target = catalogue.backup(str(tmp_path / "out.db"))
    assert sorted(f for f in os.listdir(tmp_path) if f.startswith("out")) == ["out.db"]
    copy = Catalogue.open(f"sqlite:///{target}", manifests=str(tmp_path))
    with copy.reading() as tx:
        assert "more" not in {t.name for t in copy.list_tiers(tx)}
    assert copy.check() == []
    copy.close()
    with pytest.raises(Refused, match="already"):
        catalogue.backup(target)
    catalogue.close()


def test_a_backup_that_does_not_fit_leaves_nothing(new_url, tmp_path, monkeypatch):
    catalogue = Catalogue.open(new_url("sqlite"), manifests=str(tmp_path))

    def full(_source, target):
        open(target, "wb").close()
        problem = sqlite3.OperationalError("database or disk is full")
        problem.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise problem

    monkeypatch.setattr(schema, "_copy_database", full)
    with pytest.raises(NoSpace):
        catalogue.backup(str(tmp_path / "out.db"))
    assert [f for f in os.listdir(tmp_path) if f.startswith("out")] == []
    catalogue.close()


@pytest.mark.component("postgresql")
def test_postgresql_is_backed_up_by_its_own_tools(new_url, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    catalogue = Catalogue.open(new_url("postgresql"), manifests=str(tmp_path))
    with pytest.raises(UserError) as said:
        catalogue.backup(str(tmp_path / "x"))
    assert "pg_dump" in said.value.hint
    catalogue.close()


def test_check_names_references_to_nothing(new_url, tmp_path, make):
    url = new_url("sqlite")
    catalogue = Catalogue.open(url, manifests=str(tmp_path))
    with catalogue.writing() as tx:
        make.site(catalogue, tx)
    conn = sqlite3.connect(url.removeprefix("sqlite:///"))
    conn.execute("DELETE FROM tier WHERE name = 'inhouse'")
    conn.commit()
    conn.close()
    assert any("area" in p and "tier" in p for p in catalogue.check())
    catalogue.close()


def test_one_scan_at_a_time_holds_a_place(site, scan_id):
    from sqlalchemy import insert
    from sqlalchemy.exc import IntegrityError as Violation

    with site.reading() as tx:
        row = tx.first(select(tables.scan))
    with pytest.raises(Violation), site.writing() as tx:
        tx.run(insert(tables.scan).values(**(row._asdict() | {"id": "s0"})))


def test_references_are_checked_by_both_databases(site):
    from sqlalchemy import insert
    from sqlalchemy.exc import IntegrityError as Violation

    with pytest.raises(Violation), site.writing() as tx:
        tx.run(insert(tables.pin).values(id="k0", scan_id="s0", owner="", reason="", until=None))
