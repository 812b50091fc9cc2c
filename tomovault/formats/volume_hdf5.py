"""Volumes in HDF5 as nabu writes them (`reconstruction/results/data`), and tomopy (`/exchange/data` alone)."""

from __future__ import annotations

from typing import ClassVar

from tomovault.core.ports import Format
from tomovault.formats.hdf5_one_file import OneFileFormat


class ForeignHdf5Volume(OneFileFormat):
    """The `volume_hdf5` format."""

    name: ClassVar[str] = "volume_hdf5"
    reader: ClassVar[str] = "tomovault.formats.volume_hdf5_reader"


PLUGIN: type[Format] = ForeignHdf5Volume
