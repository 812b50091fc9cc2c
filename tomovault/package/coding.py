"""How chunks are encoded, in the words that a manifest keeps. Says so without loading what encodes them."""

from __future__ import annotations

#: Bytes of the literal store that are compressed together, and can be read back without the rest.
LITERAL_BLOCK = 1 << 20

BLOSC2 = "blosc2"
RAW = "none"

FRAME_CODEC = {
    "name": BLOSC2,
    "hdf5_filter": 32026,
    "chunk": "one frame, a blosc2 contiguous frame (cframe) of one chunk",
    "codec": "zstd",
    "level": 1,
    "filters": ["shuffle", "bytedelta"],
}
LITERAL_CODEC = {
    "name": "zstd",
    "hdf5_filter": 32015,
    "level": 3,
    "chunk": "one block; as it is where it would not shrink",
}
