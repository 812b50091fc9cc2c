"""A package open for reading: its frames as an engine asks for them, and its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tomovault.core.errors import UserError
from tomovault.core.layout import FrameKind
from tomovault.core.manifest import ManifestFile
from tomovault.core.ports import Checkpoint, Progress, Throttle
from tomovault.package.excerpt import write_excerpt
from tomovault.package.held import Held
from tomovault.package.manifest import FrameRecord, PackageManifest
from tomovault.package.rebuild import describe_frame
from tomovault.package.restore import Restored, restore_files
from tomovault.package.store import ChunkStore, read_manifest


class PackageReader(Held):
    """Frames and files of one package; a `core.ports.FrameSource`. Frames may be read from several threads.

    What `read` takes from the disk is spent of `throttle`.
    """

    def __init__(self, manifest: PackageManifest, store: ChunkStore, throttle: Throttle | None = None) -> None:
        self._throttle = throttle
        self._manifest = manifest
        self._store = store
        contents = manifest.contents
        self._frames: dict[int, FrameRecord] = {f.order: f for f in contents.frames}
        self._of = {f.order: (f.group, f.position) for f in contents.frames}

    @classmethod
    def open(cls, path: str, *, throttle: Throttle | None = None) -> Self:
        """Open a package by the path of its first file; raises UserError if there is none, IntegrityError if
        neither the manifest inside nor the one beside it is whole.
        """
        manifest = read_manifest(path)
        return cls(manifest, ChunkStore(path, manifest), throttle)

    def close(self) -> None:
        """Let go of the files."""
        self._store.close()

    @property
    def read_bytes(self) -> int:
        """Stored bytes read so far, the manifest left out."""
        return self._store.read_bytes

    def manifest(self) -> PackageManifest:
        """The parsed manifest; its `text` is what is stored."""
        return self._manifest

    def excerpt_name(self, label: str) -> str:
        """What the file is called that `write_frames` writes."""
        return f"{self._manifest.stem}.{label}.nx"

    def files(self) -> tuple[ManifestFile, ...]:
        """The original files."""
        return tuple(f.meta for f in self._manifest.contents.files)

    # --- frames ----------------------------------------------------------------------------------

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(rows, columns) of a projection; of any frame where there is none. Raises UserError without frames."""
        records = sorted(self._frames.values(), key=lambda f: (f.kind is not FrameKind.PROJECTION, f.order))
        if not records:
            raise UserError("this package holds no frames that can be read one by one")
        return self._manifest.contents.groups[records[0].group].shape

    def indices(self, kind: FrameKind) -> Sequence[int]:
        """Acquisition order of the frames of one kind, ascending."""
        return sorted(order for order, record in self._frames.items() if record.kind is kind)

    def angle_deg(self, index: int) -> float | None:
        """Rotation angle of a frame."""
        return self._record(index).angle_deg

    def summed(self, index: int) -> int:
        """Number of exposures added up in a frame."""
        return self._record(index).summed

    def read(self, index: int, rows: slice | None = None) -> npt.NDArray[np.generic]:
        """One frame, or some of its rows, in its stored dtype; raises IntegrityError if its bytes are damaged."""
        record = self._record(index)
        return self._store.frame_rows(
            record.group,
            record.position,
            slice(None) if rows is None else rows,
            what=describe_frame(record),
            throttle=self._throttle,
        )

    def facts(self) -> Mapping[str, Any]:
        """The layout's `nx` and, under 'digest', the product digest."""
        return {**self._manifest.nx, "digest": self._manifest.product}

    def _record(self, index: int) -> FrameRecord:
        try:
            return self._frames[index]
        except KeyError:
            raise UserError(f"the package has no frame {index}") from None

    def frames_between(self, kind: FrameKind, start: int | None = None, stop: int | None = None) -> Sequence[int]:
        """Acquisition order of frames `start` to `stop` (excluded) of a kind, counted from 0.

        Raises UserError if there are no such frames.
        """
        known = self.indices(kind)
        first, last = start or 0, len(known) if stop is None else stop
        if not 0 <= first < last <= len(known):
            raise UserError(
                f"there are no {kind.name.lower()}s {first}:{last}", hint=f"the scan has {len(known)} of them"
            )
        return known[first:last]

    def files_of_frames(self, kind: FrameKind, start: int | None = None, stop: int | None = None) -> list[str] | None:
        """Manifest paths of the files that are those frames, or None unless each frame is one whole file."""
        owners: dict[tuple[int, int], str] = {}
        for file in self._manifest.contents.files:
            frames = [(first, second) for segment, first, second in file.segments if segment == "F"]
            if len(frames) == 1:
                owners[frames[0]] = file.meta.path
        paths = [owners.get(self._of[order]) for order in self.frames_between(kind, start, stop)]
        found = [path for path in paths if path is not None]
        return found if len(found) == len(paths) else None

    # --- giving back -----------------------------------------------------------------------------

    def restore(
        self,
        target_dir: str,
        *,
        select: Callable[[ManifestFile], bool] | Sequence[str] | None = None,
        job: str,
        overwrite: bool = False,
        threads: int = 2,
        throttle: Throttle,
        progress: Progress,
        checkpoint: Checkpoint,
        floor_bytes: int = 0,
    ) -> Restored:
        """Write original files below `target_dir`; see `restore_files`."""
        return restore_files(
            self._store,
            target_dir,
            select=select,
            job=job,
            overwrite=overwrite,
            threads=threads,
            throttle=throttle,
            progress=progress,
            checkpoint=checkpoint,
            floor_bytes=floor_bytes,
        )

    def write_frames(
        self,
        target_dir: str,
        indices: Sequence[int],
        *,
        label: str,
        job: str,
        overwrite: bool = False,
        throttle: Throttle,
        progress: Progress,
        checkpoint: Checkpoint,
        floor_bytes: int = 0,
    ) -> Restored:
        """Write some frames into one derived NXtomo file `<scan>.<label>.nx`; see `write_excerpt`."""
        return write_excerpt(
            self._store,
            target_dir,
            [self._record(i) for i in indices],
            label=label,
            job=job,
            overwrite=overwrite,
            throttle=throttle,
            progress=progress,
            checkpoint=checkpoint,
            floor_bytes=floor_bytes,
        )
