"""A tier that keeps the bytes of packages in memory, for tests of what uses tiers."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence

from tomovault.core.errors import IntegrityError, NoSpace, UserError
from tomovault.core.ports import Checkpoint, Health, Parcel, Placed, Progress, Throttle, Tier
from tomovault.core.replica import StoredFile

_PIECE = 1 << 20


class MemoryTier:
    """Packages by location; a location is `<domain>/<digest>/<scan>`.

    `capacity` in bytes bounds what fits (None: nothing does). `content` may be changed by a test: it is what
    the medium holds.
    """

    def __init__(
        self,
        name: str = "memory",
        *,
        domains: Sequence[str] = ("pool-a", "pool-b"),
        capacity: int | None = None,
        must_stage: bool = False,
    ) -> None:
        self.name = name
        self.capacity = capacity
        #: Bytes of each stored file by its location.
        self.content: dict[str, bytearray] = {}
        self._domains = tuple(domains)
        self._must_stage = must_stage
        self._kept: dict[str, tuple[Parcel, Placed]] = {}
        self._tickets: dict[str, tuple[str, ...]] = {}
        self._tickets_given = 0

    def domains(self) -> Sequence[str]:
        """See `Tier`."""
        return self._domains

    def put(
        self, parcels: Sequence[Parcel], domain: str, *, job: str, throttle: Throttle, checkpoint: Checkpoint
    ) -> Sequence[Placed]:
        """See `Tier`. All parcels or, on an error, those that were finished are kept."""
        if domain not in self._domains:
            raise UserError(f"tier {self.name} has no failure domain {domain!r}")
        placed = []
        for parcel in parcels:
            checkpoint("tier.put.before")
            placed.append(self._keep(parcel, domain, throttle))
            checkpoint("tier.put.after")
        return placed

    def verify(self, placed: Sequence[Placed], *, throttle: Throttle) -> Sequence[str]:
        """See `Tier`."""
        return [self._problem_of(item, throttle) for item in placed]

    def stage(self, locations: Sequence[str]) -> str:
        """See `Tier`; everything is ready at once."""
        self._tickets_given += 1
        ticket = f"ticket-{self._tickets_given}"
        self._tickets[ticket] = tuple(locations)
        return ticket

    def poll(self, ticket: str) -> Mapping[str, str]:
        """See `Tier`. Raises UserError for a ticket that was never given or was released."""
        if ticket not in self._tickets:
            raise UserError(f"tier {self.name} knows no ticket {ticket!r}")
        return {
            location: "ready" if location in self._kept else "failed: nothing is stored there"
            for location in self._tickets[ticket]
        }

    def fetch(
        self, placed: Placed, destination: str, *, throttle: Throttle, progress: Progress
    ) -> Sequence[StoredFile]:
        """See `Tier`. Raises UserError if the item had to be staged and was not, IntegrityError for bad bytes."""
        if self._must_stage and not any(placed.location in staged for staged in self._tickets.values()):
            raise UserError(f"{placed.location} is not staged", hint="stage it and wait until it is ready")
        total = sum(file.size for file in placed.files)
        done = 0
        fetched = []
        for file in placed.files:
            content = self._content_of(file.location)
            throttle.spend(len(content))
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise IntegrityError(f"{file.location} on tier {self.name} is not what was stored")
            path = os.path.join(destination, os.path.basename(file.location))
            with open(path, "wb") as target:
                target.write(content)
                target.flush()
                os.fsync(target.fileno())
            done += len(content)
            progress(done, total)
            fetched.append(dataclasses.replace(file, location=path))
        return fetched

    def release(self, ticket: str) -> None:
        """See `Tier`; a ticket that is gone already is no error."""
        self._tickets.pop(ticket, None)

    def remove(self, placed: Placed, *, as_it_is: bool = False) -> None:
        """See `Tier`; what is gone already is no error."""
        for file in placed.files:
            self.content.pop(file.location, None)
        self._kept.pop(placed.location, None)

    def inventory(self) -> Iterable[tuple[Parcel, Placed]]:
        """See `Tier`."""
        return list(self._kept.values())

    def free_bytes(self) -> int | None:
        """See `Tier`."""
        if self.capacity is None:
            return None
        return max(0, self.capacity - sum(map(len, self.content.values())))

    def health(self) -> Health:
        """See `Tier`."""
        return Health(True, f"{len(self._kept)} packages in memory")

    def _keep(self, parcel: Parcel, domain: str, throttle: Throttle) -> Placed:
        location = f"{domain}/{parcel.digest}/{parcel.scan}"
        if location in self._kept:
            found = self._kept[location][1]
            if [f.sha256 for f in found.files] == [f.sha256 for f in parcel.files]:
                return found
            raise IntegrityError(f"{location} on tier {self.name} holds another form of that product")
        content: dict[str, bytearray] = {}
        free = self.free_bytes()
        for file in parcel.files:
            found_bytes = self._read(file, throttle)
            content[f"{location}/{os.path.basename(file.location)}"] = found_bytes
        if free is not None and sum(map(len, content.values())) > free:
            raise NoSpace(f"tier {self.name} is full", hint="give it more capacity")
        self.content.update(content)
        stored = tuple(
            StoredFile(place, file.size, file.sha256) for place, file in zip(content, parcel.files, strict=True)
        )
        placed = Placed(location, domain, stored)
        self._kept[location] = (parcel, placed)
        return placed

    def _read(self, file: StoredFile, throttle: Throttle) -> bytearray:
        content = bytearray()
        with open(file.location, "rb") as source:
            while piece := source.read(_PIECE):
                throttle.spend(len(piece))
                content += piece
        if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
            raise IntegrityError(f"{file.location} is not what its parcel says")
        return content

    def _problem_of(self, placed: Placed, throttle: Throttle) -> str:
        for file in placed.files:
            content = self.content.get(file.location)
            if content is None:
                return f"{file.location} is not there"
            throttle.spend(len(content))
            if len(content) != file.size:
                return f"{file.location} has {len(content)} bytes of {file.size}"
            if hashlib.sha256(content).hexdigest() != file.sha256:
                return f"{file.location} does not re-read to its digest"
        return ""

    def _content_of(self, location: str) -> bytes:
        if location not in self.content:
            raise IntegrityError(f"{location} is not on tier {self.name}")
        return bytes(self.content[location])


PLUGIN: type[Tier] = MemoryTier
