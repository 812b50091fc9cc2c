import os
import subprocess
import sys
from pathlib import Path

import pytest

from tomovault.core.errors import UserError
from tomovault.core.replica import TierClass
from tomovault.recall.request import Limits
from tomovault.vault import site as site_module
from tomovault.vault.plugins import load_plugin
from tomovault.vault.site import Site, add_area, find_policy, find_site, init_site, load_site


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "site"
    place.mkdir()
    return place


@pytest.fixture
def load(folder):
    def make(text):
        (folder / "tomovault.yaml").write_text(text, "utf-8")
        return load_site(folder)

    return make


@pytest.fixture
def problems(load, folder):
    def make(text):
        with pytest.raises(UserError) as caught:
            load(text)
        head = f"{folder}/tomovault.yaml:"
        return [line.removeprefix(head) for line in caught.value.message.splitlines() if line.startswith(head)]

    return make


def test_every_default(load, folder):
    site = load("areas:\n  inhouse: {path: /data/x/inhouse}\n")
    area = site.areas["inhouse"]
    assert site.catalogue == f"sqlite:///{folder}/catalogue.db"
    assert site.simulated is False
    assert (site.watch.poll_s, site.watch.quiet_s, site.watch.keep_after_s) == (30, 60, 7 * 86400)
    assert (area.path, area.vault) == ("/data/x/inhouse", "/data/x/inhouse.vault")
    assert (area.tier_class, area.quota, area.high, area.low) == (TierClass.SERVER, None, 0.85, 0.75)
    assert (area.prune, area.reduce, area.host, area.beamline) == (False, False, None, None)
    assert area.policy == "standard"
    assert site.policies["standard"].name == "standard"
    assert site.jobs.cpus >= 1
    assert 0 < site.jobs.memory_bytes < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert site.jobs.reconstructions == 1
    assert site.quarantine.hold_s == 14 * 86400
    assert site.quarantine.limit_of(1000) == 250
    assert (site.engine.kind, site.executor.kind) == ("fourier", "local")
    assert (site.guard.share, site.guard.max_pause_s, site.guard.full_bps) == (0.25, 60, None)
    assert site.guard.shrunk_bps == 100e6
    assert (site.retries.attempts, site.retries.after_s) == (3, 10)
    assert site.package.part_bytes == 64 * 10**9
    assert site.recall == Limits()
    assert site.tiers == {}


def test_everything_given(load, folder):
    site = load(
        "catalogue: postgresql+psycopg://user@host/db\n"
        "simulated: true\n"
        "watch: {poll: 0.5s, quiet: 1s, keep_after: 1h}\n"
        "areas:\n"
        "  inhouse: {path: data/inhouse, vault: data/vault, class: fast, quota: 8TB, high: 90%, low: 0.5,\n"
        "            beamline: ID19, policy: standard, prune: on, reduce: true, host: lid19,\n"
        "            template: '{proposal}/{sample}', floor: 1GB}\n"
        "tiers:\n"
        "  tape: {kind: emulated_library, path: tape, copies: 3, capacity: 1GB, drives: 1, load_s: 0.5}\n"
        "  far: {kind: posix, path: /mnt/far, class: remote}\n"
        "jobs: {cpus: 2, memory: 8GB, reconstructions: 2}\n"
        "quarantine: {hold: 0s, limit: 1TB}\n"
        "guard: {share: 50%, max_pause: 1s, full: 1GB/s}\n"
        "retries: {attempts: 5, after: 1s}\n"
        "recall: {fair: 5m, patience: 1h, mount_after: 30m, mount_bytes: 1TB, mount_count: 9}\n"
    )
    area = site.areas["inhouse"]
    assert site.catalogue == "postgresql+psycopg://user@host/db"
    assert site.watch.poll_s == 0.5
    assert (area.path, area.vault) == (f"{folder}/data/inhouse", f"{folder}/data/vault")
    assert (area.tier_class, area.quota, area.high, area.low) == (TierClass.FAST, 8 * 10**12, 0.9, 0.5)
    assert (area.prune, area.reduce, area.host, area.floor) == (True, True, "lid19", 10**9)
    assert area.template == "{proposal}/{sample}"
    tape, far = site.tiers["tape"], site.tiers["far"]
    assert (tape.kind, tape.tier_class) == ("emulated_library", TierClass.ARCHIVE)
    assert dict(tape.options) == {
        "path": f"{folder}/tape",
        "copies": 3,
        "capacity": 10**9,
        "drives": 1,
        "load_s": 0.5,
        "record": f"{folder}/places/tier-tape.json",
    }
    assert (far.tier_class, dict(far.options)) == (
        TierClass.REMOTE,
        {"path": "/mnt/far", "record": f"{folder}/places/tier-far.json"},
    )
    assert (site.jobs.cpus, site.jobs.memory_bytes, site.jobs.reconstructions) == (2, 8 * 10**9, 2)
    assert (site.quarantine.hold_s, site.quarantine.limit_of(1)) == (0, 10**12)
    assert (site.guard.full_bps, site.guard.shrunk_bps) == (1e9, 5e8)
    limits = Limits(mount_bytes=10**12, mount_count=9, mount_age_s=1800.0, fair_s=300.0, patience_s=3600.0)
    assert site.recall == limits


