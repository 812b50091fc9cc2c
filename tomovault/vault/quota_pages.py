"""What `tomovault quota` tells: how much of everything is used, and how it was."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.forecast import Forecast, forecast_full
from tomovault.policy.limits import Level, Standing, stand
from tomovault.vault.forecasting import Outlook
from tomovault.vault.tier_facts import marked_tiers, may_be_pruned, place_facts
from tomovault.vault.vault import Vault


def quota_page(vault: Vault, tx: Any, by: str, now: datetime) -> dict[str, Any]:
    """Stored bytes of all live replicas, and of scans that have none yet, added up by one thing.

    `used_fraction` is theirs of the limit; `full_fraction` of an area is what its marks are compared with: where there
    is no quota of its own, whatever else lies on its file system counts, too.
    """
    exceeded = vault.exceeded(tx, now).by_subject
    outlook = Outlook(vault, tx, by, now)
    rows = []
    for row in vault.catalogue.usage(tx, by):
        key = row.value
        facts = _facts_of(vault, tx, by, key, now)
        by_marks = facts is not None and (by == "area" or facts.of_tier)
        limit = vault.site.quotas.quotas.of(by, key)
        most = limit.bytes if limit and limit.bytes is not None else (facts.quota_bytes or None if facts else None)
        share = row.bytes / most if most else None
        used = facts.used_bytes if facts and by_marks else row.bytes
        standing = None
        if limit is not None and key is not None:
            standing = exceeded.get((by, key)) or stand((by, key), limit, row.bytes, row.files, None, now)
        of_its_own = most is not None and (by_marks or limit is not None)
        forecast = forecast_full(outlook.growth(key), (most or 0) - used) if key is not None and of_its_own else None
        rows.append(
            {
                by: key,
                "bytes": row.bytes,
                "files": row.files,
                "scans": row.scans,
                "limit_bytes": most,
                "used_fraction": share,
                "full_fraction": facts.used_fraction if facts and by_marks and facts.quota_bytes else share,
                "high": facts.high if facts else None,
                "low": facts.low if facts and may_be_pruned(facts) else None,
                **_forecast(forecast),
                "logical_bytes": row.logical,
                "saved_fraction": 1 - row.bytes / row.logical if row.logical else None,
                **_standing(standing),
            }
        )
    return {"at": time_text(now), "by": by, "rows": rows}


def _facts_of(vault: Vault, tx: Any, by: str, key: str | None, now: datetime) -> AreaFacts | None:
    """Of an area, or of a tier that has marks, how full it is."""
    site = vault.site
    if key is None or by not in ("area", "tier") or not (key in site.areas or key in marked_tiers(site)):
        return None
    return place_facts(vault, tx, key, now)


def _forecast(forecast: Forecast | None) -> dict[str, Any]:
    if forecast is None:
        return {
            "days_to_full": None,
            "days_to_full_early": None,
            "days_to_full_late": None,
            "days_to_full_why": "no limit",
        }
    return {
        "days_to_full": forecast.median,
        "days_to_full_early": forecast.early,
        "days_to_full_late": forecast.late,
        "days_to_full_why": forecast.why,
    }


def _standing(standing: Standing | None) -> dict[str, Any]:
    limit = standing.limit if standing else None
    return {
        "soft_bytes": limit.soft if limit else None,
        "hard_bytes": limit.hard if limit else None,
        "limit_files": limit.files if limit else None,
        "level": standing.level.value if standing else Level.WITHIN.value,
        "over_since": time_text(standing.since) if standing and standing.since else None,
        "grace_left_s": standing.grace_left.total_seconds() if standing and standing.grace_left is not None else None,
    }


def history_page(vault: Vault, tx: Any, by: str, days: int, now: datetime) -> dict[str, Any]:
    """How the usage was over some days: a row for each moment at which something had changed."""
    points = vault.catalogue.list_history(tx, by, now - timedelta(days=days))
    return {
        "at": time_text(now),
        "by": by,
        "days": days,
        "history": [
            {
                by: point.value,
                "at": time_text(point.at),
                "bytes": point.bytes,
                "files": point.files,
                "scans": point.scans,
                "logical_bytes": point.logical,
                "written_bytes": point.written,
            }
            for point in points
        ],
    }


def time_text(value: datetime) -> str:
    """ISO 8601, UTC."""
    return value.isoformat().replace("+00:00", "Z")
