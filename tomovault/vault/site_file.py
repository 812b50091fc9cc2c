"""The models behind `tomovault.yaml`, its checks, and the way from there to a `Site`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from tomovault.core.errors import UserError
from tomovault.core.replica import LEAST_COPIES, TierClass
from tomovault.policy.quantity import parse_percent, parse_size, show_found
from tomovault.policy.yaml_text import (
    Duration,
    Fault,
    Percent,
    Size,
    Strict,
    Switch,
    Whole,
    Word,
    faults,
    nearest,
    parse,
)
from tomovault.recall.request import Limits
from tomovault.vault.archive_sections import BackupSection, DrillSection
from tomovault.vault.costs_section import CostsSection
from tomovault.vault.globus_section import GlobusSection
from tomovault.vault.metrics_section import MetricsSection
from tomovault.vault.notify_section import NotifySection
from tomovault.vault.plugins import list_kinds, load_plugin
from tomovault.vault.policy_files import read_policy_file
from tomovault.vault.quota_section import QuotaSection
from tomovault.vault.site_places import SitePlaces
from tomovault.vault.site_settings import (
    POLICIES,
    SITE_FILE,
    Area,
    GuardSettings,
    JobSettings,
    PackageSettings,
    PluginSettings,
    QuarantineSettings,
    RestoreSettings,
    RetrySettings,
    Site,
    TierSettings,
    WatchSettings,
    find_policy,
    record_path,
    shipped_policies,
)
from tomovault.vault.tier_marks import TierMarks


def _parse_share_or_size(value: object) -> float | int:
    """A share as a float, or bytes as an int."""
    if isinstance(value, float) or (isinstance(value, str) and value.strip().endswith("%")):
        return parse_percent(value)
    try:
        return parse_size(value)
    except ValueError:
        raise ValueError(f"{show_found(value)} is neither a share nor a size; write it as 75% or 8GB") from None


def _parse_path(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"{show_found(value)} is not a path")
    return os.path.expanduser(value)


ShareOrSize = Annotated[float | int, BeforeValidator(_parse_share_or_size)]
PathText = Annotated[str, BeforeValidator(_parse_path)]
#: A section whose every line is a comment is an empty one.
_EMPTY = BeforeValidator(lambda value: {} if value is None else value)
Rate = Annotated[int, BeforeValidator(lambda v: parse_size(v.strip().removesuffix("/s") if isinstance(v, str) else v))]


class _Watch(Strict):
    poll: Duration = timedelta(seconds=30)
    quiet: Duration = timedelta(seconds=60)
    keep_after: Duration = timedelta(days=7)


class _Area(Strict):
    path: PathText
    vault: PathText | None = None
    tier_class: Literal["fast", "server"] = Field(default="server", alias="class")
    quota: Size | None = None
    high: Percent = 0.85
    low: Percent = 0.75
    beamline: Word | None = None
    policy: Word = "standard"
    prune: Switch = False
    reduce: Switch = False
    host: Word | None = None
    template: str | None = None
    folders: tuple[str, ...] = ()
    folder_done: str | None = None
    floor: Size | None = None


class _Tier(TierMarks):
    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str
    tier_class: TierClass | None = Field(default=None, alias="class")
    path: PathText | None = None
    copies: Whole = Field(default=LEAST_COPIES, ge=1, le=10)
    capacity: Size | None = None
    drives: Whole | None = Field(default=None, ge=1, le=64)
    slots: Whole | None = Field(default=None, ge=1, le=99_999)
    floor: Size | None = None

    @model_validator(mode="after")
    def _check_options(self) -> _Tier:
        try:
            plugin = load_plugin("tiers", self.kind)
        except UserError as problem:
            told = f"unknown kind {self.kind!r} of tier{nearest(self.kind, list_kinds('tiers'))}"
            raise faults([Fault(told, ("kind",))]) from problem
        legal = plugin.OPTIONS | {"kind", "class", *TierMarks.model_fields}
        given = {*(self.model_fields_set - {"tier_class"}), *(self.model_extra or {})}
        found = [
            Fault(f"a tier of kind {self.kind!r} has no key {key!r}{nearest(key, legal)}", (key,), at_key=True)
            for key in sorted(given - legal)
        ]
        if self.path is None:
            found.append(Fault(f"a tier of kind {self.kind!r} needs the key 'path'", ("kind",)))
        if found:
            raise faults(found)
        return self

    @property
    def of_class(self) -> TierClass:
        """Its class, by default that of its kind."""
        given: TierClass = self.tier_class or load_plugin("tiers", self.kind).TIER_CLASS
        return given

    @property
    def on_media(self) -> int | None:
        """What all media of a library hold together, where the site says so."""
        return None if self.capacity is None or self.slots is None else self.capacity * self.slots

    def options(self, folder: Path) -> dict[str, Any]:
        """What the plug-in is given: every key but kind and class, with absolute paths."""
        named = self.model_dump(include={"copies", "capacity", "drives", "slots", "floor"}, exclude_none=True)
        given = {key: value for key, value in named.items() if key in load_plugin("tiers", self.kind).OPTIONS}
        return {**(self.model_extra or {}), **given, "path": _absolute(folder, self.path or "")}


class _Jobs(Strict):
    cpus: Whole | None = Field(default=None, ge=1)
    memory: ShareOrSize = 0.75
    reconstructions: Whole = Field(default=1, ge=1)


class _Quarantine(Strict):
    hold: Duration = timedelta(days=14)
    limit: ShareOrSize = 0.25


class _Guard(Strict):
    share: Percent = 0.25
    max_pause: Duration = timedelta(seconds=60)
    full: Rate | None = None


class _Retries(Strict):
    attempts: Whole = Field(default=3, ge=1, le=100)
    after: Duration = timedelta(seconds=10)
    most: Duration = timedelta(hours=1)


class _Package(Strict):
    part: Size = 64 * 10**9


class _Restore(Strict):
    pin: Duration = timedelta(days=14)


class _Recall(Strict):
    fair: Duration = timedelta(seconds=Limits.fair_s)
    patience: Duration = timedelta(seconds=Limits.patience_s)
    mount_bytes: Size = Limits.mount_bytes
    mount_count: Whole = Field(default=Limits.mount_count, ge=1)
    mount_after: Duration = timedelta(seconds=Limits.mount_age_s)

    def limits(self) -> Limits:
        """As the rule for recalls takes them."""
        return Limits(
            mount_bytes=self.mount_bytes,
            mount_count=self.mount_count,
            mount_age_s=_seconds(self.mount_after),
            fair_s=_seconds(self.fair),
            patience_s=_seconds(self.patience),
        )


class _Engine(Strict):
    kind: Word = "fourier"
    options: Mapping[str, Any] = Field(default_factory=dict)


class _Executor(Strict):
    kind: Word = "local"
    options: Mapping[str, Any] = Field(default_factory=dict)


class SiteFile(Strict):
    """`tomovault.yaml` as it is written."""

    catalogue: str = "sqlite:///catalogue.db"
    simulated: Switch = False
    watch: _Watch = _Watch()
    areas: Annotated[Mapping[Word, _Area], _EMPTY] = Field(default_factory=dict)
    tiers: Annotated[Mapping[Word, _Tier], _EMPTY] = Field(default_factory=dict)
    jobs: _Jobs = _Jobs()
    quarantine: _Quarantine = _Quarantine()
    guard: _Guard = _Guard()
    retries: _Retries = _Retries()
    package: _Package = _Package()
    restore: _Restore = _Restore()
    recall: _Recall = _Recall()
    engine: _Engine = _Engine()
    executor: _Executor = _Executor()
    globus: GlobusSection | None = None
    quotas: Annotated[QuotaSection, _EMPTY] = QuotaSection()
    notify: NotifySection | None = None
    metrics: MetricsSection | None = None
    costs: CostsSection | None = None
    catalogue_backup: Annotated[BackupSection, _EMPTY] = BackupSection()
    fire_drill: Annotated[DrillSection, _EMPTY] = DrillSection()
    lease: Duration = timedelta(seconds=60)


def read_site(folder: Path, *, policies: bool = True) -> Site:
    """See `tomovault.vault.site.load_site`."""
    folder = Path(os.path.abspath(folder))
    path = folder / SITE_FILE
    return parse_site(_read_text(path), str(path), folder, policies=policies)


def parse_site(text: str, file_name: str, folder: Path, *, policies: bool = True) -> Site:
    """The site that a text describes, as if it stood in `folder`; nothing is written. Without `policies` none is
    read.
    """
    plain = parse(text, file_name, SiteFile, lambda found: _check(found, folder))
    areas = {name: _area(name, area, folder, plain.simulated) for name, area in plain.areas.items()}
    return Site(
        folder=str(folder),
        catalogue=_catalogue_url(plain.catalogue, folder),
        simulated=plain.simulated,
        watch=WatchSettings(*(_seconds(t) for t in (plain.watch.poll, plain.watch.quiet, plain.watch.keep_after))),
        areas=areas,
        tiers={name: _tier(name, tier, folder) for name, tier in plain.tiers.items()},
        jobs=JobSettings(
            cpus=plain.jobs.cpus or len(os.sched_getaffinity(0)),
            memory_bytes=_memory_bytes(plain.jobs.memory),
            reconstructions=plain.jobs.reconstructions,
        ),
        quarantine=QuarantineSettings(
            hold_s=_seconds(plain.quarantine.hold),
            limit_share=plain.quarantine.limit if isinstance(plain.quarantine.limit, float) else None,
            limit_bytes=None if isinstance(plain.quarantine.limit, float) else plain.quarantine.limit,
        ),
        guard=GuardSettings(plain.guard.share, _seconds(plain.guard.max_pause), plain.guard.full),
        retries=RetrySettings(plain.retries.attempts, _seconds(plain.retries.after), _seconds(plain.retries.most)),
        package=PackageSettings(plain.package.part),
        restore=RestoreSettings(_seconds(plain.restore.pin)),
        engine=PluginSettings(plain.engine.kind, plain.engine.options),
        executor=PluginSettings(plain.executor.kind, plain.executor.options),
        globus=None if plain.globus is None else plain.globus.settings(folder),
        quotas=plain.quotas.settings(folder),
        notify=None if plain.notify is None else plain.notify.settings(folder),
        metrics=None if plain.metrics is None else plain.metrics.listen,
        costs=None if plain.costs is None else plain.costs.costs(),
        recall=plain.recall.limits(),
        lease_s=_seconds(plain.lease),
        backup=plain.catalogue_backup.settings(folder),
        drill=plain.fire_drill.settings(folder),
        policies={
            n: read_policy_file(folder, n).policy for n in sorted({a.policy for a in areas.values()}) if policies
        },
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise UserError(f"{path}: not UTF-8 text at byte {problem.start}") from None
    except OSError as problem:
        raise UserError(
            f"{path} cannot be read: {problem.strerror}", hint="tomovault init DIR makes a site"
        ) from problem


# --- checks of one value against another -------------------------------------------------------------


def _check(site: SiteFile, folder: Path) -> Iterator[Fault]:
    if problem := _catalogue_problem(site.catalogue, folder):
        yield Fault(problem, ("catalogue",))
    if site.watch.poll <= timedelta(0):
        yield Fault("polling without a pause would read the servers to death", ("watch", "poll"))
    if not timedelta(seconds=2) <= site.lease <= timedelta(minutes=10):
        yield Fault("a lease is between 2s and 10m: it is renewed every third of it", ("lease",))
    if site.quarantine.hold <= timedelta(0) and not site.simulated:
        yield Fault("a hold of zero is for simulated sites: here a prune could not be undone", ("quarantine", "hold"))
    if site.executor.kind != "local":
        yield Fault("jobs are carried out on this machine: only 'local' is known", ("executor", "kind"))
    if site.executor.options:
        yield Fault("the local executor has no options", ("executor", "options"), at_key=True)
    if site.engine.options:
        yield Fault("an engine takes its parameters from a preset of the policy", ("engine", "options"), at_key=True)
    if not 0 < site.guard.share:
        yield Fault("a share of zero would stop all work for as long as anything is written", ("guard", "share"))
    for name in sorted(set(site.areas) & set(site.tiers)):
        yield Fault(f"{name!r} is an area already; areas and tiers share their names", ("tiers", name), at_key=True)
    for name, area in site.areas.items():
        yield from _check_area(name, area, folder)
    yield from _places(site, folder).problems()
    yield from _check_by_tier(site)
    archives = [name for name, tier in site.tiers.items() if tier.of_class is TierClass.ARCHIVE]
    yield from site.catalogue_backup.problems(archives)
    yield from site.fire_drill.problems(folder, {name: _absolute(folder, a.path) for name, a in site.areas.items()})


def _check_by_tier(site: SiteFile) -> Iterator[Fault]:
    """Marks, quotas and prices are of places that there are, and that know how full they are."""
    for name, tier in site.tiers.items():
        is_sized = tier.kind == "posix" or tier.on_media is not None
        has_quarantine = hasattr(load_plugin("tiers", tier.kind), "clear_away")  # as a `FolderTier` has
        yield from tier.problems_of_marks(
            ("tiers", name), tier.of_class, is_sized=is_sized, has_quarantine=has_quarantine
        )
    yield from site.quotas.problems(site.areas, site.tiers)
    if site.costs is not None:
        yield from site.costs.problems({*site.areas, *site.tiers})


def _check_area(name: str, area: _Area, folder: Path) -> Iterator[Fault]:
    here = ("areas", name)
    if not area.low < area.high:
        yield Fault("the low watermark must be below the high one", (*here, "low" if area.low != 0.75 else "high"))
    if area.quota == 0:
        yield Fault("a quota of nothing; leave it out for the size of the file system", (*here, "quota"))
    if find_policy(folder, area.policy) is None:
        known = {p.stem for place in (folder / POLICIES, shipped_policies()) for p in place.glob("*.yaml")}
        yield Fault(f"there is no policy {area.policy!r}{nearest(area.policy, known)}", (*here, "policy"))
    if area.template is not None and (problem := _template_problem(area.template)):
        yield Fault(problem, (*here, "template"))
    for at, glob in enumerate(area.folders):
        if problem := _glob_problem(glob):
            yield Fault(problem, (*here, "folders", at))
    if area.folder_done is not None and (not area.folder_done.strip() or "/" in area.folder_done):
        yield Fault("the name of a file in the folder itself, such as DONE or *.finished", (*here, "folder_done"))
    elif area.folder_done is not None and not area.folders:
        yield Fault("it says when the area's 'folders' are complete, and there are none", (*here, "folder_done"))


def _places(site: SiteFile, folder: Path) -> SitePlaces:
    """Where links lead, so that one folder has one name."""
    return SitePlaces(
        site=os.path.realpath(folder),
        areas={name: os.path.realpath(_absolute(folder, area.path)) for name, area in site.areas.items()},
        vaults={name: os.path.realpath(_vault_of(area, folder)) for name, area in site.areas.items()},
        tiers={name: os.path.realpath(_absolute(folder, tier.path or "")) for name, tier in site.tiers.items()},
    )


def _glob_problem(glob: str) -> str:
    parts = glob.split("/")
    if not glob.strip() or glob.startswith("/") or ".." in parts or "" in parts[:-1]:
        return f"{glob!r} is not a pattern of folders below the area, such as other/* or **/raw_?"
    return ""


def _template_problem(template: str) -> str:
    from string import Formatter

    try:
        names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as problem:
        return f"not a path template: {problem}"
    known = ("beamline", "proposal", "sample", "owner", "session", "collection", "dataset")
    for name in names:
        if names.count(name) > 1:
            return f"{name!r} stands twice in the template, and only one of them can be meant"
        if name not in known:
            return f"unknown name {name!r} in the template{nearest(name, known)}"
    return "" if names else "a template needs a name in it, such as {proposal}/{sample}"


def _catalogue_problem(url: str, folder: Path) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("sqlite", "postgresql+psycopg"):
        return f"{url!r} is not sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
    if scheme == "sqlite":
        if not rest.startswith("/") or rest in ("/", "//") or rest.startswith("/:memory:"):
            return "a catalogue needs a file: sqlite:///NAME in the site's folder, or sqlite:////PATH from the root"
        if "?" in str(folder):
            return "the site's own path has a '?', which cannot stand in a database URL"
    return ""


# --- from the file to the site -----------------------------------------------------------------------


def _area(name: str, area: _Area, folder: Path, simulated: bool) -> Area:
    return Area(
        name=name,
        path=_absolute(folder, area.path),
        vault=_vault_of(area, folder),
        tier_class=TierClass(area.tier_class),
        quota=area.quota,
        high=area.high,
        low=area.low,
        beamline=area.beamline,
        policy=area.policy,
        prune=area.prune,
        reduce=area.reduce,
        host=area.host,
        template=area.template,
        floor_given=0 if area.floor is None and simulated else area.floor,
        folders=area.folders,
        folder_done=area.folder_done,
    )


def _vault_of(area: _Area, folder: Path) -> str:
    return _absolute(folder, area.vault) if area.vault is not None else _absolute(folder, area.path) + ".vault"


def _tier(name: str, tier: _Tier, folder: Path) -> TierSettings:
    plugin, options = load_plugin("tiers", tier.kind), tier.options(folder)
    if getattr(plugin, "MARKED", False):
        options["record"] = record_path(folder, f"tier-{name}")
    if getattr(plugin, "MARKS_ITSELF", False):
        options["own_record"] = record_path(folder, f"tier-{name}")
    marks = tier.marks(tier.of_class, tier.on_media)
    return TierSettings(name, tier.kind, tier.of_class, options, marks)


def _absolute(folder: Path, path: str) -> str:
    return os.path.normpath(os.path.join(folder, path))


def _seconds(value: timedelta) -> float:
    return value.total_seconds()


def _catalogue_url(url: str, folder: Path) -> str:
    if not url.startswith("sqlite:///"):
        return url
    path, mark, options = url.removeprefix("sqlite:///").partition("?")
    return f"sqlite:///{_absolute(folder, path)}{mark}{options}"


def _memory_bytes(given: float | int) -> int:
    """The memory of jobs: a size, or a share of what this machine, or the group of processes we run in, has."""
    if not isinstance(given, float):
        return given
    limits: Iterable[int] = (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_group_limits())
    return int(given * min(limits))


def _group_limits() -> Iterator[int]:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text("ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            yield int(text)
