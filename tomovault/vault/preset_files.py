"""The presets of a site: the files in `presets/` beside its policies, and those that came with tomovault."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tomovault.core.errors import UserError
from tomovault.policy.preset import Preset, parse_preset
from tomovault.policy.yaml_text import Fault, nearest, point_out
from tomovault.vault.site_settings import shipped_policies

PRESETS = "presets"


def read_yaml(path: Path) -> tuple[bytes, str]:
    """The bytes of a file that a person wrote, and its text. Raises UserError where it has none."""
    try:
        data = path.read_bytes()
        return data, data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise UserError(f"{path}: is not UTF-8 text (byte {problem.start})") from None
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}") from problem


def preset_files(folder: str | os.PathLike[str]) -> Mapping[str, Path]:
    """The file of each preset by its name; one of the site stands in the place of a shipped one."""
    places = (shipped_policies() / PRESETS, Path(folder) / PRESETS)
    return {path.stem: path for place in places for path in sorted(place.glob("*.yaml"))}


def preset_names(folder: str | os.PathLike[str]) -> frozenset[str]:
    """The names of the presets that every policy of a site may use."""
    return frozenset(preset_files(folder))


def read_preset(path: Path) -> Preset:
    """The preset in a file, which has the file's name. Raises UserError with every problem of it."""
    _, text = read_yaml(path)
    preset = parse_preset(text, str(path))
    if preset.name != path.stem:
        told = f"a preset is known by its file: this one would be {path.stem!r}"
        raise UserError("\n".join(point_out(text, str(path), [Fault(told, ("name",))])))
    return preset


def find_preset(folder: str | os.PathLike[str], name: str, besides: Mapping[str, object]) -> Preset:
    """A preset of the site or a shipped one. Raises UserError where there is none, naming the nearest of these and of
    those `besides`, or with every problem of its file.
    """
    files = preset_files(folder)
    if name not in files:
        raise UserError(
            f"there is no preset {name!r}{nearest(name, [*files, *besides])}",
            hint=f"write it in {Path(folder, PRESETS, name + '.yaml')}",
        )
    return read_preset(files[name])