def test_an_empty_file_is_a_site(load):
    assert load("").areas == {}
    assert load("areas:\n  # none yet\ntiers:\n").areas == {}


def test_a_bucket_is_recorded_in_the_sites_folder_and_no_key_takes_a_secret(load, problems, folder):
    """It is no folder that is marked: its tier keeps what it is recognised by."""
    tier = load("tiers: {cloud: {kind: s3, path: cloud, bucket: id19, storage_class: GLACIER}}").tiers["cloud"]
    assert tier.tier_class is TierClass.ARCHIVE
    assert dict(tier.options) == {
        "path": f"{folder}/cloud",
        "bucket": "id19",
        "storage_class": "GLACIER",
        "own_record": f"{folder}/places/tier-cloud.json",
    }
    (told,) = problems("tiers: {cloud: {kind: s3, path: cloud, bucket: id19, secret_access_key: mine}}")
    assert "has no key 'secret_access_key'" in told


def test_every_mistake_at_once(problems):
    found = problems(
        "catalog: sqlite:///x\n"
        "watch: {poll: 30x, quiet: 60s, quiet: 3s}\n"
        "areas:\n"
        "  inhouse: {path: /data/a, clas: server, high: 185%, prune: maybe}\n"
        "  b:\n"
        "tiers:\n"
        "  tape: {kind: emulated_librar, path: tape}\n"
        "  far: {kind: posix, path: d, copys: 3}\n"
        "jobs: {cpus: two, memory: 75x}\n"
    )
    assert [line.split(": ", 1)[0] for line in found] == [
        "1:1",
        "2:15",
        "2:32",
        "4:28",
        "4:48",
        "4:61",
        "5:3",
        "7:16",
        "8:31",
        "9:14",
        "9:27",
    ]
    assert "did you mean 'catalogue'" in found[0]
    assert "did you mean 'class'" in found[3]
    assert "did you mean 'emulated_library'" in found[7]


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("executor: {kind: slurm}", "1:18", "only 'local'"),
        ("executor: {kind: local, options: {a: 1}}", "1:25", "no options"),
        ("engine: {options: {filter: hann}}", "1:10", "preset"),
        ("quarantine: {hold: 0s}", "1:20", "for simulated sites"),
        ("areas: {a: {path: /d/a, high: 70%}}", "1:31", "below the high"),
        ("areas: {a: {path: /d/a, low: 85%}}", "1:30", "below the high"),
        ("areas: {a: {path: /d/a, low: 90%, high: 80%}}", "1:30", "below the high"),
        ("areas: {a: {path: /d/a, vault: /d/a/v}}", "1:32", "inside the watched area 'a'"),
        ("areas: {a: {path: /d/a, vault: /d/a}}", "1:32", "inside the watched area 'a'"),
        ("areas: {a: {path: /d/a}, b: {path: /e, vault: /d/a/v}}", "1:47", "inside the watched area 'a'"),
        ("areas: {a: {path: /d/a, vault: /v}, b: {path: /v/b}}", "1:47", "inside the vault of 'a'"),
        ("areas: {a: {path: /d/a, vault: /v}, b: {path: /e, vault: /v}}", "1:58", "overlaps the vault"),
        ("areas: {a: {path: /d/a, vault: /d}}", "1:19", "inside the vault of 'a'"),
        ("areas: {a: {path: /d/a}, b: {path: /d/a}}", "1:36", "overlaps the area 'a'"),
        ("areas: {a: {path: /d/a}, b: {path: /d/a/b}}", "1:36", "overlaps the area 'a'"),
        ("areas: {a: {path: /d/a/b}, b: {path: /d/x/../a}}", "1:38", "overlaps the area 'a'"),
        ("areas: {a: {path: .}}", "1:19", "the site itself"),
        ("areas: {a: {path: ..}}", "1:19", "the site itself"),
        ("areas: {a: {path: /d/a}}\ntiers: {t: {kind: posix, path: /d/a/t}}", "2:32", "inside the watched area 'a'"),
        ("tiers: {t: {kind: posix, path: /t}, u: {kind: posix, path: /t/}}", "1:60", "overlaps the tier 't' (/t)"),
        ("tiers: {t: {kind: posix, path: /t}, u: {kind: emulated_library, path: /t/u}}", "1:71", "the tier 't'"),
        ("tiers: {t: {kind: posix, path: /t/u}, u: {kind: posix, path: /t}}", "1:62", "the tier 't' (/t/u)"),
        ("areas: {a: {path: /d/a, vault: /v}}\ntiers: {t: {kind: posix, path: /v}}", "2:32", "the vault of 'a' (/v)"),
        ("areas: {a: {path: /d/a}}\ntiers: {t: {kind: posix, path: /d/a.vault/t}}", "2:32", "the vault of 'a'"),
        ("areas: {a: {path: /d/a}}\ntiers: {t: {kind: posix, path: /d}}", "2:32", "the vault of 'a' (/d/a.vault)"),
        ("tiers: {t: {kind: posix, path: /t}, u: {kind: posix, path: /t}}", "1:60", "give each a folder of its own"),
        ("areas: {a: {path: /d/a}}\ntiers: {a: {kind: posix, path: /t}}", "2:9", "an area already"),
        ("areas: {a: {path: /d/a, policy: standrd}}", "1:33", "did you mean 'standard'"),
        ("areas: {a: {path: /d/a, metadata_root: /m}}", "1:25", "'metadata_root'"),
        ("areas: {a: {path: /d/a, policy: ../x}}", "1:33", "not a name"),
        ("areas: {a: {path: /d/a, quota: 0}}", "1:32", "a quota of nothing"),
        ("areas: {a: {path: /d/a, class: archive}}", "1:32", "not one of fast, server"),
        ("areas: {a: {path: /d/a, template: '{propsal}/x'}}", "1:35", "did you mean 'proposal'"),
        ("areas: {a: {path: /d/a, template: '{propsal'}}", "1:35", "not a path template"),
        ("areas: {a: {path: /d/a, template: 'x'}}", "1:35", "a template needs a name"),
        ("areas: {a: {path: /d/a, template: '{sample}/{sample}'}}", "1:35", "stands twice"),
        ("areas: {a: {path: /d/a, template: '{*}/{sample}'}}", "1:35", "unknown name '*'"),
        ("areas: {a b: {path: /d/a}}", "1:9", "not a name"),
        ("areas: {a: {}}", "1:9", "'path' is missing"),
        ("areas: {a: {path: ''}}", "1:19", "not a path"),
        ("catalogue: mysql://x/y", "1:12", "is not sqlite:///FILE"),
        ("catalogue: sqlite://", "1:12", "needs a file"),
        ("catalogue: 'sqlite:///:memory:'", "1:12", "needs a file"),
        ("watch: {poll: 0s}", "1:15", "without a pause"),
        ("guard: {share: 0%}", "1:16", "a share of zero"),
        ("tiers: {t: {kind: posix}}", "1:19", "needs the key 'path'"),
        ("tiers: {t: {kind: emulated_library, path: t, copies: 0}}", "1:54", "greater than or equal to 1"),
        ("tiers: {t: {kind: posix, path: t, copies: 2}}", "1:35", "has no key 'copies'"),
        ("simulated: maybe", "1:12", "neither on nor off"),
    ],
)
def test_mistakes(problems, text, place, word):
    found = problems(text)
    assert any(line.startswith(f"{place}: ") and word in line for line in found), found


