"""What a library says of its drives, and of where on its cartridges things lie."""

from tomovault.core.ports import DriveState, DriveTier
from tomovault.tiers.cartridge import HEADER

MIB = 1 << 20
CAPACITY = 8 * MIB


def test_it_says_where_each_bundle_lies_and_where_the_next_one_begins(library, put, parcel):
    tier = library()
    assert isinstance(tier, DriveTier)
    assert tier.writes_to("tape:A") is None
    first, second = (put(tier, parcel(f"s{n}", b"x" * MIB))[0] for n in range(2))
    lying = tier.lay([first.location, second.location])
    one, two = lying[first.location], lying[second.location]
    assert one.cartridge == two.cartridge == "A00001L9"
    assert 0 < one.start < one.end <= two.start < two.end < 1
    assert one.end - one.start > MIB / CAPACITY
    end = tier.writes_to("tape:A")
    assert (end.cartridge, end.start, end.end) == ("A00001L9", two.end, two.end)
    assert tier.writes_to("tape:B") is None


def test_what_is_not_there_is_left_out(library, put, parcel, shelf):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    put(tier, parcel("t", b"t"), pool="B")
    named = [placed.location, "A00001L9#7", "A00009L9#1", "nowhere"]
    assert list(tier.lay(named)) == [placed.location]
    shelf.cartridge("A00001L9").unlink()
    assert tier.lay([placed.location]) == {}
    assert tier.writes_to("tape:A") is None


def test_a_bundle_whose_place_nobody_noted_is_taken_to_lie_in_the_middle(library, put, parcel, shelf):
    tier = library()
    (placed,) = put(tier, parcel("s", b"s"))
    text = shelf.state.read_text()
    start = text.index('"span"')
    shelf.state.write_text(text[:start] + '"span": []' + text[text.index("]", start) + 1 :])
    assert tier.lay([placed.location])[placed.location].start == 0.5


def test_it_says_what_is_in_its_drives(library, put, parcel):
    tier = library()
    assert tier.drives() == [DriveState(0, None, 0.0), DriveState(1, None, 0.0)]
    (placed,) = put(tier, parcel("s", b"s" * MIB))
    first, second = library().drives()
    assert (first.cartridge, second.cartridge) == ("A00001L9", None)
    assert first.position == tier.writes_to("tape:A").end or first.position > HEADER / CAPACITY
    assert tier.lay([placed.location])[placed.location].cartridge == first.cartridge
