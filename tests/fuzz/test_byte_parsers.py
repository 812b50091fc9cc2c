"""The parsers that read bytes by themselves, in this process, over mutants of what the formats' seeds hold."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from random import Random

import pytest

from tomovault.testing.mutants import damage

_SPEC = importlib.util.spec_from_file_location("byte_parsers", Path(__file__).with_name("byte_parsers.py"))
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
PARSERS = _MODULE.PARSERS
#: Files of which formats, with which ending, a parser is meant for.
_MEANT = {
    "edf": ("edf", ".edf"),
    "tiff": ("tiff_stack", ".tif"),
    "zeiss": ("txrm", ".txrm"),
    "info": ("edf", ".info"),
    "xml": ("edf", ".xml"),
    "sections": ("volume", "_infos.txt"),
    "volume_info": ("volume", ".vol.info"),
    "tiff_text": ("tiff_stack", ".log"),
}


def files_for(seeds, name):
    kind, ending = _MEANT[name]
    return sorted({d for s in seeds(kind) for path, d in s.tree.files.items() if path.endswith(ending)})


def run(seeds, name, count):
    files = files_for(seeds, name)
    assert files
    for number in range(count):
        rng = Random(f"{name} {number}")
        data = rng.choice(files)
        for _ in range(rng.randint(1, 3)):
            data = damage(data, rng)
        try:
            PARSERS[name](data)
        except Exception as problem:
            raise AssertionError(f"mutant {number} of {name}: {problem!r}") from problem


def test_every_parser_has_files_to_start_from():
    assert set(_MEANT) == set(PARSERS)


@pytest.mark.parametrize("name", PARSERS)
def test_mutants(seeds, name):
    run(seeds, name, 150)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", PARSERS)
def test_many_mutants(seeds, name):
    run(seeds, name, 50 * int(os.environ.get("TOMOVAULT_FUZZ", "400")))
