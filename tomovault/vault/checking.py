"""Checking what the site stands on: its catalogue, areas, tiers and engine."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tomovault.core.errors import TomovaultError
from tomovault.vault.checking_room import Impossible, impossible_room, rules_that_free_nothing
from tomovault.vault.fellows import read_fellows
from tomovault.vault.notify_checks import (
    problems_of_channels,
    problems_of_templates,
    rules_that_warn_nobody,
    why_nobody_hears,
)
from tomovault.vault.places import find_absence
from tomovault.vault.vault import Vault


@dataclass(frozen=True)
class Check:
    """One thing that was tried. What is not `needed` may fail without harm."""

    name: str
    ok: bool
    detail: str
    hint: str = ""
    needed: bool = True


def run_doctor(folder: Path) -> list[Check]:
    """The installation, the site, the catalogue, each area's rights, each tier, the engine: really tried."""
    checks = [_python(), *_libraries()]
    try:
        vault = Vault.open(folder, as_recorded=True)
    except TomovaultError as problem:
        return [*checks, Check("site", False, problem.message, problem.hint)]
    try:
        checks.append(Check("site", True, f"{vault.site.folder}" + (" (simulated)" if vault.site.simulated else "")))
        checks.extend(_catalogue(vault))
        checks.extend(_policies(vault))
        for name in vault.site.areas:
            checks.extend(_area(vault, name))
        checks.extend(_told(one) for one in rules_that_free_nothing(vault))
        checks.extend(_tiers(vault))
        checks.append(_engine(vault))
        checks.extend(_transfers(vault))
        checks.extend(_notify(vault))
    finally:
        vault.close()
    return checks


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), version, "Python 3.11 or newer is needed")


def _libraries() -> Iterator[Check]:
    from importlib import metadata

    for name, needed in (("h5py", True), ("hdf5plugin", True), ("blosc2", True), ("finufft", False)):
        try:
            yield Check(name, True, metadata.version(name), needed=needed)
        except metadata.PackageNotFoundError:
            yield Check(name, False, "is not installed", f"pip install {name}", needed=needed)


def _catalogue(vault: Vault) -> Iterator[Check]:
    problems = vault.catalogue.check(vault.exported_head())
    yield Check("catalogue", not problems, problems[0] if problems else "sound", "tomovault catalogue check says more")
    with vault.catalogue.reading() as tx:
        fellows = read_fellows(vault, tx)
    told = ", ".join(filter(None, (fellows.leader, *fellows.followers)))
    yield Check("daemon", bool(told), told or "none is running", "tomovault run", needed=False)


def _policies(vault: Vault) -> Iterator[Check]:
    with vault.catalogue.reading() as tx:
        found = vault.policy_troubles(tx)
    for name, area in vault.site.areas.items():
        policy, trouble = vault.policy_of(name), found.get(name)
        told = f"{area.policy}, version {policy.version}" if trouble is None else trouble.text
        wrong = trouble is not None and trouble.is_wrong
        yield Check(f"policy of {name}", trouble is None, told, "tomovault policy check", needed=wrong)


def _area(vault: Vault, name: str) -> Iterator[Check]:
    from tomovault.watch.area import AreaIdentity, check_area, disk_space, rights

    area = vault.site.areas[name]
    with vault.catalogue.reading() as tx:
        hosts = read_fellows(vault, tx).daemons
    if unwatched := vault.unwatched(name, hosts):
        yield Check(f"area {name} host", False, unwatched, f"tomovault run on {area.host}, or no `host`", needed=False)
    with vault.catalogue.reading() as tx:
        recorded = {a.name: a for a in vault.catalogue.list_areas(tx)}
    if name not in recorded:
        yield Check(f"area {name}", False, "was never marked", f"tomovault area add {name}={area.path}")
        return
    row = recorded[name]
    try:
        check_area(str(area.path), AreaIdentity(row.uuid or None, row.simulated, row.fsid, row.mount_source, name))
    except TomovaultError as problem:
        yield Check(f"area {name}", False, problem.message, problem.hint)
        return
    can = rights(str(area.path))
    detail = ", ".join(
        f"{word} {'yes' if yes else 'no'}"
        for word, yes in (("read", can.read), ("rename", can.rename), ("unlink", can.unlink))
    )
    if row.uuid and not (can.rename and can.unlink):
        yield Check(f"area {name}", can.read, detail + "; archive-only", can.detail)
    else:
        yield Check(f"area {name}", can.read, detail, can.detail)
    space = disk_space(str(area.path))
    if space is not None:
        free = space.free / space.total if space.total else 0.0
        yield Check(
            f"area {name} space",
            space.free > area.floor,
            f"{free:.0%} free",
            "" if space.free > area.floor else "below the floor kept for the acquisition",
        )
    yield from (_told(one) for one in impossible_room(area))
    with vault.catalogue.reading() as tx:
        absent = find_absence(vault, tx, name)
    if absent is None:
        yield _writable(f"vault of {name}", Path(area.vault))
    else:
        yield Check(f"vault of {name}", False, absent.message, absent.hint)


