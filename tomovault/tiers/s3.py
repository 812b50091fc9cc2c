"""An archive in a bucket of an S3 service, of a storage class that is read at once or one that has to be restored.

Each package is a bundle, an object of its own that is never overwritten. It counts when it was read back and hashed;
the checksums that the service keeps prove only what it was given.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tomovault.core.errors import IntegrityError, PlaceAbsent, Recalling, TomovaultError, UserError
from tomovault.core.ports import Health, Parcel, Placed, Throttle, Tier
from tomovault.tiers.blocks import shown
from tomovault.tiers.bundle import parcel_key
from tomovault.tiers.object_archive import TICKETS, ObjectArchive
from tomovault.tiers.objects import Given, NotThere
from tomovault.tiers.options import count_option, folder_option, size_option, text_option
from tomovault.tiers.s3_bucket import Head, S3Bucket
from tomovault.tiers.s3_mark import Mark, Unmarked
from tomovault.tiers.s3_upload import PACKAGE, upload

#: Classes whose objects have to be restored before they can be read.
_COLD = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_RETRIEVALS = ("Bulk", "Standard", "Expedited")
#: A service takes no smaller parts but for the last.
_LEAST_PART = 5 << 20
_PART = 64 << 20
_SUFFIX = ".tar"

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_.-]+/)*")
_CLASS = re.compile(r"[A-Z][A-Z0-9_]*")
_EXPIRY = re.compile(r'expiry-date="([^"]+)"')


class S3Tier(ObjectArchive):
    """The tier of kind `s3`. Options: path, a folder for bundles on their way and for what is known of those that were
    put; bucket; prefix of every key; endpoint_url, of another service than Amazon's; region; profile of the SDK;
    storage_class; restore_tier and verify_tier, the retrieval that is asked for where a person waits or a copy is to be
    verified; restore_days, how long what was restored can be read; part_size of large uploads; domain.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset(
        "path bucket prefix endpoint_url region profile domain part_size".split()
        + "storage_class restore_tier verify_tier restore_days".split()
    )
    MARKS_ITSELF: ClassVar[bool] = True

    def __init__(self, name: str, options: Mapping[str, Any], *, now: Callable[[], datetime]) -> None:
        folder_option(name, options)
        bucket = _matching(name, options, "bucket", "", _BUCKET)
        endpoint_url = _endpoint(name, options)
        # Without the service: the same one may be named in many ways, and one bucket must never count as two.
        domain = text_option(name, options, "domain", f"s3:{bucket}")
        super().__init__(name, options, domain, now)
        self._prefix = _matching(name, options, "prefix", "tomovault/", _PREFIX)
        self._class = _storage_class(name, options)
        self._restore_tier = _retrieval(name, options, "restore_tier", "Standard", self._class)
        self._verify_tier = _retrieval(name, options, "verify_tier", "Bulk", self._class)
        self._restore_days = count_option(name, options, "restore_days", 3, most=365)
        self._part_size = size_option(name, options, "part_size", _PART)
        if self._part_size < _LEAST_PART:
            raise UserError(f"tier {name}: part_size must be 5MiB or more, it is {self._part_size}")
        region, profile = (text_option(name, options, key, "") for key in ("region", "profile"))
        self._bucket = S3Bucket(name, bucket, endpoint_url=endpoint_url, region=region, profile=profile)
        record = text_option(name, options, "own_record", os.path.join(self._path, "place.json"))
        self._mark = Mark(name, self._bucket, self._prefix, record)
        #: Objects that `put` found there and has read whole: what was restored is paid for by the byte.
        self._just_read: dict[str, Placed] = {}

    # --- writing -------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """A bucket without a mark gets one where nothing of ours is known to be."""
        self._spool.require()
        try:
            self._mark.require()
        except Unmarked as unmarked:
            if self._is_used():
                raise PlaceAbsent(
                    f"{unmarked.message}, and it should: objects were put there before",
                    hint="is it the right bucket? a prefix of its own, with nothing below it, gets a mark by itself",
                ) from unmarked
            self._mark.set(self._now())

    def _is_used(self) -> bool:
        """Whether an object is known here, or anything stands below the prefix."""
        return any(True for _ in self._objects.all()) or any(True for _ in self._bucket.keys(self._prefix))

    def _require(self) -> None:
        super()._require()
        self._mark.require()

    def _send(self, spooled: str, name: str, key: str, lock: int) -> str:
        upload(
            self._bucket,
            f"{self._prefix}{name}",
            spooled,
            package=key,
            storage_class=self._class,
            part_size=self._part_size,
        )
        return f"s3://{self._bucket.name}/{self._prefix}{name}"

    def _was_right(self, placed: Placed) -> None:
        self._just_read[placed.location] = placed

    # --- reading -------------------------------------------------------------------------------------

    def verify(self, placed: Sequence[Placed], *, throttle: Throttle) -> Sequence[str]:
        """Each object is read whole, but for one that `put` has just read. Raises Recalling, with all asked for, while
        one of them cannot be read.
        """
        pending = self.warm(placed)
        if pending:
            raise self._recalling(pending)
        return tuple(
            "" if self._just_read.pop(item.location, None) == item else self._problem_of(item, throttle)
            for item in placed
        )

    def warm(self, placed: Sequence[Placed]) -> Sequence[str]:
        """See `ColdTier`."""
        self._require()
        return self._cold_of([item.location for item in placed], self._verify_tier)

    def cold_of(self, parcels: Sequence[Parcel]) -> Sequence[str]:
        """See `ColdTier`."""
        known = [given for parcel in parcels for given in self._objects.of(parcel_key(parcel)) if not given.removed]
        if not known:
            return []
        self._require()
        return self._cold_of([given.uri for given in known], self._verify_tier)

    def _before_check(self, uri: str) -> None:
        if not self._is_warm(uri, self._verify_tier):
            raise self._recalling([uri])

    def _before_survey(self, uris: Sequence[str]) -> None:
        pending = self._cold_of(uris, self._verify_tier)
        if pending:
            raise self._recalling(pending)

    def stage(self, locations: Sequence[str]) -> str:
        """What has to be restored is asked for, each object by a request of its own."""
        self._require()
        self._spool.folder(TICKETS)
        ticket = self._tickets.write(locations, locations, self._now())
        self._cold_of(locations, self._restore_tier)
        return ticket

    def _state_of(self, location: str) -> str:
        try:
            self._require_there(location)
            return "ready" if self._is_warm(location, self._restore_tier) else "pending"
        except IntegrityError as problem:
            return f"failed: {problem.message}"

    def _cold_of(self, uris: Sequence[str], retrieval: str) -> list[str]:
        """Those that cannot be read yet; all of them are asked for. What is not there is not among them."""
        pending = []
        for uri in uris:
            with contextlib.suppress(NotThere):
                if not self._is_removed(uri) and not self._is_warm(uri, retrieval):
                    pending.append(uri)
        return pending

    def _is_warm(self, uri: str, retrieval: str) -> bool:
        """Whether an object can be read now. If not, it was asked for, again where what was restored has expired."""
        key, head = self._key_of(uri), self._head(uri)
        if self._can_be_read(head):
            return True
        if 'ongoing-request="true"' in head.restore:
            return False
        self._bucket.restore(key, retrieval, self._restore_days)
        return self._can_be_read(self._head(uri))

    def _can_be_read(self, head: Head) -> bool:
        if head.storage_class not in _COLD:
            return True
        if 'ongoing-request="false"' not in head.restore:
            return False
        until = _EXPIRY.search(head.restore)
        try:
            return until is None or parsedate_to_datetime(until[1]) > self._now()
        except (ValueError, TypeError):
            return False  # a date that nobody understands, or of no zone

    def _head(self, uri: str) -> Head:
        """What the bucket says of an object. Raises NotThere only where it is the right bucket."""
        head = self._bucket.head(self._key_of(uri))
        if head is None:
            self._mark.require()
            raise NotThere(f"{shown(uri)} is not there", hint="use another copy")
        return head

    def _get(self, uri: str, file: str, lock: int) -> None:
        if not self._is_warm(uri, self._restore_tier):
            raise self._recalling([uri])
        self._bucket.get(self._key_of(uri), file)

    def _recalling(self, uris: Sequence[str]) -> Recalling:
        more = f" and {len(uris) - 1} more" if len(uris) > 1 else ""
        return Recalling(
            f"tier {self.name}: {shown(uris[0])}{more} is being restored by the bucket",
            hint="that takes minutes to two days, by storage class and retrieval, and goes on by itself",
        )

    # --- keeping -------------------------------------------------------------------------------------

    def _drop(self, given: Given, *, as_it_is: bool) -> None:
        self._mark.require()
        head = self._head(given.uri)
        if not as_it_is and head.metadata.get(PACKAGE) != given.key:
            raise IntegrityError(
                f"{shown(given.uri)} is another object than was put there", hint="nothing was removed; look at it"
            )
        self._bucket.delete(self._key_of(given.uri))

    def _list(self) -> Iterable[str]:
        """Every object directly below the prefix that has our suffix, whoever put it."""
        for key in self._bucket.keys(self._prefix):
            if key.endswith(_SUFFIX) and "/" not in key.removeprefix(self._prefix):
                yield f"s3://{self._bucket.name}/{key}"

    def health(self) -> Health:
        """Whether the folder can be written, and the bucket is reached and is the right one."""
        where = f"bucket {self._bucket.name}, {self._class}"
        try:
            self._spool.require()
            used = self._is_used()
            self._mark.require()
        except Unmarked as unmarked:
            return Health(not used, unmarked.message, unmarked.hint)
        except TomovaultError as problem:
            return Health(False, problem.message, problem.hint)
        return Health(True, where)

    def _key_of(self, uri: str) -> str:
        start = f"s3://{self._bucket.name}/"
        if not uri.startswith(f"{start}{self._prefix}"):
            raise UserError(
                f"tier {self.name}: {shown(uri)} is not in its bucket, below its prefix",
                hint=f"were bucket or prefix of tier {self.name} changed? copies stay where they were put",
            )
        return uri[len(start) :]