def test_places_are_compared_where_links_lead(tmp_path, problems):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    found = problems(f"areas:\n  a: {{path: {tmp_path}/data}}\n  b: {{path: {tmp_path}/link/sub}}\n")
    assert f"3:13: it overlaps the area 'a' ({tmp_path}/data)" in found


def test_tiers_are_compared_where_links_lead(tmp_path, problems):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    told = "areas:\n  a: {{path: {0}/data, vault: {0}/disk/vault}}\ntiers:\n  t: {{kind: posix, path: {0}/link}}\n"
    (found,) = problems(told.format(tmp_path))
    assert f"4:26: it overlaps the vault of 'a' ({tmp_path}/disk/vault)" in found


def test_neighbours_of_one_prefix_do_not_overlap(load):
    tiers = "tiers:\n  t: {kind: posix, path: /d/a.vault2}\n  u: {kind: posix, path: /d/a.vault22}\n"
    site = load("areas:\n  a: {path: /d/a}\n  ab: {path: /d/ab}\n" + tiers)
    assert [area.vault for area in site.areas.values()] == ["/d/a.vault", "/d/ab.vault"]


def test_a_policy_with_mistakes_is_reported_with_its_own_places(load, folder):
    (folder / "policies").mkdir()
    (folder / "policies" / "mine.yaml").write_text("name: mine\nversion: 1\nrules:\n  - {name: a, do: pak}\n")
    with pytest.raises(UserError, match=r"policies/mine.yaml:4:19: 'pak' is not one of .*did you mean 'pack'"):
        load("areas: {a: {path: /d/a, policy: mine}}")


