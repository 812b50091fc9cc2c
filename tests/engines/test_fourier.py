"""The fourier engine on analytic phantoms, on tiny and damaged scans, and on a real tooth."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tomovault.core.errors import UserError
from tomovault.core.layout import FrameKind
from tomovault.engines.fourier import PLUGIN

MU = 0.01


def quiet(_done, _total):
    """No progress wanted."""


def reconstruct(source, row=0, **parameters):
    engine = PLUGIN()
    resolved = engine.resolve(source, parameters)
    ((got, image),) = list(engine.slices(source, resolved, [row], quiet))
    assert got == row
    return resolved, image


def rmse(image, expected, fraction=0.96):
    size = image.shape[0]
    line = (np.arange(size) - (size - 1) / 2) ** 2
    inside = line[:, None] + line[None, :] <= (fraction * size / 2) ** 2
    return float(np.sqrt(np.mean((image - expected)[inside] ** 2)))


def even_angles(count, span=180.0):
    return (np.arange(count) * span / count).tolist()


@pytest.mark.parametrize(
    ("columns", "count", "centre"),
    [(128, 202, 63.5), (256, 402, 127.5), (255, 402, 127.0), (201, 316, 94.3), (256, 402, 140.77)],
)
def test_noise_free_slices_are_right_in_value_and_place(kit, columns, count, centre):
    angles = even_angles(count)
    radius = columns * 0.42
    line = MU * kit.sinogram(angles, columns, centre, radius=radius)
    resolved, image = reconstruct(kit.scan(line, angles), filter="ramp")
    expected = MU * kit.slice(columns, radius=radius)
    assert image.shape == (columns, columns)
    assert image.dtype == np.float32
    assert abs(resolved["centre"] - centre) < 0.03
    # Pixels cut by the skull's edge, a step of the whole range, set the floor, which falls with the root of the width
    # (0.010 of the range at 1024 columns); the next test is without such edges.
    assert rmse(image, expected) < 0.0105 * (1024 / columns) ** 0.5 * MU
    assert abs(float(np.mean(image - expected))) < 2e-4 * MU
    for shift in (-1, 1):
        for axis in (0, 1):
            assert rmse(image, np.roll(expected, shift, axis=axis)) > 3 * rmse(image, expected)


@pytest.mark.parametrize("columns", [128, 181, 256])
@pytest.mark.parametrize("name", ["shepp-logan", "ramp", "ramp-sinc2"])
def test_without_sharp_edges_the_error_is_small(kit, columns, name):
    """Paraboloids, f = v (1 - r^2), whose projections are 4/3 v R (1 - s^2/R^2)^(3/2), have no edge to blur."""
    angles = np.array(even_angles(columns * 2))
    centre, radius = columns * 0.47, columns * 0.4
    blobs = ((1.0, radius, 0.0, 0.0), (0.5, radius * 0.3, radius * 0.4, radius * 0.3))
    position = np.arange(columns) - centre
    line = np.arange(columns) - (columns - 1) / 2
    sinogram = np.zeros((len(angles), columns))
    expected = np.zeros((columns, columns))
    for value, size, x0, y0 in blobs:
        at = position[None, :] - (x0 * np.cos(np.deg2rad(angles)) + y0 * np.sin(np.deg2rad(angles)))[:, None]
        sinogram += 4 / 3 * value * size * np.maximum(1 - (at / size) ** 2, 0) ** 1.5
        r2 = ((line[None, :] - x0) ** 2 + (-line[:, None] - y0) ** 2) / size**2
        expected += value * np.maximum(1 - r2, 0)
    _, image = reconstruct(kit.scan(MU * sinogram, angles.tolist()), filter=name, centre=centre)
    assert rmse(image, MU * expected) < 0.003 * MU


def test_the_centre_is_found_in_noise(kit):
    angles = even_angles(400)
    for seed, centre in enumerate((133.37, 110.02)):
        line = MU * kit.sinogram(angles, 256, centre, radius=100)
        resolved = PLUGIN().resolve(kit.scan(line, angles, counts=5000, seed=seed, rows=16), {})
        assert resolved["centre_method"] == "pairs"
        assert abs(resolved["centre"] - centre) < 0.1


@pytest.mark.parametrize("kind", ["golden", "full turn", "both ends", "jittered"])
def test_any_set_of_angles_gives_the_same_slice(kit, kind):
    count, columns, centre = 400, 256, 124.2
    rng = np.random.default_rng(5)
    angles = {
        "golden": np.mod(np.arange(count) * 180 * 0.6180339887, 180),
        "full turn": np.arange(count) * 360 / count,
        "both ends": np.linspace(0, 180, count),
        "jittered": np.arange(count) * 180 / count + rng.uniform(-0.15, 0.15, count),
    }[kind].tolist()
    line = MU * kit.sinogram(angles, columns, centre, radius=105)
    resolved, image = reconstruct(kit.scan(line, angles), filter="ramp")
    assert abs(resolved["centre"] - centre) < 0.1
    assert rmse(image, MU * kit.slice(columns, radius=105)) < 0.024 * MU


@pytest.mark.parametrize("centre", [222.4, 33.6])
def test_half_acquisition_sees_the_whole_object(kit, centre):
    angles = even_angles(720, 360)
    line = MU * kit.sinogram(angles, 256, centre, radius=200)
    source = kit.scan(line, angles, counts=50000, rows=8, facts={"field_of_view": "Half"})
    resolved, image = reconstruct(source)
    assert resolved["half_acquisition"] is True
    assert not resolved["truncated"]
    assert abs(resolved["centre"] - centre) < 0.35
    assert image.shape == (resolved["size"],) * 2 == (447, 447) if centre > 128 else (445, 445)
    exact = kit.scan(line, angles, facts={"field_of_view": "Half"})
    _, image = reconstruct(exact, centre=centre, filter="ramp")
    assert rmse(image, MU * kit.slice(image.shape[0], radius=200)) < 0.02 * MU


def test_half_field_of_view_over_half_a_turn_is_not_a_half_acquisition(kit):
    angles = even_angles(90)
    line = MU * kit.sinogram(angles, 64, 31.5, radius=25)
    resolved, image = reconstruct(kit.scan(line, angles, facts={"field_of_view": "Half"}))
    assert resolved["half_acquisition"] is False
    assert image.shape == (64, 64)


def test_an_object_wider_than_the_field_is_detected_and_its_edges_faded(kit):
    angles = even_angles(402)
    centre = 125.0
    whole = kit.sinogram(angles, 256, centre, radius=190)
    source = kit.scan(MU * whole, angles)
    expected = MU * kit.slice(256, radius=190)
    resolved, image = reconstruct(source)
    assert resolved["truncated"]
    assert resolved["taper"] == 64
    assert resolved["padding_mode"] != "zero"
    assert abs(resolved["centre"] - centre) < 0.3
    plain, unfaded = reconstruct(source, taper=0)
    assert plain["padding_mode"] == "zero"
    assert rmse(image, expected, 0.9) < 0.05 * MU < rmse(unfaded, expected, 0.9)


def test_an_object_inside_the_field_is_padded_with_zeros(kit):
    angles = even_angles(100)
    resolved = PLUGIN().resolve(kit.scan(MU * kit.sinogram(angles, 100, 50, radius=40), angles), {})
    assert resolved["truncated"] is False
    assert resolved["taper"] == 0
    assert resolved["padding"] >= 200


def test_what_lies_outside_the_circle_is_masked(kit):
    angles = even_angles(60)
    _, image = reconstruct(kit.scan(MU * kit.sinogram(angles, 64, 31.5, radius=25), angles, counts=3000))
    assert image[0, 0] == image[0, -1] == image[-1, 0] == image[-1, -1] == 0.0
    assert image[32, 0] != 0.0


def test_resolved_parameters_are_plain_and_run_again_to_the_same_bits(kit):
    angles = even_angles(90)
    source = kit.scan(MU * kit.sinogram(angles, 64, 30.2, radius=25), angles, counts=9000, rows=5, dark_sum=3)
    engine = PLUGIN()
    resolved = engine.resolve(source, {})
    again = json.loads(json.dumps(resolved, allow_nan=False))
    assert again == resolved
    first = [image.tobytes() for _, image in engine.slices(source, resolved, range(5), quiet)]
    second = [image.tobytes() for _, image in engine.slices(source, again, range(5), quiet)]
    assert first == second
    for key in ("eps", "upsampling", "padding", "threads", "finufft", "numpy", "cpu", "filter", "mask_radius", "clip"):
        assert resolved[key] is not None
    assert resolved["flats"] == [{"indices": [2, 3], "sha256": resolved["flats"][0]["sha256"]}]
    assert resolved["darks"][0]["indices"] == [0, 1]
    assert resolved["projections"] == [[4, 94]]


def test_a_slice_does_not_depend_on_what_else_is_made_or_on_memory(kit):
    angles = even_angles(90)
    source = kit.scan(MU * kit.sinogram(angles, 64, 30.2, radius=25), angles, counts=9000, rows=7)
    engine = PLUGIN()
    resolved = dict(engine.resolve(source, {}))
    whole = dict(engine.slices(source, resolved, range(7), quiet))
    assert list(whole) == list(range(7))
    small = {**resolved, "memory_bytes": 1}
    source.reads = 0
    for row, image in engine.slices(source, small, range(7), quiet):
        assert image.tobytes() == whole[row].tobytes()
    assert source.reads >= 4 * 90
    for rows in ([3], [6], [1, 4], [0, 6]):
        for row, image in engine.slices(source, resolved, rows, quiet):
            assert image.tobytes() == whole[row].tobytes()


def test_angles_in_blocks_give_the_same_slice_but_for_rounding(kit):
    angles = even_angles(120)
    source = kit.scan(MU * kit.sinogram(angles, 128, 60.2, radius=50), angles)
    engine = PLUGIN()
    resolved = dict(engine.resolve(source, {"memory_bytes": 1_000_000}))
    assert resolved["angle_block"] < 120
    ((_, blocks),) = engine.slices(source, resolved, [0], quiet)
    ((_, whole),) = engine.slices(source, {**resolved, "angle_block": 120}, [0], quiet)
    assert float(np.abs(blocks - whole).max()) < 1e-3 * MU


SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import conftest
from tomovault.engines.fourier import PLUGIN
angles = [i * 180 / 150 for i in range(150)]
line = 0.01 * conftest.phantom_sinogram(angles, 128, 61.3, radius=50)
source = conftest.scan_of(line, angles, counts=8000, rows=4)
engine = PLUGIN()
resolved = engine.resolve(source, {})
digest = hashlib.sha256(repr(sorted(resolved.items())).encode())
for row, image in engine.slices(source, resolved, range(4), lambda done, total: None):
    digest.update(image.tobytes())
print(digest.hexdigest())
"""