def _matching(tier: str, options: Mapping[str, Any], key: str, default: str, form: re.Pattern[str]) -> str:
    value = text_option(tier, options, key, default)
    if not form.fullmatch(value):
        raise UserError(f"tier {tier}: {key} cannot be {value!r}", hint="docs/archives.md shows one")
    return value


def _endpoint(tier: str, options: Mapping[str, Any]) -> str:
    value = text_option(tier, options, "endpoint_url", "")
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:
        sound = False
    if value and not sound:
        raise UserError(f"tier {tier}: endpoint_url is no address", hint="such as https://s3.example.org")
    if parts.username is not None or parts.password is not None:
        raise UserError(
            f"tier {tier}: endpoint_url has a name or a password in it",
            hint="credentials are found by the SDK's own chain; docs/archives.md says how",
        )
    return value


def _storage_class(tier: str, options: Mapping[str, Any]) -> str:
    value = _matching(tier, options, "storage_class", "STANDARD", _CLASS)
    if value == "INTELLIGENT_TIERING":
        raise UserError(
            f"tier {tier}: storage_class {value} moves objects to where they cannot be read at times of its own",
            hint="choose GLACIER, DEEP_ARCHIVE, GLACIER_IR or STANDARD_IA",
        )
    return value


def _retrieval(tier: str, options: Mapping[str, Any], key: str, default: str, storage_class: str) -> str:
    value = text_option(tier, options, key, default)
    if value not in _RETRIEVALS or (value == "Expedited" and storage_class == "DEEP_ARCHIVE"):
        raise UserError(
            f"tier {tier}: {key} cannot be {value!r} of objects in {storage_class}",
            hint=f"one of {', '.join(_RETRIEVALS)}; DEEP_ARCHIVE has no Expedited",
        )
    return value


PLUGIN: type[Tier] = S3Tier
