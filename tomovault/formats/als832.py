"""Files of ALS beamline 8.3.2 as it wrote them until 2020 or so: a dataset an image, named like a TIFF file."""

from __future__ import annotations

from typing import ClassVar

from tomovault.core.ports import Format
from tomovault.formats.hdf5_one_file import OneFileFormat


class AlsFile(OneFileFormat):
    """The `als832` format."""

    name: ClassVar[str] = "als832"
    reader: ClassVar[str] = "tomovault.formats.als832_reader"


PLUGIN: type[Format] = AlsFile