def test_the_sites_own_policy_comes_first(folder, load):
    assert find_policy(folder, "standard") == site_module.shipped_policies() / "standard.yaml"
    (folder / "policies").mkdir()
    (folder / "policies" / "standard.yaml").write_text("name: standard\nversion: 9\nrules: []\n")
    assert load("areas: {a: {path: /d/a}}").policies["standard"].version == 9


def test_a_catalogue_from_the_root_and_with_options(load, folder):
    assert load("catalogue: sqlite:////var/lib/x.db").catalogue == "sqlite:////var/lib/x.db"
    assert load("catalogue: 'sqlite:///x.db?timeout=5'").catalogue == f"sqlite:///{folder}/x.db?timeout=5"


def test_files_that_cannot_be_read(folder, load):
    with pytest.raises(UserError, match="cannot be read"):
        load_site(folder)
    (folder / "tomovault.yaml").write_bytes(b"areas: \xff")
    with pytest.raises(UserError, match="not UTF-8 text at byte 7"):
        load_site(folder)


def test_the_floor(load, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    area = load(f"areas: {{a: {{path: {tmp_path}/a}}}}").areas["a"]

    class Found:
        f_frsize = 1

        def __init__(self, blocks):
            self.f_blocks = blocks

    for total, floor in ((500 * 10**12, 5 * 10**12), (50 * 10**9, 10**9), (10**9, 10**8)):
        monkeypatch.setattr(os, "statvfs", lambda _path, total=total: Found(total))
        assert area.floor == floor
    monkeypatch.undo()
    assert load("areas: {a: {path: /nowhere/at/all}}").areas["a"].floor == 10**9
    assert load(f"simulated: true\nareas: {{a: {{path: {tmp_path}/a}}}}").areas["a"].floor == 0


# --- find ------------------------------------------------------------------------------------------------


def test_find_site(tmp_path):
    for name in ("one", "two", "three"):
        (tmp_path / name / "below" / "deep").mkdir(parents=True)
        (tmp_path / name / "tomovault.yaml").write_text("")
    env = {"TOMOVAULT_SITE": str(tmp_path / "two")}
    deep = tmp_path / "three" / "below" / "deep"
    assert find_site(tmp_path / "one", env, deep) == tmp_path / "one"
    assert find_site("../../../one", env, deep) == tmp_path / "one"
    assert find_site(tmp_path / "one" / "tomovault.yaml", {}, deep) == tmp_path / "one"
    assert find_site(None, env, deep) == tmp_path / "two"
    assert find_site(None, {}, deep) == tmp_path / "three"
    assert find_site(None, {"TOMOVAULT_SITE": ""}, deep) == tmp_path / "three"


def test_a_site_that_was_named_is_not_looked_for_elsewhere(tmp_path):
    (tmp_path / "tomovault.yaml").write_text("")
    with pytest.raises(UserError, match="--site") as caught:
        find_site(tmp_path / "x", {}, tmp_path)
    assert "tomovault init" in caught.value.hint
    with pytest.raises(UserError, match="TOMOVAULT_SITE"):
        find_site(None, {"TOMOVAULT_SITE": "x"}, tmp_path)


def test_no_site_at_all(tmp_path):
    with pytest.raises(UserError, match="or above it") as caught:
        find_site(None, {}, tmp_path)
    assert "--site" in caught.value.hint


# --- init and area add -----------------------------------------------------------------------------------


def test_init(tmp_path):
    (tmp_path / "data").mkdir()
    folder = init_site(tmp_path / "new" / "site", {"inhouse": str(tmp_path / "data")})
    site = load_site(folder)
    assert isinstance(site, Site)
    assert site.simulated is False
    area = site.areas["inhouse"]
    assert (area.path, area.prune, area.reduce) == (str(tmp_path / "data"), False, False)
    assert dict(site.tiers["tape"].options)["copies"] == 2
    assert (folder / "tape").is_dir()
    shipped = site_module.shipped_policies() / "standard.yaml"
    assert (folder / "policies" / "standard.yaml").read_text() == shipped.read_text()
    assert sorted(p.name for p in folder.iterdir()) == ["policies", "tape", "tomovault.yaml"]
    assert list((tmp_path / "data").iterdir()) == []
    text = (folder / "tomovault.yaml").read_text()
    assert "prune: off" in text
    assert "reduce: off" in text
    assert text.count("#") > 15


def test_init_without_areas(tmp_path):
    assert load_site(init_site(tmp_path / "s", {})).areas == {}


def test_init_simulated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    site = load_site(init_site("demo", {"a": "demo/a", "b": "elsewhere"}, simulated=True))
    assert site.simulated is True
    assert not any(area.prune or area.reduce for area in site.areas.values())
    assert (tmp_path / "demo" / "a").is_dir()
    assert (tmp_path / "elsewhere").is_dir()
    assert "path: a\n" in (tmp_path / "demo" / "tomovault.yaml").read_text()
    (tmp_path / "demo").rename(tmp_path / "moved")
    assert load_site(tmp_path / "moved").areas["a"].path == str(tmp_path / "moved" / "a")


def test_init_refuses(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "file").write_text("")
    for areas, word in (
        ({"a": str(tmp_path / "typo")}, "is not a folder"),
        ({"a": str(tmp_path / "file")}, "is not a folder"),
        ({"a b": str(tmp_path / "data")}, "not a name"),
        ({"a": str(tmp_path)}, "the site itself"),
        ({"a": str(tmp_path / "data"), "b": str(tmp_path / "data")}, "overlaps"),
    ):
        with pytest.raises(UserError, match=word):
            init_site(tmp_path / "site", areas)
        assert not (tmp_path / "site").exists(), "nothing was written"
    with pytest.raises(UserError, match="is not a folder"):
        init_site(tmp_path / "site", {"a": str(tmp_path / "file")}, simulated=True)


def test_init_never_overwrites_a_site(tmp_path):
    folder = init_site(tmp_path / "s", {})
    (folder / "tomovault.yaml").write_text("simulated: on\n")
    with pytest.raises(UserError, match="there is a site") as caught:
        init_site(folder, {})
    assert "area add" in caught.value.hint
    assert (folder / "tomovault.yaml").read_text() == "simulated: on\n"


def test_init_keeps_a_policy_that_is_there(tmp_path):
    (tmp_path / "s" / "policies").mkdir(parents=True)
    (tmp_path / "s" / "policies" / "standard.yaml").write_text("name: standard\nversion: 5\nrules: []\n")
    (tmp_path / "d").mkdir()
    assert load_site(init_site(tmp_path / "s", {"a": str(tmp_path / "d")})).policies["standard"].version == 5


@pytest.mark.parametrize(
    "name", ["with space", "quo'te\"s", "{braces}: #x", "tab\there", "été", "-dash", "new\nline", "*a"]
)
def test_folders_of_any_utf8_name(tmp_path, name):
    (tmp_path / "d" / name).mkdir(parents=True)
    folder = init_site(tmp_path / "s", {"a": str(tmp_path / "d" / name)})
    assert load_site(folder).areas["a"].path == str(tmp_path / "d" / name)


def test_a_folder_that_yaml_cannot_name(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(path)
    with pytest.raises(UserError, match="not UTF-8"):
        init_site(tmp_path / "s", {"a": path})
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "text",
    [
        "# head\nareas: {}   # areas\n# tail\njobs: {cpus: 2}\n",
        "areas: {a: {path: /d/a}}  # flow\nsimulated: off\n",
        "areas:\n    a:\n      path: /d/a   # why\n\n# about tiers\ntiers: {}\n",
        "areas:\n  a: {path: /d/a}",
        "areas:\n# none yet\ntiers: {}\n",
        "areas: ~  # none\n",
        "areas:",
        "simulated: off  # nothing else\n",
        "",
        "areas:\r\n  a: {path: /d/a}\r\n",
    ],
)
def test_add_area_keeps_every_comment_and_line(tmp_path, text):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "tomovault.yaml").write_bytes(text.encode())
    (tmp_path / "new").mkdir()
    before = set(load_site(folder).areas)
    area = add_area(folder, "new", tmp_path / "new")
    assert (area.name, area.path, area.prune, area.reduce) == ("new", str(tmp_path / "new"), False, False)
    assert set(load_site(folder).areas) == before | {"new"}
    after = (folder / "tomovault.yaml").read_bytes().decode()
    for line in text.splitlines():
        comment = line.partition("#")[2]
        assert comment in after
    assert [p.name for p in folder.iterdir()] == ["tomovault.yaml"], "no temporary file stays"


