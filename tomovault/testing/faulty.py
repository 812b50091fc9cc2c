"""A tier that fails on purpose: a wrapper round a real one, with each fault at a place that a test names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tomovault.core.errors import NoSpace, Transient
from tomovault.core.ports import Checkpoint, Health, Parcel, Placed, Progress, Throttle, Tier
from tomovault.core.replica import StoredFile

Calls = frozenset[int]


@dataclass(frozen=True)
class Faults:
    """Which calls go wrong, counted from 1 for each method; empty or None: never.

    `no_space_at_byte` ends a put with NoSpace once its throttle was asked for that many bytes in all,
    `no_space_put` before a byte is written. `flip_in_fetch` changes one bit of what a fetch left, unseen by the
    tier below. `lost_verify` raises Transient after the tier below has verified, `lost_put` after it has put:
    the work is done and its answer lost. `bad_verify` reports damage that is not there. `ill` makes health bad.
    """

    no_space_at_byte: int | None = None
    no_space_put: Calls = frozenset()
    transient_put: Calls = frozenset()
    lost_put: Calls = frozenset()
    transient_verify: Calls = frozenset()
    lost_verify: Calls = frozenset()
    bad_verify: Calls = frozenset()
    transient_fetch: Calls = frozenset()
    flip_in_fetch: Calls = frozenset()
    failed_poll: Calls = frozenset()
    transient_remove: Calls = frozenset()
    ill: bool = False


class _Budget:
    """A throttle that runs out: raises NoSpace when the bytes are spent."""

    def __init__(self, inner: Throttle, left: int, tier: str) -> None:
        self._inner = inner
        self._left = left
        self._tier = tier

    def spend(self, count: int) -> None:
        """See `Throttle`."""
        self._left -= count
        if self._left < 0:
            raise NoSpace(f"no space left on tier {self._tier} (injected)")
        self._inner.spend(count)


class FaultyTier:
    """Does what the inner tier does, except where `faults` says otherwise; `calls` counts by method."""

    def __init__(self, inner: Tier, faults: Faults) -> None:
        self.name = inner.name
        self.inner = inner
        self.faults = faults
        self.calls: dict[str, int] = {}

    def domains(self) -> Sequence[str]:
        """See `Tier`."""
        return self.inner.domains()

    def put(
        self, parcels: Sequence[Parcel], domain: str, *, job: str, throttle: Throttle, checkpoint: Checkpoint
    ) -> Sequence[Placed]:
        """See `Tier` and `Faults`."""
        call = self._count("put")
        if call in self.faults.no_space_put:
            raise NoSpace(f"no space left on tier {self.name} (injected)")
        self._fail_if(call in self.faults.transient_put, "put")
        if self.faults.no_space_at_byte is not None:
            throttle = _Budget(throttle, self.faults.no_space_at_byte, self.name)
        placed = self.inner.put(parcels, domain, job=job, throttle=throttle, checkpoint=checkpoint)
        self._fail_if(call in self.faults.lost_put, "answer to put")
        return placed

    def verify(self, placed: Sequence[Placed], *, throttle: Throttle) -> Sequence[str]:
        """See `Tier` and `Faults`."""
        call = self._count("verify")
        self._fail_if(call in self.faults.transient_verify, "verify")
        found = self.inner.verify(placed, throttle=throttle)
        self._fail_if(call in self.faults.lost_verify, "answer to verify")
        if call in self.faults.bad_verify:
            return [text or f"{item.location} is damaged (injected)" for item, text in zip(placed, found, strict=True)]
        return found

    def stage(self, locations: Sequence[str]) -> str:
        """See `Tier`."""
        return self.inner.stage(locations)

    def poll(self, ticket: str) -> Mapping[str, str]:
        """See `Tier` and `Faults`."""
        found = self.inner.poll(ticket)
        if self._count("poll") in self.faults.failed_poll:
            return dict.fromkeys(found, "failed: drive error (injected)")
        return found

    def fetch(
        self, placed: Placed, destination: str, *, throttle: Throttle, progress: Progress
    ) -> Sequence[StoredFile]:
        """See `Tier` and `Faults`."""
        call = self._count("fetch")
        self._fail_if(call in self.faults.transient_fetch, "fetch")
        found = self.inner.fetch(placed, destination, throttle=throttle, progress=progress)
        if call in self.faults.flip_in_fetch:
            flip_bit(next(file.location for file in found if file.size))
        return found

    def release(self, ticket: str) -> None:
        """See `Tier`."""
        self.inner.release(ticket)

    def remove(self, placed: Placed, *, as_it_is: bool = False) -> None:
        """See `Tier` and `Faults`."""
        self._fail_if(self._count("remove") in self.faults.transient_remove, "remove")
        self.inner.remove(placed, as_it_is=as_it_is)

    def inventory(self) -> Iterable[tuple[Parcel, Placed]]:
        """See `Tier`."""
        return self.inner.inventory()

    def free_bytes(self) -> int | None:
        """See `Tier`."""
        return self.inner.free_bytes()

    def health(self) -> Health:
        """See `Tier` and `Faults`."""
        return Health(False, "injected fault") if self.faults.ill else self.inner.health()

    def _count(self, method: str) -> int:
        self.calls[method] = self.calls.get(method, 0) + 1
        return self.calls[method]

    def _fail_if(self, wanted: bool, what: str) -> None:
        if wanted:
            raise Transient(f"tier {self.name}: the {what} failed (injected)")


def flip_bit(path: str, *, offset: int | None = None) -> None:
    """One bit of the file differs; by default in its middle. Size and times stay as they were."""
    state = os.stat(path)
    place = state.st_size // 2 if offset is None else offset
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)
        if not byte:
            raise ValueError(f"{path} has no byte {place}")
        file.seek(place)
        file.write(bytes([byte[0] ^ 0x10]))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
