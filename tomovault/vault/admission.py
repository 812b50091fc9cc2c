"""How much memory a job may come to need, so that jobs together stay within `jobs.memory`."""

from __future__ import annotations

from tomovault.core.known import KnownScan

#: What a job process holds before it reads a frame: the interpreter and the libraries that it loads.
LIBRARIES_BYTES = 150 * 10**6

#: Frames that a job which decodes, encodes or reconstructs may hold at a time, with what it makes of them. The test
#: that takes a scan of 4 GB through its life holds every job to this and the libraries.
FRAMES = 30

#: These read and write in blocks of fixed size, or move files only.
_WITHOUT_FRAMES = frozenset(
    {"inspect", "archive", "replicate", "prune", "empty_quarantine", "undo_prune", "destroy", "export"}
)

#: Of a scan that does not say how large its frames are, none is taken to be larger: 8192 x 8192, 16 bits.
_LARGEST_FRAME = 8192 * 8192 * 2


def memory_of(action: str, scan: KnownScan | None) -> int:
    """Bytes that a job of an action on a scan needs at most, by the size of the scan's frames."""
    if scan is None or action in _WITHOUT_FRAMES:
        return LIBRARIES_BYTES
    return LIBRARIES_BYTES + FRAMES * frame_bytes(scan)


def frame_bytes(scan: KnownScan) -> int:
    """Bytes of one frame: of its pixels at 16 bits or, if that is more, the scan's bytes a frame that was found."""
    found = scan.certificate.found
    count = sum(n or 0 for n in (found.projections, found.flats, found.darks))
    share = -(-scan.bytes // count) if count else min(scan.bytes, _LARGEST_FRAME)
    sides = [scan.conditions.get(key) for key in ("frame_width", "frame_height")]
    width, height = (s.value if s is not None and isinstance(s.value, (int, float)) else 0 for s in sides)
    return max(share, int(width * height * 2))
