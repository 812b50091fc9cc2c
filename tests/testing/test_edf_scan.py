import dataclasses
import os
import re
import threading
from xml.etree import ElementTree

import numpy as np
import pytest

from tomovault.core.errors import UserError
from tomovault.core.scan import Verdict
from tomovault.testing.acquisition import Acquisition, Frames, flat_indices
from tomovault.testing.clock import FakeClock
from tomovault.testing.edf_scan import write_edf_scan
from tomovault.testing.timeline import Stopped
from tomovault.testing.truth import digest_files, read_truth
from tomovault.testing.variants import EDF_VARIANTS, VARIANTS, named_variant

SMALL = {"shape": (24, 32), "projections": 16, "flats": 2, "darks": 3}
NAME = "scan_0001_"
HEADER, BODY = 3072, 24 * 32 * 2


def write(tmp_path, variant, **changes):
    return write_edf_scan(str(tmp_path), NAME, variant=variant, **{**SMALL, **changes})


def projections_in(folder, prefix=NAME):
    """{index: size} of projections and return images."""
    found = {}
    for name in os.listdir(folder):
        if match := re.fullmatch(re.escape(prefix) + r"(\d{4,5})\.edf", name):
            found[int(match[1])] = os.path.getsize(os.path.join(folder, name))
    return found


def flats_in(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith("ref"))


def is_whole(scan):
    """By its bytes: all projections, all flats and the dark are there, and none is short."""
    sizes = projections_in(scan.folder, scan.name)
    whole = all(sizes.get(i, 0) >= HEADER + BODY for i in range(scan.projections))
    stems = [name.removesuffix(".edf") for name in flats_in(scan.folder)]
    last = max((int(part[-4:]) for stem in stems for part in stem.split("_")), default=-1)
    darks = [name for name in os.listdir(scan.folder) if name.startswith("dark")]
    return whole and (last >= scan.projections or not scan.flats) and bool(darks)


@pytest.mark.parametrize("variant", EDF_VARIANTS, ids=lambda v: v.name)
def test_variant_ends_as_its_truth_says(tmp_path, variant):
    log = tmp_path / "truth.jsonl"
    written = write(tmp_path, variant, log=str(log))
    assert written.scans
    for scan in written.scans:
        assert os.path.isdir(scan.folder)
        if scan.verdict is Verdict.COMPLETE:
            assert is_whole(scan)
        elif scan.verdict in (Verdict.INCOMPLETE, Verdict.ABORTED):
            assert not is_whole(scan)
    events = read_truth(str(log))
    verdicts = [(e.path, e.more["verdict"]) for e in events if e.action == "verdict"]
    for scan in written.scans:
        renamed = variant.name == "edf-rescan-renamed"
        assert renamed or (scan.folder, scan.verdict.value) in verdicts
    assert [e.t for e in events] == sorted(e.t for e in events)
    assert [e.at_s for e in events] == sorted(e.at_s for e in events)


def test_the_last_size_in_the_log_is_the_size_on_disk(tmp_path):
    log = tmp_path / "truth.jsonl"
    write(tmp_path, "body-late-tail", log=str(log))
    last = {e.path: e.size for e in read_truth(str(log)) if e.action in ("create", "write", "close")}
    assert len(last) > 20
    assert all(os.path.getsize(path) == size for path, size in last.items())


def test_names_of_variants_are_unique_and_undecided_is_exactly_undecidable():
    assert len({v.name for v in VARIANTS}) == len(VARIANTS)
    for variant in VARIANTS:
        assert variant.decidable == (variant.truth is not Verdict.UNDECIDED)
    assert {v.name for v in EDF_VARIANTS if not v.decidable} == {"edf-no-metadata", "edf-body-zero-for-ever"}


def test_every_switch_is_used_by_a_variant():
    plain = named_variant(None, writer="edf").edf
    used = set()
    for variant in EDF_VARIANTS:
        used |= {f.name for f in dataclasses.fields(plain) if getattr(variant.edf, f.name) != getattr(plain, f.name)}
    assert used == {f.name for f in dataclasses.fields(plain)} - {"late_s"}


