"""One name for one disk, made from a mount table as a kernel writes it."""

import os

import pytest

from tomovault.tiers import failure_domain
from tomovault.tiers.failure_domain import disk_domain


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """A folder below a mount point of this type and source; `number` stands in the table, or the folder's own."""

    def mount(kind, source, number="0:999", name="top"):
        top = tmp_path / name
        (top / "below").mkdir(parents=True)
        device = os.stat(top).st_dev
        number = number or f"{os.major(device)}:{os.minor(device)}"
        table = tmp_path / "mountinfo"
        with open(table, "a", encoding="utf-8") as lines:
            lines.write(f"22 1 {number} / {str(top).replace(' ', chr(92) + '040')} rw - {kind} {source} rw\n")
        monkeypatch.setattr(failure_domain, "_MOUNTS", str(table))
        return str(top / "below")

    return mount


@pytest.mark.parametrize(
    ("kind", "source", "domain"),
    [
        ("nfs4", "server:/export/one", "disk:server:/export/one"),
        ("zfs", "pool/data/set", "disk:zfs:pool"),
        ("btrfs", "/dev/nowhere", "disk:/dev/nowhere"),
    ],
)
def test_the_name_lasts_longer_than_a_mount(mounted, kind, source, domain):
    assert disk_domain(mounted(kind, source)) == domain


def test_the_name_is_the_uuid_of_the_file_system_where_there_is_one(mounted, tmp_path, monkeypatch):
    (tmp_path / "by-uuid").mkdir()
    (tmp_path / "by-uuid" / "1234-abcd").symlink_to("/dev/null")
    monkeypatch.setattr(failure_domain, "_BY_UUID", str(tmp_path / "by-uuid"))
    assert disk_domain(mounted("ext4", "/dev/null", number="", name="a b")) == "disk:1234-abcd"


def test_folders_of_one_disk_have_one_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert disk_domain(str(tmp_path / "a")) == disk_domain(str(tmp_path / "b"))


def test_what_is_absent_has_no_name(tmp_path):
    with pytest.raises(FileNotFoundError):
        disk_domain(str(tmp_path / "away"))
