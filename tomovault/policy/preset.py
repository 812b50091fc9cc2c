"""Presets: named parameters of the reconstruction engine, for every scan or for those of a beamline or a kind. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from tomovault.policy.yaml_text import Document, Fault, Size, Strict, Whole, Word, faults, faults_of, parse

#: The engine whose parameters are checked here, key by key; another program checks its own.
EMBEDDED = "fourier"

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]


class Parameters(BaseModel):
    """What the embedded engine may be asked for; a key that is left out is found or is the engine's own.

    `tests/meta` compares the keys with the engine's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: tuple[Whole, ...] | None = None
    exclude: tuple[Whole, ...] = ()
    #: Column of the rotation axis, in pixels from 0; searched where it is left out.
    centre: Number | None = None
    scan_range_deg: Number | None = None
    half_acquisition: Annotated[bool, Field(strict=True)] | None = None
    filter: Literal["shepp-logan", "ramp", "ramp-sinc2", "hann"] = "shepp-logan"
    logarithm: Annotated[bool, Field(strict=True)] = True
    clip: tuple[Positive, Positive] = (1e-4, 10.0)
    taper: Annotated[int, Field(strict=True, ge=0)] | None = None
    eps: Annotated[float, Field(strict=True, gt=1e-7, lt=0.1)] = 1e-4
    upsampling: Positive = 1.25
    memory_bytes: Annotated[Size, Field(ge=1_000_000)] = 1_000_000_000
    #: By how much of the open beam a pixel stands out of its neighbours that is replaced by them; off where left out.
    zingers: Positive | None = None
    #: How stripes of the sinogram, rings of the slice, are taken out; not at all where it is left out.
    rings: Literal["sorting"] | None = None
    #: Width in columns of the median that they are compared with.
    rings_width: Annotated[int, Field(strict=True, ge=3, le=501)] = 9
    #: Ratio of delta to beta of the sample: phase by Paganin's method; off where it is left out.
    delta_beta: Positive | None = None
    energy_kev: Positive | None = None
    distance_m: Positive | None = None
    pixel_m: Positive | None = None

    @field_validator("upsampling")
    @classmethod
    def _one_of_two(cls, value: float) -> float:
        if value not in (1.25, 2.0):
            raise ValueError(f"{value:g} is not one of 1.25, 2")
        return value

    @field_validator("rings_width")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"{value} has no middle: an odd number of columns")
        return value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Kind(Strict):
    """Of which scans a variant is; a key that is left out says nothing. A doubt is a no."""

    beamline: Words = ()
    format: Words = ()
    half_acquisition: Annotated[bool, Field(strict=True)] | None = None

    def fits(self, beamline: str | None, format_name: str, half_acquisition: bool | None) -> bool:
        """Whether a scan is of this kind."""
        if self.beamline and beamline not in self.beamline:
            return False
        if self.format and format_name not in self.format:
            return False
        return self.half_acquisition in (None, half_acquisition)


def _check_parameters(values: Mapping[str, Any], told: ValidationInfo) -> Mapping[str, Any]:
    """They are checked each by itself, so that every problem of a file is told at once."""
    found = list(problems_of_parameters(values, (), (told.context or {}).get("engine", EMBEDDED)))
    if found:
        raise faults(found)
    return values


Checked = Annotated[Mapping[str, Any], AfterValidator(_check_parameters)]


class Variant(Strict):
    """Other parameters for scans of a kind; what is not named stays as it is."""

    kind: Kind = Field(alias="for")
    parameters: Checked


class Preset(Strict):
    """A file of `presets/`: parameters under a name that rules and people use, and its variants. Of several variants
    that fit, a later one says more than an earlier one.
    """

    name: Word
    version: Whole = Field(ge=1)
    description: str = ""
    engine: Word = EMBEDDED
    parameters: Checked = Field(default_factory=dict)
    variants: tuple[Variant, ...] = ()

    def parameters_for(self, beamline: str | None, format_name: str, half_acquisition: bool | None) -> dict[str, Any]:
        """The parameters for a scan, checked and as the engine takes them."""
        chosen = dict(self.parameters)
        for variant in self.variants:
            if variant.kind.fits(beamline, format_name, half_acquisition):
                chosen |= variant.parameters
        return plain_parameters(chosen, self.engine)


def problems_of_parameters(
    values: Mapping[str, Any], path: Sequence[str | int], engine: str = EMBEDDED
) -> Iterator[Fault]:
    """What an engine would not understand of these parameters, each below `path`."""
    if engine != EMBEDDED:
        return
    try:
        Parameters.model_validate(values)
    except ValidationError as error:
        yield from faults_of(error, Parameters, tuple(path))
        return
    checked = Parameters.model_validate(values)
    if checked.clip[0] >= checked.clip[1]:
        yield Fault("the lower bound comes first, and is below the upper one", (*path, "clip"))


def plain_parameters(values: Mapping[str, Any], engine: str = EMBEDDED) -> dict[str, Any]:
    """The keys that were given, with values as an engine takes them: '2GB' is a number of bytes."""
    if engine != EMBEDDED:
        return dict(values)
    return Parameters.model_validate(values).model_dump(mode="json", exclude_unset=True)


def parse_preset(text: str, file_name: str) -> Preset:
    """The preset that a text holds. Raises UserError with every problem and its place."""
    plain = Document(text, file_name).plain
    engine = plain.get("engine", EMBEDDED) if isinstance(plain, dict) else EMBEDDED
    return parse(text, file_name, Preset, known={"engine": engine})


__all__ = ["EMBEDDED", "Kind", "Parameters", "Preset", "parse_preset", "plain_parameters"]
