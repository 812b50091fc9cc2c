"""What an alarm says of an area from which nothing may go, and what would help."""

from datetime import UTC, datetime

from tomovault.vault.staying import Stays, why_nothing_goes

DAY = datetime(2026, 12, 1, tzinfo=UTC)


def test_nothing_there():
    assert why_nothing_goes([]) == "no scan is there to prune"


def test_the_kinds_with_most_bytes_come_first_and_each_says_what_helps():
    told = why_nothing_goes(
        [
            *(Stays(f"s{n}", "law 4: 1 of 2 verified lossless archive copies", 10**9, DAY) for n in range(120)),
            Stays("mine", "pinned by anna until 2026-12-01 (thesis)", 2 * 10**9, DAY),
            Stays("young", "prune-files@standard:1 waits for: age > 30d: 12 d", 10**6, DAY),
            Stays("busy", "restore is not over", 10),
            Stays("odd", "cannot be weighed: no digest", 1),
        ]
    )
    first, second, third, rest = told.split("; ")
    assert first.startswith("120 scans (120 GB) without enough verified copies [their archiving has to end")
    assert second == "mine (2 GB) pinned [time alone may change it from 2026-12-01 on, or tomovault unpin SCAN]"
    assert third.startswith("young (1 MB) not reached by a rule [time alone may change it from 2026-12-01 on, or")
    assert rest == "2 more for other reasons"


def test_a_reason_that_nobody_foresaw_is_told_as_it_is():
    assert why_nothing_goes([Stays("odd", "cannot be weighed: no digest", 1000)]) == (
        "odd (1 kB) cannot be weighed: no digest"
    )


def test_files_and_package_of_one_scan_are_one_scan():
    both = [Stays("one", "pinned by anna", 10), Stays("one", "pinned by bert", 20)]
    assert why_nothing_goes(both).startswith("one (30 B) pinned")
