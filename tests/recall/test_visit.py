from dataclasses import replace

import pytest

from tomovault.recall.request import Copy, DriveNow, Kind, Limits, Request
from tomovault.recall.timing import Timing
from tomovault.recall.tour import Span, tour_s
from tomovault.recall.visit import Why, choose_visit

CARTRIDGES = dict.fromkeys(("A1", "A2", "A3", "B1", "B2"), Timing())
LIMITS = Limits(mount_bytes=10**12, mount_count=3, mount_age_s=600.0, fair_s=900.0, patience_s=3600.0)


def request(name, *on, kind=Kind.RESTORE, arrival=0.0, start=0.1, size=10**9):
    return Request(name, kind, arrival, size, tuple(Copy(one, Span(start, start + 0.001)) for one in on))


def archive(name, *on, **more):
    return request(name, *on, kind=Kind.ARCHIVE, **more)


def choose(requests, *drives, now=1000.0, cartridges=CARTRIDGES, limits=LIMITS):
    return choose_visit(requests, drives or (DriveNow(0),), cartridges, limits, now)


def test_nothing_is_begun_without_a_request_or_a_free_drive():
    assert choose([]) is None
    assert choose([request("r", "A1")], DriveNow(0, busy_until=1001.0)) is None
    assert choose([request("r", "A1", arrival=1001.0)]) is None
    assert choose([request("r", "A9")]) is None


def test_a_restore_goes_before_an_archive_that_came_earlier():
    visit = choose([archive("a", "A1", arrival=0.0), request("r", "A2", arrival=900.0)])
    assert (visit.cartridge, visit.order, visit.why) == ("A2", ("r",), Why.RESTORES)


def test_on_one_cartridge_restores_are_read_before_the_rest_is_written():
    visit = choose([archive("a", "A1"), request("r", "A1", arrival=900.0)])
    assert visit.order == ("r", "a")


def test_the_copy_that_is_in_a_drive_is_read():
    visit = choose([request("r", "A1", "B1")], DriveNow(0, "A3", 0.5), DriveNow(1, "B1", 0.5))
    assert (visit.drive, visit.cartridge, visit.mounts) == (1, "B1", False)


def test_else_the_copy_on_the_cartridge_that_more_wait_for():
    visit = choose([request("r", "A1", "B1"), request("s", "B1"), request("t", "A2")])
    assert (visit.cartridge, sorted(visit.order), visit.mounts) == ("B1", ["r", "s"], True)


def test_what_comes_joins_the_visit_until_the_fairness_limit():
    waiting = [request("r", "A1", arrival=999.0), *(request(f"s{n}", "A2") for n in range(9))]
    visit = choose(waiting, DriveNow(0, "A1", 0.5, since=200.0))
    assert (visit.cartridge, visit.why) == ("A1", Why.GOES_ON)
    assert choose(waiting, DriveNow(0, "A1", 0.5, since=100.0)).cartridge == "A2"


def test_a_visit_past_the_limit_is_not_gone_on_with_from_another_copy():
    waiting = [*(request(f"r{n}", "A1", "B1") for n in range(9)), request("s", "A2")]
    assert choose(waiting, DriveNow(0, "A1", 0.5, since=100.0)).cartridge == "A2"


def test_a_visit_past_the_limit_goes_on_where_nobody_else_waits():
    visit = choose([request("r", "A1", arrival=999.0)], DriveNow(0, "A1", 0.5, since=0.0))
    assert (visit.cartridge, visit.mounts) == ("A1", False)


def test_nothing_is_fetched_for_what_a_running_visit_will_serve():
    busy = DriveNow(0, "A1", 0.5, busy_until=1100.0, since=900.0)
    assert choose([request("r", "A1", "B1")], busy, DriveNow(1)) is None
    assert choose([request("r", "A1", "B1")], replace(busy, since=0.0), DriveNow(1)).cartridge == "B1"


def test_no_cartridge_is_wanted_in_two_drives():
    busy = DriveNow(0, "A1", 0.5, busy_until=1100.0, since=0.0)
    assert choose([request("r", "A1")], busy, DriveNow(1)) is None


@pytest.mark.parametrize(
    ("waiting", "worth_it"),
    [
        ([archive("a", "A1", arrival=500.0)], False),
        ([archive("a", "A1", arrival=400.0)], True),
        ([archive("a", "A1", arrival=999.0, size=10**12)], True),
        ([archive(f"a{n}", "A1", arrival=999.0) for n in range(3)], True),
    ],
)
def test_an_archive_is_worth_a_mount_by_age_bytes_or_number(waiting, worth_it):
    assert (choose(waiting) is not None) is worth_it


def test_an_archive_for_a_cartridge_that_is_in_a_drive_waits_for_nothing():
    assert choose([archive("a", "A1", arrival=999.0)], DriveNow(0, "A1", 0.5)).order == ("a",)


def test_who_waited_past_all_patience_goes_first_of_all():
    many = [request(f"r{n}", "A2", arrival=9000.0, start=n / 10) for n in range(9)]
    visit = choose([archive("a", "A1", arrival=0.0), *many], DriveNow(0, "A2", 0.5), now=9000.0)
    assert (visit.cartridge, visit.order, visit.why) == ("A1", ("a",), Why.WAITED)


def test_the_drive_whose_cartridge_nobody_wants_is_given_another():
    drives = (DriveNow(0, "A1", 0.1, busy_until=1100.0), DriveNow(1, "A2", 0.9), DriveNow(2, "A3", 0.1))
    waiting = [archive("a", "A3", arrival=999.0), *(request(f"r{n}", "B1") for n in range(3))]
    assert choose(waiting, *drives).drive == 1


def test_an_empty_drive_is_taken_before_one_has_to_be_emptied():
    assert choose([request("r", "A1")], DriveNow(0, "A2", 0.1), DriveNow(1)).drive == 1


def test_within_a_visit_the_cheapest_tour_is_read():
    starts = [0.9, 0.1, 0.5, 0.30005, 0.7, 0.3]
    waiting = [request(f"r{n}", "A1", start=start) for n, start in enumerate(starts)]
    drive = DriveNow(0, "A1", 0.5)
    order = [next(r for r in waiting if r.id == name) for name in choose(waiting, drive).order]

    def cost(tour):
        return tour_s(Timing(), 0.5, [r.copies[0].span for r in tour])

    assert sorted(order, key=waiting.index) == waiting
    assert cost(order) <= min(cost(waiting), cost(sorted(waiting, key=lambda r: r.copies[0].span.start))) + 1e-9