def test_unknown_variants_and_bad_numbers_are_refused(tmp_path):
    with pytest.raises(UserError, match="no variant 'nonsense'"):
        write(tmp_path, "nonsense")
    with pytest.raises(UserError, match="bliss writer"):
        write(tmp_path, "bliss-plain")
    with pytest.raises(UserError, match="cannot be made"):
        write(tmp_path, None, projections=0)
    with pytest.raises(UserError, match="no detector"):
        write(tmp_path, None, detector="film")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["edf-plain", "edf-order-bursts", "edf-lagging", "edf-pace-gaps", "edf-over-long"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path, name):
    def run(seed):
        target = tmp_path / "area"
        target.mkdir()
        write_edf_scan(str(target), NAME, variant=name, seed=seed, **SMALL)
        found = digest_files(str(target))
        target.rename(tmp_path / f"done-{seed}-{len(list(tmp_path.iterdir()))}")
        return found

    first, again, other = run(4), run(4), run(5)
    assert first == again
    assert first.keys() - other.keys() == set() or name == "edf-over-long"
    image = f"{NAME}/{NAME}0001.edf"
    assert first[image] != other[image]


def test_header_is_that_of_spec(tmp_path, edf_header):
    scan = write(tmp_path, None).scans[0]
    content = (tmp_path / NAME / f"{NAME}0004.edf").read_bytes()
    end, values = edf_header(content)
    assert end == HEADER
    assert len(content) == HEADER + BODY
    assert content.startswith(b"{\nHeaderID       = EH:000001:000000:000000 ;\nImage          = 1 ;\n")
    assert " ".join(values) == (
        "HeaderID Image ByteOrder DataType Dim_1 Dim_2 Size scan date epoch offset count_time point_no scan_no preset "
        "col_end col_beg row_end row_beg counter_pos counter_mne motor_pos motor_mne suffix prefix dir run title"
    )
    assert values["Dim_1"] == "32"
    assert values["Dim_2"] == "24"
    assert values["Size"] == str(BODY)
    assert len(values["counter_pos"].split()) == len(values["counter_mne"].split())
    assert len(values["motor_pos"].split()) == len(values["motor_mne"].split())
    assert values["counter_pos"].endswith("-nan -nan -nan -nan")
    assert values["prefix"] == NAME
    assert values["dir"] == scan.folder
    position = dict(zip(values["motor_mne"].split(), values["motor_pos"].split(), strict=True))
    assert float(position["srot"]) == 180.0 * 4 / 16


def test_the_header_has_the_keys_of_a_real_one_in_its_order(tmp_path, edf_header):
    data = os.environ.get("TOMOVAULT_DATA", os.path.join(os.path.dirname(__file__), "../../../shared/data"))
    real = os.path.join(data, "edf", "strain_0000.edf")
    if not os.path.exists(real):
        pytest.skip(f"no real data: {real} is not there; set TOMOVAULT_DATA")
    with open(real, "rb") as file:
        end, wanted = edf_header(file.read(4096))
    write(tmp_path, None)
    ours_end, ours = edf_header((tmp_path / NAME / f"{NAME}0000.edf").read_bytes())
    assert (ours_end, list(ours)) == (end, list(wanted))


def test_fabio_reads_the_frames_that_were_made(tmp_path):
    fabio = pytest.importorskip("fabio")
    write(tmp_path, None, seed=3)
    frames = Frames(Acquisition(NAME, seed=3, **SMALL))
    with fabio.open(str(tmp_path / NAME / f"{NAME}0007.edf")) as image:
        assert np.array_equal(image.data, frames.projection(7))
        assert image.header["count_time"] == "0.05"
    with fabio.open(str(tmp_path / NAME / "ref0001_0008.edf")) as image:
        assert np.array_equal(image.data, frames.flat(8, 1))
    with fabio.open(str(tmp_path / NAME / "darkend0000.edf")) as image:
        assert np.array_equal(image.data, sum(frames.dark(i).astype(int) for i in range(3)))
        assert image.header["no_summed"] == "3"


