"""What is imported is what an installation brings."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

#: Comes with its parent's requirement, by that project's own promise.
BROUGHT_BY = {"pydantic-core": "pydantic", "botocore": "boto3", "urllib3": "boto3"}


def _plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(requirements):
    return {_plain(re.match(r"[\w.-]+", text).group()) for text in requirements}


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _undeclared(paths, declared):
    brings = packages_distributions()
    wrong = set()
    for path in paths:
        beside = {other.stem for other in path.parent.glob("*.py")}
        for name in set(_imported(path)) - set(sys.stdlib_module_names) - beside - {"tomovault"}:
            distributions = {_plain(d) for d in brings.get(name, [name])}
            distributions |= {BROUGHT_BY[d] for d in distributions if d in BROUGHT_BY}
            if not distributions & declared:
                wrong.add((path.name, name))
    return wrong


def test_the_program_imports_only_what_it_depends_on(modules, project):
    extras = project["optional-dependencies"]
    declared = _names(project["dependencies"])
    declared |= {name for extra in ("postgresql", "globus", "s3") for name in _names(extras[extra])}
    assert _undeclared(modules, declared) == set()


def test_tests_and_benchmarks_import_only_what_their_extras_bring(repository, project, components):
    extras = project["optional-dependencies"]
    declared = _names(project["dependencies"]) | {name for extra in extras.values() for name in _names(extra)}
    declared |= _names(w for c in components.values() if c.install.startswith("pip ") for w in c.install.split()[1:])
    paths = [p for folder in ("tests", "benchmarks", "docs") for p in (repository / folder).rglob("*.py")]
    assert _undeclared(paths, declared) == set()


def test_an_undeclared_import_would_be_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("import os\nimport click.testing\nfrom numpy.linalg import norm\n")
    assert _undeclared([path], {"click"}) == {("module.py", "numpy")}
