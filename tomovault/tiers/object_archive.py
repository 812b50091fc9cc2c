"""An archive that keeps objects: each package is a bundle, spooled on its way, and known here by where it was put.

What a kind of archive has to do is in the methods without a body; all the rest is the same for each.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from tomovault.core.errors import IntegrityError, Refused, TomovaultError, Transient, UserError
from tomovault.core.ports import Checkpoint, Harm, Parcel, Placed, Progress, Surveyed, Throttle
from tomovault.core.replica import StoredFile, TierClass
from tomovault.tiers.address import package_of
from tomovault.tiers.blocks import shown, translating
from tomovault.tiers.bundle import check_bundle, checked_names, parcel_key, read_text
from tomovault.tiers.claim import require_claim
from tomovault.tiers.free import FREE
from tomovault.tiers.objects import Given, NotThere, Objects, given_of
from tomovault.tiers.one_bundle import MOST_FORMS, fetch_package, member_of, object_names
from tomovault.tiers.options import folder_option
from tomovault.tiers.recovery import parcel_of
from tomovault.tiers.spool import OpenedBundle, Spool
from tomovault.tiers.surveying import of_another_tier
from tomovault.tiers.tickets import Tickets

TICKETS = "tickets"
#: Packages whose keys begin alike wait for each other; so many beginnings keep that rare.
_LOCK_DIGITS = 3


class Occupied(Exception):
    """The archive has another object of that name, which is left as it is."""


class ObjectArchive(ABC):
    """What tiers of objects have in common. Each has one failure domain."""

    TIER_CLASS: ClassVar[TierClass] = TierClass.ARCHIVE
    #: Failures that a survey tells of one object, to go on with the next; any other ends it.
    OF_ONE_OBJECT: ClassVar[tuple[type[TomovaultError], ...]] = (IntegrityError,)

    def __init__(self, name: str, options: Mapping[str, Any], domain: str, now: Callable[[], datetime]) -> None:
        self.name = name
        self._path = folder_option(name, options)
        self._domain = domain
        self._objects = Objects(self._path, name)
        self._spool = Spool(self._path, name)
        self._tickets = Tickets(os.path.join(self._path, TICKETS), name)
        self._now = now
        self._may_continue: Callable[[], bool] = lambda: True

    def hold_to(self, may_continue: Callable[[], bool]) -> None:
        """As `ClaimedTier.hold_to`."""
        self._may_continue = may_continue

    def _require_claim(self) -> None:
        require_claim(self._may_continue, "asked of the archive")

    def domains(self) -> Sequence[str]:
        """One: all of it is lost together, as far as anybody here knows."""
        return (self._domain,)

    # --- what a kind of archive does -----------------------------------------------------------------

    @abstractmethod
    def _send(self, spooled: str, name: str, key: str, lock: int) -> str:
        """Where the file of a bundle is now, as an object of that name. Raises Occupied, Transient, Refused.

        The descriptor is of a lock that keeps others from sending the same.
        """

    @abstractmethod
    def _get(self, uri: str, file: str, lock: int) -> None:
        """The object is in the new file. Raises NotThere, NotYet, NoSpace, Transient."""

    @abstractmethod
    def _drop(self, given: Given, *, as_it_is: bool) -> None:
        """The archive has the object no more, where it can be told that. Raises NotThere, IntegrityError, Transient."""

    @abstractmethod
    def _list(self) -> Iterable[str]:
        """Where every object is that the archive, or else this site, knows of."""

    @abstractmethod
    def _state_of(self, location: str) -> str:
        """As `Tier.poll` tells it."""

    @abstractmethod
    def _before_check(self, uri: str) -> None:
        """What is got next comes from the medium. Raises NotThere, NotYet, Transient."""

    def _require(self) -> None:
        """The folder here can be written, and it is the right archive. Raises Transient."""
        self._spool.require()

    def _prepare(self) -> None:
        """As `_require`, before anything is put."""
        self._require()

    # --- writing -------------------------------------------------------------------------------------

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
        if not parcels:
            return ()
        self._prepare()
        return tuple(self._put_one(parcel, job, throttle, checkpoint) for parcel in parcels)

    def _put_one(self, parcel: Parcel, job: str, throttle: Throttle, checkpoint: Checkpoint) -> Placed:
        key = parcel_key(parcel)
        with self._spool.alone(_lock_of(key)) as lock:
            known = [given for given in self._objects.of(key) if not given.removed]
            for given in known:
                placed = self._placed(given)
                if not self._problem_of(placed, FREE):
                    self._was_right(placed)
                    return placed
            taken = {given.name for given in known}
            for name in (n for n in object_names(parcel, key) if n not in taken):
                spooled, package = self._spool.bundle(
                    name, parcel, domain=self._domain, job=job, now=self._now, throttle=throttle, checkpoint=checkpoint
                )
                self._require_claim()
                try:
                    uri = self._send(spooled, name, key, lock)
                except Occupied:
                    self._spool.sent(spooled)
                    continue
                given = given_of(uri, name, package)
                self._objects.note(given)
                self._spool.sent(spooled)
                checkpoint("archive.synced")
                return self._placed(given)
        raise UserError(f"{parcel.scan_name!r} has {MOST_FORMS} bad objects", hint=f"see {shown(self._path)}")

    def _was_right(self, placed: Placed) -> None:  # noqa: B027 - few kinds care
        """Every byte of an object that was there was just read, and is right."""

    def _placed(self, given: Given) -> Placed:
        files = tuple(replace(file, location=f"{given.uri}/{file.location}") for file in given.files)
        return Placed(given.uri, self._domain, files)

    # --- reading -------------------------------------------------------------------------------------

    def verify(self, placed: Sequence[Placed], *, throttle: Throttle) -> Sequence[str]:
        """Each object is got and its bundle read whole."""
        self._require()
        return tuple(self._problem_of(item, throttle) for item in placed)

    def _problem_of(self, item: Placed, throttle: Throttle) -> str:
        if not item.files:
            return f"{shown(item.location)}: no files are recorded"
        try:
            self._require_there(item.location)
            self._before_check(item.location)
            with self._got(item.location, sum(f.size for f in item.files)) as source:
                bundle = check_bundle(source, throttle)
            package_of(bundle, item)
        except IntegrityError as problem:
            return problem.message
        return ""

    def poll(self, ticket: str) -> Mapping[str, str]:
        """As the archive says of each now."""
        self._spool.require()
        locations = self._tickets.read(ticket)
        self._require()
        return {location: self._state_of(location) for location in locations}

    def fetch(
        self, placed: Placed, destination: str, *, throttle: Throttle, progress: Progress
    ) -> Sequence[StoredFile]:
        """The item's files are in `destination`, synced, each under its name only if its digest is right."""
        self._require()
        self._require_there(placed.location)
        with self._got(placed.location, sum(f.size for f in placed.files)) as source:
            return fetch_package(source, placed, destination, throttle, progress)

    @contextlib.contextmanager
    def _got(self, uri: str, size: int) -> Iterator[OpenedBundle]:
        """An object of about so many bytes. Raises NotThere, NotYet, NoSpace, Transient."""
        with (
            translating(f"tier {self.name}: its spool"),
            self._spool.receiving(lambda file, lock: self._get(uri, file, lock), size) as source,
        ):
            yield source

    def release(self, ticket: str) -> None:
        """The list of what was asked for is gone."""
        self._tickets.forget(ticket)

    # --- keeping -------------------------------------------------------------------------------------

    def remove(self, placed: Placed, *, as_it_is: bool = False) -> None:
        """The object is given out no more; where the archive can be told, it is removed, too.

        Raises Refused for what was not put from here, IntegrityError where another item than that was put there.
        """
        given = self._objects.at(placed.location)
        if given is None:
            raise Refused(
                f"{shown(placed.location)} was not put by tier {self.name}", by="law 5", hint="nothing was done"
            )
        known = {file.location: file for file in given.files}
        for stored in placed.files:
            file = known.get(member_of(placed, stored))
            if file is None:
                raise Refused(f"{shown(stored.location)} is no file of {shown(placed.location)}", by="law 5")
            if not as_it_is and (file.size, file.sha256) != (stored.size, stored.sha256.lower()):
                raise IntegrityError(f"{shown(stored.location)} has another digest than recorded")
        with self._spool.alone(_lock_of(given.key)):
            self._require_claim()
            if self._is_removed(given.uri):
                return
            with contextlib.suppress(NotThere):
                self._drop(given, as_it_is=as_it_is)
            self._objects.mark_removed(given)

    def inventory(self) -> Iterable[tuple[Parcel, Placed]]:
        """Every object that is whole: each is got and read. Raises Transient."""
        for found in self.survey(lambda _done, _total: None):
            if found.parcel is not None and found.placed is not None and not found.problem:
                yield found.parcel, found.placed

    def survey(self, progress: Progress) -> Iterator[Surveyed]:
        """See `SurveyedTier`. What is known of the objects here is made again on the way."""
        self._require()
        wanted = [uri for uri in dict.fromkeys(self._list()) if not self._is_removed(uri)]
        self._before_survey(wanted)
        for number, uri in enumerate(wanted):
            progress(number, len(wanted))
            yield from self._survey_object(uri)
        progress(len(wanted), len(wanted))

    def _before_survey(self, uris: Sequence[str]) -> None:  # noqa: B027 - few kinds care
        """All of these are read next. Raises Transient where they cannot be yet."""

    def _survey_object(self, uri: str) -> Iterator[Surveyed]:
        try:
            with self._got(uri, 0) as source:
                bundle = check_bundle(source, FREE)
                texts = [read_text(source, package.manifest) for package in bundle.packages]
        except UserError:
            raise
        except self.OF_ONE_OBJECT as problem:
            harm = Harm.UNREACHED if isinstance(problem, Transient) else Harm.COPY
            yield Surveyed(uri, problem=problem.message, harm=harm)
            return
        if foreign := of_another_tier("a bundle", bundle.tier, self.name):
            yield Surveyed(uri, problem=foreign)
            return
        for package, text in zip(bundle.packages, texts, strict=True):
            given = given_of(uri, bundle.bundle, package)
            placed = self._placed(given)
            self._objects.note(given)
            yield Surveyed(uri, parcel_of(package, placed, text), placed, bundle.written_at)

    def free_bytes(self) -> int | None:
        """Nobody here knows."""
        return None

    def _is_removed(self, uri: str) -> bool:
        given = self._objects.at(uri)
        return given is not None and given.removed

    def _require_there(self, uri: str) -> None:
        if self._is_removed(uri):
            raise NotThere(f"{shown(uri)} was removed", hint="use another copy")


def _lock_of(key: str) -> str:
    """What is held while a package of that key is put or removed."""
    return f"put-{key[:_LOCK_DIGITS]}"
