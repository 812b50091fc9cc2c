"""Policies of a history, each with what the laws can check of its rules without reading a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

#: Dates between which things may be done, each some weeks after the histories begin.
EMBARGO = datetime(2026, 4, 15, tzinfo=UTC)
BEGINS = datetime(2026, 3, 20, tzinfo=UTC)
ENDS = datetime(2026, 8, 1, tzinfo=UTC)

#: What a site pays: a volume of more than some 800 bytes costs more to keep than to make again.
COSTS = {"tb_month": {"inhouse": 1e6}, "core_hour": 1.0, "horizon": "12 months"}
BYTE_KEPT, CPU_SECOND = 1e6 * 12 / 1e12, 1 / 3600

_FULL = "archived and usage > high"
_ON_SERVER = "replicas(server) >= 1 and usage > high"


@dataclass(frozen=True)
class Prune:
    """A rule that lets something go from the area of a scan or, of packages, from the `tier` that it names."""

    name: str
    when: str = _FULL
    kind: str = "original"
    form: str = "files"
    tier: str = ""
    order: int = 10
    least_age_days: int = 0
    warn_days: int = 0
    limits: str = ""
    starts: datetime | None = None
    until: datetime | None = None
    told: bool = False

    @property
    def for_room(self) -> bool:
        """Whether a watermark decides."""
        return "usage" in self.when

    @property
    def cheaper(self) -> bool:
        """Whether a price decides."""
        return "cheaper to recompute" in self.when

    def is_of(self, kind: str, form: str, tier: str, area: str) -> bool:
        """Whether such a replica of a scan of that area is one that the rule speaks of."""
        if self.tier:
            return (kind, form, tier) == ("original", "package", self.tier)
        return kind == self.kind and tier == area and (kind != "original" or form == self.form)

    @property
    def line(self) -> str:
        what = f"tiers: [{self.tier}]" if self.tier else f"product: {self.kind}"
        if not self.tier and self.kind == "original":
            what = f"forms: [{self.form}]"
        warn = f", warn: {self.warn_days}d" if self.warn_days else ""
        age = f" and age > {self.least_age_days}d" if self.least_age_days else ""
        more = [
            *([f"limits: {self.limits}"] if self.limits else []),
            *([f"from: {self.starts.date()}"] if self.starts else []),
            *([f"until: {self.until.date()}"] if self.until else []),
            *(["notify: [page]"] if self.told else []),
        ]
        parts = [f"name: {self.name}", f"when: {self.when}{age}", "do: prune", f"with: {{{what}{warn}}}"]
        return f"  - {{{', '.join([*parts, f'order: {self.order}', *more])}}}\n"


@dataclass(frozen=True)
class Send:
    """A rule that exports the package of a scan once it is archived, from one date to another, and an embargo."""

    starts: datetime | None = None
    until: datetime | None = None
    embargo: datetime | None = None

    @property
    def lines(self) -> str:
        dates = f", from: {self.starts.date()}" if self.starts else ""
        dates += f", until: {self.until.date()}" if self.until else ""
        text = f"  - {{name: send, when: archived, do: export, with: {{to: 'home:/out'}}{dates}}}\n"
        if self.embargo:
            until = f"until: {self.embargo.date()}, with: {{actions: [export]}}"
            text += f"  - {{name: embargo, when: true, do: forbid, {until}}}\n"
        return text


@dataclass(frozen=True)
class Rules:
    """What a policy says. One that is `wrong` is never taken up."""

    prunes: tuple[Prune, ...] = ()
    copies: int = 2
    archives: bool = True
    archive_days: int = 400
    disk_days: int = 90
    send: Send | None = None
    forbids_prune: bool = False
    more: str = ""
    wrong: bool = False

    def text(self, name: str, version: int) -> str:
        """The file of the policy."""
        head = f"name: {name}\nversion: {version}\n"
        head += f"verified_within: {{disk: {self.disk_days}d, archive: {self.archive_days}d}}\nrules:\n"
        rules = "  - {name: pack, when: true, do: pack}\n"
        if self.archives:
            rules += f"  - {{name: archive, when: packed, do: archive, with: {{copies: {self.copies}}}}}\n"
        rules += "".join(rule.line for rule in self.prunes) + self.more
        if self.send is not None:
            rules += self.send.lines
        if self.forbids_prune:
            rules += "  - {name: no, when: true, do: forbid, with: {actions: [prune]}}\n"
        return head + rules


FILES = Prune("files")
PACKAGES = Prune("package", form="package", order=20)
ROOM = (FILES, PACKAGES)
_MIRROR = "  - {name: mirror, when: packed, do: replicate, with: {tiers: [mirror]}}\n"
_PREVIEW = "  - {name: preview, when: complete, do: preview}\n"
_MADE = _PREVIEW + "  - {name: volume, when: packed, do: reconstruct, notify: [page]}\n"
_TELL = "  - {name: tell, when: archived, do: notify, notify: [page]}\n"
_VOLUMES = Prune("volumes", "archived and cheaper to recompute", kind="volume", order=1)
_PREVIEWS = Prune("previews", kind="preview", order=2)
_TIER = Prune("tier", tier="mirror", order=5)
_OLD = Prune("old", "archived", least_age_days=10, order=3, limits="{files: 2}", told=True)

POLICIES = (
    Rules(ROOM),
    Rules((_VOLUMES, _PREVIEWS, *ROOM), more=_MADE),
    Rules((_TIER, *ROOM), more=_MIRROR),
    Rules((_OLD, PACKAGES)),
    Rules(ROOM, send=Send(BEGINS, ENDS, EMBARGO), more=_TELL),
    Rules((Prune("files", warn_days=2), PACKAGES)),
    Rules(ROOM, copies=3),
    Rules(ROOM, archive_days=5, disk_days=5),
    Rules((Prune("files", least_age_days=30), Prune("package", form="package", order=20, least_age_days=30))),
    Rules(ROOM, forbids_prune=True),
    Rules(),
    Rules((Prune("files", limits="{files: 1}"), Prune("package", form="package", order=20, limits="{files: 1}"))),
    Rules((Prune("files", "archived and usage > hihg"),), wrong=True),
    Rules(more="  - {name: more, when: packed, do: arch", wrong=True),
    Rules((Prune("volumes", "archived and volume", kind="volume", warn_days=1), *ROOM), more=_MADE, send=Send()),
    Rules(
        (
            _VOLUMES,
            _TIER,
            Prune("old", "archived", warn_days=5, until=ENDS),
            Prune("package", form="package", told=True),
        ),
        more=_MADE + _MIRROR + _TELL,
        send=Send(embargo=EMBARGO),
    ),
)

_MOVED = (Prune("files", _ON_SERVER), Prune("package", _ON_SERVER, form="package", order=20))
_SAFE_ON_SERVER = f"archived and {_ON_SERVER}"

FAST_POLICIES = (
    Rules(_MOVED, more=_MIRROR),
    Rules(_MOVED, archives=False, more=_MIRROR),
    Rules(
        (Prune("files", _SAFE_ON_SERVER), Prune("package", _SAFE_ON_SERVER, form="package", order=20)),
        archive_days=5,
        disk_days=5,
        more=_MIRROR,
    ),
    Rules((Prune("moved", "replicas(server) >= 1", least_age_days=1), _TIER), more=_MIRROR),
    Rules((Prune("moved", "replicas(server) >= 1 and archived", starts=BEGINS), _TIER), more=_MIRROR + _MADE),
)
POOLS = {"inhouse": POLICIES, "fast": FAST_POLICIES}
