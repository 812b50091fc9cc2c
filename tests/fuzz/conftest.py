"""A small scan of every format, and a process that is asked about its mutants.

`TOMOVAULT_FUZZ` is how many mutants of each seed the long run makes, `TOMOVAULT_FUZZ_FROM` the number of the first.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest

from tomovault.core.scan import Candidate
from tomovault.formats import family
from tomovault.formats.folder import GenericFolder
from tomovault.formats.limits import child_environment
from tomovault.testing.bliss_scan import write_bliss_scan
from tomovault.testing.edf_scan import write_edf_scan
from tomovault.testing.mutants import Tree
from tomovault.testing.one_file_scan import write_one_file_scan
from tomovault.testing.tiff_scan import VARIANTS, TiffScan, tiff_bytes
from tomovault.testing.zeiss_bytes import zeiss_bytes
from tomovault.watch.listing import list_folder

_SMALL = {"shape": (5, 6), "projections": 6, "flats": 1, "darks": 1}
_VOXELS = np.random.default_rng(5).normal(0, 1, (4, 5, 7)).astype("<f4")
_RUN = "[processing_options.reconstruction]\nstart_z = 0\nend_z = 3\nvoxel_size_cm = (6.5e-05, 6.5e-05)\n"
#: CPU time that one answer may take here, a fraction of what one inspection may, and wall time on a machine of others.
ANSWER_CPU_S, ANSWER_S = 5, 240.0
MOST_ANSWER_BYTES = 1 << 20


# --- seeds ---------------------------------------------------------------------------------------


def _edf(folder):
    write_edf_scan(folder, "bone_", variant="edf-plain", **_SMALL)


def _bliss(folder):
    write_bliss_scan(folder, "bone", variant="bliss-plain", **_SMALL)


def _one_file(variant):
    return lambda folder: write_one_file_scan(folder, "bone", variant=variant, **_SMALL)


def _als832(folder):
    with h5py.File(Path(folder, "bone.h5"), "w") as file:
        file.attrs["stage_date"] = "2015-11-20T10:06:40+00:00"
        group = file.create_group("bone")
        texts = {"nangles": "4", "num_bright_field": "1", "num_dark_fields": "1", "i0cycle": "0", "arange": "180"}
        texts |= {"senergy": "20000", "pxsize": "0.000645", "obstime": "0.5", "object": "bone", "distance": "20"}
        group.attrs.update({key: f"{text}\r" for key, text in texts.items()})
        names = [f"bone_0000_{at:04d}.tif" for at in range(4)]
        names += ["bonebak_0000_0000.tif", "bonebak_0000_0003.tif", "bonedrk_0000_0004.tif"]
        for at, name in enumerate(names):
            group[name] = np.full((1, 5, 6), at + 1, "<u2")


def _gda(folder):
    with h5py.File(Path(folder, "k11-18014-pco.h5"), "w") as file:
        file["data"] = np.ones((9, 3, 4), np.uint16)
    with h5py.File(Path(folder, "k11-18014.nxs"), "w") as file:
        file.attrs["file_name"] = "/dls/k11/data/2019/cm22975-1/k11-18014.nxs"
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["start_time"] = "2019-05-04T03:02:01+01:00"
        entry["diamond_scan/scan_shape"] = np.array([9])
        entry["diamond_scan/scan_finished"] = np.array([1])
        entry["before_scan/energy"] = 53.0
        detector = entry.create_group("instrument/pco")
        detector.attrs["NX_class"] = "NXdetector"
        detector["data"] = h5py.ExternalLink("k11-18014-pco.h5", "/data")
        detector["image_key"] = np.array([2, 1, 0, 0, 0, 0, 0, 1, 1])
        detector["count_time"] = 0.1
        shown = entry.create_group("pco")
        shown.attrs.update({"NX_class": "NXdata", "axes": ["theta", ".", "."]})
        shown["theta"] = np.linspace(0, 180, 9)


def _subentry(folder):
    with h5py.File(Path(folder, "24888.nxs"), "w") as file:
        entry = file.create_group("entry1")
        entry.attrs["NX_class"] = "NXentry"
        entry["scan_dimensions"] = np.array([6])
        entry["end_time"] = "2019-05-04T03:02:01+01:00"
        inner = entry.create_group("tomo_entry")
        inner.attrs["NX_class"] = "NXsubentry"
        inner["definition"] = "NXtomo"
        inner["instrument/detector/data"] = np.arange(6 * 12, dtype="<u2").reshape(6, 3, 4) + 1
        inner["instrument/detector/image_key"] = np.array([2, 1, 0, 0, 0, 0])
        inner["sample/rotation_angle"] = np.linspace(0, 180, 6)


def _tiff(variant):
    return lambda folder: TiffScan(folder, VARIANTS[variant][0], shape=(4, 6)).write()


def _txrm(folder):
    frames = np.random.default_rng(1).integers(1, 999, (3, 48, 48)).astype("u2")
    Path(folder, "chip.txrm").write_bytes(zeiss_bytes(frames))
    Path(folder, "chip.log").write_text("energy = 8 keV\n")


def _pyhst(folder):
    Path(folder, "bone_1_.vol").write_bytes(_VOXELS.tobytes())
    info = (
        "! PyHST_SLAVE VOLUME INFO FILE\nNUM_X = 7\nNUM_Y = 5\nNUM_Z = 4\nvoxelSize = 0.7\nBYTEORDER = LOWBYTEFIRST\n"
    )
    Path(folder, "bone_1_.vol.info").write_text(info)
    Path(folder, "bone_1_.par").write_text("FILE_PREFIX = /data/bone_1_ # frames\nOUTPUT_FILE = /data/bone_1_.vol\n")


def _slices(folder):
    for at, plane in enumerate(_VOXELS):
        Path(folder, f"bone_slice_{at:04d}.tif").write_bytes(tiff_bytes([plane]))
    Path(folder, "bone_infos.txt").write_text(_RUN)


def _edf_slices(folder):
    for at, plane in enumerate(_VOXELS):
        head = "{\nByteOrder = LowByteFirst ;\nDataType = FloatValue ;\nDim_1 = 7 ;\nDim_2 = 5 ;\nSize = 140 ;\n"
        Path(folder, f"bone_slice_{at:04d}.edf").write_bytes(head.encode().ljust(1022) + b"}\n" + plane.tobytes())
    Path(folder, "bone_infos.txt").write_text(_RUN)


def _txm(folder):
    frames = np.random.default_rng(1).integers(1, 999, (3, 48, 48)).astype("u2")
    Path(folder, "chip.txm").write_bytes(zeiss_bytes(frames))


def _nabu_piece(path, data):
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        if data is not None:
            entry["reconstruction/results/data"] = data
        entry["reconstruction/configuration/nabu_config/dataset/location"] = "/data/visitor/ma1/id19/bone_1.nx"
        entry["reconstruction/configuration/processing_options/reconstruction/voxel_size_cm"] = "(6.5e-05, 6.5e-05)"


def _nabu(folder):
    Path(folder, "bone_rec").mkdir()
    layout = h5py.VirtualLayout(_VOXELS.shape, "<f4")
    for at in (0, 2):
        name = f"bone_rec/bone_rec_{at:05d}.hdf5"
        _nabu_piece(Path(folder, name), _VOXELS[at : at + 2])
        layout[at : at + 2] = h5py.VirtualSource(name, "entry/reconstruction/results/data", (2, 5, 7))
    _nabu_piece(Path(folder, "bone_rec.hdf5"), None)
    with h5py.File(Path(folder, "bone_rec.hdf5"), "a") as file:
        file.create_virtual_dataset("entry/reconstruction/results/data", layout)


def _tomopy(folder):
    with h5py.File(Path(folder, "tooth_rec.h5"), "w") as file:
        file["exchange/data"] = _VOXELS


def _folder(folder):
    Path(folder, "spectra").mkdir()
    for at in range(3):
        Path(folder, "spectra", f"s{at}.dat").write_bytes(bytes(range(at, 200)))
    Path(folder, "notes.txt").write_text("of a day\n")
    Path(folder, "DONE").write_text("")


#: Every installed format has at least one; a name is that of the folder that the scan is written into.
SEEDS = {
    "als832": {"bone": _als832},
    "bliss": {"plain": _bliss},
    "dataexchange": {"plain": _one_file("dataexchange-plain"), "gzip": _one_file("dataexchange-gzip")},
    "edf": {"plain": _edf},
    "folder": {"spectra": _folder},
    "nexus": {"gda": _gda, "subentry": _subentry},
    "nxtomo": {f"nxtomo-{v}": _one_file(f"nxtomo-{v}") for v in ("plain", "at-once", "linked", "gzip")},
    "tiff_stack": {variant: _tiff(variant) for variant in ("sls", "nikon", "als", "skyscan", "pages", "compressed")},
    "txrm": {"zeiss": _txrm},
    "volume": {"pyhst": _pyhst, "slices": _slices, "edf": _edf_slices, "zeiss": _txm},
    "volume_hdf5": {"nabu": _nabu, "tomopy": _tomopy},
}


@dataclass(frozen=True)
class Seed:
    """A scan that was written: its folder's content, and where the format finds it."""

    kind: str
    name: str
    tree: Tree


