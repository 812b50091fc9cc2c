"""Finding again, in the world, the scan that the catalogue speaks of."""

from __future__ import annotations

from tomovault.core.errors import NoScan, SourceChanged
from tomovault.core.ports import FormatFamily
from tomovault.core.scan import Candidate, ScanReport


def find_report(formats: FormatFamily, candidate: Candidate, entry: str, identity: str) -> ScanReport:
    """The scan as it stands now; raises SourceChanged if it is not the one that was certified."""
    try:
        reports = formats.inspect(candidate, settled=True)
    except NoScan:
        reports = ()
    for report in reports:
        if report.entry == entry and report.identity == identity:
            return report
    raise SourceChanged(
        f"the scan in {candidate.folder} is not the one that was certified",
        hint="it will be looked at again; a rescan in place becomes a scan of its own",
    )
