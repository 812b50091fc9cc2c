"""Scans written by hand: EDF bytes as SPEC writes them, BLISS masters with their camera files."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest

from tomovault.core.errors import NoScan
from tomovault.core.scan import Candidate, FileState
from tomovault.formats import family

BODY = 4 * 6 * 2


def spec_header(
    index: int = 0, prefix: str = "scan_", *, length: int = 3072, srot: float = 0.0, extra: str = ""
) -> bytes:
    lines = [
        f"HeaderID       = EH:{index + 1:06d}:000000:000000 ;",
        "Image          = 1 ;",
        "ByteOrder      = LowByteFirst ;",
        "DataType       = UnsignedShort ;",
        "Dim_1          = 6 ;",
        "Dim_2          = 4 ;",
        f"Size           = {BODY} ;",
        "date           = Thu Jul 06 03:41:29 2017 ;",
        "epoch          = 1499257480.6415 ;",
        "count_time     = 0.1 ;",
        "counter_pos    = 0.1 167.777 -nan ;",
        "counter_mne    = sec srcur foc1 ;",
        f"motor_pos      = 1 {srot} 2;",
        "motor_mne      = trash srot sx ;",
        "suffix         = .edf ;",
        f"prefix         = {prefix} ;",
        "dir            = /data/visitor/ma1234/id19/x ;",
        "title          = CCD = Image ;",
    ]
    text = ("{\n" + "\n".join(lines) + "\n" + extra).encode("latin-1", "surrogateescape")
    return text.ljust(length - 2) + b"}\n"


def edf_bytes(index: int = 0, prefix: str = "scan_", **options: object) -> bytes:
    return spec_header(index, prefix, **options) + struct.pack("<24H", *range(index + 1, index + 25))


@dataclass
class EdfFolder:
    """A folder that SPEC filled; every part can be left out or damaged afterwards."""

    path: Path
    prefix: str = "scan_"
    tomo_n: int = 10
    ref_n: int = 2
    ref_on: int = 5
    dark_n: int = 3
    clock: int = 1_600_000_000

    def put(self, name: str, data: bytes) -> Path:
        file = self.path / name
        file.write_bytes(data)
        self.clock += 1
        os.utime(file, (self.clock, self.clock))
        return file

    def projection(self, index: int, **options: object) -> Path:
        return self.put(f"{self.prefix}{index:04d}.edf", edf_bytes(index, self.prefix, **options))

    def info(self, **changes: object) -> Path:
        values = {
            "Prefix": self.prefix,
            "Energy": 20.5,
            "Distance": 30,
            "ScanRange": 180.5,
            "TOMO_N": self.tomo_n,
            "REF_ON": self.ref_on,
            "REF_N": self.ref_n,
            "DARK_N": self.dark_n,
            "Dim_1": 6,
            "Dim_2": 4,
            "PixelSize": 0.7,
            "Count_time": 0.1,
            "SrCurrent": 190.5,
            "Comment": "a=b caf\xe9",
        } | changes
        text = "".join(f"{k}= {v}\r\n" for k, v in values.items() if v is not None)
        return self.put(f"{self.prefix}.info", text.encode("latin-1", "surrogateescape"))

    def xml(self, tomo_n: int | None = None, cut: int | None = None) -> Path:
        n = self.tomo_n if tomo_n is None else tomo_n
        text = (
            f"<tomodb2><acquisition><scanName>{self.prefix}</scanName><tomo_N>{n}</tomo_N><energy>20.5</energy>"
            f"<ref_N>{self.ref_n}</ref_N><ref_On>{self.ref_on}</ref_On><dark_N>{self.dark_n}</dark_N>"
            "<machineCurrentStart>-1</machineCurrentStart><listMotors>motors</listMotors>"
            "</acquisition></tomodb2>\n"
        )
        return self.put(f"{self.prefix}.xml", text.encode("utf-8", "surrogateescape")[:cut])

    def flats(self, angle: int) -> None:
        for frame in range(self.ref_n):
            self.put(f"ref{frame:04d}_{angle:04d}.edf", edf_bytes(500 + angle + frame))

    def flat_angles(self) -> list[int]:
        return [*range(0, self.tomo_n, self.ref_on), self.tomo_n]

    def write(self, *, returns: int = 3, info: bool = True, xml: bool = True, dark: bool = True) -> EdfFolder:
        if info:
            self.info()
        for index in range(self.tomo_n):
            if index % self.ref_on == 0:
                self.flats(index)
            self.projection(index)
        self.flats(self.tomo_n)
        for index in range(self.tomo_n, self.tomo_n + returns):
            self.projection(index)
        if dark:
            self.put("darkend0000.edf", edf_bytes(900))
        if xml:
            self.xml()
        return self

    def candidate(self) -> Candidate:
        return Candidate("edf", str(self.path), self.prefix)

    def report(self, *, settled: bool = True):
        reports = family.load("edf").inspect(self.candidate(), settled=settled)
        assert len(reports) == 1
        return reports[0]


@dataclass
class FolderListing:
    """What a walker would see of a real folder."""

    folder: str
    files: dict[str, FileState] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)

    @classmethod
    def of_names(cls, folder: str, names, folders=()) -> FolderListing:
        states = {n: FileState(n, 1, 1, 1, i, 1, 0o100644) for i, n in enumerate(names)}
        return cls(folder, states, list(folders))


@dataclass
class BlissFolder:
    """A dataset as a BLISS writer and a Lima server leave it."""

    path: Path
    camera: str = "cam"
    shape: tuple[int, int] = (4, 6)
    tomo_n: int = 6
    chunked: bool = True
    gzip: bool = False

    @property
    def master(self) -> Path:
        return self.path / f"{self.path.name}.h5"

    def candidate(self) -> Candidate:
        return Candidate("bliss", str(self.path), self.master.name)

    def camera_file(self, number: int, part: int = 0) -> Path:
        return self.path / f"scan{number:04d}" / f"{self.camera}_{part:04d}.h5"

    def frames(self, number: int, count: int) -> np.ndarray:
        return (np.arange(count * 24, dtype="<u2") + number * 1000).reshape(count, *self.shape)

    def write_camera(self, number: int, count: int, *, split: int | None = None) -> list[tuple[str, int]]:
        (self.path / f"scan{number:04d}").mkdir(exist_ok=True)
        made = []
        data = self.frames(number, count)
        step = split or count
        for part, start in enumerate(range(0, count, step)):
            piece = data[start : start + step]
            file = self.camera_file(number, part)
            with h5py.File(file, "w") as f:
                options = {"chunks": (1, *self.shape), "compression": "gzip" if self.gzip else None}
                f.create_dataset(
                    f"entry_0000/instrument/{self.camera}/data", data=piece, **(options if self.chunked else {})
                )
            made.append((f"scan{number:04d}/{file.name}", len(piece)))
        return made

    def subscan(self, f, number: int, title: str, key: int, count: int, **options) -> None:
        split = options.pop("split", None)
        entry = f.create_group(f"{number}.1")
        entry["title"] = title
        entry["start_time"] = "2025-03-20T17:28:05.674424+01:00"
        entry["technique/image_key"] = key
        entry["technique/" + {0: "proj/proj_n", 1: "flat/flat_n", 2: "dark/dark_n", -1: "static/n"}[key]] = count
        sources = self.write_camera(number, count, split=split)
        if options.pop("images", True):
            layout = h5py.VirtualLayout((count, *self.shape), dtype="<u2")
            at = 0
            for name, frames in sources:
                path = f"/entry_0000/instrument/{self.camera}/data"
                layout[at : at + frames] = h5py.VirtualSource(name, path, (frames, *self.shape))
                at += frames
            entry.create_virtual_dataset(f"instrument/{self.camera}/image", layout)
            entry[f"instrument/{self.camera}/data"] = h5py.SoftLink("image")
            entry[f"measurement/{self.camera}"] = h5py.SoftLink(f"/{number}.1/instrument/{self.camera}/image")
        if key == 0:
            rotation = entry.create_dataset("instrument/srot/value", data=np.linspace(0, 150, count))
            rotation.attrs["units"] = "deg"
        self.end(entry, **options)

    def end(self, entry, *, reason="SUCCESS", status="SUCCEEDED", ended=True) -> None:
        if status is not None:
            entry["writer/status"] = status
        if reason is not None and ended:
            entry["end_reason"] = reason
        if ended:
            entry["end_time"] = "2025-03-20T17:29:18.558287+01:00"

    def sequence(self, f, number: int = 1, *, tomo_n: int | None = None, start="17:27:51", **options) -> None:
        entry = f.create_group(f"{number}.1")
        entry["title"] = "tomo:fullturn"
        entry["start_time"] = f"2025-03-20T{start}.826549+01:00"
        scan = entry.create_group("technique/scan")
        scan["tomo_n"] = self.tomo_n if tomo_n is None else tomo_n
        scan["dark_n"], scan["flat_n"] = 2, 3
        scan["flat_on"] = np.zeros(0)
        scan["scan_range"] = 180.0
        scan["energy"] = 26000.0
        scan["energy"].attrs["units"] = "eV"
        scan["exposure_time"] = 10.0
        scan["exposure_time"].attrs["units"] = "ms"
        scan["motor"] = ["rotation", "srot"]
        for at, kind in enumerate(("tomo:dark", "tomo:flat", "tomo:step", "tomo:return_ref")):
            entry[f"technique/subscans/scan{at}/type"] = kind
        entry["technique/saving/path"] = "/data/visitor/ma1234/id19/20250301/RAW_DATA/x"
        self.end(entry, **options)

    def scan(self, f, first: int = 1, *, parts: int = 4, sequence=None, **damage) -> None:
        self.sequence(f, first, **(sequence or {}))
        rows = [("dark images", 2, 2, None), ("flat images 1", 1, 3, None)]
        rows += [("projections 0 - 5", 0, self.tomo_n, 2), ("static images", -1, 2, None)]
        for at, (title, key, count, split) in enumerate(rows[:parts]):
            number = first + 1 + at
            self.subscan(f, number, title, key, count, split=split, **damage.get(f"part{at}", {}))

    def write(self, **options) -> BlissFolder:
        self.path.mkdir(parents=True, exist_ok=True)
        with h5py.File(self.master, "w") as f:
            f.attrs.update({"creator": "blissdata", "publisher": "bliss"})
            self.scan(f, **options)
        return self

    def reports(self, *, settled: bool = True):
        return list(family.load("bliss").inspect(self.candidate(), settled=settled))


@pytest.fixture
def edf_folder(tmp_path):
    def make(name: str = "scan_", prefix: str | None = None, **plan) -> EdfFolder:
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        return EdfFolder(path, prefix or name, **plan)

    return make


@pytest.fixture
def bliss_folder(tmp_path):
    def make(name: str = "coll_0001", **plan) -> BlissFolder:
        return BlissFolder(tmp_path / "RAW_DATA" / "coll" / name, **plan)

    return make


@pytest.fixture
def listing():
    return FolderListing.of_names


@pytest.fixture
def header_bytes():
    return spec_header


@pytest.fixture
def image_bytes():
    return edf_bytes


@pytest.fixture(scope="session")
def real_data():
    root = Path(os.environ.get("TOMOVAULT_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"the real data is not at {root}; TOMOVAULT_DATA names another place")
    return root


class _Unhurried:
    def spend(self, count):
        """No limit."""


@pytest.fixture
def round_trip(tmp_path):
    """Packs a report, re-reads the package, restores it and compares every byte; returns the package's path."""
    from datetime import UTC, datetime

    from tomovault.package.reader import PackageReader
    from tomovault.package.verify import prove_package
    from tomovault.package.writer import write_package

    def go(report, stem="scan"):
        quiet = {"throttle": _Unhurried(), "progress": lambda done, total: None, "checkpoint": lambda name: None}
        written = write_package(
            report.root,
            report.files,
            family.load(report.format).layout(report),
            str(tmp_path / "vault"),
            stem,
            scan={"name": report.name},
            job="job1",
            now=datetime(2026, 5, 4, tzinfo=UTC),
            **quiet,
        )
        files = prove_package(written, throttle=_Unhurried(), progress=lambda done, total: None)
        target = tmp_path / "restored" / stem
        with PackageReader.open(files[0].location) as reader:
            reader.restore(str(target), job="r1", **quiet)
        for file in report.files:
            there, back = Path(report.root, file.state.path), target / file.state.path
            assert there.read_bytes() == back.read_bytes(), file.state.path
        assert sum(len(names) for _, _, names in os.walk(target)) == len(report.files)
        return files[0].location

    return go


#: Formats of scans in one HDF5 file.
ONE_FILE = ("als832", "dataexchange", "nexus", "nxtomo")


@pytest.fixture
def looks():
    """Called for reports, and the reason of each format that took nothing."""

    def look(path: Path, *, settled: bool = True):
        reports, reasons = [], {}
        for kind in ONE_FILE:
            candidate = Candidate(kind, str(path.parent), path.name)
            try:
                reports += family.load(kind).inspect(candidate, settled=settled)
            except NoScan as reason:
                reasons[kind] = reason.message
        return reports, reasons

    return look


@pytest.fixture
def only(looks):
    """Called for the one report of a file that one format takes."""

    def look(path: Path, **options):
        reports, reasons = looks(path, **options)
        assert len(reports) == 1, reasons
        assert set(reasons) == set(ONE_FILE) - {reports[0].format}
        return reports[0]

    return look
