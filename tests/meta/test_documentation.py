"""The documentation says what the program does."""

import inspect
import re

import pytest

from tomovault.core.life import LIFE, Stage


def test_generated_documents_are_up_to_date(generate):
    stale = [p.name for p, text in generate.generated().items() if not p.is_file() or p.read_text("utf-8") != text]
    assert stale == [], "make docs"


def test_the_life_table_has_a_row_for_every_stage_and_nothing_else(generate, repository):
    text = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition(generate.BEGIN)[2].partition(generate.END)[0].strip().splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == [stage.value for stage in Stage]
    assert [line.split("|")[6].strip() for line in table[2:]] == [step.removes_text for step in LIFE]


def test_a_page_without_the_marks_is_refused(generate):
    with pytest.raises(ValueError, match="generated: life"):
        generate.with_life_table("# How it is built\n")


def test_architecture_stays_on_one_page(repository):
    assert len((repository / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_command_has_help_that_begins_with_a_sentence(generate):
    found = dict(generate.commands())
    assert {("tomovault", "run"), ("tomovault", "scan", "show")} <= set(found)
    without = [
        " ".join(parts)
        for parts, command in found.items()
        if not re.match(
            r"[A-Z`][^\n]*\.(\s|$)", " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())
        )
    ]
    assert without == []


def test_every_option_has_help(generate):
    silent = [
        f"{' '.join(parts)} {p.opts[0]}"
        for parts, command in generate.commands()
        for p in command.params
        if p.param_type_name == "option" and not (p.help or "").strip()
    ]
    assert silent == []


def test_every_command_is_in_the_reference(generate, repository):
    titles = re.findall(r"^## (tomovault .*)$", (repository / "docs" / "reference.md").read_text("utf-8"), re.MULTILINE)
    assert titles == [" ".join(parts) for parts, _ in generate.commands()]


def test_every_decision_is_short_and_linked(repository):
    page = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    records = sorted((repository / "docs" / "decisions").glob("*.md"))
    assert [r.name[:4] for r in records] == [f"{n:04d}" for n in range(1, len(records) + 1)]
    for record in records:
        text = record.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 30, record.name
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences")), record.name
        assert f"(decisions/{record.name})" in page, record.name


def test_links_between_documents_lead_somewhere(repository):
    pages = [*repository.glob("*.md"), *(repository / "docs").rglob("*.md")]
    dead = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]
    assert dead == []
