"""The note that is left in a folder whose files were pruned: where the data is, and how to get it back."""

from __future__ import annotations

import contextlib
import os
import stat

from tomovault.core.ports import Checkpoint
from tomovault.tiers.ground import OWN_FOLDER, Ground, parts_below

#: Written into a pruned scan's folder; the watcher ignores it.
NOTE = "TOMOVAULT-README.txt"

#: How each note begins: a file of that name which does not is a user's own.
OPENING = "The original files of the scan "


def leave_note(below: str, root: str, text: str, job: str, checkpoint: Checkpoint) -> None:
    """The scan's folder tells where its data went; with an empty text it tells nothing any more.

    A user's own file, link or folder of that name stays as it is, and then nothing is told there.
    """
    temporary = f"note.{job}"
    with (
        Ground(below) as ground,
        ground.folder((OWN_FOLDER,), create=0o755) as own,
        ground.folder(parts_below(below, root)) as scan,
    ):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=own)
        if not _may_be_written(scan):
            return
        if not text:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(NOTE, dir_fd=scan)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(temporary, flags, 0o644, dir_fd=own)
        with os.fdopen(file, "w", encoding="utf-8", errors="backslashreplace") as note:
            os.fchmod(note.fileno(), 0o644)
            note.write(text)
        checkpoint("prune.readme")
        os.rename(temporary, NOTE, src_dir_fd=own, dst_dir_fd=scan)


def _may_be_written(folder: int) -> bool:
    """Whether there is no file of that name, or one that we left."""
    try:
        state = os.stat(NOTE, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return True
    if not stat.S_ISREG(state.st_mode):
        return False
    try:
        file = os.open(NOTE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except PermissionError:
        return False  # ours can be read by everyone
    with os.fdopen(file, "rb") as note:
        return note.read(len(OPENING)) == OPENING.encode("ascii")
