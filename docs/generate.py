"""Writes the generated parts of the documentation: the LIFE table of architecture.md, and reference.md.

`python docs/generate.py` writes them; with `--check` nothing is written and the exit status is 1 where a file
is not what it would be.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tomovault.cli import root
from tomovault.core import errors
from tomovault.core.life import LIFE

DOCS = Path(__file__).resolve().parent
BEGIN, END = "<!-- generated: life -->", "<!-- end -->"

#: Options of every command, told once.
COMMON = ("--site", "--json", "--debug", "--help")

REFERENCE_HEAD = """\
# Commands

Written by `make docs` from the commands themselves. Every command takes

- `--site DIR`: the site's folder, else `TOMOVAULT_SITE`, else the current folder and its parents
- `--json`: print one JSON object and nothing else on standard output; times are ISO 8601 UTC, sizes bytes
- `--debug`: show the traceback of an error
- `--help`: what is written here
"""


def life_table() -> str:
    """LIFE as a table in Markdown."""
    head = ("stage", "of", "needs", "done when", "action", "may remove")
    rows = [
        (step.stage.value, step.of, step.needs_text, step.done_text, f"`{step.action}`", step.removes_text)
        for step in LIFE
    ]
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def with_life_table(text: str) -> str:
    """The text with what stands between the two marks replaced. Raises ValueError where a mark is missing."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"architecture.md has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{life_table()}\n{END}{after}"


def commands(
    group: click.Group = root, parts: tuple[str, ...] = (root.name or "",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every group and command below a group with its whole name, in the order of their names."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None, name  # noqa: S101 - the group itself listed it
        yield (*parts, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*parts, name))


def reference() -> str:
    """The text of reference.md."""
    sections = [_section(parts, command) for parts, command in commands()]
    return "\n".join([REFERENCE_HEAD, _exit_codes(), *sections])


def _exit_codes() -> str:
    classes: list[type[errors.TomovaultError]] = [errors.TomovaultError, *errors.TomovaultError.__subclasses__()]
    meaning = {kind.exit_code: _first_sentence(kind.__doc__ or "") for kind in classes}
    meaning[errors.TomovaultError.exit_code] = "A defect of ours; run it again with `--debug` and send what it prints."
    rows = [f"| {code} | {text} |" for code, text in sorted({0: "It is done.", **meaning}.items())]
    return "\n".join(["## Exit codes", "", "| code | meaning |", "| --- | --- |", *rows, ""])


def _first_sentence(text: str) -> str:
    paragraph = " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
    return paragraph.split("; `", 1)[0].rstrip(".") + "."


def _section(parts: tuple[str, ...], command: click.Command) -> str:
    title = f"## {' '.join(parts)}\n"
    if isinstance(command, click.Group) and not command.invoke_without_command:
        return f"{title}\n{_help_text(command)}\n"
    usage = " ".join(["tomovault", *parts[1:], *_usage(command)])
    pieces = [title, "```\n" + usage + "\n```\n", _help_text(command) + "\n"]
    if options := [_option(p) for p in command.params if isinstance(p, click.Option) and _is_told(p)]:
        pieces.append("\n".join(options) + "\n")
    return "\n".join(pieces)


def _is_told(option: click.Option) -> bool:
    """Whether it is one that a person gives, of this command alone."""
    return not option.hidden and not any(name in COMMON for name in option.opts)


def _usage(command: click.Command) -> list[str]:
    words = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            word = (parameter.metavar or (parameter.name or "").upper()) + (" ..." if parameter.nargs == -1 else "")
            words.append(word if parameter.required else f"[{word}]")
        elif isinstance(parameter, click.Option) and parameter.required:
            words.append(" ".join([parameter.opts[0], *_value(parameter)]))
    return [*words, "[OPTIONS]"]


def _value(option: click.Option) -> list[str]:
    if option.is_flag or option.count:
        return []
    if option.metavar:
        return [option.metavar]
    choices: Any = getattr(option.type, "choices", None)
    return ["|".join(map(str, choices))] if choices else [option.type.name.upper()]


def _option(option: click.Option) -> str:
    names = " / ".join([*option.opts, *option.secondary_opts])
    told = " ".join([names, *_value(option)])
    return f"- `{told}`: {' '.join((option.help or '').split())}"


def _help_text(command: click.Command) -> str:
    r"""The help as Markdown; a paragraph that click leaves as it is (after \b) becomes a block of code."""
    paragraphs = inspect.cleandoc((command.help or "").partition("\f")[0]).split("\n\n")
    return "\n\n".join(_paragraph(text) for text in paragraphs)


def _paragraph(text: str) -> str:
    if text.startswith("\b"):
        return "```\n" + text.removeprefix("\b").strip("\n") + "\n```"
    return " ".join(text.split())


def generated() -> dict[Path, str]:
    """Every file with a generated part, as it should be."""
    page = DOCS / "architecture.md"
    return {page: with_life_table(page.read_text(encoding="utf-8")), DOCS / "reference.md": reference()}


def main(arguments: list[str]) -> int:
    """Write the files, or with --check say which are not as they should be; returns the exit status."""
    status = 0
    for path, text in generated().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in arguments:
            sys.stderr.write(f"docs/{path.name} is not what `make docs` writes\n")
            status = 1
        else:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote docs/{path.name}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
