"""An archive behind the site's own commands: each package is a bundle, put and got by programs that the site names.

The shape is that of dCache's scripts for tape: a put prints where the object is, and that is kept. Worked examples for
IBM Storage Protect, HPSS, Bareos and dCache are in docs/archives.md.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from tomovault.core.errors import (
    IntegrityError,
    NotYet,
    Refused,
    TomovaultError,
    Transient,
    UserError,
)
from tomovault.core.ports import Checkpoint, Harm, Health, Parcel, Placed, Progress, Surveyed, Throttle, Tier
from tomovault.core.replica import StoredFile, TierClass
from tomovault.tiers.address import package_of
from tomovault.tiers.blocks import (
    deliver,
    replace_file,
    shown,
    translating,
)
from tomovault.tiers.bundle import (
    BundlePackage,
    check_bundle,
    checked_names,
    member_blocks,
    package_key,
    parcel_key,
    read_manifest,
    read_text,
)
from tomovault.tiers.claim import require_claim
from tomovault.tiers.free import FREE
from tomovault.tiers.objects import Given, Objects
from tomovault.tiers.options import folder_option, number_option, text_option
from tomovault.tiers.program import NotThere, lines_of, program_option
from tomovault.tiers.recovery import parcel_of
from tomovault.tiers.spool import OpenedBundle, Spool
from tomovault.tiers.surveying import of_another_tier
from tomovault.tiers.tickets import Tickets

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
_TICKETS = "tickets"
_DAY_S = 86400.0
_NAME_LIMIT = 80
_LONGEST_URI = 1000
_MOST_FORMS = 100
#: Packages whose keys begin alike wait for each other; so many beginnings keep that rare.
_LOCK_DIGITS = 3


class CommandTier:
    """The tier of kind `command`. Options: path, a folder for bundles on their way and for what is known of those that
    were put; domain; timeout in seconds; and the verbs, each a list of words.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset({"path", "domain", "timeout", *_VERBS})
    TIER_CLASS: ClassVar[TierClass] = TierClass.ARCHIVE

    def __init__(self, name: str, options: Mapping[str, Any], *, now: Callable[[], datetime]) -> None:
        self.name = name
        self._path = folder_option(name, options)
        self._domain = text_option(name, options, "domain", name)
        timeout_s = number_option(name, options, "timeout", _DAY_S)
        found = {verb: program_option(name, options, verb, *words, timeout_s) for verb, words in _VERBS.items()}
        self._programs = {verb: program for verb, program in found.items() if program is not None}
        if missing := [verb for verb in ("put", "get") if verb not in self._programs]:
            raise UserError(
                f"tier {name}: a tier of kind 'command' needs {missing[0]!r}",
                hint="docs/archives.md has worked examples",
            )
        self._objects = Objects(self._path, name)
        self._spool = Spool(self._path, name)
        self._tickets = Tickets(os.path.join(self._path, _TICKETS), name)
        self._now = now
        self._may_continue: Callable[[], bool] = lambda: True

    def hold_to(self, may_continue: Callable[[], bool]) -> None:
        """As `ClaimedTier.hold_to`."""
        self._may_continue = may_continue

    def domains(self) -> Sequence[str]:
        """One: all that the commands reach is lost together, as far as anybody here knows."""
        return (self._domain,)

    # --- writing ---------------------------------------------------------------------------------

    def put(
        self, parcels: Sequence[Parcel], domain: str, *, job: str, throttle: Throttle, checkpoint: Checkpoint
    ) -> Sequence[Placed]:
        """Each parcel is a bundle of its own. Raises as `Tier.put`.

        An object that was put before is got and read whole before it is taken for this parcel.
        """
        if domain != self._domain:
            raise UserError(f"{domain!r} is no domain of tier {self.name}", hint=f"it has {self._domain}")
        for parcel in parcels:
            checked_names(parcel)
        self._spool.require()
        return tuple(self._put_one(parcel, job, throttle, checkpoint) for parcel in parcels)

    def _put_one(self, parcel: Parcel, job: str, throttle: Throttle, checkpoint: Checkpoint) -> Placed:
        key = parcel_key(parcel)
        with self._spool.alone(f"put-{key[:_LOCK_DIGITS]}") as lock:
            known = self._objects.of(key)
            for given in known:
                placed = self._placed(given)
                if not given.removed and not self._problem_of(placed, FREE):
                    return placed
            taken = {given.name for given in known if not given.removed}
            name = next((n for n in _names(parcel, key) if n not in taken), None)
            if name is None:
                raise UserError(f"{parcel.scan_name!r} has {_MOST_FORMS} bad objects", hint=f"see {shown(self._path)}")
            spooled, package = self._spool.bundle(
                name, parcel, domain=self._domain, job=job, now=self._now, throttle=throttle, checkpoint=checkpoint
            )
            uri = self._send(spooled, name, lock)
            given = _given(uri, name, package)
            self._objects.note(given)
            self._spool.sent(spooled)
            checkpoint("archive.synced")
            return self._placed(given)

    def _send(self, spooled: str, name: str, lock: int) -> str:
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

    def _placed(self, given: Given) -> Placed:
        files = tuple(replace(file, location=f"{given.uri}/{file.location}") for file in given.files)
        return Placed(given.uri, self._domain, files)

    def _run(self, verb: str, about: Mapping[str, str], *, keeps: Sequence[int] = ()) -> str:
        """As `Program.run`, of a program that the site names, for as long as the claim on the job stands."""
        require_claim(self._may_continue, "asked of the archive")
        return self._programs[verb].run(about, keeps=keeps)

    # --- reading ---------------------------------------------------------------------------------

    def verify(self, placed: Sequence[Placed], *, throttle: Throttle) -> Sequence[str]:
        """Each object is got and its bundle read whole. Where the site names `purge`, what the archive keeps on disk of
        it is given up before; without, a copy there is what is read.
        """
        self._spool.require()
        return tuple(self._problem_of(item, throttle) for item in placed)

    def _problem_of(self, item: Placed, throttle: Throttle) -> str:
        if not item.files:
            return f"{shown(item.location)}: no files are recorded"
        try:
            self._require_there(item.location)
            if "purge" in self._programs:
                self._run("purge", {"uri": item.location})
            with self._got(item.location, sum(f.size for f in item.files)) as source:
                bundle = check_bundle(source, throttle)
            package_of(bundle, item)
        except IntegrityError as problem:
            return problem.message
        return ""

    def stage(self, locations: Sequence[str]) -> str:
        """The archive is asked to make them all readable at once, where the site names a command for that."""
        self._spool.require()
        self._spool.folder(_TICKETS)
        ticket = self._tickets.write(locations, locations, self._now())
        there = [location for location in locations if not self._is_removed(location)]
        if "stage" in self._programs and there:
            wanted = os.path.join(self._spool.folder(_TICKETS), f"{ticket}.uris")
            with translating(f"tier {self.name}"):
                text = "".join(f"{uri}\n" for uri in there)
                replace_file(wanted, text.encode("utf-8", "surrogateescape"), alone=False)
            self._run("stage", {"list": wanted})
        return ticket

    def poll(self, ticket: str) -> Mapping[str, str]:
        """As `query` answers for each; without it, `get` is believed to wait for what has to be brought."""
        self._spool.require()
        return {location: self._state_of(location) for location in self._tickets.read(ticket)}

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

    def fetch(
        self, placed: Placed, destination: str, *, throttle: Throttle, progress: Progress
    ) -> Sequence[StoredFile]:
        """The item's files are in `destination`, synced, each under its name only if its digest is right."""
        self._spool.require()
        self._require_there(placed.location)
        total, done = sum(f.size for f in placed.files), 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        with self._got(placed.location, total) as source:
            package = package_of(read_manifest(source), placed)
            files = {f.member: f for f in package.files}
            fetched = {}
            for stored in sorted(placed.files, key=lambda f: files[_member(placed, f)].offset):
                file = files[_member(placed, stored)]
                blocks = member_blocks(source, file, throttle)
                fetched[stored.location] = deliver(stored, file.name, destination, blocks, moved)
        return tuple(fetched[stored.location] for stored in placed.files)

    @contextlib.contextmanager
    def _got(self, uri: str, size: int) -> Iterator[OpenedBundle]:
        """An object of about so many bytes. Raises NotThere, NoSpace, Transient."""

        def get(file: str, lock: int) -> None:
            self._run("get", {"uri": uri, "file": file}, keeps=[lock])

        with self._spool.receiving(get, size) as source:
            yield source

    def release(self, ticket: str) -> None:
        """The lists of what was asked for are gone."""
        self._tickets.forget(ticket)
        with translating("the stage list"), contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._path, _TICKETS, f"{ticket}.uris"))

    # --- keeping ---------------------------------------------------------------------------------

    def remove(self, placed: Placed, *, as_it_is: bool = False) -> None:
        """The object is given out no more; where the site names a command for that, it is removed, too.

        Raises Refused for what was not put from here, IntegrityError where another item than that was put there.
        """
        given = self._objects.at(placed.location)
        if given is None:
            raise Refused(
                f"{shown(placed.location)} was not put by tier {self.name}", by="law 5", hint="nothing was done"
            )
        known = {file.location: file for file in given.files}
        for stored in placed.files:
            file = known.get(_member(placed, stored))
            if file is None:
                raise Refused(f"{shown(stored.location)} is no file of {shown(placed.location)}", by="law 5")
            if not as_it_is and (file.size, file.sha256) != (stored.size, stored.sha256.lower()):
                raise IntegrityError(f"{shown(stored.location)} has another digest than recorded")
        if given.removed:
            return
        if "remove" in self._programs:
            with contextlib.suppress(NotThere):
                self._run("remove", {"uri": given.uri})
        self._objects.mark_removed(given)

    def inventory(self) -> Iterable[tuple[Parcel, Placed]]:
        """Every object that is whole: each is got and read. Raises Transient."""
        for found in self.survey(lambda _done, _total: None):
            if found.parcel is not None and found.placed is not None and not found.problem:
                yield found.parcel, found.placed

    def survey(self, progress: Progress) -> Iterator[Surveyed]:
        """See `SurveyedTier`: what `list` prints, or what is known here where the site names none. What is known of
        the objects here is made again on the way.
        """
        self._spool.require()
        if "list" in self._programs:
            uris = list(dict.fromkeys(lines_of(self._run("list", {}))))
        else:
            uris = [given.uri for given in self._objects.all()]
        wanted = [uri for uri in uris if not self._is_removed(uri)]
        for number, uri in enumerate(wanted):
            progress(number, len(wanted))
            yield from self._survey_object(uri)
        progress(len(wanted), len(wanted))

    def _survey_object(self, uri: str) -> Iterator[Surveyed]:
        try:
            with self._got(uri, 0) as source:
                bundle = check_bundle(source, FREE)
                texts = [read_text(source, package.manifest) for package in bundle.packages]
        except UserError:
            raise
        except TomovaultError as problem:
            harm = Harm.UNREACHED if isinstance(problem, Transient) else Harm.COPY
            yield Surveyed(uri, problem=problem.message, harm=harm)
            return
        if foreign := of_another_tier("a bundle", bundle.tier, self.name):
            yield Surveyed(uri, problem=foreign)
            return
        for package, text in zip(bundle.packages, texts, strict=True):
            given = _given(uri, bundle.bundle, package)
            placed = self._placed(given)
            self._objects.note(given)
            yield Surveyed(uri, parcel_of(package, placed, text), placed, bundle.written_at)

    def free_bytes(self) -> int | None:
        """Nobody here knows."""
        return None

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

    def _is_removed(self, uri: str) -> bool:
        given = self._objects.at(uri)
        return given is not None and given.removed

    def _require_there(self, uri: str) -> None:
        if self._is_removed(uri):
            raise NotThere(f"{shown(uri)} was removed", hint="use another copy")


def _given(uri: str, name: str, package: BundlePackage) -> Given:
    files = tuple(StoredFile(f.member, f.size, f.sha256) for f in package.files)
    return Given(uri, name, package_key(package), files)


def _member(placed: Placed, stored: StoredFile) -> str:
    return stored.location.removeprefix(f"{placed.location}/")


def _names(parcel: Parcel, key: str) -> Iterator[str]:
    """Names of an object that any program takes as one word: the scan's as far as that is plain, and the package's."""
    plain = re.sub(r"[^A-Za-z0-9_.]+", "_", parcel.scan_name)[:_NAME_LIMIT].strip("._") or "scan"
    yield f"{plain}.{key[:32]}.tar"
    for number in range(2, _MOST_FORMS):
        yield f"{plain}.{key[:32]}.{number}.tar"


PLUGIN: type[Tier] = CommandTier