def test_flats_divide_out_the_beam_and_the_dark_sum_is_a_sum():
    frames = Frames(Acquisition("a", shape=(64, 64), flats=4, darks=10))
    dark = frames.dark_sum() / 10.0
    flat = np.mean([frames.flat(0, i).astype(float) for i in range(4)], axis=0) - dark
    transmission = (frames.projection(0) - dark) / flat
    assert 0.97 < np.median(transmission[:, :3]) < 1.03
    assert transmission.min() < 0.5
    assert 190 < dark.mean() < 210


def test_flats_at_the_end_carry_the_rounded_index():
    assert flat_indices(999, 100)[-2:] == [900, 1000]
    assert flat_indices(1000, 100)[-1] == 1000
    assert flat_indices(32, 16) == [0, 16, 32]
    assert flat_indices(32, 0) == [0, 32]


@pytest.mark.parametrize(
    ("variant", "wanted", "unwanted"),
    [
        ("refs-2026", "ref0008_0001.edf", "ref0001_0008.edf"),
        ("refs-old", "ref20008.edf", "ref0001_0008.edf"),
        ("dark-first", "dark0000.edf", "darkend0000.edf"),
        ("refs-uneven", "ref0000_0018.edf", "ref0000_0016.edf"),
        ("refs-on-zero", "ref0000_0016.edf", "ref0000_0008.edf"),
        ("refs-no-last", "ref0000_0008.edf", "ref0000_0016.edf"),
        ("info-never", f"{NAME}.xml", f"{NAME}.info"),
        ("xml-never", f"{NAME}.info", f"{NAME}.xml"),
        ("abort", f"{NAME}.abo", f"{NAME}.xml"),
        ("silent-abort", f"{NAME}0008.edf", f"{NAME}.abo"),
        ("five-digits", f"{NAME}00015.edf", f"{NAME}0015.edf"),
        ("no-return-images", f"{NAME}0015.edf", f"{NAME}0016.edf"),
        ("noise-files", "loop", "nothing"),
        ("body-tmp-rename", f"{NAME}0015.edf", f"{NAME}0015.edf.tmp"),
        ("reconstructed", f"{NAME}.vol.info", f"{NAME}.abo"),
    ],
)
def test_variant_leaves_these_names(tmp_path, names_in, variant, wanted, unwanted):
    scan = write(tmp_path, variant).scans[0]
    names = names_in(scan.folder)
    assert wanted in names
    assert unwanted not in names


@pytest.mark.parametrize(
    ("variant", "size"),
    [("lost", None), ("empty", 0), ("header-only", HEADER), ("truncated", HEADER + BODY - 100),
     ("over-long", HEADER + BODY + 11570), ("disk-full", HEADER + BODY)],
)  # fmt: skip
def test_one_damaged_file_is_the_only_odd_one(tmp_path, variant, size):
    sizes = projections_in(write(tmp_path, variant).scans[0].folder)
    odd = {index: found for index, found in sizes.items() if found != HEADER + BODY}
    missing = set(range(16)) - sizes.keys()
    if size is None:
        assert (len(missing), odd) == (1, {})
    else:
        assert missing == set()
        assert list(odd.values()) == ([] if size == HEADER + BODY else [size])


@pytest.mark.parametrize(
    ("variant", "check"),
    [
        ("info-latin1", lambda t: b"\xe9" in t and b"\xb5" in t),
        ("info-equals", lambda t: any(line.count(b"=") == 2 for line in t.splitlines())),
        ("info-crlf", lambda t: t.count(b"\r\n") == t.count(b"\n")),
        ("info-no-pixel-size", lambda t: b"PixelSize" not in t),
        ("info-float-count", lambda t: b"TOMO_N= 16.0\n" in t),
        ("info-rewritten", lambda t: b"TOMO_N= 16\n" in t),
        ("plain", lambda t: t.startswith(b"Energy= 26\nDistance= 30\nPrefix= scan_0001_\n")),
    ],
)
def test_info_text(tmp_path, variant, check):
    write(tmp_path, variant)
    assert check((tmp_path / NAME / f"{NAME}.info").read_bytes())


