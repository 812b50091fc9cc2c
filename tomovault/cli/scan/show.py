"""Show everything known of one scan."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from tomovault.cli import common_options, counted, label, open_vault, say, say_json


@click.command()
@click.argument("scan")
@common_options
def command(scan: str, as_json: bool) -> None:
    """Show everything known of SCAN (a name, an id or a path): certificate, copies, parameters, jobs."""
    from tomovault.vault.asking import find_scan
    from tomovault.vault.scan_pages import scan_page

    vault = open_vault()
    now = datetime.now(UTC)
    with vault.catalogue.reading() as tx:
        known = find_scan(vault, tx, scan)
        page = scan_page(vault.view(known, vault.area_facts(tx, known.area, now), now), now)
    if as_json:
        say_json(page)
        return
    for line in _lines(page):
        say(line)


def _lines(page: dict[str, Any]) -> list[str]:
    from tomovault.cli._table import table
    from tomovault.vault.sizes import show_bytes

    certificate = page["certificate"]
    lines = [
        f"{label(page['name'])}  ({page['id']})",
        f"  path       {label(page['path'])}",
        f"  format     {page['format']} {page['entry']}".rstrip(),
        f"  acquired   {page['acquired_at'] or 'not known'}",
        f"  size       {show_bytes(page['bytes'])} in {counted(page['files'], 'file')}",
        f"  verdict    {certificate['verdict']}" + ("" if page["settled"] else " (still changing)"),
    ]
    for who in ("beamline", "proposal", "sample", "owner", "set"):
        if page[who]:
            lines.append(f"  {who:<10} {page[who]}")
    if page["superseded_by"]:
        lines.append(f"  superseded by {page['superseded_by']}: overwritten in place, or the same scan found again")
    counts = [
        f"{kind} {_told(certificate['found'][kind])}/{_told(certificate['expected'][kind])}"
        for kind in ("projections", "flats", "darks")
        if certificate["expected"][kind] is not None or certificate["found"][kind]
    ]
    if counts:
        lines.append("  found/expected  " + ", ".join(counts))
    lines += [f"  problem: {label(p)}" for p in certificate["problems"]]
    lines += [f"  evidence: {label(e)}" for e in certificate["evidence"]]
    if page["declared"]:
        told = page["declared"]
        lines.append(f"  declared {told['verdict']} by {told['by']}: {told['reason']}")
    if page["conditions"]:
        lines.append("\nconditions")
        rows = [["  " + n, str(c["value"]), c["unit"] or "", c["source"]] for n, c in page["conditions"].items()]
        lines.append(table(["  name", "value", "unit", "from"], rows, right=[1]))
    lines.append("\nstages")
    lines.append(table(["  stage", "status"], [["  " + s, status] for s, status in page["stages"].items()]))
    if page["replicas"]:
        lines.append("\ncopies")
        rows = [
            [
                "  " + r["product"],
                r["form"],
                r["tier"],
                r["state"],
                show_bytes(r["bytes"]),
                (r["verified_at"] or "never")[:10],
                r["location"],
            ]
            for r in page["replicas"]
        ]
        lines.append(table(["  product", "form", "tier", "state", "size", "re-read", "location"], rows, right=[4]))
    for given in page["restored"]:
        what = f"the {given['product']}" if given["whole"] else f"a part of the {given['product']}"
        lines.append(f"\nrestored {given['at'][:10]}: {what}, to {given['path']}")
    for processing in page["processings"]:
        parameters = processing["parameters"]
        centre = parameters.get("centre")
        text = f"\n{parameters.get('purpose', 'processing')} by {processing['engine']} {processing['engine_version']}"
        lines.append(text + (f", centre {centre:.2f} px" if isinstance(centre, float) else ""))
    lines += [line for transfer in page["transfers"] for line in _transfer_lines(transfer)]
    failed = [j for j in page["jobs"] if j["error"] and j["status"] in ("failed", "todo")]
    lines += [f"\n{j['action']} {j['status']} after {counted(j['attempts'], 'attempt')}: {j['error']}" for j in failed]
    for pin in page["pins"]:
        lines.append(f"\npinned by {pin['owner']} until {pin['until'][:10]}: {pin['reason']}")
    return lines


def _told(count: int | None) -> str:
    return "not known" if count is None else str(count)


def _transfer_lines(transfer: dict[str, Any]) -> list[str]:
    from tomovault.vault.sizes import show_bytes

    head = f"\ntransfer {transfer['id']} of the {transfer['product']} to {transfer['to']}: {transfer['state']}"
    if receipt := transfer["receipt"]:
        size = show_bytes(receipt["bytes"])
        what = f"{counted(receipt['files'], 'file')}, {size}, in {receipt['folder']}, task {receipt['task_id']}"
        return [head, f"  receipt of {receipt['judged_at'][:19]}: {what}"]
    return [head, f"  {transfer['error']}"] if transfer["error"] else [head]
