"""The text files of an EDF scan: `.info`, `.xml`, and what a reconstruction adds beside them."""

from __future__ import annotations

import os
from xml.sax.saxutils import escape

from tomovault.testing.acquisition import Acquisition
from tomovault.testing.edf_switches import EdfSwitches


def info_bytes(a: Acquisition, switches: EdfSwitches, *, folder: str, ref_on: int, planned: int) -> bytes:
    """`KEY= value` lines; `planned` is the number of projections that it promises."""
    count = f"{planned}.0" if switches.info_text == "float_count" else str(planned)
    rows, columns = a.shape
    lines = [
        ("Energy", f"{a.energy_kev:g}"),
        ("Distance", f"{a.distance_mm:g}"),
        ("Prefix", a.name),
        ("Directory", folder),
        ("ScanRange", f"{a.scan_range_deg:g}"),
        ("TOMO_N", count),
        ("REF_ON", str(ref_on)),
        ("REF_N", str(a.flats if switches.refs_asked else 0)),
        ("DARK_N", str(a.darks)),
        ("Y_STEP", "8"),
        ("Dim_1", str(columns)),
        ("Dim_2", str(rows)),
        ("Count_time", f"{a.exposure_s:g}"),
        ("Latency_time (s)", "0"),
        ("Shutter_time (s)", "0.001"),
        ("Col_end", str(columns - 1)),
        ("Col_beg", "0"),
        ("Row_end", str(rows - 1)),
        ("Row_beg", "0"),
        ("Optic_used", f"{a.pixel_um:g}"),
        ("PixelSize", f"{a.pixel_um:g}"),
        ("Date", a.started_at.strftime("%d-%b-%Y")),
        ("Scan_Type", "continuous"),
        ("CCD_Mode", "FFM"),
        ("SrCurrent", "200"),
        ("CTAngle", "0"),
    ]
    if switches.info_text == "no_pixel_size":
        lines = [line for line in lines if line[0] not in ("PixelSize", "Optic_used")]
    text = b"".join(f"{key}= ".encode("ascii") + os.fsencode(value) + b"\n" for key, value in lines)
    if switches.info_text == "latin1":
        text += "Comment= échantillon à 20 µm\n".encode("latin-1")
    if switches.info_text == "equals":
        text += b"Comment= gap=11.3\n"
    return text.replace(b"\n", b"\r\n") if switches.info_text == "crlf" else text


def xml_bytes(a: Acquisition, switches: EdfSwitches, *, folder: str, ref_on: int, duration_s: float) -> bytes:
    """The record that SPEC leaves at the end of a scan."""
    rows, columns = a.shape
    end = a.at(duration_s)
    fields = [
        ("beamline", a.beamline),
        ("nameExp", a.sample),
        ("scanName", a.name),
        ("disk", folder),
        ("date", end.strftime("%d-%b-%Y %H:%M:%S")),
        ("machineMode", "7/8 +1"),
        ("machineCurrentStart", "200.00"),
        ("machineCurrentStop", "198.00"),
        ("cameraName", a.detector.upper()),
        ("cameraBinning", "H=1, V=1"),
        ("opticsName", "10x"),
        ("scintillator", "LSO 10 um"),
        ("energy", f"{a.energy_kev:g}"),
        ("distance", f"{a.distance_mm:g}"),
        ("pixelSize", f"{a.pixel_um:g}"),
        ("scanDuration", f"{duration_s:.1f}"),
        ("scanType", "continuous"),
        ("scanRange", f"{a.scan_range_deg:g}"),
        ("tomo_N", str(a.projections)),
        ("ref_On", str(ref_on)),
        ("ref_N", str(a.flats if switches.refs_asked else 0)),
        ("dark_N", str(a.darks)),
        ("y_Step", "8"),
        ("ccdtime", f"{a.exposure_s:g}"),
        ("ccdMode", "FFM"),
    ]
    lines = ['<?xml version="1.0" encoding="ISO-8859-1"?>', "<tomodb2>", "<acquisition>"]
    lines += [f"<{key}>{escape(value)}</{key}>" for key, value in fields]
    lines += [f"<projectionSize><DIM_1>{columns}</DIM_1><DIM_2>{rows}</DIM_2></projectionSize>", "<listMotors>"]
    for name, position in (("srot", "0.000"), ("sx", "0.12"), ("sy", "-1.5"), ("sz", "14.25")):
        lines.append(
            f"<motor><motorName>{name}</motorName><motorPosition>{position}</motorPosition>"
            "<motorMode>0</motorMode></motor>"
        )
    lines += ["</listMotors>", "</acquisition>", "</tomodb2>", ""]
    return os.fsencode("\n".join(lines))


def par_bytes(a: Acquisition, *, folder: str, ref_on: int) -> bytes:
    """A PyHST parameter file; its paths are absolute, as PyHST wants them."""
    rows, columns = a.shape
    lines = [
        "# HST_SLAVE PARAMETER FILE",
        "MULTIFRAME = 0",
        f"FILE_PREFIX = {folder}/{a.name}",
        "NUM_FIRST_IMAGE = 0 # No. of first projection file",
        f"NUM_LAST_IMAGE = {a.projections - 1} # No. of last projection file",
        "NUMBER_LENGTH_VARIES = NO",
        "LENGTH_OF_NUMERICAL_PART = 4 # No. of characters",
        "FILE_POSTFIX = .edf",
        f"NUM_IMAGE_1 = {columns} # Number of pixels horizontally",
        f"NUM_IMAGE_2 = {rows} # Number of pixels vertically",
        f"IMAGE_PIXEL_SIZE_1 = {a.pixel_um:g} # Pixel size horizontally (microns)",
        f"IMAGE_PIXEL_SIZE_2 = {a.pixel_um:g} # Pixel size vertically",
        "SUBTRACT_BACKGROUND = YES",
        f"BACKGROUND_FILE = {folder}/dark.edf",
        "CORRECT_FLATFIELD = YES",
        f"FF_PREFIX = {folder}/refHST",
        f"FF_NUM_LAST_IMAGE = {a.projections}",
        f"FF_FILE_INTERVAL = {ref_on}",
        "TAKE_LOGARITHM = YES",
        f"ANGLE_BETWEEN_PROJECTIONS = {a.step_deg:.6f} # Increment angle in degrees",
        f"ROTATION_AXIS_POSITION = {columns / 2:.2f}",
        "ROTATION_VERTICAL = YES",
        f"OUTPUT_FILE = {folder}/{a.name}.vol",
        "CCD_FILTER_PARA = {'threshold': 0.04 }",
        "",
    ]
    return os.fsencode("\n".join(lines))


def vol_info_bytes(shape: tuple[int, int, int], low: float, high: float) -> bytes:
    """The side file of a headerless volume of `shape` (z, y, x), float32 low byte first."""
    z, y, x = shape
    return (
        f"! PyHST_SLAVE VOLUME INFO FILE\nNUM_X =  {x}\nNUM_Y =  {y}\nNUM_Z =  {z}\n"
        f"voxelSize =  0.700000\nBYTEORDER = LOWBYTEFIRST\nValMin =  {low:.6f}\nValMax =  {high:.6f}\n"
        "s1 =  0.000000\ns2 =  0.000000\nS1 =  0.000000\nS2 =  0.000000\n"
    ).encode("ascii")
