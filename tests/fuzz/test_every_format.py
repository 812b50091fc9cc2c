"""Scans of every format, damaged in every way that we could think of: always an answer, never a wrong `complete`."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pytest

from tomovault.core.errors import NoScan, TomovaultError
from tomovault.core.layout import FrameKind, Layout
from tomovault.core.scan import ScanReport, Verdict
from tomovault.core.wire import from_plain, to_plain
from tomovault.formats import family
from tomovault.formats.hdf5_values import DAMAGE
from tomovault.formats.limits import LimitedFormats, Limits
from tomovault.testing.mutants import Tree, mutate

#: An answer that begins so is an error that nobody foresaw.
_BARE = re.compile(r"(?:\S+: )?(?:[A-Za-z_.]*(?:Error|Exception|Warning|Exit|Iteration)|error|struct\.error): ")
_HDF5 = {"als832", "bliss", "dataexchange", "nexus", "nxtomo", "volume_hdf5"}
_SHORT = 40
#: So many mutants with which something is wrong are told of.
_TOLD = 40
_ODD_VALUES = (
    *(
        math.nan,
        math.inf,
        -math.inf,
        -1,
        0,
        2**63 - 1,
        -(2**63),
        1e308,
        1.5,
        True,
        "",
        "x",
        "nan",
        "\u0661",
        b"\xff\xfe",
    ),
    *("a\nb", "9" * 5000, "2024-99-99T00:00:00+99:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
    *(np.zeros(0), np.zeros((2, 0, 3)), np.zeros((2, 2)), np.arange(7), np.full(9, np.nan), np.full(6, np.inf)),
    *(np.array(["a", "b"], "S3"), np.array([b"\xff"], "S3"), np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])),
    *(np.void(b"\0\1"), np.complex128(1j), np.float16(2), np.bool_(1), np.uint64(2**64 - 1), np.array([[["x"]]], "S1")),
    *(h5py.Empty("f4"), h5py.Empty("S3"), np.full(6, -5, "i1"), np.full(6, 2**40)),
)


@pytest.fixture
def count():
    """How many mutants of each seed, and the first."""
    return int(os.environ.get("TOMOVAULT_FUZZ", "400")), int(os.environ.get("TOMOVAULT_FUZZ_FROM", "0"))


def test_every_format_has_a_seed(seeded_kinds):
    assert seeded_kinds == set(family.kinds())


@pytest.mark.parametrize("kind", family.kinds())
def test_every_seed_is_a_scan_that_is_found(tmp_path, child, seeds, look, kind):
    for seed in seeds(kind):
        folder = tmp_path / seed.name
        seed.tree.write(str(folder))
        candidates = look(kind, str(folder))
        verdicts = [v for c in candidates for v in check(child, c, settled=True)]
        wanted = Verdict.COMPLETE
        assert wanted in verdicts, seed.name


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", family.kinds())
def test_mutants_of_every_format(tmp_path, child, seeds, look, kind):
    share = max(10, _SHORT // len(seeds(kind)))
    fuzz(tmp_path, child, seeds, look, kind, range(share))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", family.kinds())
def test_many_mutants_of_every_format(tmp_path, child, seeds, look, kind, count):
    fuzz(tmp_path, child, seeds, look, kind, range(count[1], count[1] + count[0]))


def fuzz(tmp_path, child, seeds, look, kind, numbers):
    """Check each of these mutants of every seed of the format; what went wrong is told with the mutant's number."""
    foreign = [data for other in ("edf", "tiff_stack", "txrm", "nxtomo") for data in first_files(seeds(other)[0].tree)]
    verdicts, looked, wrong = set(), 0, []
    for seed in seeds(kind):
        folder = str(tmp_path / seed.name)
        for number in numbers:
            rng = Random(f"{kind} {seed.name} {number}")
            settled = rng.random() < 0.9
            told = mutate_values(seed.tree, folder, rng) if kind in _HDF5 and number % 2 else ""
            told = told or mutate(seed.tree, folder, rng, foreign)
            try:
                before = picture(folder)
                for candidate in look(kind, folder):
                    verdicts |= check(child, candidate, settled=settled)
                    looked += 1
                assert picture(folder) == before, "files were changed"
            except Exception as problem:  # noqa: BLE001 - any is a finding
                wrong.append(f"mutant {number} of {kind} {seed.name} ({told}): {problem!r}")
    assert not wrong, "\n".join([f"{len(wrong)} mutants", *wrong[:_TOLD]])
    assert looked
    assert len(child.ended) <= (len(numbers) // 20 + 2 if kind in _HDF5 else 0), child.ended
    assert verdicts - {Verdict.COMPLETE, Verdict.ACQUIRING}, "no mutant was bad"


def first_files(tree):
    return [data for data in list(tree.files.values())[:2] if data]


def picture(folder):
    """Everything below a folder but access times."""
    found = {}
    for place, folders, names in os.walk(os.fsencode(folder)):
        for name in (*folders, *names):
            path = os.path.join(place, name)
            seen = os.lstat(path)
            link = os.readlink(path) if stat.S_ISLNK(seen.st_mode) else b""
            found[path] = (seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, link)
    return found


# --- what must be true of an answer --------------------------------------------------------------


def check(child, candidate, *, settled):
    """The answer about a candidate is one of those that are allowed; returns the verdicts, or what else it is."""
    answer = child.ask({"op": "inspect", "settled": settled, "candidate": to_plain(candidate)})
    if answer is None:
        return {"ended"}
    failure = answer.get("error")
    if failure is not None:
        check_words(failure["message"])
        return {"error"}
    if "no_scan" in answer:
        check_words(answer["no_scan"])
        return {"no scan"}
    assert isinstance(answer["reports"], list)
    return {check_report(child, candidate, plain, settled=settled) for plain in answer["reports"]}


def check_words(message):
    assert message, "an error without a word"
    assert len(message) < 8192, f"a message of {len(message)} characters"
    assert not _BARE.match(message), message
    assert "needs more memory" not in message, message


def check_report(child, candidate, plain, *, settled):
    json.dumps(plain, allow_nan=False)
    text = json.dumps(plain)
    assert "\\u0000" not in text, "a NUL, which databases refuse"
    report = from_plain(ScanReport, plain)
    verdict, certificate = report.certificate.verdict, report.certificate
    assert (report.format, report.root != "", report.name != "") == (candidate.format, True, True)
    assert certificate.problems or verdict in (Verdict.COMPLETE, Verdict.ACQUIRING, Verdict.ABORTED), verdict
    assert certificate.evidence or verdict is not Verdict.COMPLETE
    assert settled or verdict is not Verdict.COMPLETE
    if verdict is Verdict.COMPLETE:
        assert report.files
        for kind in ("projections", "flats", "darks"):
            wanted, there = getattr(certificate.expected, kind), getattr(certificate.found, kind)
            assert wanted is None or (there is not None and there >= wanted), (
                f"complete with {there} of {wanted} {kind}"
            )
    for file in report.files:
        assert not file.state.path.startswith("/")
        assert ".." not in file.state.path.split("/")
        seen = os.lstat(os.path.join(report.root, file.state.path))
        assert (seen.st_size, seen.st_ino) == (file.state.size, file.state.inode)
    check_layout(child, report)
    return verdict


def check_layout(child, report):
    """What is laid out lies in the report's files, frame after frame; a complete scan has every frame in it."""
    answer = child.ask({"op": "layout", "report": to_plain(report)})
    if answer is None:
        return
    if "error" in answer:
        check_words(answer["error"]["message"])
        assert report.certificate.verdict is not Verdict.COMPLETE, answer["error"]["message"]
        return
    json.dumps(answer, allow_nan=False)
    layout = from_plain(Layout, answer["layout"])
    members = {file.state.path for file in report.files}
    frames = []
    for file in layout.files:
        assert file.path in members
        size = Path(report.root, file.path).stat().st_size
        end = 0
        for frame in file.frames:
            assert end <= frame.offset
            assert frame.length == math.prod(frame.shape) * np.dtype(frame.dtype).itemsize > 0
            end = frame.offset + frame.length
        assert end <= file.size <= size
        frames += [*file.frames, *file.coded]
    assert len({frame.order for frame in frames}) == len(frames), "two frames at one place"
    if report.certificate.verdict is Verdict.COMPLETE and frames:
        there = sum(frame.kind is FrameKind.PROJECTION for frame in frames)
        wanted = report.certificate.expected.projections
        assert wanted is None or there >= wanted, f"complete, and {there} of {wanted} projections can be read"


# --- values inside HDF5 files --------------------------------------------------------------------


def mutate_values(tree: Tree, folder: str, rng: Random) -> str:
    """Write `tree` with values of one HDF5 file changed by the library: the file is whole and says odd things."""
    tree.write(folder)
    paths = [Path(folder, name) for name in tree.files if name.lower().endswith((".h5", ".hdf5", ".nx", ".nxs"))]
    path = rng.choice([*paths, max(paths, key=lambda p: -len(p.parts))])
    told = []
    before = path.stat()
    with h5py.File(path, "r+", locking=False) as file:
        for _ in range(rng.choice((1, 1, 2, 3))):
            names: list[str] = []
            file.visit(names.append)
            if not names:
                break
            name = rng.choice(names)
            way = rng.choice(_WAYS)
            told.append(f"{way.__name__} {path.name}:{name}")
            try:
                way(file, name, rng)
            except (*DAMAGE, IndexError):
                told[-1] += " (refused)"
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    return ", ".join(told)


def replace_value(file, name, rng):
    attrs = dict(file[name].attrs) if isinstance(file[name], h5py.Dataset) else {}
    del file[name]
    file[name] = rng.choice(_ODD_VALUES)
    file[name].attrs.update(attrs)


def replace_attribute(file, name, rng):
    holder = rng.choice((file, file[name], file[name].parent))
    known = [*holder.attrs, "NX_class", "units", "axes", "creator", "nangles", "file_name", "stage_date"]
    holder.attrs[rng.choice(known)] = rng.choice(_ODD_VALUES)


def remove_item(file, name, _rng):
    del file[name]


def make_soft_link(file, name, rng):
    del file[name]
    file[name] = h5py.SoftLink(rng.choice((f"/{name}", "/", "/nowhere", ".", f"/{name}/{name}", "a\udcff")))


def make_external_link(file, name, rng):
    del file[name]
    targets = ("/etc/passwd", "nowhere.h5", os.path.basename(file.filename), "/dev/zero", "../../x.h5", ".", "")
    file[name] = h5py.ExternalLink(rng.choice(targets), rng.choice(("/", f"/{name}", "/nowhere")))


def make_group(file, name, _rng):
    del file[name]
    file.create_group(name)


def make_loop(file, name, _rng):
    del file[name]
    file[name] = file["/"]


def make_hollow(file, name, rng):
    """A dataset whose chunks were never written, or that is larger than anything."""
    item = file[name]
    old = (item.shape, item.dtype) if isinstance(item, h5py.Dataset) and item.shape else ((6, 5, 6), np.dtype("<u2"))
    del file[name]
    shape = rng.choice((old[0], (2**31, *old[0][1:]), (2**40, 2**20, 2), (0, *old[0][1:]), (1, 1, 1)))
    chunks = tuple(min(4, max(1, n)) for n in shape)
    file.create_dataset(name, shape, old[1], chunks=chunks, maxshape=(None,) * len(shape))


def make_virtual(file, name, rng):
    item = file[name]
    old = item.shape if isinstance(item, h5py.Dataset) and item.ndim == 3 else (6, 5, 6)
    del file[name]
    layout = h5py.VirtualLayout(old, "<u2")
    source = rng.choice((".", "nowhere.h5", "../up.h5", "/etc/passwd", os.path.basename(file.filename), "%b", "x%%"))
    layout[:] = h5py.VirtualSource(source, rng.choice((name, "nowhere", "/")), old)
    file.create_virtual_dataset(name, layout)


def make_external(file, name, rng):
    item = file[name]
    old = (item.shape, item.dtype) if isinstance(item, h5py.Dataset) and item.shape else ((6, 5, 6), np.dtype("<u2"))
    del file[name]
    place = rng.choice(("/etc/passwd", "raw.bin", "/dev/zero", os.path.basename(file.filename)))
    file.create_dataset(name, old[0], old[1], external=[(place, rng.choice((0, 512)), h5py.h5f.UNLIMITED)])


def change_shape(file, name, rng):
    item = file[name]
    small = isinstance(item, h5py.Dataset) and (item.size or 0) < 10**6
    data = item[()] if small else np.zeros((6, 5, 6), "<u2")
    del file[name]
    ways = (lambda a: a[:-1], lambda a: a[..., None], lambda a: a.astype(">f8"), lambda a: a.ravel(), lambda a: a[0])
    file[name] = rng.choice(ways)(np.asarray(data))


def move_item(file, name, rng):
    others: list[str] = []
    file.visit(others.append)
    other = rng.choice(others)
    file[f"{other}/moved" if isinstance(file[other], h5py.Group) else f"{other}_moved"] = file[name]


_WAYS = (
    *(replace_value, replace_value, replace_value, replace_attribute, replace_attribute, remove_item, make_soft_link),
    *(make_external_link, make_group, make_loop, make_hollow, make_virtual, make_external, change_shape, move_item),
)


# --- through the real child ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", family.kinds())
def test_mutants_one_by_one_in_the_limited_child(tmp_path, seeds, look, kind):
    """As the daemon asks: a process a mutant. What is raised is an error of ours, with the place in it."""
    limited = LimitedFormats(Limits(wall_s=60.0, output_bytes=1 << 20))
    seed = seeds(kind)[0]
    folder = str(tmp_path / seed.name)
    for number in (1000,):
        mutate(seed.tree, folder, Random(f"{kind} {seed.name} {number}"))
        for candidate in look(kind, folder)[:2]:
            try:
                for report in limited.inspect(candidate, settled=True):
                    limited.layout(report)
            except NoScan as reason:
                check_words(reason.message)
            except TomovaultError as error:
                check_words(error.message)
                assert candidate.folder in error.message  # noqa: PT017 - either outcome is right
