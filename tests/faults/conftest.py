"""What the faults have in common: the sites of the stories, tiny file systems, and an account without rights."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# The sites live as those of the stories do. A name of its own, so that neither conftest hides the other.
_PLACE = Path(__file__).parents[1] / "stories" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("tomovault_tests_lives", _PLACE)
assert _SPEC is not None
assert _SPEC.loader is not None
_LIVES = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _LIVES
_SPEC.loader.exec_module(_LIVES)

new_site = _LIVES.new_site
digests = _LIVES.digests
replicas = _LIVES.replicas


@pytest.fixture(scope="session")
def site_at() -> Callable[..., object]:
    """Called with a folder and names of areas for a site that is there already."""
    return lambda base, *names: _LIVES.Site(base, {name: base / name for name in names})


@pytest.fixture
def mount(tmp_path) -> Iterator[Callable[..., Path]]:
    """Called with a folder and a size for a small file system mounted there; skips where that is not allowed."""
    mounted: list[Path] = []

    def make(folder: Path, size: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tomovault-test", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in reversed(mounted):
        if os.path.ismount(folder):
            subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Called with a question for an answer that is true, at most some seconds later."""

    def wait(question: Callable[[], object], *, seconds: float = 150.0, every: float = 0.1) -> None:
        end = time.monotonic() + seconds
        while not question():
            assert time.monotonic() < end, f"not within {seconds:.0f} s"
            time.sleep(every)

    return wait
