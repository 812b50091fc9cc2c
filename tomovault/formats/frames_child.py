"""The program that reads frames of foreign HDF5 files: a request a line on stdin, for each an answer on stdout.

A request is a JSON object of `file`, `dataset`, `index`, `rows` (first and last, the last excluded), `dtype` and
`shape`; an answer is a line of JSON, {'bytes': n} followed by the n bytes of those rows, or {'error': ...}.

Run by `tomovault.formats.frames` as `python -m tomovault.formats.frames_child MEMORY_BYTES CPU_S`. It limits itself
before it reads a single byte that a user wrote; the CPU time is that of one answer.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import IO, Any

from tomovault.core.errors import TomovaultError, Transient, UserError
from tomovault.formats.child import failed, limit_self, renew_cpu, told

#: Frames of a chunk of several are kept for the next request, up to so many bytes.
_KEPT_BYTES = 256 << 20
_MOST_OPEN = 16


class Datasets:
    """Datasets of foreign files, each opened once, and the frames of the chunk that was decoded last."""

    def __init__(self) -> None:
        import hdf5plugin  # noqa: F401 - with it the library knows the filters of cameras

        from tomovault.formats.hdf5_open import open_hdf5

        self._open_hdf5 = open_hdf5
        self._files: dict[str, Any] = {}
        self._chunk: tuple[str, str, int, Any] = ("", "", 0, None)

    def read(self, request: Mapping[str, Any]) -> bytes:
        """The bytes of some rows of a frame. Raises UserError where it is not what the request says."""
        place: tuple[str, str] = (request["file"], request["dataset"])
        index, (first, stop) = int(request["index"]), request["rows"]
        name, dataset = ": ".join(place), self._find(*place)
        if dataset.is_virtual or dataset.id.get_create_plist().get_external_count() > 0:
            raise UserError(f"{name} has its frames in other files")
        # A dataset of two dimensions is one frame.
        frames = dataset.shape[0] if dataset.ndim == 3 else 1
        shape = (*dataset.shape[-2:],)
        if (dataset.dtype.str, shape) != (request["dtype"], tuple(request["shape"])) or index >= frames:
            raise UserError(f"{name} is not what it was")
        if dataset.ndim == 2:
            return self._single(place, dataset, first, stop)
        chunks = dataset.chunks or (1, *shape)
        deep = chunks[0] * shape[0] * shape[1] * dataset.dtype.itemsize
        if chunks[1:] != shape or deep > _KEPT_BYTES:
            rows: bytes = dataset[index, first:stop].tobytes()
            return rows
        start = index - index % chunks[0]
        if self._chunk[:3] != (*place, start):
            self._chunk = ("", "", 0, None)
            self._chunk = (*place, start, dataset[start : start + chunks[0]])
        kept: bytes = self._chunk[3][index - start, first:stop].tobytes()
        return kept

    def _single(self, place: tuple[str, str], dataset: Any, first: int, stop: int) -> bytes:
        if dataset.chunks != dataset.shape or dataset.nbytes > _KEPT_BYTES:
            rows: bytes = dataset[first:stop].tobytes()
            return rows
        if self._chunk[:3] != (*place, 0):
            self._chunk = ("", "", 0, None)
            self._chunk = (*place, 0, dataset[()])
        kept: bytes = self._chunk[3][first:stop].tobytes()
        return kept

    def _find(self, path: str, name: str) -> Any:
        if path not in self._files:
            if len(self._files) >= _MOST_OPEN:
                self._files.pop(next(iter(self._files))).close()
            self._files[path] = self._open_hdf5(path)
        import h5py

        link = self._files[path].get(name, getlink=True)
        found = self._files[path].get(name) if isinstance(link, h5py.HardLink) else None
        if not isinstance(found, h5py.Dataset) or found.ndim not in (2, 3):
            raise UserError(f"{path} does not hold {name} any more")
        return found


def answer(datasets: Datasets, line: str) -> tuple[dict[str, Any], bytes]:
    """The head of an answer, and the bytes after it."""
    try:
        data = datasets.read(json.loads(line))
    except TomovaultError as error:
        return failed(error.message, error.hint, busy=isinstance(error, Transient)), b""
    except MemoryError:
        return failed("it needs more memory than reading a frame may use", "", busy=False), b""
    except Exception as error:  # noqa: BLE001 - a foreign file may raise anything; the parent names the file
        return failed(told(error), "", busy=False), b""
    return {"bytes": len(data)}, data


def serve(requests: IO[str], out: IO[bytes], cpu_s: int) -> None:
    """Answer every request, until there are no more."""
    datasets = Datasets()
    for line in requests:
        renew_cpu(cpu_s)
        head, data = answer(datasets, line)
        out.write(json.dumps(head).encode("ascii") + b"\n" + data)
        out.flush()


def main() -> int:
    """Serve until stdin ends."""
    limit_self(int(sys.argv[1]), int(sys.argv[2]))
    # Nothing that a library prints may get between the answers.
    out = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(out, "wb") as stream:
        serve(sys.stdin, stream, int(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
