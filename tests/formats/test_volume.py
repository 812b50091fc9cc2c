"""Volumes that others reconstructed."""

from __future__ import annotations

import os
import shutil

import h5py
import hdf5plugin  # noqa: F401 - registers the codec that packages use
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.core.errors import NoScan, UserError
from tomovault.core.layout import FrameKind
from tomovault.core.scan import FileRole, Verdict, has_slices
from tomovault.formats import family
from tomovault.formats.volume_names import Shape, find_volumes
from tomovault.formats.volume_texts import parse_par, parse_sections, parse_volume_info
from tomovault.testing.tiff_scan import tiff_bytes
from tomovault.watch.listing import list_folder

VOLUME = family.load("volume")
INFO = "! PyHST_SLAVE VOLUME INFO FILE\nNUM_X = {0}\nNUM_Y = {1}\nNUM_Z = {2}\nvoxelSize = 0.7\nBYTEORDER = {3}\n"


def voxels(shape=(5, 6, 8), dtype="<f4", seed=1):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(dtype)


@pytest.fixture
def pyhst(tmp_path):
    """A folder with a PyHST volume, its texts and the parameter file."""

    def make(name="bone_1_", *, dtype="<f4", order="LOWBYTEFIRST", info=True, cut=0, prefix=b""):
        folder = tmp_path / "recon"
        folder.mkdir(exist_ok=True)
        data = voxels(dtype=dtype)
        raw = prefix + data.tobytes()
        (folder / f"{name}.vol").write_bytes(raw[: len(raw) - cut])
        if info:
            (folder / f"{name}.vol.info").write_text(INFO.format(8, 6, 5, order))
        (folder / f"{name}.vol.xml").write_text("<reconstruction/>")
        (folder / f"{name}.par").write_text(
            "# HST_SLAVE PARAMETER FILE\nFILE_PREFIX = /data/visitor/ma1/id19/bone_1_/bone_1_ # frames\n"
            f"OUTPUT_FILE = /data/visitor/ma1/id19/recon/{name}.vol\n"
        )
        (folder / "correct.csv").write_text("of nothing")
        return folder, data

    return make


def candidates(folder):
    return {c.key: c for c in VOLUME.recognise(list_folder(str(folder)))}


def report(folder, key=None, *, settled=True):
    found = candidates(folder)
    candidate = found[key] if key else next(iter(found.values()))
    (made,) = VOLUME.inspect(candidate, settled=settled)
    return made


@pytest.mark.parametrize(("dtype", "order"), [("<f4", "LOWBYTEFIRST"), (">f4", "HIGHBYTEFIRST")])
def test_a_pyhst_volume_is_complete_when_its_size_is_right(pyhst, round_trip, dtype, order):
    folder, data = pyhst(dtype=dtype, order=order)
    found = report(folder)
    assert found.certificate.verdict is Verdict.COMPLETE, found.certificate.problems
    assert found.name == "bone_1__volume"
    assert found.metadata["of"] == "bone_1_"
    assert found.metadata["no_reconstruction"]
    assert has_slices(found.metadata)
    assert found.conditions["pixel_size"].value == 0.7
    roles = {f.state.path: f.role for f in found.files}
    assert roles == {
        "bone_1_.vol": FileRole.PROJECTION,
        "bone_1_.vol.info": FileRole.METADATA,
        "bone_1_.vol.xml": FileRole.METADATA,
        "bone_1_.par": FileRole.METADATA,
    }
    package = round_trip(found)
    with h5py.File(package) as f:
        assert set(f["/entry/instrument/detector/image_key"][()]) == {3}
        np.testing.assert_array_equal(f["/entry/instrument/detector/data"][()], data)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"cut": 1}, Verdict.INCOMPLETE),
        ({"cut": 5 * 6 * 8 * 4}, Verdict.INCOMPLETE),
        ({"info": False}, Verdict.UNDECIDED),
        ({"prefix": bytes(7)}, Verdict.UNDECIDED),
        ({"prefix": bytes(210)}, Verdict.COMPLETE),
    ],
)
def test_the_size_decides(pyhst, round_trip, changes, verdict):
    folder, _ = pyhst(**changes)
    found = report(folder)
    assert found.certificate.verdict is verdict
    assert has_slices(found.metadata) is bool(VOLUME.layout(found).files) is (verdict is Verdict.COMPLETE)
    if verdict is not Verdict.COMPLETE:
        assert found.certificate.problems
        assert found.metadata["no_reconstruction"].endswith("none of its slices can be read by itself")
    round_trip(found)


