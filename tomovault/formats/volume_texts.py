"""The texts beside volumes: PyHST's `.vol.info` and `.par`, nabu's `_infos.txt`, NRecon's `_rec.log`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tomovault.formats.quantities import is_known, measure
from tomovault.formats.spec_text import parse_info, whole

#: Longer keys, or more of them, are in no text of this kind.
_MOST_KEYS = 5000
_DTYPES: Mapping[str, str] = {
    "float": "f4", "float32": "f4", "floatvalue": "f4", "double": "f8", "float64": "f8", "unsigned char": "u1",
    "uint8": "u1", "uint16": "u2", "unsigned short": "u2", "int16": "i2", "short": "i2", "int8": "i1", "uint32": "u4",
    "int32": "i4",
}  # fmt: skip
_NAMED_TYPE = re.compile(r"(?<![a-z0-9])(u?int(?:8|16|32)|float(?:32|64))(?![0-9])")


@dataclass(frozen=True)
class VolumeInfo:
    """What a `.vol.info` says. Counts are of voxels along x (fastest), y and z; `item` is numpy's type without order,
    None where neither the text nor the name says it.
    """

    columns: int | None
    rows: int | None
    slices: int | None
    item: str | None
    order: str
    voxel_um: float | None
    packed: bool = False

    @property
    def voxels(self) -> int | None:
        """Their number, None where the text does not say it."""
        if not self.columns or not self.rows or not self.slices:
            return None
        return self.columns * self.rows * self.slices


def parse_volume_info(raw: bytes, name: str) -> VolumeInfo:
    """Read a `.vol.info` or `.raw.info`. PyHST writes float32 without saying so; for other files the name may."""
    keys = parse_info(raw)
    voxel_um = measure(keys.get("voxelsize"), "um")
    told = keys.get("data_type", "").lower()
    item = _DTYPES.get(told)
    if item is None and not told:
        found = _NAMED_TYPE.search(name.lower())
        item = "f4" if name.lower().endswith(".vol") else _DTYPES.get(found[1]) if found else None
    return VolumeInfo(
        columns=whole(keys.get("num_x")),
        rows=whole(keys.get("num_y")),
        slices=whole(keys.get("num_z")),
        item=item,
        order=">" if keys.get("byteorder", "").lower() == "highbytefirst" else "<",
        voxel_um=voxel_um if is_known("pixel_size", voxel_um) else None,
        packed=told == "packed_binary",
    )


def parse_par(raw: bytes) -> dict[str, str]:
    """Keys of a PyHST parameter file in lower case; what follows '#' or '!' is a comment."""
    keys: dict[str, str] = {}
    for line in raw.decode("latin-1").replace("\0", " ").splitlines():
        text = re.split(r"[#!]", line, maxsplit=1)[0]
        key, separator, value = text.partition("=")
        if separator and key.strip() and len(keys) < _MOST_KEYS:
            keys[key.strip().lower()[:200]] = value.strip()[:1000]
    return keys


def parse_sections(raw: bytes) -> dict[str, str]:
    """`section/key` to value of a text in sections, keys in lower case."""
    keys: dict[str, str] = {}
    section = ""
    for line in raw.decode("utf-8", "replace").splitlines():
        text = line.strip()
        if text.startswith("[") and text.endswith("]"):
            section = text[1:-1].strip().lower()[:200]
            continue
        key, separator, value = text.partition("=")
        if separator and len(keys) < _MOST_KEYS:
            keys[f"{section}/{key.strip().lower()[:200]}"] = value.strip()[:1000]
    return keys


def slices_of(keys: Mapping[str, str]) -> int | None:
    """How many slices the run that wrote the text made: nabu's resolved range, or NRecon's count."""
    first, last = (whole(keys.get(f"processing_options.reconstruction/{end}_z")) for end in ("start", "end"))
    if first is not None and last is not None and last >= first:
        return last - first + 1
    return whole(keys.get("reconstruction/sections count"))


def scan_of(keys: Mapping[str, str]) -> str | None:
    """The name of the scan that a run read, None where the text does not say it."""
    location = keys.get("nabu_config.dataset/location") or keys.get("file_prefix") or ""
    last = location.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem = re.sub(r"\.(nx|h5|hdf5|nxs)$", "", last)
    return stem or keys.get("reconstruction/dataset prefix") or None
