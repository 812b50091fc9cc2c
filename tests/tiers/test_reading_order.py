from hypothesis import given
from hypothesis import strategies as st

from tomovault.recall.timing import Timing
from tomovault.recall.tour import Span, tour_s
from tomovault.tiers.address import Place
from tomovault.tiers.library import HeldBundle, Shelved, Stock
from tomovault.tiers.reading_order import reading_order

CAPACITY = 1_000_000
FILES = 40


def cartridge(barcode, *, noted=True):
    size = CAPACITY // FILES
    spans = [(n * size, (n + 1) * size) if noted else () for n in range(FILES)]
    held = tuple(HeldBundle(n + 1, f"{barcode}{n}", "j", ("k",), span=span) for n, span in enumerate(spans))
    return Shelved(barcode, barcode[0], "L9", files=FILES + 1, bundles=held)


STOCK = Stock((cartridge("A1"), cartridge("A2"), cartridge("B1", noted=False)))
ASKED = st.lists(st.builds(Place, st.sampled_from(["A1", "A2", "B1", "C9"]), st.integers(1, FILES + 3)), max_size=40)


def read(asked, heads=None):
    return reading_order(asked, STOCK, heads or {}, Timing(), CAPACITY)


@given(ASKED, st.dictionaries(st.sampled_from(["A1", "A2", "B1"]), st.floats(0, 1), max_size=2))
def test_each_place_comes_once_each_cartridge_in_one_piece_and_those_in_drives_first(asked, heads):
    order = read(asked, heads)
    assert sorted(order) == sorted(set(asked))
    barcodes = list(dict.fromkeys(place.barcode for place in order))
    assert [p.barcode for p in order] == [b for b in barcodes for p in order if p.barcode == b]
    mounted = [barcode in heads for barcode in barcodes]
    assert mounted == sorted(mounted, reverse=True)


@given(st.lists(st.integers(1, FILES), min_size=1, unique=True), st.floats(0, 1))
def test_the_order_on_a_cartridge_costs_no_more_than_that_of_arrival_or_of_blocks(numbers, head):
    def cost(files):
        return tour_s(Timing(), head, [Span((n - 1) / FILES, n / FILES) for n in files])

    order = [place.file for place in read([Place("A1", n) for n in numbers], {"A1": head})]
    assert cost(order) <= min(cost(numbers), cost(sorted(numbers))) + 1e-6


def test_a_cartridge_of_which_no_places_are_known_is_read_by_number():
    assert [p.file for p in read([Place("B1", n) for n in (9, 2, 5)])] == [2, 5, 9]