def test_a_volume_that_grows_is_acquiring(pyhst):
    folder, _ = pyhst(cut=100)
    assert report(folder, settled=False).certificate.verdict is Verdict.ACQUIRING


@pytest.mark.parametrize(
    ("name", "dtype", "said", "verdict"),
    [
        ("steel_8x6x5_uint8.raw", "u1", "", Verdict.COMPLETE),
        ("steel.raw", "u2", "DATA_TYPE = uint16\n", Verdict.COMPLETE),
        ("steel.raw", "u1", "", Verdict.UNDECIDED),
        ("steel.raw", "u1", "DATA_TYPE = PACKED_BINARY\n", Verdict.UNDECIDED),
    ],
)
def test_raw_volumes_say_their_type_or_are_undecided(tmp_path, name, dtype, said, verdict):
    (tmp_path / name).write_bytes(voxels(dtype="f4").astype(dtype).tobytes())
    (tmp_path / f"{name}.info").write_text(INFO.format(8, 6, 5, "LOWBYTEFIRST") + said)
    assert report(tmp_path).certificate.verdict is verdict


def slices(folder, pattern, count=6, dtype="f4", skip=()):
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        if k not in skip:
            (folder / pattern.format(k)).write_bytes(tiff_bytes([voxels((6, 8), dtype, seed=k)]))
    return folder


def test_slices_in_tiff_are_a_volume_and_never_projections(tmp_path, round_trip):
    folder = slices(tmp_path / "bone_rec", "slice_{:04d}.tif")
    assert family.load("tiff_stack").recognise(list_folder(str(folder))) == []
    found = report(folder)
    assert (found.name, found.metadata["of"]) == ("bone_rec_volume", "bone")
    assert found.certificate.verdict is Verdict.UNDECIDED
    assert "nothing says how many slices are expected" in found.certificate.problems
    frames = [s for f in VOLUME.layout(found).files for s in f.frames]
    assert len(frames) == 6
    assert {s.kind for s in frames} == {FrameKind.INVALID}
    round_trip(found)


def test_slices_with_a_log_that_counts_them_are_complete(tmp_path):
    folder = slices(tmp_path / "rec", "bone_rec{:08d}.tif", dtype="u2")
    (folder / "bone_rec.log").write_text("[Reconstruction]\nDataset Prefix=bone\nSections Count=6\n")
    found = report(folder)
    assert found.certificate.verdict is Verdict.COMPLETE, found.certificate.problems
    assert found.metadata["of"] == "bone"
    os.unlink(folder / "bone_rec00000003.tif")
    found = report(folder)
    assert found.certificate.verdict is Verdict.INCOMPLETE
    assert any(problem.endswith(": 3") for problem in found.certificate.problems)


def test_slices_of_an_edf_scan_are_a_volume_beside_it(edf_folder, image_bytes, round_trip):
    folder = edf_folder("bone_1_").write()
    for k in range(4):
        (folder.path / f"bone_1_slice_{k:04d}.edf").write_bytes(image_bytes(k))
    (folder.path / "bone_1_.vol").write_bytes(bytes(4 * 8))
    (folder.path / "bone_1_.vol.info").write_text(INFO.format(2, 2, 2, "LOWBYTEFIRST"))
    found = candidates(folder.path)
    assert set(found) == {"bone_1_.vol", "bone_1_slice_*.edf"}
    made = report(folder.path, "bone_1_slice_*.edf")
    assert made.metadata["of"] == "bone_1_"
    assert len(made.files) == 4
    round_trip(made)
    volume = report(folder.path, "bone_1_.vol")
    assert (volume.certificate.verdict, volume.metadata["of"]) == (Verdict.COMPLETE, "bone_1_")
    taken = {f.state.path for f in folder.report().files}
    assert folder.report().certificate.verdict is Verdict.COMPLETE
    assert not taken & {f.state.path for r in (made, volume) for f in r.files}


