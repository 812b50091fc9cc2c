"""What a BLISS master says of a sequence and of its subscans, as nested dicts for `put_tree`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tomovault.testing.acquisition import Acquisition
from tomovault.testing.bliss_switches import BlissSwitches
from tomovault.testing.lima import CAMERA

ROTATION = "srot"


@dataclass(frozen=True)
class Subscan:
    """Frames of one kind; `image_key` is NXtomo's, `frames` what was asked for, `taken` what will come."""

    kind: Literal["dark", "flat", "proj", "static"]
    title: str
    image_key: int
    frames: int
    taken: int
    type: str


def subscans_of(a: Acquisition, switches: BlissSwitches) -> list[Subscan]:
    """The subscans of a sequence in their order; those after an abort never begin."""
    taken = a.projections
    if switches.end in ("USER_ABORT", "FAILURE", "killed"):
        taken = max(1, int(a.projections * 0.6))
    found = [
        Subscan("dark", "dark images", 2, a.darks, a.darks, "tomo:dark"),
        Subscan("flat", "flat images 1", 1, a.flats, a.flats, "tomo:flat"),
        Subscan("proj", f"projections 0 - {a.projections - 1}", 0, a.projections, taken, "tomo:step"),
    ]
    if taken == a.projections:
        found.append(Subscan("static", "static images", -1, 3, 3, "tomo:return_ref"))
    return [subscan for subscan in found if subscan.frames]


def sequence_title(a: Acquisition) -> str:
    """The title of the sequence entry."""
    return {180.0: "tomo:halfturn", 360.0: "tomo:fullturn"}.get(a.scan_range_deg, "tomo:basic")


def sequence_tree(a: Acquisition, switches: BlissSwitches, folder: str, subscans: list[Subscan]) -> dict[str, Any]:
    """`technique` of the sequence entry. Units are those of a real master of 2025: mixed."""
    seconds = switches.units == "s"
    rows, columns = a.shape
    scan: dict[str, Any] = {
        "comment": "simulated",
        "dark_n": a.darks,
        "exposure_time": (a.exposure_s, "s") if seconds else (a.exposure_s * 1e3, "ms"),
        "field_of_view": "Full",
        "flat_n": a.flats,
        "flat_on": np.empty(0, np.float64),
        "half_acquisition": False,
        "latency_time": (0.001, "s") if seconds else (1.0, "ms"),
        "motor": ["rotation", ROTATION, ROTATION],
        "name": a.name,
        "sample_detector_distance": (a.distance_mm * 1e-3, "m") if seconds else (a.distance_mm, "mm"),
        "sample_pixel_size": (a.pixel_um, "um"),
        "scan_range": a.scan_range_deg,
        "scan_type": "STEP",
        "sequence": sequence_title(a),
        "source_sample_distance": (145.0, "m") if seconds else (145000.0, "mm"),
        "tomo_n": a.projections,
    }
    if switches.energy:
        scan["energy"] = (a.energy_kev, "keV")
    return {
        "@tomo_version": "2.7.0",
        "detector": {
            CAMERA: {
                "binning": np.array([1, 1]),
                "name": CAMERA,
                "pixel_size": np.array([6.5, 6.5]),
                "size": np.array([columns, rows]),
                "type": "Pco",
            }
        },
        "optic": {
            "magnification": 10,
            "name": "simulated_10x",
            "sample_pixel_size": (a.pixel_um, "um"),
            "scintillator": "LSO 10 um",
        },
        "saving": {
            "beamline": a.beamline.lower(),
            "frames_per_file": switches.frames_per_file,
            "image_file_format": "HDF5",
            "path": folder,
        },
        "scan": scan,
        "scan_flags": {
            "dark_images_at_end": False,
            "dark_images_at_start": a.darks > 0,
            "no_projection_groups": True,
            "no_return_images": False,
            "ref_images_at_end": False,
            "ref_images_at_start": a.flats > 0,
        },
        "subscans": {f"scan{place}": {"type": subscan.type} for place, subscan in enumerate(subscans)},
        "tomoconfig": {"detector": [CAMERA], "rotation": [ROTATION], "rotation_is_clockwise": True},
    }


def subscan_tree(a: Acquisition, subscan: Subscan) -> dict[str, Any]:
    """`technique` of a subscan entry; exposure in seconds, whatever the sequence says."""
    tree: dict[str, Any] = {"image_key": subscan.image_key}
    if subscan.kind == "proj":
        tree["proj"] = {
            "exposure_time": (a.exposure_s, "s"),
            "latency_time": (0.001, "s"),
            "motor": ["rotation", ROTATION, ROTATION],
            "proj_n": subscan.frames,
            "scan_range": a.scan_range_deg,
            "scan_type": "STEP",
        }
    elif subscan.kind in ("dark", "flat"):
        tree[subscan.kind] = {f"{subscan.kind}_n": subscan.frames, "exposure_time": (a.exposure_s, "s")}
    return tree


def camera_tree(a: Acquisition, subscan: Subscan, folder: str, per_file: int) -> dict[str, Any]:
    """The camera under `instrument` of a subscan before any image."""
    return {
        "acq_parameters": {
            "acq_expo_time": a.exposure_s,
            "acq_mode": "SINGLE",
            "acq_nb_frames": subscan.frames,
            "acq_trigger_mode": "INTERNAL_TRIGGER",
            "saving_directory": folder,
            "saving_prefix": f"{CAMERA}_",
        },
        "ctrl_parameters": {"saving_format": "HDF5", "saving_frame_per_file": per_file, "saving_suffix": ".h5"},
        "description": "Pco, simulated",
        "type": "lima",
        "x_pixel_size": (6.5, "um"),
        "y_pixel_size": (6.5, "um"),
    }
