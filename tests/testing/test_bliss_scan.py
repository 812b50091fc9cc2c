import dataclasses
import os
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest

from tomovault.core.scan import Verdict
from tomovault.testing import bitshuffle
from tomovault.testing.acquisition import Acquisition, Frames
from tomovault.testing.bliss_scan import write_bliss_scan
from tomovault.testing.locked_hdf5 import open_locked, open_repeatedly
from tomovault.testing.timeline import Timeline
from tomovault.testing.truth import TruthLog, digest_files, read_truth
from tomovault.testing.variants import BLISS_VARIANTS, named_variant

SMALL = {"shape": (12, 16), "projections": 25, "flats": 2, "darks": 2}
CAMERA = "pcoedge"


def write(tmp_path, variant, **changes):
    return write_bliss_scan(str(tmp_path), "sample", variant=variant, **{**SMALL, **changes})


def opened(scan):
    return h5py.File(os.path.join(scan.folder, scan.key), "r", locking=False)


def text(dataset):
    return dataset[()].decode()


def frames_behind(master, entry, scan):
    """How many frames the camera files behind a subscan's images really hold, and how many are promised."""
    images = master[f"{entry}.1/instrument/{CAMERA}"].get("image")
    if images is None:
        return 0, None
    held = 0
    folder = os.path.dirname(images.file.filename)
    for source in images.virtual_sources():
        path = os.path.join(folder, source.file_name)
        try:
            with h5py.File(path, "r", locking=False) as file:
                held += min(file[source.dset_name].shape[0], source.src_space.shape[0])
        except OSError:
            continue
    return held, images.shape[0]


def is_whole(scan):
    first = int(scan.entry.split(".")[0])
    with opened(scan) as master:
        entry = master[scan.entry]
        if "end_time" not in entry or text(entry["end_reason"]) != "SUCCESS":
            return False
        wanted = entry["technique/scan/tomo_n"][()]
        held, promised = frames_behind(master, first + 3, scan)
        return text(entry["writer/status"]) == "SUCCEEDED" and held == promised == wanted


@pytest.mark.parametrize("variant", BLISS_VARIANTS, ids=lambda v: v.name)
def test_variant_ends_as_its_truth_says(tmp_path, variant):
    log = tmp_path / "truth.jsonl"
    written = write(tmp_path, variant, log=str(log))
    assert written.errno11 == 0
    for scan in written.scans:
        assert is_whole(scan) == (scan.verdict is Verdict.COMPLETE)
    events = read_truth(str(log))
    verdicts = [e.more["entry"] for e in events if e.action == "verdict"]
    assert verdicts == [scan.entry for scan in written.scans]
    opens = [e for e in events if e.action == "open"]
    assert {e.more["mode"] for e in opens} <= {"a", "w", "r+"}


def test_every_switch_is_used_by_a_variant():
    plain = named_variant(None, writer="bliss").bliss
    used = set()
    for variant in BLISS_VARIANTS:
        used |= {f.name for f in dataclasses.fields(plain) if getattr(variant.bliss, f.name) != getattr(plain, f.name)}
    assert used == {f.name for f in dataclasses.fields(plain)}


def test_master_has_the_layout_of_a_real_one(tmp_path):
    scan = write(tmp_path, None, seed=2).scans[0]
    frames = Frames(Acquisition("sample", seed=2, detector="scmos", **SMALL))
    with opened(scan) as master:
        assert list(master) == ["1.1", "2.1", "3.1", "4.1", "5.1"]
        assert [text(master[f"{n}.1/title"]) for n in (1, 2, 3, 4)] == [
            "tomo:halfturn", "dark images", "flat images 1", "projections 0 - 24"
        ]  # fmt: skip
        assert [int(master[f"{n}.1/technique/image_key"][()]) for n in (2, 3, 4, 5)] == [2, 1, 0, -1]
        projections = master["4.1/measurement/pcoedge"]
        sources = projections.virtual_sources()
        assert [s.file_name for s in sources] == [f"scan0004/pcoedge_{n:04d}.h5" for n in (0, 1, 2)]
        assert np.array_equal(projections[7], frames.projection(7))
        assert np.array_equal(projections[24], frames.projection(24))
        assert np.array_equal(master["3.1/measurement/pcoedge"][1], frames.flat(0, 1))
        assert np.array_equal(master["2.1/measurement/pcoedge"][0], frames.dark(0))
        assert np.allclose(master["4.1/measurement/srot"][:], np.arange(25) * 180.0 / 25)
        assert master["1.1/technique/scan/exposure_time"].attrs["units"] == "ms"
        assert master["4.1/technique/proj/exposure_time"].attrs["units"] == "s"
        assert master["1.1/technique/scan/flat_on"].shape == (0,)


