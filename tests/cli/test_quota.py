from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from tomovault.catalog import tables
from tomovault.daemon.upkeep import Upkeep

DAY = timedelta(days=1)


@pytest.fixture
def limits(town):
    """The site's file has this section `quotas`."""

    def write(text):
        path = town.folder / "tomovault.yaml"
        path.write_text(path.read_text("utf-8") + text, "utf-8")
        town.change()

    return write


@pytest.fixture
def grow(town):
    """So many bytes came on each of the last days, the first of them long ago."""

    def write(by_day, by="area", value="inhouse"):
        catalogue = town.vault.catalogue
        today = int(datetime.now(UTC).timestamp()) // 86400
        with catalogue.writing() as tx:
            made = tx.run(tables.usage_series.insert().values(grouping=by, value=value, key_hash=f"{by}{value}"))
            written, rows = 0, []
            for number, size in enumerate([0, *by_day]):
                written += size
                counts = {"bytes": written, "files": 1, "scans": 1, "logical": written, "written": written}
                at = (today - len(by_day) - 1 + number) * 86400 + 43200
                rows.append({"series": made.inserted_primary_key[0], "at": at, **counts})
            tx.run(tables.usage_history.insert(), rows)

    return write


def _whose(town, scan, **names):
    with town.vault.catalogue.writing() as tx:
        tx.run(update(tables.scan).where(tables.scan.c.id == scan).values(**names))
        town.vault.catalogue.rebuild_usage(tx)


def test_logical_size_and_saving_are_told(town, ask):
    town.scan("one", size=400)
    (row,) = ask("quota")["rows"]
    assert (row["bytes"], row["logical_bytes"]) == (600, 800), "the files, and a package of half their size"
    assert row["saved_fraction"] == pytest.approx(0.25)
    tape = next(r for r in ask("quota", "--by", "tier")["rows"] if r["tier"] == "tape")
    assert (tape["bytes"], tape["logical_bytes"]) == (400, 800)


def test_limits_their_level_and_grace_are_told_everywhere(town, ask, say, limits):
    scan = town.scan("one", size=400)
    _whose(town, scan, proposal="ma1", owner="ann")
    limits(
        "quotas:\n  proposal: {ma1: {soft: 500B, hard: 5kB, grace: 2d}}\n  owner: {ann: {hard: 600B}}\n"
        "  tier: {tape: {files: 1}}\n"
    )
    Upkeep(town.vault).keep_history(datetime.now(UTC) - DAY)
    (row,) = ask("quota", "--by", "proposal")["rows"]
    assert (row["limit_bytes"], row["soft_bytes"], row["level"]) == (5000, 500, "soft")
    assert row["used_fraction"] == 0.2
    assert 0.9 * 86400 < row["grace_left_s"] <= 86400
    assert row["over_since"] is not None
    (row,) = ask("quota", "--by", "owner")["rows"]
    assert row["level"] == "hard"
    texts = ask("status")["limits"]
    assert len(texts) == 3
    assert any(t.startswith("proposal ma1 holds 1 kB of 500 B, its soft limit, ") and "left" in t for t in texts)
    assert any("owner ann holds 1 kB of 600 B, its hard limit" in t for t in texts)
    assert any("tier tape holds 2 of 1 files" in t for t in texts)
    assert "owner ann holds" in say("status").out
    assert len(ask("explain", scan)["limits"]) == 2
    assert "over its limit: owner ann" in say("explain", scan).out
    told = say("quota", "--by", "proposal").out
    assert "1.0 d left" in told
    assert "500 B" in told


def test_a_grace_begins_when_it_is_first_seen_and_ends_with_the_excess(town, ask, limits):
    scan = town.scan("one", size=400)
    _whose(town, scan, proposal="ma1")
    limits("quotas: {default: {soft: 500B, grace: 1d}}\n")
    care = Upkeep(town.vault)
    care.keep_history(datetime.now(UTC) - 2 * DAY)
    care.keep_history(datetime.now(UTC) - DAY / 2)
    (row,) = ask("quota", "--by", "proposal")["rows"]
    assert (row["level"], row["grace_left_s"], row["limit_bytes"]) == ("grace over", 0, 500)
    _whose(town, scan, proposal="ma2")
    care.keep_history(datetime.now(UTC))
    (row,) = ask("quota", "--by", "proposal")["rows"]
    assert row["level"] == "soft", "another one has its own grace"


