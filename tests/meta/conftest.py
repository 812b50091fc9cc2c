"""The project itself, as its own tests see it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def repository():
    """The checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def modules():
    """Every module of the package."""
    found = sorted(p for p in (REPOSITORY / "tomovault").rglob("*.py") if "__pycache__" not in p.parts)
    assert len(found) > 50
    return found


@pytest.fixture(scope="session")
def generate():
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", REPOSITORY / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def project_files():
    """Every file that belongs to the project, as git sees it."""
    if not shutil.which("git") or not (REPOSITORY / ".git").exists():
        pytest.skip("this is no checkout by git; apt-get install git")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    paths = [REPOSITORY / name.decode() for name in listed if name]
    return [p for p in paths if p.is_file() and not p.is_symlink()]


@pytest.fixture
def python():
    """Run a program text in a fresh interpreter; returns what it printed, and fails with its errors."""

    def run(text: str, *, cwd=None, env=None) -> str:
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, cwd=cwd, env=env, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