def test_xml_says_the_numbers(tmp_path):
    write(tmp_path, None)
    root = ElementTree.parse(tmp_path / NAME / f"{NAME}.xml").getroot()
    assert root.findtext("acquisition/tomo_N") == "16"
    assert root.findtext("acquisition/projectionSize/DIM_1") == "32"
    assert root.findtext("acquisition/scanName") == NAME


def steps_of(tmp_path, variant, **changes):
    log = tmp_path / "truth.jsonl"
    write(tmp_path, variant, log=str(log), **changes)
    return read_truth(str(log))


def test_bursts_are_out_of_order_by_less_than_eight(tmp_path):
    closed = [e.path for e in steps_of(tmp_path, "order-bursts") if e.action == "close" and f"/{NAME}0" in e.path]
    order = [int(path[-8:-4]) for path in closed if path.endswith(".edf")][:16]
    assert sorted(order) == list(range(16))
    assert order != list(range(16))
    assert all(abs(place - index) < 8 for place, index in enumerate(order))


def test_the_xml_comes_before_the_last_files_when_early(tmp_path):
    closed = [e.path for e in steps_of(tmp_path, "xml-early") if e.action == "close"]
    xml = next(i for i, path in enumerate(closed) if path.endswith(".xml"))
    assert [path[-8:-4] for path in closed[-2:]] == ["0014", "0015"]
    assert xml < len(closed) - 2


@pytest.mark.parametrize(("variant", "late_s"), [("body-late-tail", 20), ("body-late", 20), ("pace-refill", 1200)])
def test_waits_are_as_long_as_they_say(tmp_path, variant, late_s):
    events = steps_of(tmp_path, variant)
    plain = max(e.at_s for e in events if e.action == "verdict")
    (tmp_path / "again").mkdir()
    base = max(e.at_s for e in steps_of(tmp_path / "again", "plain") if e.action == "verdict")
    assert plain >= (late_s if "body" in variant else base + late_s)


def test_late_body_is_short_until_it_comes_and_the_verdict_waits_for_it(tmp_path):
    events = [e for e in steps_of(tmp_path, "body-late") if e.path.endswith(f"{NAME}0015.edf") or e.action == "verdict"]
    assert [(e.action, e.size) for e in events] == [
        ("create", HEADER),
        ("close", HEADER + BODY),
        ("verdict", None),
    ]
    assert events[1].at_s - events[0].at_s >= 20


def test_zero_bodies(tmp_path):
    scan = write(tmp_path, "body-zero-for-ever").scans[0]
    with open(os.path.join(scan.folder, f"{NAME}0015.edf"), "rb") as file:
        content = file.read()
    assert content[:2] == b"{\n"
    assert content[HEADER:] == bytes(BODY)
    filled = tmp_path / "filled"
    filled.mkdir()
    write(filled, "body-preallocated")
    assert (filled / NAME / f"{NAME}0015.edf").read_bytes()[HEADER:] != bytes(BODY)


def test_a_rescan_in_place_leaves_the_old_tail_and_a_smaller_promise(tmp_path):
    events = steps_of(tmp_path, "rescan-in-place")
    folder = tmp_path / NAME
    assert sorted(projections_in(folder)) == list(range(19))
    assert b"TOMO_N= 10\n" in (folder / f"{NAME}.info").read_bytes()
    assert len([e for e in events if e.action == "verdict"]) == 2


def test_a_renamed_folder_keeps_the_names_of_its_files(tmp_path):
    old, new = write(tmp_path, "rescan-renamed").scans
    assert old.folder == str(tmp_path / "scan_0001_old")
    assert sorted(projections_in(old.folder)) == list(range(19))
    assert sorted(projections_in(new.folder)) == list(range(13))