def test_master_names_are_those_of_the_real_scan(tmp_path):
    data = os.environ.get("TOMOVAULT_DATA", os.path.join(os.path.dirname(__file__), "../../../shared/data"))
    real = os.path.join(data, "bliss/RAW_DATA/TestEwoksTomo/TestEwoksTomo_0010/TestEwoksTomo_0010.h5")
    if not os.path.exists(real):
        pytest.skip(f"no real data: {real} is not there; set TOMOVAULT_DATA")
    scan = write(tmp_path, None).scans[0]
    with h5py.File(real, "r", locking=False) as wanted, opened(scan) as ours:
        for group in ("1.1/technique/scan", "4.1/technique/proj", "1.1/technique/scan_flags", "4.1", "1.1"):
            assert set(ours[group]) <= set(wanted[group]), group
        for group in ("4.1", "1.1", "4.1/technique/proj"):
            assert set(ours[group]) == set(wanted[group]), group
        for attribute in ("NX_class", "creator", "publisher", "default"):
            assert ours.attrs[attribute] == wanted.attrs[attribute]


@pytest.mark.parametrize(
    ("variant", "files"), [("one-frame-a-file", 25), ("plain", 3), ("100-frames-a-file", 1), ("camera-missing", 2)]
)
def test_camera_files(tmp_path, variant, files):
    scan = write(tmp_path, variant).scans[0]
    assert len(os.listdir(os.path.join(scan.folder, "scan0004"))) == files


def test_special_files(tmp_path):
    def scan(variant):
        parent = tmp_path / variant
        parent.mkdir()
        return write(parent, variant).scans[0]

    with opened(scan("vds-absolute")) as master:
        assert os.path.isabs(master["4.1/instrument/pcoedge/image"].virtual_sources()[0].file_name)
    with opened(scan("lima2")) as master:
        assert master["4.1/instrument/pcoedge/image"][24].mean() > 100
    with opened(scan("lima2-missing")) as master:
        assert isinstance(master["4.1/instrument/pcoedge"].get("image", getlink=True), h5py.ExternalLink)
        assert master["4.1/instrument/pcoedge"].get("image") is None
    with opened(scan("user-abort")) as master:
        assert text(master["1.1/end_reason"]) == "USER_ABORT"
        assert (int(master["1.1/technique/scan/tomo_n"][()]), master["4.1/measurement/pcoedge"].shape[0]) == (25, 15)
    with opened(scan("growing-master")) as master:
        assert len(master) == 10
        assert text(master["6.1/title"]) == "tomo:halfturn"
    with opened(scan("overlap")) as master:
        assert text(master["3.1/start_time"]) < text(master["2.1/end_time"])
    with opened(scan("plain")) as master:
        assert text(master["3.1/start_time"]) > text(master["2.1/end_time"])
    with opened(scan("units-s")) as master:
        assert master["1.1/technique/scan/sample_detector_distance"].attrs["units"] == "m"
    with opened(scan("no-energy")) as master:
        assert "energy" not in master["1.1/technique/scan"]
    with opened(scan("killed")) as master:
        assert "end_time" not in master["1.1"]
        assert 0 < master["4.1/measurement/srot"].shape[0] < 25
    with opened(scan("camera-short")) as master:
        assert master["4.1/measurement/pcoedge"].shape[0] == 22
    with opened(scan("vds-too-many")) as master:
        master_path = master.filename
        assert master["4.1/measurement/pcoedge"].shape[0] == 25
    with h5py.File(os.path.join(os.path.dirname(master_path), "scan0004/pcoedge_0002.h5"), "r", locking=False) as file:
        assert file["entry_0000/instrument/pcoedge/data"].shape[0] == 2


def test_collection_and_proposal_link_in_a_circle(tmp_path):
    write(tmp_path, "collection")
    path = tmp_path / "RAW_DATA/sample/sample.h5"
    with h5py.File(path, "r", locking=False) as collection:
        assert "end_time" in collection["sample_0001_1.1"]
        assert set(collection["proposal/sample"]) == set(collection)
        assert collection.get("sample_0000_1.1") is None