def test_two_fresh_processes_agree_to_the_last_bit():
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert len(runs[0].strip()) == 64
    assert runs[0] == runs[1]


def test_importing_the_engine_does_not_import_its_library():
    code = "import sys, tomovault.engines.fourier as f; f.PLUGIN().version(); sys.exit('finufft' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_library_the_ways_out_are_named(kit, monkeypatch):
    monkeypatch.setitem(sys.modules, "finufft", None)
    angles = even_angles(8)
    source = kit.scan(MU * kit.sinogram(angles, 16, 7.5), angles)
    with pytest.raises(UserError, match="finufft") as caught:
        PLUGIN().resolve(source, {})
    assert "aarch64" in caught.value.hint
    assert "engine:" in caught.value.hint


@pytest.mark.parametrize(("count", "span"), [(11, 360.0), (11, 180.0), (2, 180.0), (3, 90.0)])
@pytest.mark.parametrize(("flats", "darks"), [(2, 2), (1, 0), (0, 0), (0, 2)])
def test_tiny_scans_are_reconstructed(kit, count, span, flats, darks):
    angles = even_angles(count, span)
    line = 0.1 * kit.sinogram(angles, 16, 7.5, radius=6)
    source = kit.scan(line, angles, counts=900, rows=16, flats=flats, darks=darks, dark_level=100.0 if darks else 0.0)
    engine = PLUGIN()
    resolved = engine.resolve(source, {})
    slices = list(engine.slices(source, resolved, resolved["rows"], quiet))
    assert [row for row, _ in slices] == list(range(16))
    assert all(np.isfinite(image).all() for _, image in slices)
    assert resolved["flat_correction"] is (flats > 0)
    assert (resolved["white_level"] is None) is (flats > 0)
    assert 0 <= resolved["centre"] <= 15
    json.dumps(resolved, allow_nan=False)


