"""The command line. A file is a command and a folder a group: `cli/scan/list.py` is `tomovault scan list`. A folder
whose own module has a command is both: `tomovault quota`, `tomovault quota forecast`.

Command files import only click and this package at their top, so that `--help` starts light.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from tomovault.vault.sizes import counted as counted

F = TypeVar("F", bound=Callable[..., Any])

_HERE = Path(__file__).parent
_EXIT_DEFECT = 1
_KEPT_IN_MEMORY = 16 << 20


class Folder(click.Group):
    """A group whose commands are the files, and whose groups are the folders, of one folder."""

    def __init__(self, *parts: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._parts = parts

    def list_commands(self, _context: click.Context) -> list[str]:
        """Names of files and folders, a trailing underscore of a Python keyword left off."""
        entries = [
            p.name if p.is_dir() else p.stem
            for p in _HERE.joinpath(*self._parts).iterdir()
            if not p.name.startswith(("_", ".")) and (p.suffix == ".py" or p.is_dir())
        ]
        return sorted(name.rstrip("_").replace("_", "-") for name in entries)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """The command of that name, imported now; None if there is none."""
        if name not in self.list_commands(_context):
            return None
        stem = name.replace("-", "_")
        if _HERE.joinpath(*self._parts, stem).is_dir():
            module = importlib.import_module(".".join(["tomovault.cli", *self._parts, stem]))
            own: click.Command | None = getattr(module, "command", None)
            if own is not None:
                return CommandFolder(own, *self._parts, stem, name=name)
            return Folder(*self._parts, stem, name=name, help=module.__doc__)
        module = importlib.import_module(".".join(["tomovault.cli", *self._parts, stem]))
        command: click.Command = module.command
        command.name = name
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the nearest command named where there is none."""
        try:
            return super().resolve_command(context, args)
        except click.UsageError as problem:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(context), n=1)
            if not near:
                raise
            raise click.UsageError(f"{problem.message} Did you mean '{near[0]}'?", context) from problem


class CommandFolder(Folder):
    """A group that is a command, too, where none of its own is named."""

    def __init__(self, own: click.Command, *parts: str, **settings: Any) -> None:
        def run(**values: Any) -> Any:
            context = click.get_current_context()
            if context.invoked_subcommand is None:
                return own.callback(**values) if own.callback is not None else None
            if given := _given(context, own):
                raise click.UsageError(f"{given[0]} must stand behind {context.invoked_subcommand!r}", context)
            return None

        super().__init__(
            *parts, help=own.help, params=list(own.params), callback=run, invoke_without_command=True, **settings
        )


def _given(context: click.Context, command: click.Command) -> list[str]:
    """The options that were typed, of those that a command itself reads."""
    typed = click.core.ParameterSource.COMMANDLINE
    wanted = [p for p in command.params if p.expose_value and p.name is not None]
    return [p.opts[0] for p in wanted if context.get_parameter_source(str(p.name)) is typed]


def _root() -> None:
    """Keep tomography data: certified, packed, archived, reconstructed, pruned on proof, and given back.

    \b
    A first site:   tomovault init mysite --area inhouse=/data/id19/inhouse
    Watch and work: tomovault --site mysite run
    See:            tomovault status; tomovault scan list; tomovault explain SCAN
    Get data back:  tomovault restore SCAN --to DIR --wait

    \b
    Exit codes: 0 done, 2 the request is wrong, 3 refused by a rule, a pin or a law, 4 an integrity check failed,
    75 cannot be done now, 1 a defect of ours.

    \b
    Completion of commands in the shell, for ~/.bashrc (zsh and fish likewise, with zsh_source and fish_source):
        eval "$(_TOMOVAULT_COMPLETE=bash_source tomovault)"
    """


def _options() -> list[click.Parameter]:
    return [
        click.Option(["--site"], type=click.Path(), help="The site's folder.", expose_value=False, callback=_keep_site),
        click.Option(
            ["--debug"],
            is_flag=True,
            help="Show the traceback of an error.",
            expose_value=False,
            callback=lambda ctx, _p, value: _keep(ctx, "debug", value),
        ),
    ]


def _keep(context: click.Context, name: str, value: Any) -> None:
    if value:
        context.ensure_object(dict)
        context.find_root().ensure_object(dict)[name] = value


def _keep_site(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    _keep(context, "site", value)


def common_options(function: F) -> F:
    """`--site`, `--json` and `--debug`, which every command takes."""
    decorated = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")(
        function
    )
    decorated = click.option(
        "--site",
        type=click.Path(),
        expose_value=False,
        callback=_keep_site,
        help="The site's folder (else TOMOVAULT_SITE, else this folder and its parents).",
    )(decorated)
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=lambda ctx, _p, value: _keep(ctx, "debug", value),
        help="Show the traceback of an error.",
    )(decorated)


def site_folder() -> Path:
    """The folder of the site that this command speaks of. Raises UserError if none is found."""
    from tomovault.core.errors import UserError
    from tomovault.vault.site import find_site

    chosen = (click.get_current_context().find_root().obj or {}).get("site")
    try:
        here = Path.cwd()
    except FileNotFoundError as gone:
        raise UserError("the folder that you are in is gone", hint="go to another one with cd") from gone
    return Path(find_site(chosen, os.environ, here))


