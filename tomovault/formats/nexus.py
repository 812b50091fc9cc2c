"""NeXus files as GDA writes them at Diamond: a scan's points, and links to the files of its camera."""

from __future__ import annotations

from typing import ClassVar

from tomovault.core.ports import Format
from tomovault.formats.hdf5_one_file import OneFileFormat


class DiamondNexusFile(OneFileFormat):
    """The `nexus` format."""

    name: ClassVar[str] = "nexus"
    reader: ClassVar[str] = "tomovault.formats.nexus_reader"
    linked: ClassVar[bool] = True


PLUGIN: type[Format] = DiamondNexusFile