def test_reduction_replaces_single_flats(tmp_path):
    folder = write(tmp_path, "reduced").scans[0].folder
    assert flats_in(folder) == [
        "refHST0000.edf", "refHST0006.edf", "refHST0012.edf", "refHST0016.edf", "refHST0018.edf"
    ]  # fmt: skip
    assert os.readlink(os.path.join(folder, "refHST0016.edf")) == "refHST0018.edf"
    fabio = pytest.importorskip("fabio")
    with fabio.open(os.path.join(folder, "dark.edf")) as image:
        assert 150 < image.data.mean() < 250
    with fabio.open(os.path.join(folder, "refHST0006.edf")) as image:
        assert image.header["ByteOrder"] == "HighByteFirst"
        assert image.data.mean() > 5000


def test_a_volume_is_whole_when_its_info_is_there(tmp_path):
    folder = tmp_path / NAME
    write(tmp_path, "reconstructed")
    values = dict(line.split(" = ") for line in (folder / f"{NAME}.vol.info").read_text().splitlines()[1:])
    x, y, z = (int(values[f"NUM_{axis}"]) for axis in "XYZ")
    assert (folder / f"{NAME}.vol").stat().st_size == 4 * x * y * z


def test_mtimes(tmp_path):
    def mtimes(variant):
        parent = tmp_path / variant
        parent.mkdir()
        write(parent, variant)
        paths = sorted((parent / NAME).glob(f"{NAME}00*.edf"))
        return [path.stat().st_mtime for path in paths]

    now = mtimes("plain")[0]
    assert 250 < mtimes("mtime-ahead")[0] - now < 400
    assert 200 < now - mtimes("mtime-behind")[0] < 310
    assert mtimes("mtime-future")[0] - now > 300 * 86400
    assert now - mtimes("mtime-copied")[0] > 29 * 86400
    back = mtimes("mtime-backwards")
    assert back == sorted(back, reverse=True)


def test_lagging_files_are_hidden_first(tmp_path):
    events = steps_of(tmp_path, "lagging")
    assert not [name for name in os.listdir(tmp_path / NAME) if name.startswith(".nfs")]
    renamed = [e.path for e in events if e.action == "rename"]
    assert renamed != sorted(renamed)
    last = max(e.at_s for e in events if e.action == "rename")
    assert next(e.at_s for e in events if e.action == "verdict") >= last


def test_split_and_moved_places(tmp_path):
    split = write(tmp_path, "split-roots").scans[0]
    assert split.folder == str(tmp_path / "lbsram" / NAME)
    assert split.metadata_folder == str(tmp_path / NAME)
    assert sorted(os.listdir(split.metadata_folder)) == [f"{NAME}.info", f"{NAME}.xml"]
    other = tmp_path / "other"
    other.mkdir()
    moved = write(other, "moved").scans[0]
    assert (moved.folder, moved.metadata_folder) == (str(other / NAME), None)
    assert os.listdir(other / "lbsram") == []


def test_series(tmp_path, names_in):
    holo = write(tmp_path, "holo-missing")
    assert [s.name for s in holo.scans] == ["scan_0001_1_", "scan_0001_2_", "scan_0001_4_"]
    assert {s.set_name for s in holo.scans} == {"scan_0001"}
    quick = tmp_path / "quick"
    quick.mkdir()
    write(quick, "prefix-of-another")
    assert names_in(quick) == ["scan_0001_", "scan_0001_1_"]


def test_odd_names(tmp_path):
    assert "\n" in write(tmp_path, "name-newline").scans[0].name
    assert b"\xe9\xff" in os.fsencode(write(tmp_path, "name-bytes").scans[0].folder)


def test_pace_is_that_of_the_clock(tmp_path):
    clock = FakeClock()
    begun = clock.monotonic()
    log = tmp_path / "truth.jsonl"
    write(tmp_path, None, clock=clock, speed=2.0, log=str(log))
    events = read_truth(str(log))
    assert clock.monotonic() - begun == pytest.approx(events[-1].at_s / 2.0, abs=0.3)
    assert events[-1].t - events[0].t == pytest.approx((events[-1].at_s - events[0].at_s) / 2.0, abs=0.01)


def test_a_stopped_writer_leaves_at_once(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        write(tmp_path, None, stop=stop, speed=1.0)
    assert os.listdir(tmp_path) == []
