import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomovault.core.errors import UserError
from tomovault.policy.address import FIELDS, fill, problem_of_address, unknown_fields
from tomovault.policy.document import parse_policy


def export(with_):
    return parse_policy(
        f"name: p\nversion: 1\nrules:\n  - {{name: send, do: export, with: {with_}}}\n", "p.yaml"
    ).rules[0]


@pytest.mark.parametrize(
    "address",
    ["home:/", "home:/in", "home:/in/", "31ce9ba0-176d-45a5-add3-f37d233ba47d:/{proposal}/{sample}", "home:/~/a b"],
)
def test_an_address_is_a_collection_and_a_path_from_its_root(address):
    assert problem_of_address(address) == ""
    assert export(f"{{to: '{address}'}}").settings.to == address


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("home", "no destination"),
        ("/in", "no destination"),
        (":/in", "no destination"),
        ("home:in", "no destination"),
        ("home:/a\\nb", "no destination"),
        ("home:/a/../b", "no path"),
        ("home:/..", "no path"),
        ("home:/./b", "no path"),
        ("home:/a//b", "no path"),
        ("{owner}:/in", "without placeholders"),
        ("home:/{propsal}", "did you mean 'proposal'"),
        ("home:/{proposal!r}", "{proposal} is not known"),
        ("home:/{proposal.x}", "{proposal.x} is not known"),
        ("home:/{proposal", "never closed"),
        ("home:/{}", "{} is not known"),
    ],
)
def test_what_is_no_address_is_told_with_its_place(address, told):
    with pytest.raises(UserError) as problem:
        export(f'{{to: "{address}"}}')
    assert told in problem.value.message
    assert problem.value.message.startswith("p.yaml:4:")


def test_what_is_sent_is_one_of_the_products():
    assert export("{to: 'home:/in'}").settings.product == "original"
    assert export("{to: 'home:/in', product: volume}").settings.product == "volume"
    with pytest.raises(UserError) as problem:
        export("{to: 'home:/in', product: volum}")
    assert problem.value.message.startswith("p.yaml:4:")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.dictionaries(st.sampled_from(sorted(FIELDS)), st.text(min_size=1, max_size=20)))
def test_no_name_leads_out_of_the_folder_that_the_rule_says(scan, names):
    known = scan(**names)
    path = "/far/{proposal}/{sample}/{owner}/end"
    filled = fill(path, known) if not unknown_fields(path, known) else "/far/a/b/c/end"
    parts = filled.split("/")
    assert (parts[:2], parts[-1], len(parts)) == (["", "far"], "end", 6)
    assert not {".", ".."} & set(parts)
    assert not any(part.startswith("~") for part in parts)


@pytest.mark.parametrize(
    ("name", "part"),
    [("..", "_."), (".", "_"), ("a/../b", "a_.._b"), ("~anna", "_anna"), (" .x ", "_x"), ("ma 1", "ma 1")],
)
def test_a_name_is_one_harmless_part(scan, name, part):
    assert fill("/in/{proposal}", scan(proposal=name)) == f"/in/{part}"


def test_what_is_not_known_is_named(scan):
    assert unknown_fields("/in/{sample}/{proposal}/{owner}", scan(owner="ann")) == ["sample"]