def test_areas_added_one_after_another(tmp_path):
    folder = init_site(tmp_path / "s", {})
    before = (folder / "tomovault.yaml").read_text().splitlines()
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        add_area(folder, name, tmp_path / name)
    after = (folder / "tomovault.yaml").read_text().splitlines()
    assert list(load_site(folder).areas) == ["a", "b", "c"]
    assert [line for line in before if line not in after] == ["areas: {}"]


def test_add_area_refuses_and_leaves_the_file(tmp_path):
    (tmp_path / "d" / "sub").mkdir(parents=True)
    folder = init_site(tmp_path / "s", {"a": str(tmp_path / "d")})
    before = (folder / "tomovault.yaml").read_bytes()
    for name, path, word in (
        ("a", tmp_path / "d", "already"),
        ("tape", tmp_path / "d", "already"),
        ("b", tmp_path / "d" / "sub", "overlaps"),
        ("b", tmp_path / "typo", "is not a folder"),
        ("b c", tmp_path / "d", "not a name"),
    ):
        with pytest.raises(UserError, match=word):
            add_area(folder, name, path)
    assert (folder / "tomovault.yaml").read_bytes() == before


def test_the_site_module_starts_light():
    code = (
        "import sys, tomovault.vault.site\n"
        "heavy = {'pydantic', 'ruamel', 'ruamel.yaml', 'lark', 'numpy', 'sqlalchemy', 'h5py', 'blosc2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_shipped_policies_are_found():
    assert (Path(site_module.shipped_policies()) / "standard.yaml").is_file()


def test_a_tier_says_itself_what_it_understands(load, tmp_path):
    tier = load(f"tiers: {{far: {{kind: posix, path: {tmp_path}/far, floor: 10GB}}}}").tiers["far"]
    assert tier.options["floor"] == 10 * 10**9
    assert tier.tier_class is TierClass.SERVER
    for path in ("posix", "emulated_library"):
        plugin = load_plugin("tiers", path)
        assert "path" in plugin.OPTIONS
        assert plugin.TIER_CLASS in TierClass
