"""An archive behind the site's own commands: each package is a bundle, put and got by programs that the site names.

The shape is that of dCache's scripts for tape: a put prints where the object is, and that is kept. Worked examples for
IBM Storage Protect, HPSS, Bareos and dCache are in docs/archives.md.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from tomovault.core.errors import IntegrityError, NotYet, TomovaultError, Transient, UserError
from tomovault.core.ports import Health, Tier
from tomovault.tiers.blocks import replace_file, shown, translating
from tomovault.tiers.object_archive import TICKETS, ObjectArchive
from tomovault.tiers.objects import Given
from tomovault.tiers.options import number_option, text_option
from tomovault.tiers.program import lines_of, program_option

#: What each verb may ask for, and what it has to.
_VERBS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "put": (frozenset({"file", "name"}), frozenset({"file"})),
    "get": (frozenset({"uri", "file"}), frozenset({"uri", "file"})),
    "stage": (frozenset({"list"}), frozenset({"list"})),
    "query": (frozenset({"uri"}), frozenset({"uri"})),
    "purge": (frozenset({"uri"}), frozenset({"uri"})),
    "remove": (frozenset({"uri"}), frozenset({"uri"})),
    "list": (frozenset(), frozenset()),
}
_DAY_S = 86400.0
_LONGEST_URI = 1000


class CommandTier(ObjectArchive):
    """The tier of kind `command`. Options: path, a folder for bundles on their way and for what is known of those that
    were put; domain; timeout in seconds; and the verbs, each a list of words.

    Where the site names `purge`, what the archive keeps on disk of an object is given up before it is read to verify
    it; without, a copy there is what is read. Without `query`, `get` is believed to wait for what has to be brought;
    without `list`, what is known here is surveyed.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset({"path", "domain", "timeout", *_VERBS})
    #: A program that fails says nothing of the other objects.
    OF_ONE_OBJECT: ClassVar[tuple[type[TomovaultError], ...]] = (TomovaultError,)

    def __init__(self, name: str, options: Mapping[str, Any], *, now: Callable[[], datetime]) -> None:
        super().__init__(name, options, text_option(name, options, "domain", name), now)
        timeout_s = number_option(name, options, "timeout", _DAY_S)
        found = {verb: program_option(name, options, verb, *words, timeout_s) for verb, words in _VERBS.items()}
        self._programs = {verb: program for verb, program in found.items() if program is not None}
        if missing := [verb for verb in ("put", "get") if verb not in self._programs]:
            raise UserError(
                f"tier {name}: a tier of kind 'command' needs {missing[0]!r}",
                hint="docs/archives.md has worked examples",
            )

    def _send(self, spooled: str, name: str, key: str, lock: int) -> str:
        """Where the archive says that it put the object. Raises Transient for an answer that is no place."""
        said = list(lines_of(self._run("put", {"file": spooled, "name": name}, keeps=[lock])))
        uri = said[-1] if said else name
        if len(uri) > _LONGEST_URI or not uri.isprintable():
            raise Transient(
                f"tier {self.name}: put answered {shown(uri[:80])!r}, which is no place",
                hint="its last line has to say where the object is; where it prints nothing that is {name}",
            )
        other = self._objects.at(uri)
        if other is not None and not other.removed and other.name != name:
            raise Transient(
                f"tier {self.name}: put answered {shown(uri)}, where {shown(other.name)} is",
                hint="it has to tell another place for each object",
            )
        return uri

    def _run(self, verb: str, about: Mapping[str, str], *, keeps: Sequence[int] = ()) -> str:
        """As `Program.run`, of a program that the site names, for as long as the claim on the job stands."""
        self._require_claim()
        return self._programs[verb].run(about, keeps=keeps)

    def _get(self, uri: str, file: str, lock: int) -> None:
        self._run("get", {"uri": uri, "file": file}, keeps=[lock])

    def _drop(self, given: Given, *, as_it_is: bool) -> None:
        if "remove" in self._programs:
            self._run("remove", {"uri": given.uri})

    def _list(self) -> Iterable[str]:
        if "list" in self._programs:
            return lines_of(self._run("list", {}))
        return (given.uri for given in self._objects.all())

    def _before_check(self, uri: str) -> None:
        if "purge" in self._programs:
            self._run("purge", {"uri": uri})

    def stage(self, locations: Sequence[str]) -> str:
        """The archive is asked to make them all readable at once, where the site names a command for that."""
        self._require()
        self._spool.folder(TICKETS)
        ticket = self._tickets.write(locations, locations, self._now())
        there = [location for location in locations if not self._is_removed(location)]
        if "stage" in self._programs and there:
            wanted = os.path.join(self._spool.folder(TICKETS), f"{ticket}.uris")
            with translating(f"tier {self.name}"):
                text = "".join(f"{uri}\n" for uri in there)
                replace_file(wanted, text.encode("utf-8", "surrogateescape"), alone=False)
            self._run("stage", {"list": wanted})
        return ticket

    def _state_of(self, location: str) -> str:
        try:
            self._require_there(location)
            if "query" in self._programs:
                self._run("query", {"uri": location})
        except IntegrityError as problem:
            return f"failed: {problem.message}"
        except NotYet:
            return "pending"
        return "ready"

    def release(self, ticket: str) -> None:
        """The lists of what was asked for are gone."""
        super().release(ticket)
        with translating("the stage list"), contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._path, TICKETS, f"{ticket}.uris"))

    def health(self) -> Health:
        """Whether the folder can be written and the programs can be started; the archive itself is not asked."""
        try:
            self._spool.require()
        except Transient as problem:
            return Health(False, problem.message, problem.hint)
        for verb, program in self._programs.items():
            if not os.access(program.words[0], os.X_OK):
                return Health(False, f"{program.words[0]} cannot be started", f"correct `{verb}` of tier {self.name}")
        return Health(True, f"its commands can be started: {', '.join(self._programs)}")


PLUGIN: type[Tier] = CommandTier
