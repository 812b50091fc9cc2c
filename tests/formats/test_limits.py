import os
import signal
import subprocess
import sys
import time

import pytest

from tomovault.core.errors import NoScan, UserError
from tomovault.core.layout import Layout
from tomovault.core.scan import Candidate, Verdict
from tomovault.formats import family, limits
from tomovault.formats.limits import InspectionEnded, LimitedFormats, Limits


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Replace the child's program by a few lines of Python."""

    def install(code: str) -> None:
        package = tmp_path / "programs"
        package.mkdir(exist_ok=True)
        (package / "odd_child.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(package))
        monkeypatch.setattr(limits, "_PROGRAM", "odd_child")

    return install


ANY = Candidate("edf", "/data/x", "scan_")


def test_it_answers_as_the_format_itself(edf_folder, bliss_folder):
    ours = LimitedFormats()
    for scan in (edf_folder().write(), bliss_folder().write()):
        kind = scan.candidate().format
        (report,) = ours.inspect(scan.candidate(), settled=True)
        assert report.certificate.verdict is Verdict.COMPLETE
        (direct,) = family.load(kind).inspect(scan.candidate(), settled=True)
        assert report == direct
        assert ours.layout(report) == family.load(kind).layout(report)


def test_odd_names_survive_both_ways(edf_folder):
    scan = edf_folder("o\udce9'\"\n_").write()
    (report,) = LimitedFormats().inspect(scan.candidate(), settled=True)
    assert report.certificate.verdict is Verdict.COMPLETE
    assert os.path.exists(os.path.join(report.root, report.files[-1].state.path))


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import time; time.sleep(60)", "longer than 1 s"),
        ("print('{' * 100)", "no readable answer"),
        ("print('[]')", "no readable answer"),
        ("print('{}')", "no readable answer"),
        ("""print('{"reports": [{"format": 3}]}')""", "no readable answer"),
        ("import sys; sys.exit('it broke')", "it broke"),
        ("import sys; sys.stdout.write('x' * 3000000)", "more than 1000000 bytes"),
        ("import os; os.close(0); print('{}')", "no readable answer"),
    ],
)
def test_a_dead_or_mad_child_is_an_error_that_names_the_file(child, code, word):
    child(code)
    ours = LimitedFormats(Limits(wall_s=1.0 if "sleep" in code else 30.0, output_bytes=1_000_000))
    with pytest.raises(UserError, match=word) as caught:
        ours.inspect(ANY, settled=True)
    assert "/data/x/scan_" in caught.value.message


def test_a_child_that_fails_leaves_files_whole(child, edf_folder):
    report = edf_folder().write().report()
    child("import os; os.abort()")
    assert LimitedFormats().layout(report) == Layout()


def test_a_child_that_hangs_in_the_kernel_is_left_to_it(child, monkeypatch):
    """Its file server does not answer, so that no signal reaches it."""
    hung = []

    class Hung(subprocess.Popen):
        def __init__(self, *given, **more):
            super().__init__(*given, **more)
            hung.append(self)

        def wait(self, timeout=None):
            assert timeout is not None, "this would wait for ever"
            raise subprocess.TimeoutExpired("child", timeout)

    child("import time; time.sleep(60)")
    monkeypatch.setattr(limits.subprocess, "Popen", Hung)
    with pytest.raises(UserError, match=r"longer than 0\.5 s"):
        LimitedFormats(Limits(wall_s=0.5)).inspect(ANY, settled=True)
    assert all(stream.closed for stream in (hung[0].stdin, hung[0].stdout, hung[0].stderr))
    os.waitpid(hung[0].pid, 0)
    hung[0].returncode = -signal.SIGKILL


