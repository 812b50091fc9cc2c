"""NXtomo files: one or more entries with images, their image_key and their angles."""

from __future__ import annotations

from typing import ClassVar

from tomovault.core.ports import Format
from tomovault.formats.hdf5_one_file import OneFileFormat


class NXtomoFile(OneFileFormat):
    """The `nxtomo` format."""

    name: ClassVar[str] = "nxtomo"
    reader: ClassVar[str] = "tomovault.formats.nxtomo_reader"
    linked: ClassVar[bool] = True


PLUGIN: type[Format] = NXtomoFile
