"""Presets: every problem of a file at once, with its place; and what a scan of a kind gets."""

import pytest

from tomovault.core.errors import UserError
from tomovault.engines.fourier.filters import FILTERS
from tomovault.engines.fourier.wishes import DEFAULTS, read_wishes
from tomovault.policy.document import parse_policy
from tomovault.policy.preset import Parameters, parse_preset, plain_parameters

HEAD = "name: fine\nversion: 3\n"


def problems(text):
    with pytest.raises(UserError) as wrong:
        parse_preset(text, "presets/fine.yaml")
    return [line for line in wrong.value.message.splitlines() if line.startswith("presets/fine.yaml:")]


def test_its_keys_and_their_defaults_are_those_of_the_engine():
    assert set(Parameters.model_fields) == set(DEFAULTS)
    assert Parameters().model_dump() == dict(DEFAULTS)
    for name in FILTERS:
        assert Parameters(filter=name).filter == name


def test_whatever_is_right_here_is_right_for_the_engine():
    text = HEAD + (
        "parameters: {exclude: [3, 4], centre: 1023, filter: hann, clip: [0.001, 5], taper: 12, eps: 1.0e-5,"
        " upsampling: 2, memory_bytes: 2GB, zingers: 0.2, rings: sorting, rings_width: 11, delta_beta: 300,"
        " energy_kev: 26, distance_m: 0.03, pixel_m: 3.0e-6, half_acquisition: true, logarithm: false,"
        " scan_range_deg: 360, rows: [0, 1]}\n"
    )
    found = parse_preset(text, "f").parameters_for("ID19", "edf", None)
    assert set(found) == set(DEFAULTS)
    assert found["memory_bytes"] == 2_000_000_000
    assert read_wishes(found)["rings_width"] == 11


@pytest.mark.parametrize(
    ("line", "place", "word"),
    [
        ("parameters: {filtre: hann}", "3:14", "unknown key 'filtre'; did you mean 'filter'?"),
        ("parameters: {filter: han}", "3:22", "did you mean 'hann'?"),
        ("parameters: {rings: sortin}", "3:21", "sortin"),
        ("parameters: {rings_width: 8}", "3:27", "8 has no middle"),
        ("parameters: {zingers: -1}", "3:23", "greater than 0"),
        ("parameters: {centre: .inf}", "3:22", "finite"),
        ("parameters: {clip: [5, 1]}", "3:20", "the lower bound comes first"),
        ("parameters: {upsampling: 3}", "3:26", "3 is not one of 1.25, 2"),
        ("parameters: {logarithm: 1}", "3:25", "bool"),
        ("parameters: {memory_bytes: plenty}", "3:28", "plenty"),
        ("parameters: {exclude: [a]}", "3:24", "'a'"),
        ("paramters: {}", "3:1", "did you mean 'parameters'?"),
        ("variants: [{parameters: {}}]", "3:12", "'for' is missing"),
        ("variants: [{for: {beamlin: ID19}, parameters: {}}]", "3:19", "did you mean 'beamline'?"),
        ("variants: [{for: {}, parameters: {eps: 7}}]", "3:40", "less than 0.1"),
        ("version: 4", "3:1", "'version' is here twice"),
    ],
)
def test_mistakes(line, place, word):
    (problem,) = problems(HEAD + line + "\n")
    assert problem.startswith(f"presets/fine.yaml:{place}: "), problem
    assert word in problem


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file():
    text = HEAD + (
        "parameters:\n  filtre: hann\n  eps: 7\n  centre: left\n"
        "variants:\n  - for: {half_acquisition: yes}\n    parameters: {ring: sorting}\n"
    )
    found = problems(text)
    assert [one.split(":")[1] for one in found] == ["4", "5", "6", "8", "9"], found


def test_variants_follow_each_other_and_a_doubt_is_a_no():
    text = HEAD + (
        "parameters: {filter: hann, zingers: 0.2}\n"
        "variants:\n"
        "  - {for: {beamline: [ID19, BM05]}, parameters: {zingers: 0.3}}\n"
        "  - {for: {format: bliss, half_acquisition: true}, parameters: {rings: sorting}}\n"
        "  - {for: {beamline: BM05}, parameters: {filter: ramp}}\n"
    )
    preset = parse_preset(text, "f")
    assert preset.parameters_for("ID16", "edf", None) == {"filter": "hann", "zingers": 0.2}
    assert preset.parameters_for("ID19", "bliss", True) == {"filter": "hann", "zingers": 0.3, "rings": "sorting"}
    assert preset.parameters_for("BM05", "bliss", None) == {"filter": "ramp", "zingers": 0.3}
    assert preset.parameters_for(None, "bliss", False) == {"filter": "hann", "zingers": 0.2}


def test_parameters_of_another_engine_are_its_own():
    text = HEAD + "engine: nabu\nparameters: {reconstruction: {rotation_axis_position: global}}\n"
    assert parse_preset(text, "f").parameters_for(None, "edf", None) == {
        "reconstruction": {"rotation_axis_position": "global"}
    }


def test_presets_inside_a_policy_are_as_strict():
    text = "name: p\nversion: 1\npresets:\n  a: {filter: hann}\n  b: {filtre: hann, eps: 9}\nrules: []\n"
    with pytest.raises(UserError) as wrong:
        parse_policy(text, "p.yaml")
    found = [line for line in wrong.value.message.splitlines() if line.startswith("p.yaml:")]
    assert [line.split(" ")[0] for line in found] == ["p.yaml:5:7:", "p.yaml:5:26:"]
    assert plain_parameters({"filter": "hann"}) == {"filter": "hann"}


def test_rules_name_presets_of_the_policy_or_of_the_site():
    text = "name: p\nversion: 1\nrules:\n  - {name: r, do: reconstruct, with: {preset: fien}}\n"
    for known, right in (((), False), (("fine",), False), (("fien",), True), (None, True)):
        if right:
            assert parse_policy(text, "p", known).rules[0].settings.preset == "fien"
        else:
            with pytest.raises(UserError, match="there is no preset 'fien'"):
                parse_policy(text, "p", known)
    with pytest.raises(UserError, match="did you mean 'fine'"):
        parse_policy(text, "p", ("fine",))
