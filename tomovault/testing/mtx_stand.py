"""Stands in for the program `mtx` on a library of `testing.tape_stand`: mtx_stand.py -f STATE status|load|unload.

What it prints are the lines of mtx 1.3.12. A library whose state has `stuck` takes no cartridge anywhere, and one with
`lies` puts another one into the drive than it was told to.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any


def _drive_line(number: int, drive: dict[str, Any]) -> str:
    if not drive["barcode"]:
        return f"Data Transfer Element {number}:Empty"
    tag = f":VolumeTag = {drive['barcode']:<31} "
    return f"Data Transfer Element {number}:Full (Storage Element {drive['home']} Loaded){tag}"


def _slot_line(number: str, barcode: str) -> str:
    state = "Full " if barcode else "Empty"
    return f"      Storage Element {number}:{state}:VolumeTag={barcode:<31} "


def _status(state: dict[str, Any], path: str) -> str:
    drives, slots = state["drives"], state["slots"]
    lines = [f"  Storage Changer {path}:{len(drives)} Drives, {len(slots)} Slots ( 0 Import/Export )"]
    lines += [_drive_line(number, drive) for number, drive in enumerate(drives)]
    lines += [_slot_line(number, slots[number]) for number in sorted(slots, key=int)]
    return "\n".join(lines) + "\n"


def _move(state: dict[str, Any], verb: str, slot: str, number: int) -> str:
    """What is wrong, '' where the move was made."""
    drive, slots = state["drives"][number], state["slots"]
    if state.get("stuck"):
        return "mtx: Request Sense: Sense Key=Hardware Error"
    if verb == "load":
        if drive["barcode"]:
            return f"Drive {number} Full (Storage Element {drive['home']} loaded)"
        if not slots.get(slot):
            return f"source Element Address {slot} is Empty"
        taken = state.get("lies") or slot
        drive.update(barcode=slots[taken], home=int(taken), out=False)
        slots[taken] = ""
        return ""
    if not drive["barcode"]:
        return f"Data Transfer Element {number} is Empty"
    if not drive["out"]:
        return "mtx: Request Sense: Additional Sense Code = 53 (media removal prevented)"
    if slots.get(slot):
        return f"Storage Element {slot} is Already Full"
    slots[slot] = drive["barcode"]
    drive.update(barcode="", home=0, out=False)
    return ""


def answer(argv: Sequence[str]) -> tuple[int, str]:
    """The exit status of one call, and what it prints: on standard error where the status is not 0."""
    _, path, verb, *where = argv
    with open(path, encoding="ascii") as stream:
        state = json.load(stream)
    if verb == "status":
        return 0, _status(state, path)
    if problem := _move(state, verb, where[0], int(where[1])):
        return 1, problem + "\n"
    with open(path, "w", encoding="ascii") as stream:
        json.dump(state, stream)
    return 0, "done\n"


def main(argv: Sequence[str]) -> int:
    """The exit status of one call, which has printed."""
    status, text = answer(argv)
    (sys.stderr if status else sys.stdout).write(text)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