def test_constant_frames_give_finite_slices(kit):
    frames = [(FrameKind.FLAT, np.full((16, 16), 7, "<u2"), None, 1)]
    frames += [(FrameKind.PROJECTION, np.full((16, 16), 7, "<u2"), a, 1) for a in even_angles(11, 360)]
    resolved, image = reconstruct(kit.Source(frames), row=3)
    assert resolved["centre_method"] == "middle"
    assert float(np.abs(image).max()) < 1e-6


def test_without_flats_the_white_level_stands_in(kit):
    angles = even_angles(200)
    line = MU * kit.sinogram(angles, 128, 63.5, radius=50)
    source = kit.scan(line, angles, counts=30000, flats=0, profile=False, rows=4)
    resolved, image = reconstruct(source)
    assert resolved["flat_correction"] is False
    assert resolved["white_level"] == pytest.approx(30000, rel=0.05)
    assert rmse(image, MU * kit.slice(128, radius=50)) < 0.1 * MU


def test_missing_angles_are_assumed_and_said_so(kit):
    angles = even_angles(200, 360)
    line = MU * kit.sinogram(angles, 128, 61.7, radius=50)
    source = kit.scan(line, [None] * 200)
    resolved, image = reconstruct(source, scan_range_deg=360, filter="ramp")
    assert resolved["angles_assumed"] is True
    assert resolved["angles_deg"][100] == 180.0
    assert rmse(image, MU * kit.slice(128, radius=50)) < 0.03 * MU
    assert PLUGIN().resolve(source, {})["angles_deg"][100] == 90.0