def test_bitshuffle_chunks_are_read_by_the_real_filter(tmp_path):
    scan = write(tmp_path, "camera-bitshuffle", shape=(67, 131)).scans[0]
    frames = Frames(Acquisition("sample", detector="scmos", **{**SMALL, "shape": (67, 131)}))
    program = (
        "import sys, h5py, hdf5plugin, numpy\n"
        "with h5py.File(sys.argv[1], 'r', locking=False) as f:\n"
        "    d = f['/entry_0000/instrument/pcoedge/data']\n"
        "    assert d.id.get_create_plist().get_filter(0)[0] == 32008\n"
        "    numpy.save(sys.argv[2], d[3])\n"
    )
    found = tmp_path / "frame.npy"
    path = os.path.join(scan.folder, "scan0004", "pcoedge_0000.h5")
    subprocess.run([sys.executable, "-c", program, path, str(found)], check=True, timeout=60)
    assert np.array_equal(np.load(found), frames.projection(3))
    assert len(bitshuffle.encode(np.zeros((3, 5), np.uint16))) > 30


def test_the_camera_is_late_after_the_end_time(tmp_path):
    log = tmp_path / "truth.jsonl"
    write(tmp_path, "camera-late", log=str(log))
    events = read_truth(str(log))
    master = [e.at_s for e in events if e.action == "close" and e.path.endswith("sample_0001.h5")]
    camera = [e.at_s for e in events if e.action == "close" and "scan0004" in e.path]
    assert 4.0 <= max(camera) - master[-1] <= 4.5
    assert next(e.at_s for e in events if e.action == "verdict") >= max(camera)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    found = []
    for turn in range(2):
        target = tmp_path / "area"
        target.mkdir()
        write(target, "one-frame-a-file", seed=9)
        found.append(digest_files(str(target)))
        target.rename(tmp_path / f"done-{turn}")
    assert found[0] == found[1]
    assert len(found[0]) == 1 + 25 + 2 + 2 + 3


READER = """
import sys, h5py
try:
    file = h5py.File(sys.argv[1], "r", **({} if sys.argv[2] == "locked" else {"locking": False}))
except OSError as problem:
    print("errno11" if "errno = 11" in str(problem) else problem)
else:
    print("read", flush=True)
    sys.stdin.read()
"""


def test_the_master_is_locked_while_it_is_written_and_a_careful_reader_may_look(tmp_path):
    seen = []

    def look(_):
        path = tmp_path / "RAW_DATA/sample/sample_0001/sample_0001.h5"
        if path.exists() and not seen:
            for how in ("locked", "careful"):
                run = [sys.executable, "-c", READER, str(path), how]
                seen.append(subprocess.run(run, input="", capture_output=True, text=True, timeout=60).stdout.strip())

    class NoClock:
        def __init__(self):
            self.t = 0.0

        def monotonic(self):
            return self.t

        def now(self):
            return Acquisition("x").started_at

    clock = NoClock()

    def sleep(seconds):
        clock.t += seconds
        look(None)

    written = write(tmp_path, None, clock=clock, speed=1.0, sleep=sleep)
    assert seen == ["errno11", "read"]
    assert written.errno11 == 0


@pytest.mark.parametrize(("how", "hit"), [("locked", True), ("careful", False)])
def test_a_reader_with_locks_is_counted_by_the_writer(tmp_path, how, hit):
    scan = write(tmp_path, None).scans[0]
    path = os.path.join(scan.folder, scan.key)
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, path, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert reader.stdout.readline() == "read\n"
        log_path = str(tmp_path / "opens.jsonl")
        with TruthLog(log_path) as log:
            met = open_repeatedly(path, 3, Timeline(), log)
        assert (met > 0) == hit
        assert len([e for e in read_truth(log_path) if e.action == "errno11"]) == met
    finally:
        reader.communicate("", timeout=30)
    with TruthLog() as log:
        open_locked(path, "a", log, at_s=0.0).close()
        assert log.errno11 == 0


def test_stopping_closes_every_file(tmp_path):
    stop = threading.Event()
    log = TruthLog(on_event=lambda e: stop.set() if e.action == "open" and "scan0004" in e.path else None)
    with pytest.raises(Exception, match=r"^$"):
        write(tmp_path, None, stop=stop, log=log)
    with h5py.File(tmp_path / "RAW_DATA/sample/sample_0001/sample_0001.h5", "a", locking=True) as master:
        assert "end_time" not in master["1.1"]
