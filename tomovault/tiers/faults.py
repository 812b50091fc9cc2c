"""Where an emulated drive can be made to fail: what happens by default is nothing."""

from __future__ import annotations

import os


class Faults:
    """Called by the drive around every move of bytes. Derive from it to injure a library on purpose.

    A method may raise OSError as a kernel driver would, or a BaseException as a power cut would.
    """

    def reading(self, barcode: str, file: int, record: int) -> None:
        """Before a record is read."""

    def read(self, barcode: str, file: int, record: int, payload: bytes) -> bytes:
        """What the drive hands over of a record that it read; may be shorter."""
        return payload

    def writing(self, barcode: str, file: int, record: int) -> None:
        """Before a record is written."""

    def marking(self, barcode: str, file: int) -> None:
        """Before a filemark is written, all records being on the tape."""

    def syncing(self, barcode: str, fd: int) -> None:
        """Make everything written so far durable; one that does nothing is a drive that lies."""
        os.fsync(fd)
