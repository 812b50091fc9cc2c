"""What is inside the wheel is enough: migrations and policies are found far from any checkout."""

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec

import pytest

SCRIPT = """
import json, sys
from datetime import UTC, datetime
from pathlib import Path

import tomovault
from tomovault.catalog.catalogue import Catalogue
from tomovault.catalog.schema import migrations_folder
from tomovault.policy.document import parse_policy
from tomovault.vault.site import shipped_policies

catalogue = Catalogue.open(f"sqlite:///{Path.cwd()}/catalogue.db", manifests=str(Path.cwd()))
catalogue.upgrade(datetime(2030, 1, 1, tzinfo=UTC))
problem = catalogue.revision_problem()
catalogue.close()
standard = shipped_policies() / "standard.yaml"
policy = parse_policy(standard.read_text(encoding="utf-8"), str(standard))
print(json.dumps([tomovault.__file__, migrations_folder(), str(standard), problem, len(policy.rules)]))
"""


@pytest.fixture(scope="session")
def wheel(repository, tmp_path_factory):
    """A wheel built from the checkout."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not here; pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--wheel-dir", folder, repository], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("tomovault-*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """The wheel's content in a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def environment(installed):
    """An environment in which that folder comes before everything else."""
    return os.environ | {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}


def test_the_wheel_upgrades_a_catalogue_and_reads_the_standard_policy(python, installed, environment, tmp_path):
    import json

    found, migrations, standard, problem, rules = json.loads(python(SCRIPT, cwd=tmp_path, env=environment))
    inside = installed / "tomovault"
    assert found == str(inside / "__init__.py")
    assert migrations == str(inside / "_shipped" / "migrations")
    assert standard == str(inside / "_shipped" / "policies" / "standard.yaml")
    assert problem == ""
    assert rules > 0


def test_the_wheel_makes_a_site(python, environment, tmp_path):
    (tmp_path / "area").mkdir()
    text = f"from tomovault.cli import main\nmain(['init', 'site', '--area', 'a={tmp_path}/area', '--json'])"
    python(text, cwd=tmp_path, env=environment)
    assert (tmp_path / "site" / "tomovault.yaml").is_file()


def test_the_wheel_holds_the_program_and_nothing_else(wheel, repository):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    shipped = {n.removeprefix("tomovault/_shipped/") for n in names if n.startswith("tomovault/_shipped/")}
    tops = {n.split("/")[0] for n in names}
    assert tops == {"tomovault", next(t for t in tops if t.endswith(".dist-info"))}
    assert "tomovault/py.typed" in names
    assert {f"migrations/versions/{p.name}" for p in (repository / "migrations" / "versions").glob("*.py")} <= shipped
    policies = {p.relative_to(repository).as_posix() for p in (repository / "policies").rglob("*.yaml")}
    assert {"policies/standard.yaml", "policies/models/esrf-id19.yaml"} <= policies <= shipped
    templates = (repository / "tomovault" / "notify" / "templates").glob("*.txt")
    assert {f"tomovault/notify/templates/{p.name}" for p in templates} <= set(names)
    assert any(n.endswith("/licenses/LICENSE") for n in names)


def test_the_wheel_carries_no_library(wheel):
    with zipfile.ZipFile(wheel) as archive:
        assert [n for n in archive.namelist() if n.endswith((".so", ".dylib", ".dll", ".a"))] == []
