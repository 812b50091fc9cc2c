"""A new site, and one more area in an old one: the only writers of `tomovault.yaml`."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node

from tomovault.core.errors import UserError
from tomovault.policy.yaml_text import parse_word
from tomovault.vault.site_file import parse_site, read_site
from tomovault.vault.site_settings import POLICIES, SITE_FILE, Area, shipped_policies

_SITE = """\
# A tomovault site. `tomovault doctor` checks it; unknown keys and bad values are reported with their line.
# Durations: 30s, 5m, 1h30m, 7d. Sizes: 500GB, 8TB, 1.5TiB. Shares: 85%. Relative paths count from this folder.

# What is known of every scan: an SQLite file on a local disk (three slashes: in this folder, four: from the root),
# or postgresql+psycopg://USER@HOST/DATABASE.
catalogue: sqlite:///catalogue.db

# On a simulated site the emulated tape library counts as an archive. It never does where real data is.
simulated: {simulated}

watch:
  poll: {poll}          # how often the areas are looked at
  quiet: {quiet}         # a scan is settled when nothing of it changed for so long
  keep_after: 7d     # an unfinished scan that rests for so long is packed and archived as it was found, never pruned

# The watched folders. Only `path` is needed. Nothing that a user wrote is removed while `prune` is off.
#   vault: PATH.vault    where packages and volumes are kept, outside every watched folder
#   class: server        or fast, for a disk from which data moves on to a server
#   quota: 8TB           without it, the size of the file system
#   high: 85%, low: 75%  above high, room is made down to low
#   beamline: ID19
#   policy: standard     policies/standard.yaml
#   prune: off           on: originals may go once the laws are met
#   reduce: off          on: data may be made smaller with bounded loss
#   host: NAME           the machine whose daemon works here, where several run on one PostgreSQL catalogue;
#                        without it, that of the daemon that leads
#   template: "{{proposal}}/{{sample}}"    what the folders below it mean
#   folders: ["other/*"]    each such folder is one scan, whatever is in it; folder_done: "*.done" says that it is over
#   floor: 1TB           kept free for the acquisition
areas: {{}}

# Where copies go besides the areas. The emulated library keeps each cartridge as a file; each copy has its own pool.
tiers:
  tape: {{kind: emulated_library, path: tape, copies: 2}}

jobs:
  memory: 75%        # of this machine, or a size
  reconstructions: 1

quarantine:
  hold: 14d          # a prune can be undone for so long

# While a scan is being written on a server, our share of its bandwidth, and the longest pause of any job.
guard: {{share: 25%, max_pause: 60s}}

retries: {{attempts: 3, after: 10s}}

engine: {{kind: fourier}}
executor: {{kind: local}}
"""


def make_site(folder: Path, areas: Mapping[str, str], *, simulated: bool) -> Path:
    """See `tomovault.vault.site.init_site`."""
    if (folder / SITE_FILE).exists():
        raise UserError(f"there is a site in {folder} already", hint="tomovault area add NAME=PATH adds an area to it")
    places = {_name(name): os.path.abspath(path) for name, path in areas.items()}
    for path in places.values():
        if not simulated or os.path.lexists(path):
            _need_folder(path)
    text = _site_text(folder, places, simulated)
    parse_site(text, str(folder / SITE_FILE), folder)
    (folder / POLICIES).mkdir(parents=True, exist_ok=True)
    (folder / "tape").mkdir(exist_ok=True)
    for path in places.values():
        os.makedirs(path, exist_ok=True)
    policy = folder / POLICIES / "standard.yaml"
    if not policy.exists():
        _write(policy, (shipped_policies() / "standard.yaml").read_text("utf-8"), replace=False)
    _write(folder / SITE_FILE, text, replace=False)
    return folder


def write_area(folder: Path, name: str, path: str) -> Area:
    """See `tomovault.vault.site.add_area`."""
    site = read_site(folder)
    name, place = _name(name), os.path.abspath(path)
    if name in site.areas or name in site.tiers:
        raise UserError(f"the site has an area or a tier {name!r} already")
    if not site.simulated or os.path.lexists(place):
        _need_folder(place)
    text = _with_area((folder / SITE_FILE).read_text("utf-8"), name, _written(folder, place))
    area = parse_site(text, str(folder / SITE_FILE), folder).areas[name]
    os.makedirs(place, exist_ok=True)
    _write(folder / SITE_FILE, text, replace=True)
    return area


def _name(name: str) -> str:
    try:
        return parse_word(name)
    except ValueError as problem:
        raise UserError(f"area: {problem}") from None


def _need_folder(path: str) -> None:
    if not os.path.isdir(path):
        raise UserError(f"{path} is not a folder", hint="an area must be there (mounted) when it is added")


def _written(folder: Path, path: str) -> str:
    """The path as the file has it: from the site's folder if it is inside, so that a site can be moved whole."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"the path {path!r} is not UTF-8, so it cannot stand in {SITE_FILE}") from None
    inside = path.startswith(f"{folder}/")
    return os.path.relpath(path, folder) if inside else path


def _site_text(folder: Path, places: Mapping[str, str], simulated: bool) -> str:
    text = _SITE.format(
        simulated="true" if simulated else "false",
        poll="1s " if simulated else "30s",
        quiet="2s " if simulated else "60s",
    )
    for name, path in places.items():
        text = _with_area(text, name, _written(folder, path))
    return text


def _with_area(text: str, name: str, path: str) -> str:
    """The text with one more area, every other character as it was. The text is a site file that parses."""
    root = YAML(typ="safe", pure=True).compose(text)
    pairs = root.value if root is not None else []
    found = next(((key, value) for key, value in pairs if key.value == "areas"), None)
    if found is None:
        return f"{text.rstrip()}\n\nareas:{_block(name, path, '  ')}\n".lstrip()
    key, areas = found
    start, end = areas.start_mark.index, areas.end_mark.index
    rows = areas.value if isinstance(areas, MappingNode) else []
    if not rows and start < end:
        return f"{text[:start].rstrip(' ')}{_block(name, path, '  ')}{text[end:]}"
    if rows and areas.flow_style:
        at = _last_end(rows[-1][1])
        return f"{text[:at]}, {name}: {{path: {_quoted(path)}, prune: off, reduce: off}}{text[at:]}"
    at = text.find("\n", _last_end(rows[-1][1]) if rows else key.end_mark.index)
    at = len(text) if at < 0 else at
    indent = " " * rows[0][0].start_mark.column if rows else "  "
    return f"{text[:at]}{_block(name, path, indent)}{text[at:] or chr(10)}"


def _block(name: str, path: str, indent: str) -> str:
    return "".join(
        f"\n{indent}{line}" for line in (f"{name}:", f"  path: {_quoted(path)}", "  prune: off", "  reduce: off")
    )


def _quoted(path: str) -> str:
    """The path as YAML: bare where that is clear to anybody, else in double quotes, whose escapes JSON shares."""
    return path if re.fullmatch(r"/?[A-Za-z0-9][A-Za-z0-9/_.-]*", path) else json.dumps(path)


def _last_end(node: Node) -> int:
    """The index right after the last character that belongs to a node, without the comments that follow it."""
    if isinstance(node, MappingNode) and not node.flow_style and node.value:
        return _last_end(node.value[-1][1])
    return int(node.end_mark.index)


def _write(path: Path, text: str, *, replace: bool) -> None:
    """The whole text is on disk under its name, or nothing of it. Raises UserError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.chmod(path.stat().st_mode & 0o7777)
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
            temporary.unlink()
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except FileExistsError:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path} is there already") from None
    except OSError as problem:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {problem.strerror}") from problem
