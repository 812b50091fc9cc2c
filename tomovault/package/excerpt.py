"""Some frames of a package as one plain NXtomo file that any HDF5 reader opens. It is derived, and says so."""

from __future__ import annotations

import os
from collections.abc import Sequence

import h5py
import numpy as np

from tomovault.core.errors import Refused, UserError
from tomovault.core.ports import Checkpoint, Progress, Throttle
from tomovault.package.container import check_space, write_problems
from tomovault.package.manifest import FrameRecord
from tomovault.package.names import check_job, check_stem, temp_path
from tomovault.package.place import place_entry
from tomovault.package.rebuild import describe_frame
from tomovault.package.restore import Restored
from tomovault.package.store import ChunkStore
from tomovault.package.view import link_default_data, write_nxtomo


def write_excerpt(
    store: ChunkStore,
    target_dir: str,
    records: Sequence[FrameRecord],
    *,
    label: str,
    job: str,
    overwrite: bool,
    throttle: Throttle,
    progress: Progress,
    checkpoint: Checkpoint,
    floor_bytes: int = 0,
) -> Restored:
    """Write frames, uncompressed and as the instrument wrote them, into `<target_dir>/<scan>.<label>.nx`.

    Raises UserError if they are not of one shape and type, Refused if the file exists and `overwrite` is off,
    NoSpace if they would leave less than `floor_bytes` free, IntegrityError naming the frame if one is damaged;
    then no file is left.
    """
    check_job(job)
    manifest = store.manifest
    groups = {r.group for r in records}
    if len(groups) != 1:
        raise UserError("these frames are not of one shape and type", hint="ask for one kind of frame")
    group = manifest.contents.groups[groups.pop()]
    name = check_stem(f"{manifest.stem}.{label}") + ".nx"
    target, temporary = os.path.join(target_dir, name), temp_path(target_dir, name, job)
    if os.path.lexists(target) and not overwrite:
        raise _in_the_way(target)
    before = store.read_bytes
    length = group.shape[0] * group.shape[1] * np.dtype(group.dtype).itemsize
    buffer = bytearray(length)
    checkpoint("restore.begin")
    try:
        with write_problems(temporary):
            os.makedirs(target_dir, exist_ok=True)
            check_space(temporary, floor_bytes, len(records) * length)
            if os.path.lexists(temporary):
                os.unlink(temporary)
            with h5py.File(temporary, "x", locking=False) as out:
                out.attrs["derived"] = "some frames of a scan, taken from its package; not an original file"
                out.attrs["product"] = manifest.product
                detector = write_nxtomo(out, records, nx=manifest.nx, name=str(manifest.scan.get("name") or name))
                data = detector.create_dataset("data", shape=(len(records), *group.shape), dtype=group.dtype)
                data.attrs["summed"] = np.array([r.summed for r in records], dtype=np.int64)
                link_default_data(out)
                for position, record in enumerate(records):
                    store.frame_into(
                        record.group,
                        record.position,
                        memoryview(buffer),
                        what=describe_frame(record),
                        throttle=throttle,
                    )
                    data[position] = np.frombuffer(buffer, dtype=group.dtype).reshape(group.shape)
                    progress((position + 1) * length, len(records) * length)
            _place(temporary, target, overwrite=overwrite)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
    checkpoint("restore.synced")
    return Restored((name,), (), len(records) * length, store.read_bytes - before)


def _place(temporary: str, target: str, *, overwrite: bool) -> None:
    """The file is on disk under its name, and so is the name. Raises Refused where something else came there."""
    _sync(temporary)
    folder = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place_entry(folder, os.path.basename(temporary), os.path.basename(target), overwrite=overwrite)
        os.fsync(folder)
    except FileExistsError as there:
        raise _in_the_way(target) from there
    finally:
        os.close(folder)


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _in_the_way(target: str) -> Refused:
    return Refused(f"{target} is there already", by="restore never overwrites unless asked to")
