from hypothesis import given
from hypothesis import strategies as st

from tomovault.core.scan import Candidate
from tomovault.formats import family
from tomovault.formats.edf_names import is_noise, prefixes, sort_names


def test_folder_name_is_the_default_prefix():
    names = ["a_0000.edf", "a_0001.edf", "ref0000_0000.edf", "refHST0000.edf", "darkend0000.edf", "a_.info"]
    assert prefixes("a_", names) == ("a_",)


def test_a_prefix_of_another_scan_does_not_mix():
    names = ["a_0000.edf", "a_0001.edf", "a_1_0000.edf", "a_.info", "a_1_.info", "ref0000_0000.edf", "a_1_.par"]
    assert prefixes("x", names) == ("a_", "a_1_")
    first, second = (sort_names(p, names, ("a_", "a_1_")) for p in ("a_", "a_1_"))
    assert sorted(first.projections) == [0, 1]
    assert sorted(second.projections) == [0]
    assert [f.name for f in first.flats] == [f.name for f in second.flats] == ["ref0000_0000.edf"]
    assert list(first.side) == []
    assert list(second.side) == ["a_1_.par"]


def test_five_digits_continue_four_unless_the_prefix_ends_in_a_digit():
    names = [f"a_{i:04d}.edf" for i in (9998, 9999, 10000, 10001)]
    assert prefixes("x", names) == ("a_",)
    assert sorted(sort_names("a_", names).projections) == [9998, 9999, 10000, 10001]
    assert prefixes("sample2", ["sample20000.edf", "sample20001.edf"]) == ("sample2",)


def test_what_is_no_projection():
    assert prefixes("x", ["ref0000_0000.edf", "darkend0000.edf", "x_slice_0001.edf", "x.vol", "x.vol.info"]) == ()
    assert prefixes("x", [".hidden0000.edf", "TOMOVAULT-README.txt", "x.xmlx", "notes.txt"]) == ()


def test_metadata_alone_is_a_candidate():
    assert prefixes("a_", ["a_.info"]) == ("a_",)
    assert prefixes("a_", ["a_.xml"]) == ("a_",)
    assert prefixes("b", ["a_.xml"]) == ()
    assert prefixes("a_", ["a_.abo"]) == ("a_",)


def test_pco_info_belongs_to_its_prefix():
    names = ["a_0000.edf", "a_0000.info"]
    assert prefixes("x", names) == ("a_",)
    assert prefixes("x", ["a_0000.info"]) == ("a_",)
    assert sort_names("a_", names).info == "a_0000.info"


def test_side_files_noise_and_volumes():
    names = ["a_0000.edf", "a_.par", "notes.txt", "a_.vol", "a_.vol.info", "a_.vol.xml", "a_.raw", ".nfs0001", "x~"]
    names += ["a_.par.swp", "a_0001.edf.tmp", "Thumbs.db", ".directory", "TOMOVAULT-README.txt", "ref_median.edf"]
    names += ["a_slice_0001.edf", "ref.par"]
    assert list(sort_names("a_", names, ("a_",)).side) == ["a_.par", "notes.txt"]
    assert is_noise("TOMOVAULT-README.txt")


def test_recognise_and_members_work_on_names(listing):
    edf = family.load("edf")
    seen = listing("/data/a_", ["a_0000.edf", "a_.info", "ref0000_0000.edf", "notes.txt", "a_.par"])
    assert list(edf.recognise(seen)) == [Candidate("edf", "/data/a_", "a_")]
    files, folders = edf.members(Candidate("edf", "/data/a_", "a_"), seen)
    assert list(files) == ["a_.info", "a_0000.edf", "ref0000_0000.edf"]
    assert list(folders) == []


def test_names_may_be_any_bytes(listing):
    odd = "sc\udce9n'\n\"_"
    seen = listing("/data/x", [f"{odd}0000.edf", f"{odd}0001.edf"])
    assert [c.key for c in family.load("edf").recognise(seen)] == [odd]


@given(st.lists(st.text(alphabet="a1_0.edfrkhinso", max_size=16).map(lambda s: s + ".edf"), max_size=12, unique=True))
def test_every_numbered_frame_belongs_to_exactly_one_prefix(names):
    found = prefixes("a_1", names)
    owned = [n for p in found for n in sort_names(p, names, found).projections.values()]
    assert len(owned) == len(set(owned))


def test_indices_padded_to_five_digits():
    names = [f"a_{i:05d}.edf" for i in range(3)]
    assert prefixes("x", names) == prefixes("x", [*names, "a_.info"]) == ("a_",)
    assert sorted(sort_names("a_", names).projections) == [0, 1, 2]
    assert prefixes("a_0", names) == ("a_0",)  # here the folder says otherwise