def test_bad_pixels_stay_in_their_place(kit):
    angles = even_angles(200)
    line = MU * kit.sinogram(angles, 128, 61.7, radius=50)
    clean, good = reconstruct(kit.scan(line, angles, rows=2), row=1)
    source = kit.scan(line, angles, rows=2)
    source.frames[2][1][0, 40] = np.nan
    source.frames[2][1][1, 41] = 0.0
    source.frames[3][1][1, 41] = -5.0
    source.frames[50][1][0, 60] = np.inf
    source.frames[60][1][0, 61] = 1e9
    damaged, image = reconstruct(source, row=1)
    assert np.isfinite(image).all()
    assert damaged["centre"] == pytest.approx(clean["centre"], abs=0.01)
    assert rmse(image, good) < 0.003 * MU


def test_excluded_projections_are_not_used(kit):
    angles = even_angles(100)
    source = kit.scan(MU * kit.sinogram(angles, 64, 31.5, radius=25), angles)
    source.frames[54] = (FrameKind.PROJECTION, np.full((1, 64), 1e6), angles[50], 1)
    resolved, image = reconstruct(source, exclude=[54])
    assert resolved["projections"] == [[4, 54], [55, 104]]
    assert len(resolved["angles_deg"]) == 99
    assert rmse(image, MU * kit.slice(64, radius=25)) < 0.06 * MU


@pytest.mark.parametrize(
    "parameters",
    [
        {"filtre": "ramp"},
        {"filter": "rmap"},
        {"rows": [0, 99]},
        {"rows": []},
        {"centre": 64.0},
        {"centre": float("nan")},
        {"clip": [1.0, 0.5]},
        {"clip": 3},
        {"upsampling": 3.0},
        {"eps": 0},
        {"taper": -1},
        {"scan_range_deg": 0},
        {"memory_bytes": 10},
        {"exclude": list(range(4, 103))},
    ],
)
def test_wishes_that_make_no_sense_are_refused(kit, parameters):
    angles = even_angles(100)
    source = kit.scan(MU * kit.sinogram(angles, 64, 31.5, radius=25), angles)
    with pytest.raises(UserError):
        PLUGIN().resolve(source, parameters)


