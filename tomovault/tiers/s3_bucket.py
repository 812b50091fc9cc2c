"""One bucket of an S3 service, by its SDK: the only place that knows boto3, and every failure of it is one of ours.

Who we are is found by the SDK's own chain (environment, profile, role of the machine); nothing of it is kept or told.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tomovault import __version__
from tomovault.core.errors import NoSpace, PlaceAbsent, Recalling, Refused, Transient, UserError
from tomovault.tiers.blocks import BLOCK, shown, translating, write_all
from tomovault.tiers.object_archive import Occupied
from tomovault.tiers.objects import NotThere

#: The SDK tries a request again by itself, so often; then the job is tried again.
_ATTEMPTS = 4
_CONNECT_S, _READ_S = 15, 120

_ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "NotFound", "404"})
_TAKEN = frozenset({"PreconditionFailed", "412"})
_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"})
_UNKNOWN_US = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "401"}
)
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "507"})
_CANNOT = frozenset({"NotImplemented", "MethodNotAllowed", "InvalidStorageClass", "405", "501"})
_ELSEWHERE = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
)
_CHANGED_ON_THE_WAY = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
)
#: A restore that need not be asked for.
_RESTORE_GOES_ON = frozenset({"RestoreAlreadyInProgress", "ObjectAlreadyInActiveTierError"})
_MOST_SAID = 300


@dataclass(frozen=True)
class Head:
    """What the service says of an object without its being read. `checksum` is the SHA-256 that it keeps in base64, of
    an upload in parts that of the parts' with `-` and their number, '' where it keeps none. `restore` is the text of
    x-amz-restore.
    """

    size: int
    storage_class: str
    restore: str
    checksum: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """A part that was sent, by what is needed to put the object together."""

    number: int
    etag: str
    checksum: str


class S3Bucket:
    """Objects by their keys. Nothing is asked, and no SDK is needed, before the first call."""

    def __init__(self, tier: str, bucket: str, *, endpoint_url: str, region: str, profile: str) -> None:
        self.name = bucket
        self._tier = tier
        self._endpoint_url = endpoint_url or None
        self._region = region or None
        self._profile = profile or None

    # --- reading -------------------------------------------------------------------------------------

    def head(self, key: str) -> Head | None:
        """None where there is no such object, or no such bucket: HEAD does not tell one from the other."""
        try:
            told = self._ask("head_object", f"look at {key}", Key=key, ChecksumMode="ENABLED")
        except NotThere:
            return None
        return Head(
            size=int(told["ContentLength"]),
            storage_class=str(told.get("StorageClass") or "STANDARD"),
            restore=str(told.get("Restore") or ""),
            checksum=str(told.get("ChecksumSHA256") or ""),
            metadata=dict(told.get("Metadata") or {}),
        )

    def get(self, key: str, path: str) -> None:
        """The new file has the object's bytes as they came. Raises NotThere, Recalling, NoSpace, Transient, Refused."""
        client = self._client
        with self._told(f"get {key}"), contextlib.closing(client.get_object(Bucket=self.name, Key=key)["Body"]) as body:
            with translating(f"tier {self._tier}"):
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                for block in body.iter_chunks(BLOCK):
                    with translating(f"tier {self._tier}"):
                        write_all(fd, block)
            finally:
                os.close(fd)

    def read(self, key: str, most: int) -> bytes | None:
        """The beginning of a small object; None where there is none. Raises PlaceAbsent where the bucket is gone."""
        client = self._client
        try:
            with (
                self._told(f"get {key}"),
                contextlib.closing(client.get_object(Bucket=self.name, Key=key)["Body"]) as body,
            ):
                return bytes(body.read(most))
        except NotThere:
            return None

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys that begin so, in the order of the service."""
        more: dict[str, str] = {}
        while True:
            page = self._ask("list_objects_v2", "list it", Prefix=prefix, **more)
            yield from (str(one["Key"]) for one in page.get("Contents", ()))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": str(page["NextContinuationToken"])}

    def restore(self, key: str, tier: str, days: int) -> None:
        """A copy that can be read is asked for, for so many days; not again where that goes on already."""
        wanted = {"Days": days, "GlacierJobParameters": {"Tier": tier}}
        with contextlib.suppress(_GoesOn):
            self._ask("restore_object", f"restore {key}", Key=key, RestoreRequest=wanted)

    # --- writing: never over anything ----------------------------------------------------------------

    def put(self, key: str, body: Any, *, checksum: str, storage_class: str, metadata: Mapping[str, str]) -> None:
        """The object is there, and the service found its bytes to have this SHA-256 (base64) as they came.

        Raises Occupied where there is one of that key, NoSpace, Transient, Refused.
        """
        self._ask(
            "put_object",
            f"put {key}",
            Key=key,
            Body=body,
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=checksum,
            StorageClass=storage_class,
            Metadata=dict(metadata),
            IfNoneMatch="*",
        )

    def begin(self, key: str, *, storage_class: str, metadata: Mapping[str, str]) -> str:
        """The id of an upload in parts."""
        told = self._ask(
            "create_multipart_upload",
            f"put {key}",
            Key=key,
            ChecksumAlgorithm="SHA256",
            StorageClass=storage_class,
            Metadata=dict(metadata),
        )
        return str(told["UploadId"])

    def send_part(self, key: str, upload: str, number: int, body: Any, checksum: str) -> Part:
        """A part is there, its bytes as they came with this SHA-256 (base64)."""
        told = self._ask(
            "upload_part",
            f"put part {number} of {key}",
            Key=key,
            UploadId=upload,
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=checksum,
        )
        return Part(number, str(told["ETag"]), checksum)

    def finish(self, key: str, upload: str, parts: Sequence[Part]) -> None:
        """The parts are an object. Raises as `put`."""
        listed = [{"PartNumber": p.number, "ETag": p.etag, "ChecksumSHA256": p.checksum} for p in parts]
        self._ask(
            "complete_multipart_upload",
            f"put {key}",
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": listed},
            IfNoneMatch="*",
        )

    def abort(self, key: str, upload: str) -> None:
        """Nothing is kept of an upload that was not finished."""
        with contextlib.suppress(_NoUpload):
            self._ask("abort_multipart_upload", f"abort the upload of {key}", Key=key, UploadId=upload)

    def uploads(self, key: str) -> list[str]:
        """Ids of uploads of just this key that were begun and not finished."""
        page = self._ask("list_multipart_uploads", "list its unfinished uploads", Prefix=key)
        return [str(one["UploadId"]) for one in page.get("Uploads", ()) if one["Key"] == key]

    def delete(self, key: str) -> None:
        """There is no such object any more; in a bucket with versions its bytes stay as an older one."""
        self._ask("delete_object", f"remove {key}", Key=key)

    # --- the SDK -------------------------------------------------------------------------------------

    @cached_property
    def _client(self) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as problem:
            raise UserError(
                f"tier {self._tier}: a tier of kind 's3' needs the package boto3, which is not installed",
                hint="pip install 'tomovault[s3]'",
            ) from problem
        config = Config(
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            # Each request has the SHA-256 that we give; other services than Amazon's refuse what the SDK would add.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra=f"tomovault/{__version__}",
        )
        with self._told("begin"):
            try:
                session = boto3.Session(profile_name=self._profile, region_name=self._region)
                return session.client("s3", endpoint_url=self._endpoint_url, config=config)
            except ValueError as problem:
                raise UserError(f"tier {self._tier}: {problem}", hint="correct its endpoint_url or region") from problem

    def _ask(self, operation: str, what: str, **about: Any) -> Any:
        call = getattr(self._client, operation)
        with self._told(what):
            return call(Bucket=self.name, **about)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        from botocore import exceptions as sdk
        from urllib3.exceptions import HTTPError

        here = f"tier {self._tier}: bucket {self.name}: cannot {shown(what)}"
        try:
            yield
        except sdk.ClientError as problem:
            raise self._answer(here, problem.response) from problem
        except (sdk.NoCredentialsError, sdk.PartialCredentialsError, sdk.ProfileNotFound) as problem:
            hint = "give the daemon's account credentials where the SDK looks for them; docs/archives.md says how"
            raise UserError(f"{here}: {shown(str(problem))}", hint=hint) from problem
        except (sdk.NoRegionError, sdk.ParamValidationError, sdk.InvalidRegionError) as problem:
            raise UserError(f"{here}: {shown(str(problem))}", hint=f"correct tier {self._tier}") from problem
        except (sdk.BotoCoreError, HTTPError) as problem:  # the latter where a line breaks within a body
            hint = "is the service up, and the network? it is tried again"
            raise Transient(f"{here}: {shown(str(problem)[:_MOST_SAID])}", hint=hint) from problem

    def _answer(self, here: str, response: Mapping[str, Any]) -> Exception:
        """What an answer that is an error means, with the service's own words."""
        error = response.get("Error", {})
        code = str(error.get("Code", ""))
        told = f"{here}: {shown(str(error.get('Message') or code)[:_MOST_SAID])} ({code})"
        special = _SPECIAL.get(code)
        if special is not None:
            return special(told)
        if code in _DENIED or code in _UNKNOWN_US:
            hint = "see which rights docs/archives.md names" if code in _DENIED else "renew the credentials"
            return Refused(told, by=f"bucket {self.name}", hint=hint)
        if code in _CANNOT:
            return UserError(told, hint="the service cannot do that; choose another storage_class")
        if code in _ELSEWHERE:
            return UserError(told, hint=f"correct region or endpoint_url of tier {self._tier}")
        if code in _FULL:
            return NoSpace(told, hint="give the bucket more room")
        if code in _CHANGED_ON_THE_WAY:
            return Transient(told, hint="the bytes changed on the way; they are sent again")
        return Transient(told, hint="it is tried again; see what the service's own log says")


class _NoUpload(Transient):
    """An upload is not there: it was finished or given up."""


class _GoesOn(Exception):
    """What was asked for goes on already, or need not be asked for."""


def _lost(told: str) -> Exception:
    return PlaceAbsent(told, hint="is it the right bucket, and the right service? nothing is taken for lost")


_SPECIAL: Mapping[str, Callable[[str], Exception]] = {
    **dict.fromkeys(_ABSENT, lambda told: NotThere(told, hint="use another copy")),
    **dict.fromkeys(_TAKEN, Occupied),
    **dict.fromkeys(_RESTORE_GOES_ON, _GoesOn),
    "NoSuchBucket": _lost,
    "NoSuchUpload": _NoUpload,
    "InvalidObjectState": Recalling,
    "RequestTimeTooSkewed": lambda told: Transient(told, hint="set this machine's clock"),
    "EntityTooLarge": lambda told: UserError(told, hint="make part_size of the tier, or `package: part`, smaller"),
}