@pytest.fixture(scope="session")
def seeds(tmp_path_factory):
    """Called for the seeds of a format; each is written once."""
    made: dict[str, list[Seed]] = {}

    def of(kind):
        if kind not in made:
            made[kind] = []
            for name, write in SEEDS[kind].items():
                folder = tmp_path_factory.mktemp("seed") / name
                folder.mkdir()
                write(str(folder))
                made[kind].append(Seed(kind, name, Tree.read(str(folder))))
        return made[kind]

    return of


@pytest.fixture(scope="session")
def seeded_kinds():
    return set(SEEDS)


def look_for(kind, folder):
    """What the format finds by names in a tree, with the members of each; as the walker asks, in this process."""
    format_ = GenericFolder(os.path.dirname(folder), ["*"], "DONE") if kind == "folder" else family.load(kind)
    found = []
    for place, folders, _ in os.walk(folder):
        folders.sort()
        listing = list_folder(place)
        for candidate in format_.recognise(listing):
            files, inner = format_.members(candidate, listing)
            assert set(files) <= set(listing.files)
            assert set(inner) <= set(listing.folders)
            assert isinstance(candidate, Candidate)
            found.append(candidate)
    return found


@pytest.fixture(scope="session")
def look():
    return look_for


# --- the child -----------------------------------------------------------------------------------