def test_parameters_of_another_frame_size_are_refused(kit):
    angles = even_angles(20)
    resolved = PLUGIN().resolve(kit.scan(MU * kit.sinogram(angles, 64, 31.5), angles), {})
    with pytest.raises(UserError, match="frames"):
        PLUGIN().slices(kit.scan(MU * kit.sinogram(angles, 32, 15.5), angles), resolved, [0], quiet)
    with pytest.raises(UserError, match="rows"):
        PLUGIN().slices(kit.scan(MU * kit.sinogram(angles, 64, 31.5), angles), resolved, [1], quiet)


def test_the_estimate_grows_with_the_scan_and_keeps_the_budget(kit):
    engine = PLUGIN()
    found = []
    for columns, count in ((64, 60), (256, 400)):
        angles = even_angles(count)
        source = kit.scan(MU * kit.sinogram(angles, columns, columns / 2), angles, rows=40)
        found.append(engine.estimate(source, engine.resolve(source, {"memory_bytes": 60_000_000})))
    assert found[0].cpu_s < found[1].cpu_s < 60
    assert found[0].memory_bytes < found[1].memory_bytes < 190_000_000 + 66_000_000


def test_progress_ends_at_its_total(kit):
    angles = even_angles(30)
    source = kit.scan(MU * kit.sinogram(angles, 32, 15.5), angles, rows=5)
    seen = []
    engine = PLUGIN()
    list(engine.slices(source, engine.resolve(source, {}), range(5), lambda done, total: seen.append((done, total))))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_a_real_tooth(tooth):
    resolved, image = reconstruct(tooth, row=1)
    assert resolved["centre"] == pytest.approx(295.5, abs=0.75)
    assert resolved["angles_assumed"] is False
    assert not resolved["truncated"]
    size = image.shape[0]
    line = np.arange(size) - (size - 1) / 2
    radius = np.hypot(line[:, None], line[None, :])
    enamel = float(np.percentile(image[radius < 130], 95))
    air = image[(radius > 200) & (radius < 290)]
    # The tooth stands out of the air around it by far more than the noise, and is a good tenth of the field.
    assert abs(float(air.mean())) < 0.03 * enamel
    assert float(air.std()) < 0.15 * enamel
    assert 0.05 < float(np.mean(image > 0.5 * enamel)) < 0.2
    # Half a pixel beside the axis the picture is visibly doubled: it has more negative values.
    _, beside = reconstruct(tooth, row=1, centre=resolved["centre"] + 4)
    assert float(np.minimum(beside, 0).sum()) < float(np.minimum(image, 0).sum())


def test_a_real_scan_without_beam(full_turn):
    engine = PLUGIN()
    resolved = engine.resolve(full_turn, {})
    assert (len(resolved["angles_deg"]), resolved["flats"][0]["indices"]) == (11, [2, 3])
    assert resolved["weights"]["largest_gap_deg"] == pytest.approx(36, abs=1e-3)
    slices = list(engine.slices(full_turn, resolved, range(16), quiet))
    assert len(slices) == 16
    assert all(image.shape == (16, 16) and np.isfinite(image).all() for _, image in slices)
    json.dumps(resolved, allow_nan=False)


def test_the_averaged_flats_are_named_by_their_content(kit):
    angles = even_angles(20)
    source = kit.scan(MU * kit.sinogram(angles, 32, 15.5), angles, counts=500, rows=3)
    resolved = PLUGIN().resolve(source, {})
    mean = np.mean([source.frames[i][1].astype(float) for i in (2, 3)], axis=0).astype("<f4")
    assert resolved["flats"][0]["sha256"] == hashlib.sha256(mean.tobytes()).hexdigest()
