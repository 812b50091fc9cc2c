"""The header of an EDF file as SPEC, FReLoN, Octave and fabio write it. Nothing else of the file is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tomovault.formats.spec_text import number

#: A header is padded to whole blocks of this size.
BLOCK = 512
#: A header that has not ended here is not one: the longest real one seen has 3072 bytes.
LONGEST_HEADER = 64 * 1024
#: Read at once, so that an ordinary header costs one call.
_FIRST_READ = 4096

#: numpy type codes of the DataType words in use at ESRF, in lower case.
_DATA_TYPES: Mapping[str, str] = {
    "signedbyte": "i1",
    "signed8": "i1",
    "unsignedbyte": "u1",
    "unsigned8": "u1",
    "signedshort": "i2",
    "signed16": "i2",
    "unsignedshort": "u2",
    "unsigned16": "u2",
    "signedinteger": "i4",
    "signedlong": "i4",
    "signed32": "i4",
    "unsignedinteger": "u4",
    "unsignedlong": "u4",
    "unsigned32": "u4",
    "signed64": "i8",
    "unsigned64": "u8",
    "float": "f4",
    "floatvalue": "f4",
    "float32": "f4",
    "real": "f4",
    "double": "f8",
    "doublevalue": "f8",
    "float64": "f8",
}


class HeaderError(ValueError):
    """The file does not start with a whole EDF header; the text says in what way."""


@dataclass(frozen=True)
class EdfHeader:
    """The first header of a file. `length` is where its data begins; keys are in lower case.

    `body` is the number of data bytes that the header promises, None where it promises nothing.
    `dtype` and `shape` (rows, columns) are None where the data is not one plain two-dimensional array.
    """

    length: int
    keys: Mapping[str, str] = field(default_factory=dict)
    body: int | None = None
    dtype: str | None = None
    shape: tuple[int, int] | None = None

    @property
    def frame_bytes(self) -> int | None:
        """Bytes of the array itself, which may be fewer than `body`."""
        if self.dtype is None or self.shape is None:
            return None
        return self.shape[0] * self.shape[1] * int(self.dtype[2:])

    def motors(self) -> dict[str, float]:
        """Motor positions by mnemonic; lists of unequal length are cut to the shorter."""
        return _paired(self.keys.get("motor_mne", ""), self.keys.get("motor_pos", ""))

    def counters(self) -> dict[str, float]:
        """Counter values by mnemonic."""
        return _paired(self.keys.get("counter_mne", ""), self.keys.get("counter_pos", ""))

    def number(self, key: str) -> float | None:
        """A key's value as a finite number, None where it is absent or is not one."""
        return number(self.keys.get(key.lower()))


def read_header(descriptor: int) -> EdfHeader:
    """Parse the header of an open file. Raises HeaderError where there is none, OSError where reading fails."""
    text, length = _read_raw(descriptor)
    keys = _parse(text.decode("latin-1"))
    shape, dtype = _array(keys)
    promised = number(keys.get("size")) or number(keys.get("edf_binarysize"))
    body = int(promised) if promised is not None and promised > 0 else None
    if dtype is not None and shape is not None:
        body = max(body or 0, shape[0] * shape[1] * int(dtype[2:]))
    return EdfHeader(length=length, keys=keys, body=body, dtype=dtype, shape=shape)


def _read_raw(descriptor: int) -> tuple[bytes, int]:
    raw = os.pread(descriptor, _FIRST_READ, 0)
    if not raw:
        raise HeaderError("the file is empty")
    if raw[:1] != b"{" and raw[:2] not in (b"\n{", b"\r\n"):
        raise HeaderError("the file does not start with an EDF header")
    end = _block_end(raw, 0)
    while end is None and len(raw) < LONGEST_HEADER:
        more = os.pread(descriptor, min(BLOCK * 16, LONGEST_HEADER - len(raw)), len(raw))
        if not more:
            break
        start = len(raw) // BLOCK * BLOCK
        raw += more
        end = _block_end(raw, start)
    if end is None:
        end = _loose_end(raw)
    if end is None:
        raise HeaderError(f"the header has no end within {len(raw)} bytes")
    return raw[:end], end


def _block_end(raw: bytes, start: int) -> int | None:
    """The first multiple of 512 right after '}' and a newline."""
    for end in range(start + BLOCK, len(raw) + 1, BLOCK):
        if raw[end - 2 : end] == b"}\n":
            return end
    return None


def _loose_end(raw: bytes) -> int | None:
    """The end of a header that was not padded to whole blocks, as some writers leave it."""
    ends = [at + len(mark) for mark in (b"}\n", b"}\r\n") if (at := raw.find(mark)) >= 0]
    return min(ends) if ends else None


def _parse(text: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    last = ""
    for line in text.strip().lstrip("{").rstrip("}").splitlines():
        key, separator, value = line.partition("=")
        if separator:
            last = key.strip().lower()
            keys[last] = _value(value)
        elif last and line.strip(" ;\t\0"):
            keys[last] = f"{keys[last]} {_value(line)}".strip()
    return keys


def _value(text: str) -> str:
    return text.replace("\0", " ").strip().rstrip(";").strip()


def _array(keys: Mapping[str, str]) -> tuple[tuple[int, int] | None, str | None]:
    columns, rows = number(keys.get("dim_1")), number(keys.get("dim_2"))
    code = _DATA_TYPES.get(keys.get("datatype", "").lower())
    packed = keys.get("compression", "none").lower() not in ("", "none", "no", "nocompression", "uncompressed")
    several = (number(keys.get("dim_3")) or 1) > 1
    if code is None or packed or several or columns is None or rows is None or min(columns, rows) < 1:
        return None, None
    order = "|" if code.endswith("1") else ">" if keys.get("byteorder", "").lower() == "highbytefirst" else "<"
    return (int(rows), int(columns)), order + code


def _paired(names: str, values: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in zip(names.split(), values.replace(";", " ").split(), strict=False):
        parsed = number(value)
        if parsed is not None:
            found[name] = parsed
    return found
