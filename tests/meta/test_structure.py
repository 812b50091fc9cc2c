"""What keeps the code in shape."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

LONGEST = 500
FAMILIES = ("actions", "engines", "formats", "notify", "tiers")
NAMELESS = {"base", "common", "helpers", "manager", "misc", "utils"}


def last_statement_problem(source: str) -> str:
    """'' for a module without PLUGIN, or one that ends with `PLUGIN: type[...] = ...`; else what is wrong."""
    body = ast.parse(source).body
    named = [
        node
        for node in body
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
        if isinstance(target, ast.Name) and target.id == "PLUGIN"
    ]
    if not named:
        return ""
    if len(named) > 1 or named[0] is not body[-1]:
        return "PLUGIN is not its last line, once"
    if not isinstance(named[0], ast.AnnAssign) or not ast.unparse(named[0].annotation).startswith("type["):
        return "PLUGIN has no annotation type[...], so a missing method is seen by nobody"
    return ""


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("x = 1", False),
        ("PLUGIN: type[Tier] = A", False),
        ("PLUGIN = A", True),
        ("PLUGIN: Tier = A", True),
        ("PLUGIN: type[Tier] = A\nx = 1", True),
        ("PLUGIN: type[Tier] = A\nPLUGIN: type[Tier] = B", True),
    ],
)
def test_a_plug_in_line_is_judged(source, wrong):
    assert bool(last_statement_problem(source)) is wrong


@pytest.mark.parametrize("family", FAMILIES)
def test_every_plug_in_ends_with_its_line(repository, family):
    folder = repository / "tomovault" / family
    files = {p: p.read_text(encoding="utf-8") for p in folder.rglob("*.py")}
    assert any("\nPLUGIN: type[" in text for text in files.values())
    assert {p.name: problem for p, text in files.items() if (problem := last_statement_problem(text))} == {}


def test_every_action_is_a_plug_in(repository):
    parts = [p for p in (repository / "tomovault" / "actions").glob("*.py") if not p.name.startswith("_")]
    assert [p.name for p in parts if "\nPLUGIN: type[Action] = " not in p.read_text(encoding="utf-8")] == []


def test_no_module_is_too_long(modules):
    lengths = {str(p): len(p.read_text(encoding="utf-8").splitlines()) for p in modules}
    assert {name: n for name, n in lengths.items() if n > LONGEST} == {}


def test_no_module_has_a_name_that_says_nothing(modules):
    parts = {part.lstrip("_") for p in modules for part in (*p.parts[p.parts.index("tomovault") : -1], p.stem)}
    assert parts & NAMELESS == set()


def test_every_module_says_what_it_is(modules):
    silent = [str(p) for p in modules if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert silent == []


def test_the_import_contracts_are_kept(repository):
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [tool, "--no-cache"], cwd=repository, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout
