"""Folders of a scan changed at random: what a bad disk, a bad program or a bad person leaves. The same every time."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

#: What stands in place of a number in a text.
_ODD_NUMBERS = (
    *(b"0", b"-1", b"1", b"2147483648", b"4294967295", b"18446744073709551616", b"9" * 400, b"9" * 5000),
    *(
        b"nan",
        b"inf",
        b"-inf",
        b"1e308",
        b"1e400",
        b"-0.0",
        b"1.5",
        b"0x10",
        b"",
        b"1_000",
        b"\xd9\xa1\xd9\xa2",
        b"\xb2",
    ),
)
#: Pieces put into a text or a binary file.
_ODD_PIECES = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\n\n", b"=", b"}\n", b"{", b"<a>", b"]]>", b"&x;"),
    *(b"\xe9", b"%s%n", b"A" * 70_000, b"\n" * 9000, b"=\n" * 9000, b"<a>" * 500, b"\x1b[2J", b"../../etc/passwd"),
)
_ODD_NAMES = (b"\xff\xfe", b"\n", b"'\"", b" ", b"%s", b"9" * 60, "\u0661".encode(), b"\x1b[2J", b"-", b"\\")
_NUMBER = re.compile(rb"\d+(?:\.\d+)?")
#: Times before 1970, after 2262, and of the year 9999 and on, in seconds.
_ODD_TIMES = (0, -1, -(2**31), 2**31, 2**33, 253402300800, 2**35)
_LARGEST_HOLE = 1 << 28


@dataclass(frozen=True)
class Tree:
    """Files and links of a folder by their path below it, in order of their writing."""

    files: Mapping[str, bytes]
    links: Mapping[str, str]

    @classmethod
    def read(cls, folder: str) -> Tree:
        """What is there now, in order of the files' times."""
        found = sorted((p for p in Path(folder).rglob("*") if not p.is_dir()), key=lambda p: (p.lstat().st_mtime_ns, p))
        named = {os.fspath(p.relative_to(folder)): p for p in found}
        return cls(
            {name: p.read_bytes() for name, p in named.items() if not p.is_symlink()},
            {name: os.readlink(p) for name, p in named.items() if p.is_symlink()},
        )

    def write(self, folder: str, *, first_s: int = 1_700_000_000) -> None:
        """Write it anew into `folder`, which is emptied first; each file is a second younger than the last."""
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        for at, (name, data) in enumerate(self.files.items()):
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.utime(path, (first_s + at, first_s + at))
        for name, target in self.links.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)


def mutate(tree: Tree, folder: str, rng: Random, foreign: Sequence[bytes] = ()) -> str:
    """Write `tree` to `folder` with one to three changes and say in words what they are; `foreign` are contents that
    may stand in place of a file's.
    """
    tree.write(folder)
    told = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        paths = sorted(p for p in Path(folder).rglob("*") if p.is_file() and not p.is_symlink())
        if not paths:
            break
        path = rng.choice(paths)
        if rng.random() < 0.75 and path.stat().st_size:
            change = rng.choice(_CONTENTS)
            before = path.stat()
            path.write_bytes(change(path.read_bytes(), rng))
            os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
            told.append(f"{change.__name__.strip('_')} {path.name!r}")
        else:
            way = rng.choice(_ENTRIES)
            way(path, rng.choice(paths), rng, foreign)
            told.append(f"{way.__name__.strip('_')} {path.name!r}")
    return ", ".join(told)


def damage(data: bytes, rng: Random) -> bytes:
    """Bytes with one change of content."""
    return rng.choice(_CONTENTS)(data, rng) if data else data


# --- contents ------------------------------------------------------------------------------------


def _place(data: bytes, rng: Random) -> int:
    """Anywhere, and every other time where headers are."""
    return rng.randrange(min(len(data), 1024) if rng.random() < 0.5 else len(data))