def open_vault() -> Any:
    """The site of this command, live; closed when the command ends.

    Where the file of a policy is wrong the rules are those that were last in force; UserError where it never was.
    """
    from tomovault.vault.logs import start_log
    from tomovault.vault.vault import Vault

    folder = site_folder()
    _require_rights(folder)
    vault = Vault.open(folder, as_recorded=True)
    start_log(vault.run_folder / "commands.log")
    click.get_current_context().call_on_close(vault.close)
    return vault


def _require_rights(folder: Path) -> None:
    """Every command needs to write: SQLite makes files beside the catalogue even to read it. Raises UserError."""
    from tomovault.core.errors import UserError

    for path in (folder, folder / "run", folder / "run" / "commands.log", folder / "catalogue.db"):
        if path.exists() and not os.access(path, os.W_OK):
            raise UserError(
                f"{path} cannot be written by {who()}",
                hint="a command needs write access to the site's folder, its catalogue and its log: ask its owner, "
                "or run it as the daemon's account",
            )


def who() -> str:
    """The name of the person who runs this command, as the kernel knows the account: what the environment says anybody
    can write. Only of root the name is that of the one who became it with sudo, since root may write what it likes.
    """
    import pwd

    uid = os.getuid()
    if uid == 0 and (person := os.environ.get("SUDO_USER")):
        return person
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def say_json(value: Any) -> None:
    """Print one JSON object that any reader takes: names that are not UTF-8 are escaped, what is no number is null."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=True, allow_nan=False) + "\n")


def say_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print CSV as RFC 4180 has it: a head, lines that end in CR LF, quotes where they are needed; None is empty."""
    import csv

    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    writer.writerows([_plain(row[name]) for name in columns] for row in rows)


def say_json_list(key: str, items: Iterable[Any]) -> None:
    """As `say_json` of an object that holds one list. It is written aside first, on disk if it is long: where an item
    cannot be had, nothing of it is printed.
    """
    import shutil
    import tempfile

    with tempfile.SpooledTemporaryFile(_KEPT_IN_MEMORY, "w+", encoding="ascii") as aside:
        opened = False
        for item in items:
            text = textwrap.indent(json.dumps(_plain(item), indent=2, ensure_ascii=True, allow_nan=False), "    ")
            aside.write((",\n" if opened else f'{{\n  "{key}": [\n') + text)
            opened = True
        aside.write("\n  ]\n}\n" if opened else f'{{\n  "{key}": []\n}}\n')
        aside.seek(0)
        shutil.copyfileobj(aside, sys.stdout)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def say(text: str = "") -> None:
    """Print a line; names that are not UTF-8 are shown with escapes."""
    click.echo(printable(text))


def label(name: str) -> str:
    """A name as one word on a line, its own newlines and tabs escaped."""
    return printable(name).replace("\n", "\\n").replace("\t", "\\t")


def printable(text: str) -> str:
    """Text with everything that could upset a terminal or is not UTF-8 escaped; newlines between lines stay."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in safe)


root = Folder(
    name="tomovault",
    help=_root.__doc__,
    params=[
        *_options(),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            help="Show the version.",
            callback=lambda ctx, _p, value: _show_version(ctx) if value else None,
        ),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(context: click.Context) -> None:
    from tomovault import __version__

    click.echo(f"tomovault {__version__}")
    context.exit(0)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code; every error is shown here, in one line and a hint."""
    from tomovault.core.errors import TomovaultError

    holder: dict[str, Any] = {}
    try:
        code = root.main(args=arguments, prog_name="tomovault", standalone_mode=False, obj=holder)
    except click.exceptions.Abort:
        click.echo("stopped; nothing is left half done, and what the daemon was asked for stays queued", err=True)
        sys.exit(130)
    except click.ClickException as problem:
        problem.show()
        _say_json_error(arguments, problem.format_message(), "", problem.exit_code)
        sys.exit(problem.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except TomovaultError as problem:
        _show_error(problem, holder)
        _say_json_error(arguments, problem.message, problem.hint, problem.exit_code, getattr(problem, "by", ""))
        sys.exit(problem.exit_code)
    except Exception as problem:  # noqa: BLE001 - the one place where a defect of ours is shown
        _show_defect(problem, holder)
        _say_json_error(arguments, f"{type(problem).__name__}: {problem}", "", _EXIT_DEFECT)
        sys.exit(_EXIT_DEFECT)
    sys.exit(code if isinstance(code, int) else 0)


def _say_json_error(arguments: list[str] | None, message: str, hint: str, code: int, by: str = "") -> None:
    """With --json standard output has one object whatever happens; the line for a person is on standard error."""
    if "--json" in (sys.argv[1:] if arguments is None else arguments):
        say_json({"error": message, "hint": hint, "by": by, "exit_code": code})


def _show_error(problem: Any, holder: dict[str, Any]) -> None:
    if holder.get("debug"):
        import traceback

        traceback.print_exception(problem)
    by = f" ({problem.by})" if getattr(problem, "by", "") else ""
    click.echo(printable(f"tomovault: {problem.message}{by}"), err=True)
    if problem.hint:
        click.echo(printable(f"  {problem.hint}"), err=True)


def _show_defect(problem: Exception, holder: dict[str, Any]) -> None:
    if holder.get("debug"):
        import traceback

        traceback.print_exception(problem)
    click.echo(printable(f"tomovault: a defect of ours: {type(problem).__name__}: {problem}"), err=True)
    if not holder.get("debug"):
        click.echo("  run it again with --debug and send us what it prints", err=True)