def test_two_volumes_of_a_folder_have_their_own_texts(pyhst):
    folder, _ = pyhst("bone_1_")
    pyhst("bone_1_pag")
    first, second = (report(folder, key) for key in ("bone_1_.vol", "bone_1_pag.vol"))
    assert first.entry != second.entry
    assert {f.state.path for f in second.files} == {f"bone_1_pag{e}" for e in (".vol", ".vol.info", ".vol.xml", ".par")}
    assert not {f.state.path for f in first.files} & {f.state.path for f in second.files}


def test_an_info_without_its_volume_is_told(tmp_path):
    (tmp_path / "gone.vol.info").write_text(INFO.format(1, 1, 1, "LOWBYTEFIRST"))
    with pytest.raises(NoScan, match="describes a volume that is not here"):
        report(tmp_path)


def test_links_are_not_followed(tmp_path):
    folder = slices(tmp_path / "bone_rec", "slice_{:04d}.tif")
    os.unlink(folder / "slice_0002.tif")
    (folder / "slice_0002.tif").symlink_to("/etc/passwd")
    found = report(folder)
    assert "slice_0002.tif" not in {f.state.path for f in found.files}
    assert found.certificate.verdict is not Verdict.COMPLETE


def test_what_cannot_be_read_is_reported(tmp_path):
    folder = tmp_path / "bone_rec"
    folder.mkdir()
    for k in range(3):
        (folder / f"slice_{k:04d}.tif").write_bytes(b"nothing")
    with pytest.raises(UserError, match="none of 3 files can be read"):
        report(folder)


def test_a_number_of_slices_that_no_text_gives_is_counted_from_the_files(tmp_path):
    found = report(slices(tmp_path / "bone_rec", "slice_{:04d}.tif"))
    assert found.certificate.verdict is Verdict.UNDECIDED
    assert found.conditions["n_slices"].value > 0
    assert found.conditions["n_slices"].source == found.entry
    assert "announced" not in " ".join(found.certificate.evidence)


def test_a_volume_of_unknown_size_has_no_number_of_slices(pyhst):
    folder, _ = pyhst(info=False)
    found = report(folder)
    assert found.certificate.verdict is Verdict.UNDECIDED
    assert "how many slices there are is not known" in found.certificate.evidence
    assert not {"n_slices", "frame_width", "pixel_size"} & set(found.conditions)


@pytest.mark.parametrize("said", ["0", "0.0", "-0.7", "nan", "unknown"])
def test_a_voxel_size_that_cannot_be_is_unknown(pyhst, said):
    folder, _ = pyhst()
    info = folder / "bone_1_.vol.info"
    info.write_text(info.read_text().replace("voxelSize = 0.7", f"voxelSize = {said}"))
    found = report(folder)
    assert found.certificate.verdict is Verdict.COMPLETE
    assert "pixel_size" not in found.conditions


# --- the real files ------------------------------------------------------------------------------


def test_the_real_nabu_volume(real_data, round_trip):
    folder = next((real_data / "bliss" / "PROCESSED_DATA").rglob("*_16Bit_tiff"))
    found = report(folder)
    assert found.certificate.verdict is Verdict.COMPLETE
    assert found.metadata["of"] == "TestEwoksTomo_0010"
    assert found.conditions["n_slices"].value == 16
    assert found.conditions["pixel_size"].value == pytest.approx(0.669)
    assert {f.state.path for f in found.files} == {"TestEwoksTomo_0010.tiff", "TestEwoksTomo_0010_infos.txt"}
    assert family.load("tiff_stack").recognise(list_folder(str(folder))) == []
    round_trip(found)