_PROGRAM = f"""
import sys
from tomovault.formats.child import answer_text, limit_memory, renew_cpu
limit_memory(2 << 30)
for line in sys.stdin:
    renew_cpu({ANSWER_CPU_S})
    print(answer_text(line), flush=True)
"""


@dataclass
class Child:
    """Answers request after request within the limits of one inspection; one that died is started again."""

    ended: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    largest: int = 0

    def __post_init__(self):
        self._start()

    def _start(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        command = [sys.executable, "-P", "-B", "-c", _PROGRAM]
        self._process = subprocess.Popen(command, env=child_environment(), cwd="/", bufsize=0, **pipes)
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._process.stdout, selectors.EVENT_READ)

    def ask(self, request):
        """The answer; None where the process died. Fails where it takes too long or says too much."""
        began = time.monotonic()
        line = bytearray()
        try:
            self._process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            while not line.endswith(b"\n"):
                left = began + ANSWER_S - time.monotonic()
                assert left > 0 and self._ready.select(left), f"no answer within {ANSWER_S} s"  # noqa: PT018 - one fact
                piece = os.read(self._process.stdout.fileno(), 1 << 20)
                if not piece:
                    break
                line += piece
                assert len(line) <= MOST_ANSWER_BYTES, "too long an answer"
        except BrokenPipeError:
            line.clear()
        except AssertionError:
            self._process.kill()
            raise
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.largest = max(self.largest, len(line))
        if line:
            return json.loads(line)
        self.close()
        self.ended.append(str(self._process.returncode))
        self._start()
        return None

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._process.stdout.close()
        self._ready.close()


@pytest.fixture
def child():
    made = Child()
    yield made
    made.close()