def _told(one: Impossible) -> Check:
    return Check(one.about, False, one.text, one.hint, one.needed)


def _writable(name: str, folder: Path) -> Check:
    probe = folder / f".doctor.{datetime.now(UTC).timestamp():.0f}"
    try:
        probe.write_bytes(b"tomovault")
        probe.unlink()
    except OSError as problem:
        return Check(name, False, f"{folder}: {problem.strerror}", "give the daemon's account the right to write there")
    return Check(name, True, f"{folder}, {shutil.disk_usage(folder).free // 10**9} GB free")


def _tiers(vault: Vault) -> Iterator[Check]:
    from tomovault.vault.workbench import open_tier

    for name in vault.site.tiers:
        with vault.catalogue.reading() as tx:
            absent = find_absence(vault, tx, name)
        if absent is not None:
            yield Check(f"tier {name}", False, absent.message, absent.hint)
            continue
        try:
            health = open_tier(vault.site, name).health()
        except TomovaultError as problem:
            yield Check(f"tier {name}", False, problem.message, problem.hint)
            continue
        yield Check(f"tier {name}", health.ok, health.detail, health.hint)


def _engine(vault: Vault) -> Check:
    from tomovault.vault.plugins import load_plugin

    kind = vault.site.engine.kind
    try:
        return Check(f"engine {kind}", True, load_plugin("engines", kind)().version())
    except TomovaultError as problem:
        return Check(f"engine {kind}", False, problem.message, problem.hint)
    except ImportError as problem:
        return Check(f"engine {kind}", False, str(problem), "pip install finufft", needed=False)


def _transfers(vault: Vault) -> Iterator[Check]:
    """The transfer service, where the site has one: who we are to it, and that it sees each area's vault."""
    from tomovault.vault.transfer_orders import source_path
    from tomovault.vault.workbench import open_transfers

    globus = vault.site.globus
    if globus is None:
        return
    try:
        service = open_transfers(vault.site)
    except TomovaultError as problem:
        yield Check("transfer", False, problem.message, problem.hint, needed=False)
        return
    with contextlib.closing(service):
        for name, area in vault.site.areas.items():
            what = f"transfer from {name}"
            try:
                path = source_path(str(area.vault), globus)
                seen = service.listing(globus.collection, path) is not None
            except TomovaultError as problem:
                yield Check(what, False, problem.message, problem.hint, needed=False)
                continue
            hint = f"is {area.vault} really {path} in the collection? see `globus: paths:` in tomovault.yaml"
            told = f"{area.vault} is {path} of {globus.collection}"
            yield Check(what, seen, told if seen else f"{path} is not in {globus.collection}", hint, needed=False)


def _notify(vault: Vault) -> Iterator[Check]:
    """Channels, the site's own templates, and rules that wait for warnings which nobody would get."""
    channels = list(problems_of_channels(vault.site))
    for name, usable, detail, hint in channels:
        yield Check(f"channel {name}", usable, detail, hint)
    if reason := why_nobody_hears(vault.site, frozenset(name for name, usable, *_ in channels if usable)):
        yield Check("notify", False, reason, "tomovault notify test CHANNEL tries one; see docs/notifications.md")
    for problem in problems_of_templates(Path(vault.site.folder)):
        yield Check("template", False, problem, "until it is mended, the one that came with tomovault is used")
    for rule in rules_that_warn_nobody(vault):
        told = f"{rule} waits for warnings, and no channel brings them: nothing goes by it"
        yield Check("warnings", False, told, "name one under `notify: warnings:` in tomovault.yaml")
