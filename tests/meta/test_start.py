"""The command line starts light."""

import json
import statistics
import subprocess
import sys
import time

import pytest

HEAVY = (
    "alembic",
    "apscheduler",
    "blosc2",
    "boto3",
    "botocore",
    "fastapi",
    "finufft",
    "globus_sdk",
    "h5py",
    "hdf5plugin",
    "numpy",
    "pydantic",
    "rich",
    "ruamel",
    "sqlalchemy",
    "structlog",
    "zstandard",
)

RUN = """
import json, sys
from tomovault.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    code = end.code
print()
print(json.dumps([code, sorted(name for name in {heavy!r} if name in sys.modules)]))
"""

BARE = "import click\n@click.command()\ndef main():\n    'Bare.'\nmain(['--help'])"
OURS = "from tomovault.cli import main\nmain(['--help'])"


@pytest.mark.parametrize("arguments", [["--help"], ["scan", "--help"], ["scan", "list", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(python, arguments):
    printed = python(RUN.format(arguments=arguments, heavy=HEAVY))
    assert json.loads(printed.splitlines()[-1]) == [0, []]


def test_the_check_for_heavy_imports_sees_one(python):
    printed = python("import numpy\n" + RUN.format(arguments=["--help"], heavy=HEAVY))
    assert json.loads(printed.splitlines()[-1]) == [0, ["numpy"]]


def test_neither_the_daemon_nor_a_kind_of_tier_imports_its_sdk(python):
    """Only a job that speaks to a service does."""
    printed = python(
        "import json, sys\n"
        "import tomovault.daemon.loop\n"
        "from tomovault.vault.plugins import list_kinds\n"
        "assert 's3' in list_kinds('tiers')\n"
        "print(json.dumps([name for name in ('boto3', 'botocore', 'globus_sdk') if name in sys.modules]))"
    )
    assert json.loads(printed.splitlines()[-1]) == []


def _seconds(text):
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", text], stdout=subprocess.DEVNULL, check=True, timeout=60)
    return time.perf_counter() - begun


def _ratio(rounds):
    pairs = [(_seconds(BARE), _seconds(OURS)) for _ in range(rounds)]
    return statistics.median(ours for _, ours in pairs) / statistics.median(bare for bare, _ in pairs)


def test_help_takes_less_than_three_times_a_bare_click_program():
    ratios = []
    for _ in range(4):
        ratios.append(_ratio(5))
        if ratios[-1] < 3:
            return
    pytest.fail(f"tomovault --help over bare click, four medians of five: {ratios}")
