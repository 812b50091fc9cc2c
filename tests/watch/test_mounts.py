import os

from tomovault.watch.mounts import Mount, mount_of, mounted_below, read_mounts

TABLE = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /data rw - nfs4 server:/export/data rw,vers=4.2
31 30 0:41 /sub /data/in\040house rw master:1 propagate_from:2 - nfs4 server:/home rw
32 22 8:1 /srv/x /mnt/bound rw - ext4 /dev/sda1 rw
33 30 0:42 / /data rw - tmpfs none rw
this line is not one
"""


def test_the_table_is_read_with_escapes_and_inner_roots(tmp_path):
    (tmp_path / "mountinfo").write_bytes(TABLE)
    mounts = read_mounts(str(tmp_path / "mountinfo"))
    assert [m.point for m in mounts] == ["/", "/data", "/data/in house", "/mnt/bound", "/data"]
    assert mounts[2] == Mount("/data/in house", os.makedev(0, 41), "nfs4", "server:/home[/sub]")
    assert mounts[3].source == "/dev/sda1[/srv/x]"
    assert read_mounts(str(tmp_path / "none")) == ()


def test_the_longest_point_of_the_same_device_wins_and_the_last_of_equals(tmp_path):
    device = os.stat(tmp_path).st_dev
    top = os.path.realpath(tmp_path)
    mounts = (
        Mount("/", device, "ext4", "root"),
        Mount(top, device, "ext4", "hidden"),
        Mount(top, device, "ext4", "visible"),
        Mount(top + "/sub", device + 1, "ext4", "other device"),
        Mount(top + "2", device, "ext4", "only a prefix"),
    )
    (tmp_path / "sub").mkdir()
    assert mount_of(str(tmp_path / "sub"), mounts).source == "visible"
    subvolumes = (Mount("/", device + 1, "btrfs", "a"), Mount(top, device + 2, "btrfs", "b"))
    assert mount_of(str(tmp_path), subvolumes).source == "b"
    assert mount_of(str(tmp_path), ()) is None


def test_links_on_the_way_are_resolved(tmp_path):
    device = os.stat(tmp_path).st_dev
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "link")
    mounts = (Mount("/", device, "ext4", "root"), Mount(os.path.realpath(tmp_path / "real"), device, "ext4", "real"))
    assert mount_of(str(tmp_path / "link"), mounts).source == "real"
    below = (*mounts, Mount(os.path.realpath(tmp_path / "real") + "/x/y", device, "ext4", "bound"))
    assert mounted_below(str(tmp_path / "link"), below) == {"x/y"}


def test_this_machine_has_a_root():
    assert mount_of("/", read_mounts()) is not None