def test_volumes_wait_behind_a_hard_limit_and_copies_never(town, ask, limits):
    town.policy(("rules:\n", "rules:\n  - {name: volumes, do: reconstruct, when: complete}\n"))
    scan = town.scan("one", size=400, copies=1)
    _whose(town, scan, proposal="ma1")
    before = ask("scan", "show", scan)["stages"]
    limits("quotas: {proposal: {ma1: {hard: 100B}}}\n")
    after = ask("scan", "show", scan)["stages"]
    assert (before["reconstructed"], after["reconstructed"]) == ("due", "held")
    assert {k: v for k, v in after.items() if k != "reconstructed"} == {
        k: v for k, v in before.items() if k != "reconstructed"
    }
    assert after["archived"] == "due"
    stage = next(s for s in ask("explain", scan)["stages"] if s["stage"] == "reconstructed")
    assert "ma1" in stage["reason"]
    assert "hard limit" in stage["reason"]


def test_csv_has_a_head_a_stable_order_and_its_line_ends(town, say):
    scan = town.scan("one")
    _whose(town, scan, owner='an "odd", name')
    told = say("quota", "--by", "owner", "--csv").out
    assert told.count("\r\n") == told.count("\n") == 2
    head, row = csv.reader(io.StringIO(told, newline=""))
    assert head[:5] == ["owner", "bytes", "files", "scans", "limit_bytes"]
    assert row[0] == 'an "odd", name'
    assert len(row) == len(head)
    assert say("quota", "--csv", "--json").code == 2


def test_the_history_in_every_form(town, ask, say, grow):
    assert "no history" in say("quota", "--history", "30").out
    grow([5, 0, 30])
    page = ask("quota", "--history", "30")
    assert [(p["bytes"], p["written_bytes"]) for p in page["history"]] == [(0, 0), (5, 5), (5, 5), (35, 35)]
    assert {p["area"] for p in page["history"]} == {"inhouse"}
    page = ask("quota", "--history", "2")
    begin = datetime.fromisoformat(page["at"]) - 2 * DAY
    assert datetime.fromisoformat(page["history"][0]["at"]) == begin.replace(microsecond=0), "what stood at its begin"
    lines = say("quota", "--history", "30", "--csv").out.split("\r\n")
    assert lines[0] == "area,at,bytes,files,scans,logical_bytes,written_bytes"
    assert len(lines) == 6
    assert "_▁▁█" in say("quota", "--history", "30").out
    assert say("quota", "--history", "0").code == 2


def test_days_to_full_is_the_median(town, ask, say, grow):
    town.scan("one", size=400)
    town.room(quota="10kB")
    assert ask("quota")["rows"][0]["days_to_full_why"].startswith("not known: 0 whole days")
    grow([100] * 60)
    (row,) = ask("quota")["rows"]
    assert (row["days_to_full_early"], row["days_to_full"], row["days_to_full_late"]) == (94, 94, 94)
    (told,) = ask("quota", "forecast")["rows"]
    assert (told["days_to_full"], told["written_per_day"], told["known"]) == (94, 100, True)
    assert told["full_on"] == (datetime.now(UTC).date() + 94 * DAY).isoformat()
    assert "94 d (94-94)" in say("quota").out
    assert "in 94 d" in say("quota", "forecast").out


def test_a_proposal_is_full_at_its_hard_limit(town, ask, limits, grow):
    scan = town.scan("one", size=400)
    _whose(town, scan, proposal="ma1")
    limits("quotas: {proposal: {ma1: {soft: 1kB, hard: 2kB}, ma2: {hard: 1kB}}}\n")
    grow([10] * 40, "proposal", "ma1")
    rows = {r["proposal"]: r for r in ask("quota", "forecast", "--by", "proposal")["rows"]}
    assert rows["ma1"]["days_to_full"] == 100
    assert rows["ma2"]["why"].startswith("not known")


def test_what_fits_and_what_would_have_to_go_first(town, ask, say, grow):
    scans = [town.scan(name, size=400) for name in ("first", "second", "third")]
    town.pin(scans[1])
    town.room(quota="2kB", high="99%", low="98%")
    grow([0] * 60)
    today = datetime.now(UTC).date().isoformat()
    page = ask("quota", "forecast", "--add", "100B", "--on", today)
    assert page["fits"] is True
    assert (page["rows"][0]["chance"], page["rows"][0]["going"]) == (1.0, [])
    page = ask("quota", "forecast", "--add", "500B", "--on", today)
    (row,) = page["rows"]
    assert (page["fits"], row["lacking_bytes"], row["would_fit_then"]) == (False, 300, True)
    assert [(g["scan"], g["bytes"]) for g in row["going"]] == [(scans[0], 400)]
    assert row["going"][0]["rule"] == "prune-files@standard:1"
    page = ask("quota", "forecast", "--add", "5kB", "--on", today)
    (row,) = page["rows"]
    assert row["would_fit_then"] is False
    assert [g["scan"] for g in row["going"] if g["form"] == "files"] == [scans[0], scans[2]]
    assert any("pinned by anna" in reason for reason in row["stays"])
    told = say("quota", "forecast", "--add", "5kB", "--on", today)
    assert told.code == 0
    assert "does not fit" in told.out
    assert "it would not fit then either" in told.out
    assert len(town.jobs(scans[0], "prune")) == 0, "nothing was touched"


