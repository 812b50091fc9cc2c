from datetime import date, timedelta

import pytest

from tomovault.core.errors import UserError
from tomovault.policy.forecast import BeamTime
from tomovault.policy.limits import Limit
from tomovault.vault.schedule import parse_schedule
from tomovault.vault.site import load_site

SITE = "areas:\n  inhouse: {path: /data/x/inhouse}\ntiers:\n  tape: {kind: emulated_library, path: tape}\n"


@pytest.fixture
def load(tmp_path):
    def make(text):
        (tmp_path / "tomovault.yaml").write_text(SITE + text, "utf-8")
        return load_site(tmp_path).quotas

    return make


def test_without_a_section_nothing_is_limited(load):
    assert load("").quotas.groupings == ()
    assert load("quotas:\n").quotas.default is None


def test_everything_given(load, tmp_path):
    found = load(
        "quotas:\n"
        "  default: {soft: 2TB, hard: 3TB, grace: 14d}\n"
        "  proposal:\n"
        "    ma1234: {soft: 5TB, files: 2000000}\n"
        "    'in/house': {hard: 1PB}\n"
        "  owner: {ann: {hard: 1TiB}}\n"
        "  beamline: {ID19: {soft: 1TB}}\n"
        "  tier: {tape: {hard: 100TB}, inhouse: {hard: 1TB}}\n"
        "  schedule:\n"
        "    - {start: 2027-03-01, end: 2027-03-05, proposal: ma1234, area: inhouse, size: 8TB}\n"
        "  schedule_file: times.csv\n"
        "  schedule_is_all: on\n"
    )
    assert found.quotas.default == Limit(2 * 10**12, 3 * 10**12, None, timedelta(days=14))
    assert found.quotas.of("proposal", "ma1234") == Limit(5 * 10**12, None, 2_000_000, timedelta(days=7))
    assert found.quotas.of("owner", "ann") == Limit(hard=2**40)
    assert found.quotas.groupings == ("beamline", "owner", "proposal", "tier")
    assert found.schedule == (BeamTime(date(2027, 3, 1), date(2027, 3, 5), "ma1234", "inhouse", 8 * 10**12),)
    assert found.schedule_file == str(tmp_path / "times.csv")
    assert found.schedule_is_all is True


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("quotas: {proposal: {a: {hard: 85 %}}}\n", "85 %' is not a size"),
        ("quotas: {proposal: {a: {hard: 8 T}}}\n", "'8 T' is not a size"),
        ("quotas: {proposal: {a: {soft: 2TB, hard: 1TB}}}\n", ":5:42: the hard limit is below the soft one"),
        ("quotas: {proposal: {a: {}}}\n", ":5:21: a limit of nothing"),
        ("quotas: {proposal: {a: {hard: 1TB, grace: 2d}}}\n", ":5:36: a grace is for a soft limit"),
        ("quotas: {proposal: {a: {soft: 1TB, grace: 2 months}}}\n", "'2 months' is not a duration"),
        ("quotas: {proposal: {a: {soft: 1TB}, a: {soft: 1TB}}}\n", "the key 'a' is here twice"),
        ("quotas: {proposals: {a: {soft: 1TB}}}\n", "unknown key 'proposals'; did you mean 'proposal'?"),
        ("quotas: {tier: {tap: {soft: 1TB}}}\n", ":5:17: there is no tier 'tap'; did you mean 'tape'?"),
        ("quotas: {default: {soft: 2TB, hard: 1TB}}\n", "the hard limit is below"),
        ("quotas: {schedule: [{start: 2027-02-29, end: 2027-03-01, size: 1TB}]}\n", "'2027-02-29' is not a day"),
        ("quotas: {schedule: [{start: 2027-03-02, end: 2027-03-01, size: 1TB}]}\n", "it would end before it starts"),
        ("quotas: {schedule: [{start: 2027-03-02, end: 2027-03-03, size: 1TB, area: in}]}\n", "there is no area 'in'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(load, text, told):
    with pytest.raises(UserError) as caught:
        load(text)
    assert told in caught.value.message


def test_a_schedule_of_a_file():
    text = (
        "proposal,start,end,area,expected size\r\n"
        '"a, b",2028-02-29,2028-03-01,,1.5TB\r\n'
        ",2027-01-01,2027-01-01,inhouse,0\r\n"
    )
    assert parse_schedule(text, "x.csv", ["inhouse"]) == (
        BeamTime(date(2028, 2, 29), date(2028, 3, 1), "a, b", None, 15 * 10**11),
        BeamTime(date(2027, 1, 1), date(2027, 1, 1), None, "inhouse", 0),
    )


def test_every_line_that_is_wrong_is_told():
    text = (
        "start,end,proposal,area,expected size\n"
        "2027-02-29,2027-03-01,a,inhouse,1TB\n"
        "2027-03-02,2027-03-01,a,inhouse,1TB\n"
        "2027-03-01,2027-03-02,a,nowhere,1TB\n"
        "2027-03-01,2027-03-02,a,inhouse,much\n"
        "2027-03-01,2027-03-02,a\n"
        "2027-03-01,2027-03-02,a,inhouse,1TB,more\n"
        "2027-03-01,2027-03-02,a,inhouse,1TB\n"
    )
    with pytest.raises(UserError) as caught:
        parse_schedule(text, "x.csv", ["inhouse"])
    assert [line.split(":")[1] for line in caught.value.message.splitlines()] == ["2", "3", "4", "5", "6", "7"]
    with pytest.raises(UserError, match="the head is not"):
        parse_schedule("start,stop\n", "x.csv", [])
    with pytest.raises(UserError, match="the head is not"):
        parse_schedule("", "x.csv", [])
