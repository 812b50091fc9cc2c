"""Owners are told of data of theirs that no scan explains, before the day by which somebody should say what it is."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from tomovault.core.notice import Topic
from tomovault.vault.notices import gather
from tomovault.vault.vault import Vault

#: So long before that day.
TOLD_BEFORE = timedelta(days=30)

#: Folders that one text names, those of most bytes first; the others are told the next night.
_IN_A_TEXT = 100

#: What is told of each.
_SHOWN = ("folder", "files", "bytes", "newest", "since", "deadline")


def tell_owners(vault: Vault, page: dict[str, Any], now: datetime) -> None:
    """Every owner of a folder of a census whose day is near will be told, once; the page says since when.

    While nobody would be told, nobody was.
    """
    near: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in page["unexplained"]:
        if not row["told_at"] and datetime.fromisoformat(row["deadline"]) - now <= TOLD_BEFORE:
            near[row["owner"]].append(row)
    if not near:
        return
    with vault.catalogue.writing() as tx:
        for owner, rows in near.items():
            rows = rows[:_IN_A_TEXT]
            folders = [{name: row[name] for name in _SHOWN} for row in rows]
            facts = {"area": page["area"], "owner": owner, "folders": folders}
            key = f"unexplained {page['area']} {owner!r}"
            account = None if owner.startswith("uid ") else owner  # what has no name has no address
            if gather(vault, tx, Topic.WARNINGS, "unexplained", facts, "folders", now, key=key, owner=account):
                for row in rows:
                    row["told_at"] = now.isoformat().replace("+00:00", "Z")