def test_grandchildren_die_with_it(child, tmp_path):
    mark = tmp_path / "pid"
    child(
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(mark)!r}, 'w').write(str(p.pid))\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(UserError):
        LimitedFormats(Limits(wall_s=3.0)).inspect(ANY, settled=True)
    pid = int(mark.read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_memory_and_files_are_limited(tmp_path):
    code = (
        "import signal, resource\n"
        "from tomovault.formats.child import limit_self\n"
        "limit_self(300 << 20, 5)\n"
        "try:\n    bytearray(400 << 20)\nexcept MemoryError:\n    print('memory')\n"
        f"f = open({str(tmp_path / 'f')!r}, 'w')\n"
        "try:\n    f.write('x'); f.flush()\nexcept OSError:\n    print('files')\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split()[:2] == ["memory", "files"]
    assert (tmp_path / "f").stat().st_size == 0


def test_the_child_is_told_not_to_lock_and_gets_no_detours(child, monkeypatch):
    monkeypatch.setenv("HDF5_VDS_PREFIX", "/elsewhere")
    child(
        "import json, os, sys\n"
        "env = {k: v for k, v in os.environ.items() if k.startswith(('HDF5', 'OPENBLAS'))}\n"
        "print(json.dumps({'error': {'message': json.dumps(env)}}))\n"
    )
    with pytest.raises(UserError) as caught:
        LimitedFormats().inspect(ANY, settled=True)
    text = caught.value.message
    assert '"HDF5_USE_FILE_LOCKING": "FALSE"' in text
    assert '"OPENBLAS_NUM_THREADS": "1"' in text
    assert "VDS_PREFIX" not in text


def test_the_caller_loads_no_hdf5_library():
    code = (
        "import sys\n"
        "from tomovault.formats.family import load_all, LimitedFormats\n"
        "print(*[f.name for f in load_all()], *[m for m in ('h5py', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = done.stdout.split()
    assert {"bliss", "edf", "nxtomo"} <= set(loaded)
    assert not {"h5py", "numpy"} & set(loaded)


def test_an_unknown_kind_is_said():
    with pytest.raises(UserError, match="no format is called"):
        family.load("../edf")
    with pytest.raises(UserError, match="no format is called 'nonsense'"):
        LimitedFormats().inspect(Candidate("nonsense", "/data", ""), settled=True)


def test_signal_names_are_known():
    assert limits.obituary(-signal.SIGSEGV, "") == "crashed with SIGSEGV"
    assert "CPU" in limits.obituary(-signal.SIGXCPU, "")


def _counted(monkeypatch):
    started = []
    run = LimitedFormats._run
    monkeypatch.setattr(LimitedFormats, "_run", lambda self, request: started.append(request) or run(self, request))
    return started


def test_a_file_that_several_formats_ask_about_costs_one_process(monkeypatch, tmp_path):
    from tomovault.testing.one_file_scan import write_one_file_scan

    (truth,) = write_one_file_scan(str(tmp_path), "bone", variant="nxtomo-at-once", shape=(4, 5), projections=4).scans
    looks = [(Candidate(kind, truth.folder, truth.key), True) for kind in ("als832", "nexus", "nxtomo")]
    alone = (Candidate("edf", truth.folder, "scan_"), True)
    started = _counted(monkeypatch)
    ours = LimitedFormats()
    ours.foresee([*looks, alone])
    for candidate, settled in looks[:2]:
        with pytest.raises(NoScan, match="it is an NXtomo"):
            ours.inspect(candidate, settled=settled)
    assert len(started) == 1
    (report,) = ours.inspect(looks[2][0], settled=True)
    assert len(started) == 1
    assert report == family.load("nxtomo").inspect(looks[2][0], settled=True)[0]
    assert ours.inspect(looks[2][0], settled=True) == [report]
    assert len(started) == 2, "an answer is given once"
    assert ours.inspect(looks[2][0], settled=False)[0].certificate.verdict is Verdict.ACQUIRING
    ours.foresee([alone])
    assert len(started) == 3


@pytest.mark.parametrize("code", ["import os; os.abort()", "print('{}')", "print('{\"answers\": [3, 4]}')"])
def test_where_the_common_process_fails_each_is_asked_by_itself(child, monkeypatch, tmp_path, code):
    (tmp_path / "x.h5").write_bytes(b"")
    looks = [(Candidate(kind, str(tmp_path), "x.h5"), True) for kind in ("nexus", "nxtomo")]
    ours = LimitedFormats()
    with monkeypatch.context() as only_now:
        child(code)
        ours.foresee(looks)
        only_now.undo()
    monkeypatch.setattr(limits, "_PROGRAM", "tomovault.formats.child")
    started = _counted(monkeypatch)
    for candidate, settled in looks:
        with pytest.raises(NoScan, match="it is empty"):
            ours.inspect(candidate, settled=settled)
    assert len(started) == 2


_TOGETHER = """
import json, sys, time
looks = json.loads(sys.stdin.read())["looks"]
names = [look["candidate"]["key"] for look in looks]
for number, name in enumerate(names):
    alike = [at for at, other in enumerate(names) if other == name]
    if alike[0] == number:
        print(json.dumps({"together": alike}), flush=True)
        if name == "loops.h5":
            time.sleep(60)
        print("{}", flush=True)
    if name == "long.h5":
        time.sleep(60)
    print(json.dumps({"reports": [], "no_scan": f"{name} is nothing"}), flush=True)
"""


@pytest.fixture
def foreseen(child, monkeypatch, tmp_path):
    """What was foreseen of files of several formats, of which some take too long; and what was started since."""
    child(_TOGETHER)
    names = ("good.h5", "long.h5", "loops.h5", "other.h5")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    kinds = ("als832", "nexus", "nxtomo")
    looks = {name: [(Candidate(kind, str(tmp_path), name), True) for kind in kinds] for name in names}
    ours = LimitedFormats(Limits(wall_s=1.5))
    ours.foresee([look for several in looks.values() for look in several])
    monkeypatch.setattr(limits, "_PROGRAM", "tomovault.formats.child")
    ours._limits = Limits()
    return ours, looks, _counted(monkeypatch)


def test_what_takes_too_long_for_every_format_is_waited_for_once(foreseen, tmp_path):
    ours, looks, started = foreseen
    for candidate, settled in looks["loops.h5"]:
        with pytest.raises(InspectionEnded, match=r"loops\.h5: the inspection took longer than 1\.5 s"):
            ours.inspect(candidate, settled=settled)
    for name in ("good.h5", "other.h5"):
        for candidate, settled in looks[name]:
            with pytest.raises(NoScan, match=f"{name} is nothing"):
                ours.inspect(candidate, settled=settled)
    assert not started, "the files beside it were looked into already"


def test_what_one_format_alone_took_too_long_for_is_asked_of_each(foreseen):
    ours, looks, started = foreseen
    for candidate, settled in looks["long.h5"]:
        with pytest.raises(NoScan, match="it is empty"):
            ours.inspect(candidate, settled=settled)
    assert len(started) == 3


@pytest.mark.parametrize("change", ["write", "replace", "again"])
def test_what_took_too_long_is_asked_again_where_it_changed_and_later(foreseen, tmp_path, change):
    ours, looks, started = foreseen
    path = tmp_path / "loops.h5"
    if change == "write":
        path.write_bytes(b"x")
    elif change == "replace":
        (tmp_path / "new").write_bytes(b"")
        (tmp_path / "new").replace(path)
    else:
        ours.foresee([])
    for candidate, settled in looks["loops.h5"]:
        with pytest.raises(NoScan):
            ours.inspect(candidate, settled=settled)
    assert len(started) == 3