def _flip_bits(data: bytes, rng: Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.randint(1, 12)):
        made[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(made)


def _change_bytes(data: bytes, rng: Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        made[_place(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(made)


def _cut_end(data: bytes, rng: Random) -> bytes:
    return data[: rng.choice((rng.randrange(len(data)), len(data) - 1, min(len(data), 512) - 1))]


def _cut_start(data: bytes, rng: Random) -> bytes:
    return data[rng.choice((1, 2, rng.randrange(len(data)))) :]


def _leave_out(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.randint(1, 600) :]


def _put_in(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.choice((*_ODD_PIECES, rng.randbytes(rng.randint(1, 64)))) + data[at:]


def _zero(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    length = min(rng.choice((1, 8, 64, 512, 4096)), len(data) - at)
    return data[:at] + bytes(length) + data[at + length :]


def _swap_blocks(data: bytes, rng: Random) -> bytes:
    length = rng.choice((1, 4, 12, 64, 512))
    first, second = sorted((_place(data, rng), _place(data, rng)))
    if second < first + length or second + length > len(data):
        return data[::-1]
    pieces = data[:first], data[first : first + length], data[first + length : second], data[second : second + length]
    return pieces[0] + pieces[3] + pieces[2] + pieces[1] + data[second + length :]


def _repeat(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    piece = data[at : at + rng.choice((1, 12, 512, 4096))]
    return data[:at] + piece * rng.choice((2, 3, 100)) + data[at:]


def _lie_in_binary(data: bytes, rng: Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        width = rng.choice((1, 2, 4, 4, 8))
        most = 1 << (8 * width)
        value = rng.choice((0, 1, most - 1, most - 2, most // 2, most // 2 - 1, len(data), len(data) - 1, 512, 65536))
        at = _place(data, rng) // 2 * 2
        made[at : at + width] = (value % most).to_bytes(width, rng.choice(("little", "big")))
    return bytes(made)


def _lie_in_text(data: bytes, rng: Random) -> bytes:
    found = list(_NUMBER.finditer(data[:8192]))
    if not found:
        return _lie_in_binary(data, rng)
    for match in sorted(rng.sample(found, min(len(found), rng.randint(1, 3))), key=lambda m: -m.start()):
        data = data[: match.start()] + rng.choice(_ODD_NUMBERS) + data[match.end() :]
    return data


def _shuffle_lines(data: bytes, rng: Random) -> bytes:
    lines = data[:8192].splitlines(keepends=True)
    way = rng.randrange(4)
    if way == 0:
        rng.shuffle(lines)
    elif way == 1:
        lines += [rng.choice(lines)] * 50
    elif way == 2:
        del lines[rng.randrange(len(lines))]
    else:
        lines = [line.rstrip(b"\r\n") + b"\r" for line in lines]
    return b"".join(lines) + data[8192:]


def _encode_otherwise(data: bytes, rng: Random) -> bytes:
    return data.decode("latin-1").encode(rng.choice(("utf-16", "utf-8", "utf-32", "utf-7", "utf-8-sig")))


_CONTENTS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flip_bits, _change_bytes, _cut_end, _cut_start, _leave_out, _put_in, _zero, _swap_blocks, _repeat,
    _lie_in_binary, _lie_in_binary, _lie_in_text, _lie_in_text, _shuffle_lines, _encode_otherwise,
)  # fmt: skip


# --- entries of folders --------------------------------------------------------------------------


def _remove(path: Path, _other: Path, _rng: Random, _foreign: Sequence[bytes]) -> None:
    path.unlink()


def _empty(path: Path, _other: Path, _rng: Random, _foreign: Sequence[bytes]) -> None:
    path.write_bytes(b"")


def _swap_files(path: Path, other: Path, _rng: Random, _foreign: Sequence[bytes]) -> None:
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def _replace_by_foreign(path: Path, _other: Path, rng: Random, foreign: Sequence[bytes]) -> None:
    path.write_bytes(rng.choice(foreign) if foreign else rng.randbytes(2000))


def _replace_by_noise(path: Path, _other: Path, rng: Random, _foreign: Sequence[bytes]) -> None:
    path.write_bytes(rng.randbytes(rng.choice((1, 7, 8, 511, 512, 5000))))


def _replace_by_folder(path: Path, _other: Path, rng: Random, _foreign: Sequence[bytes]) -> None:
    path.unlink()
    path.mkdir()
    if rng.random() < 0.5:
        (path / path.name).write_bytes(b"x")


def _replace_by_link(path: Path, other: Path, rng: Random, _foreign: Sequence[bytes]) -> None:
    targets = (
        other.name,
        os.fspath(other),
        path.name,
        "/dev/zero",
        "/etc/passwd",
        "../..",
        "nowhere",
        "/proc/self/mem",
    )
    path.unlink()
    path.symlink_to(rng.choice(targets))


def _replace_by_pipe(path: Path, _other: Path, _rng: Random, _foreign: Sequence[bytes]) -> None:
    path.unlink()
    os.mkfifo(path)


def _join(path: Path, other: Path, _rng: Random, _foreign: Sequence[bytes]) -> None:
    if path != other:
        path.unlink()
        os.link(other, path)


def _rename_oddly(path: Path, _other: Path, rng: Random, _foreign: Sequence[bytes]) -> None:
    name = os.fsencode(path.name)
    at = rng.randrange(len(name) + 1)
    odd = (name[:at] + rng.choice(_ODD_NAMES) + name[at + rng.randrange(2) :])[:250]
    target = os.path.join(os.fsencode(path.parent), odd)
    if not os.path.lexists(target):
        os.rename(path, target)


def _grow_hole(path: Path, _other: Path, rng: Random, _foreign: Sequence[bytes]) -> None:
    os.truncate(path, path.stat().st_size + rng.choice((1, 511, 1 << 20, _LARGEST_HOLE)))


def _date_oddly(path: Path, _other: Path, rng: Random, _foreign: Sequence[bytes]) -> None:
    moment = rng.choice(_ODD_TIMES)
    os.utime(path, (moment, moment))


_ENTRIES: tuple[Callable[[Path, Path, Random, Sequence[bytes]], None], ...] = (
    _remove, _empty, _swap_files, _replace_by_foreign, _replace_by_noise, _replace_by_folder, _replace_by_link,
    _replace_by_pipe, _join, _rename_oddly, _rename_oddly, _grow_hole, _date_oddly,
)  # fmt: skip
