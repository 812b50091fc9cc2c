"""Symbolic links that lead to files of a scan, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tomovault.cli import label, say

#: So many are written out.
_SHOWN = 20


def say_links(links: Sequence[Mapping[str, str]], of: str) -> None:
    """They are listed below a line of their own; nothing is said where there are none."""
    if not links:
        return
    what = "1 link leads" if len(links) == 1 else f"{len(links)} links lead"
    say(f"\n{what} to the files of {of}, with nothing to show while these are away:")
    for link in links[:_SHOWN]:
        say(f"  {label(link['path'])} -> {label(link['leads_to'])}")
    if len(links) > _SHOWN:
        say(f"  and {len(links) - _SHOWN} more: --json lists them all")
