"""Everything that reads bytes of a file by itself, and a driver of atheris over it, for as long as one likes.

    python tests/fuzz/byte_parsers.py -max_total_time=600 FOLDER_OF_INPUTS

The first byte chooses the parser, the rest is the file. atheris is no requirement of anything else here.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
import tempfile

from tomovault.core.errors import UserError
from tomovault.formats.edf_header import HeaderError, read_header
from tomovault.formats.spec_text import number, parse_info, parse_xml, whole
from tomovault.formats.tiff_header import TiffError, read_tiff
from tomovault.formats.tiff_texts import conditions_of, parse_text
from tomovault.formats.volume_texts import parse_par, parse_sections, parse_volume_info, scan_of, slices_of
from tomovault.formats.zeiss_file import read_zeiss


def _of_file(read):
    def parse(data):
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            try:
                return read(file.fileno())
            except (HeaderError, TiffError, UserError) as told:
                if not str(told):
                    raise AssertionError("an error without a word") from told
                return None

    return parse


def _edf(descriptor):
    header = read_header(descriptor)
    header.motors()
    header.counters()
    if header.frame_bytes is not None and header.body < header.frame_bytes:
        raise AssertionError("a body smaller than the frame in it")


def _tiff(descriptor):
    found = read_tiff(descriptor)
    for page in found.pages:
        if page.offset is not None and page.end < page.offset + page.length:
            raise AssertionError("an image that ends before its bytes do")


def _zeiss(descriptor):
    found = read_zeiss(descriptor, "x.txrm")
    for image in found.images:
        if image.offset is not None and image.offset + image.length > found.size:
            raise AssertionError("an image beyond the end")


def _info(data):
    for text in parse_info(data).values():
        number(text)
        whole(text)


def _sections(data):
    for keys in (parse_sections(data), parse_par(data)):
        slices_of(keys)
        scan_of(keys)


def _volume_info(data):
    for name in ("x.vol.info", "x_uint16.raw.info"):
        if parse_volume_info(data, name).voxels == 0:
            raise AssertionError("a volume of nothing")


PARSERS = {
    "edf": _of_file(_edf),
    "tiff": _of_file(_tiff),
    "zeiss": _of_file(_zeiss),
    "info": _info,
    "xml": parse_xml,
    "sections": _sections,
    "volume_info": _volume_info,
    "tiff_text": lambda data: conditions_of(parse_text("x.log", data)),
}


def main():
    """Never returns: libFuzzer ends the process."""
    atheris = importlib.import_module("atheris")
    for name in [name for name in sys.modules if name.startswith(("tomovault.formats", "olefile"))]:
        del sys.modules[name]
    with atheris.instrument_imports(include=["tomovault.formats", "olefile"]):
        parsers = list(runpy.run_path(__file__)["PARSERS"].values())

    def one(data):
        if data:
            parsers[data[0] % len(parsers)](data[1:])

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    main()
