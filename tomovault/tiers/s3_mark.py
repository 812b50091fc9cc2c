"""By what a bucket is recognised: an object with a UUID, of which the site keeps a copy.

Absence is never damage: a bucket without the mark that is recorded was emptied, or is another one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shlex
import uuid
from datetime import UTC, datetime

from tomovault.core.errors import PlaceAbsent
from tomovault.tiers.blocks import replace_file, shown, translating
from tomovault.tiers.object_archive import Occupied
from tomovault.tiers.s3_bucket import S3Bucket

_CAP = 65536
_NAME = "tomovault-place.json"


class Unmarked(PlaceAbsent):
    """Neither the bucket nor the site has a mark: nothing was put there yet, or it is another bucket."""


class Mark:
    """The mark of one tier: an object below its prefix, and the file `record` of the site."""

    def __init__(self, tier: str, bucket: S3Bucket, prefix: str, record: str) -> None:
        self.key = f"{prefix}{_NAME}"
        self._tier = tier
        self._bucket = bucket
        self._record = record

    def require(self) -> None:
        """It is the bucket that was recorded; where none was, the one that has a mark is from now on.

        Raises Unmarked, or PlaceAbsent where it is not that bucket.
        """
        recorded = self._recorded()
        found = self._found()
        if found is None and recorded is None:
            raise Unmarked(
                f"tier {self._tier}: bucket {self._bucket.name} has no mark {self.key}",
                hint="it gets one with the first package, if nothing is below the prefix",
            )
        if found is None or (recorded is not None and _uuid_of(found) != _uuid_of(recorded)):
            told = "its mark is missing" if found is None else "it has another mark than was recorded"
            where = f"s3://{self._bucket.name}/{self.key}"
            raise PlaceAbsent(
                f"tier {self._tier}: bucket {self._bucket.name} is not the one that was used: {told}",
                hint="correct bucket, prefix or endpoint_url; if what it held is lost for good, or was copied here"
                f" without its mark, say so with: aws s3 cp {shlex.quote(self._record)} {shlex.quote(where)}",
            )
        if recorded is None:
            self._keep(found)

    def set(self, now: datetime) -> None:
        """The bucket has a mark, and the site its copy. One that somebody else has just set is taken.

        Only for a bucket in which nothing of ours is known to be.
        """
        told = {"uuid": str(uuid.uuid4()), "place": f"tier {self._tier}", "written_at": now.astimezone(UTC).isoformat()}
        text = json.dumps(told, indent=1).encode() + b"\n"
        checksum = base64.b64encode(hashlib.sha256(text).digest()).decode("ascii")
        with contextlib.suppress(Occupied):
            self._bucket.put(self.key, text, checksum=checksum, storage_class="STANDARD", metadata={})
        self.require()

    def _found(self) -> bytes | None:
        text = self._bucket.read(self.key, _CAP)
        if text is not None and not _uuid_of(text):
            raise PlaceAbsent(f"tier {self._tier}: the mark {self.key} in bucket {self._bucket.name} is damaged")
        return text

    def _recorded(self) -> bytes | None:
        with translating(f"tier {self._tier}"):
            try:
                with open(self._record, "rb") as file:
                    text = file.read(_CAP)
            except FileNotFoundError:
                return None
        if not _uuid_of(text):
            raise PlaceAbsent(f"{shown(self._record)} is damaged", hint="put it back from a backup")
        return text

    def _keep(self, text: bytes) -> None:
        with translating(f"tier {self._tier}"):
            os.makedirs(os.path.dirname(self._record), exist_ok=True)
            replace_file(self._record, text, alone=False)


def _uuid_of(text: bytes) -> str:
    """'' for what is no mark."""
    try:
        return str(uuid.UUID(json.loads(text)["uuid"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
