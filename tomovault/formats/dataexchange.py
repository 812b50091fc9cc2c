"""Data Exchange files as the APS and others write them: images, flats, darks and angles below `/exchange`."""

from __future__ import annotations

from typing import ClassVar

from tomovault.core.ports import Format
from tomovault.formats.hdf5_one_file import OneFileFormat


class DataExchangeFile(OneFileFormat):
    """The `dataexchange` format."""

    name: ClassVar[str] = "dataexchange"
    reader: ClassVar[str] = "tomovault.formats.dataexchange_reader"


PLUGIN: type[Format] = DataExchangeFile