def test_a_full_area_is_full_now_and_not_in_0_days(town, ask, say):
    town.scan("one", size=400)
    town.room(quota="500B")
    assert ask("quota")["rows"][0]["days_to_full"] == 0
    assert say("quota").out.splitlines()[1].split()[-3] == "now"
    assert say("quota", "forecast").out.splitlines()[1].endswith("  now")


def test_a_forecast_says_that_it_counts_on_no_removal_and_which_there_would_be(town, ask, say):
    town.scan("one")
    town.room(quota="10kB")
    town.policy(("rules:\n", "rules:\n  - {name: old, do: prune, when: age > 90d and archived}\n"))
    (row,) = ask("quota", "forecast")["rows"]
    assert row["not_counted"] == {
        "prune": "on",
        "high": 0.5,
        "above_high": ["prune-files@standard:1", "prune-packages@standard:1"],
        "however_empty": ["old@standard:1"],
    }
    told = say("quota", "forecast").out
    assert "What rules remove is not counted on." in told
    assert "inhouse: above 50%: prune-files@standard:1, prune-packages@standard:1; however empty it is: old@" in told
    town.room(prune="off")
    assert "inhouse: nothing goes, since `prune` is off" in say("quota", "forecast").out


def test_of_several_areas_an_addition_is_told_in_a_line_each(town, ask, say):
    town.scan("one", size=400)
    town.room(quota="1kB")
    (town.base / "visitor").mkdir()
    assert say("area", "add", f"visitor={town.base / 'visitor'}").code == 0
    town.change(areas={"visitor": {"quota": "10kB"}})
    wish = ("quota", "forecast", "--add", "500B", "--on", datetime.now(UTC).date().isoformat())
    rows = {row["area"]: row["fits"] for row in ask(*wish)["rows"]}
    assert rows == {"inhouse": False, "visitor": True}
    lines = say(*wish).out.splitlines()
    assert [line.split()[:1] for line in lines[-3:-1]] == [["inhouse"], ["visitor"]]
    assert "does not fit" in lines[-3]
    assert "100 B" in lines[-3]
    assert "400 B: enough" in lines[-3]
    assert lines[-1] == "What would go first, and why the rest stays: --to NAME"
    assert "first would have to go" in say(*wish, "--to", "inhouse").out


def test_what_would_go_is_told_where_prune_is_off(town, ask, say):
    town.scan("one", size=400)
    town.room(quota="1kB", prune="off")
    today = datetime.now(UTC).date().isoformat()
    (row,) = ask("quota", "forecast", "--add", "500B", "--on", today)["rows"]
    assert (row["fits"], row["chance"], row["prune"], row["going_bytes"]) == (False, None, "off", 400)
    assert "`prune` is off" in say("quota", "forecast", "--add", "500B", "--on", today).out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--add", "1TB", "--on", "2001-01-01"), "is over"),
        (("--add", "1TB", "--on", "2027-02-30"), "not a day of the calendar"),
        (("--add", "1TB", "--on", "2999-01-01"), "more than 730 days away"),
        (("--add", "much", "--on", "2027-03-31"), "not a size"),
        (("--add", "1TB"), "belong together"),
        (("--on", "2027-03-31"), "belong together"),
        (("--to", "nowhere"), "there is no area 'nowhere'"),
        (("--by", "proposal", "--add", "1TB", "--on", "2027-03-31"), "name the proposal"),
    ],
)
def test_a_wrong_question_is_refused_with_the_reason(town, ask, words, told):
    assert told in ask("quota", "forecast", *words, code=2)["error"]


def test_options_before_the_subcommand_are_not_lost(town, say):
    assert "must stand behind 'forecast'" in say("quota", "--by", "tier", "forecast").err
    assert say("quota", "nonsense").code == 2


def test_a_schedule_is_added_and_its_file_is_checked_when_it_is_used(town, ask, limits):
    town.scan("one", size=400)
    town.room(quota="10kB")
    today = datetime.now(UTC).date()
    path = town.folder / "beam-times.csv"
    day = (today + 10 * DAY).isoformat()
    path.write_text(f"start,end,proposal,area,expected size\n{day},{day},ma1,inhouse,20kB\n", "utf-8")
    limits("quotas: {schedule_file: beam-times.csv}\n")
    (row,) = ask("quota", "forecast")["rows"]
    assert (row["days_to_full"], row["planned_bytes"]) == (10, 20000)
    path.write_text("start,end,proposal,area,expected size\n2027-02-30,2027-03-01,ma1,inhouse,1TB\n", "utf-8")
    assert "beam-times.csv:2: '2027-02-30' is not a day" in ask("quota", "forecast", code=2)["error"]
    path.unlink()
    assert "cannot be read" in ask("quota", "forecast", code=2)["error"]
