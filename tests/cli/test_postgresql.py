"""Commands that speak of the database itself, on PostgreSQL."""

import contextlib
import io
import json

import pytest
import sqlalchemy as sa

from tomovault.cli import main
from tomovault.vault.setting_up import refuse_used, set_up_site

pytestmark = pytest.mark.component("postgresql")


@pytest.fixture
def url(postgresql):
    return postgresql.new_database()


@pytest.fixture
def say(tmp_path, url):
    """Called with a command's words for (exit status, what it printed)."""
    (tmp_path / "inhouse").mkdir()
    set_up_site(tmp_path / "site", {"inhouse": str(tmp_path / "inhouse")}, simulated=True, settings={"catalogue": url})

    def call(*words):
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(["--site", str(tmp_path / "site"), *words])
            except SystemExit as end:
                code = int(end.code or 0)
        return code, out.getvalue() + err.getvalue()

    return call


def run_sql(url, *statements):
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        for statement in statements:
            conn.exec_driver_sql(statement)
    engine.dispose()


def test_a_demonstration_takes_no_database_that_is_in_use(say, url, tmp_path):
    demo = tmp_path / "demo"
    demo.mkdir()
    (demo / ".tomovault-demo").touch()
    (demo / "kept").touch()
    code, told = say("dev", "demo", "--folder", str(demo), "--catalogue", url)
    assert code == 2
    assert "the catalogue of a site already, with the areas inhouse" in told
    assert (demo / "kept").exists()


def test_a_database_without_tables_is_free(postgresql):
    refuse_used(postgresql.new_database())


def test_an_upgrade_makes_no_copy(say):
    code, told = say("catalogue", "upgrade", "--json")
    assert (code, json.loads(told)) == (0, {"backup": None})


def test_only_a_person_who_asks_for_it_upgrades_what_others_may_be_using(say, url):
    run_sql(url, "UPDATE alembic_version SET version_num = '0008'")
    for command in (("status",), ("scan", "list"), ("run", "--until-idle")):
        code, told = say(*command)
        assert code == 3, told
        assert "are of revision 0008" in told
        assert "tomovault catalogue upgrade" in told
        assert "pg_dump -Fc" in told


def test_a_backup_is_left_to_the_servers_own_tools(say, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, told = say("catalogue", "backup", str(tmp_path / "copy"))
    assert code == 2
    assert "backed up by its own tools" in told
    assert "pg_dump" in told
    assert not (tmp_path / "copy").exists()


def test_a_check_tells_what_the_server_found(say, url):
    assert say("catalogue", "check") == (0, "The catalogue is sound.\n")
    run_sql(
        url,
        "ALTER TABLE replica ADD CONSTRAINT positive CHECK (bytes > 0) NOT VALID",
        "UPDATE pg_index SET indisvalid = false WHERE indisprimary AND indrelid = 'candidate'::regclass",
    )
    code, told = say("catalogue", "check")
    assert code == 4
    assert "constraint positive of replica was never checked" in told
    assert "is not valid: REINDEX INDEX" in told


def test_usage_and_chain_are_checked_there_too(say, url):
    code, told = say("audit", "verify", "--json")
    assert (code, json.loads(told)["ok"]) == (0, True)
    run_sql(url, "INSERT INTO lease (name, holder, expires) VALUES ('leader', 'somewhere-1-x', 9e9)")
    code, told = say("status", "--json")
    assert json.loads(told)["daemon"]["leader"] == "somewhere-1-x"