def test_the_real_info_of_pymicro(real_data, tmp_path, round_trip):
    with pytest.raises(NoScan, match=r"steel_431x431x246_uint8_bin\.raw\.info describes"):
        report(real_data / "pyhst")
    folder = tmp_path / "steel"
    shutil.copytree(real_data / "pyhst", folder)
    os.chmod(folder, 0o755)
    (folder / "steel_431x431x246_uint8_bin.raw").write_bytes(bytes(range(256)) * (431 * 431 * 246 // 256 + 1))
    assert report(folder).certificate.verdict is Verdict.UNDECIDED
    with (folder / "steel_431x431x246_uint8_bin.raw").open("r+b") as out:
        out.truncate(431 * 431 * 246)
    assert report(folder).certificate.verdict is Verdict.COMPLETE


def test_the_real_zeiss_file_as_a_volume(real_data, tmp_path, round_trip):
    (tmp_path / "z").mkdir()
    shutil.copyfile(real_data / "zeiss" / "txrm_test_chip_tomo.txrm", tmp_path / "z" / "chip_recon.txm")
    found = report(tmp_path / "z")
    assert found.certificate.verdict is Verdict.COMPLETE
    assert sum(len(f.frames) for f in VOLUME.layout(found).files) == 7
    round_trip(found)


def test_every_real_tiff_under_the_name_of_a_slice(real_data, tmp_path, round_trip):
    sources = sorted(p for d in ("tiff-zoo", "bad-tiff-pillow", "bad-tiff-fuzz") for p in (real_data / d).rglob("*"))
    folder = tmp_path / "mixed_rec"
    folder.mkdir()
    for k, source in enumerate(p for p in sources if p.is_file()):
        shutil.copyfile(source, folder / f"slice_{k:04d}.tif")
    (candidate,) = candidates(folder).values()
    (found,) = family.LimitedFormats().inspect(candidate, settled=True)
    assert found.certificate.verdict is Verdict.INCOMPLETE
    assert len(found.files) > 100
    round_trip(found)


# --- texts that lie ------------------------------------------------------------------------------


def seeds(real_data):
    texts = [p.read_bytes() for p in (real_data / "pyhst").iterdir()]
    texts += [p.read_bytes() for p in (real_data / "bliss").rglob("*_infos.txt")]
    return [*texts, INFO.format(8, 6, 5, "HIGHBYTEFIRST").encode(), b"OUTPUT_FILE = a\nFILE_PREFIX = b # c\n"]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutations_of_texts_end_in_an_answer(real_data, tmp_path, data):
    raw = bytearray(data.draw(st.sampled_from(seeds(real_data))))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        piece = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"9" * 20, b"-1", b"1e300"])))
        raw[at : at + len(piece)] = piece
    parse_par(bytes(raw))
    parse_sections(bytes(raw))
    info = parse_volume_info(bytes(raw), "a.vol")
    assert info.voxels is None or info.voxels > 0
    folder = tmp_path / "fuzz"
    folder.mkdir(exist_ok=True)
    for name in ("a.vol.info", "a.par", "a_infos.txt"):
        (folder / name).write_bytes(raw)
    (folder / "a.vol").write_bytes(bytes(960))
    found = report(folder, "a.vol")
    assert found.certificate.verdict in (Verdict.COMPLETE, Verdict.INCOMPLETE, Verdict.UNDECIDED)
    for file in VOLUME.layout(found).files:
        assert all(s.offset + s.length <= file.size for s in file.frames)


@given(
    st.lists(
        st.sampled_from("a.vol a.vol.info b.raw b.raw.info c_slice_0001.edf slice_1.tif d.txm e_infos.txt".split()),
        unique=True,
    )
)
def test_no_file_is_in_two_volumes(names):
    found = find_volumes("x", names)
    data = [name for volume in found for name in volume.names]
    assert len(data) == len(set(data))
    assert all(volume.shape in Shape for volume in found)
