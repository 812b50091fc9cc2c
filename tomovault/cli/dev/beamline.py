"""Write scans as a beamline does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from tomovault.cli import common_options, say, say_json


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), required=False)
@click.option(
    "--writer",
    type=click.Choice(["edf", "bliss", "nxtomo", "dataexchange"]),
    default="edf",
    show_default=True,
    help="As SPEC with a FReLoN camera, as BLISS, or one HDF5 file a scan.",
)
@click.option("--scans", type=int, default=3, show_default=True, help="So many, one after the other.")
@click.option("--name", default="sample", show_default=True, help="The scans are NAME_0001_, NAME_0002_ ...")
@click.option("--variant", help="A way of writing, such as edf-abort; see --list.")
@click.option("--list", "list_them", is_flag=True, help="List every variant and what is true of it in the end.")
@click.option("--size", type=int, default=256, show_default=True, help="Rows and columns of a frame.")
@click.option("--projections", type=int, default=120, show_default=True, help="Projections of a scan.")
@click.option("--speed", type=float, default=10.0, show_default=True, help="Times faster than life; 0: at once.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed writes the same bytes.")
@click.option("--log", "log_path", type=click.Path(dir_okay=False), help="A truth log: a JSON line for every write.")
@common_options
def command(
    folder: Path | None,
    writer: str,
    scans: int,
    name: str,
    variant: str | None,
    list_them: bool,
    size: int,
    projections: int,
    speed: float,
    seed: int,
    log_path: str | None,
    as_json: bool,
) -> None:
    """Write simulated scans into FOLDER, byte by byte as an acquisition does, at its pace.

    Use it to try a policy: watch FOLDER with a simulated site, write scans into it, look at what becomes of them.
    Every way that a real acquisition was seen to go wrong is a variant.
    """
    from tomovault.cli._table import table
    from tomovault.testing.variants import VARIANTS

    if list_them:
        if as_json:
            say_json({"variants": [{"name": v.name, "what": v.what, "truth": v.truth.value} for v in VARIANTS]})
        else:
            say(table(["variant", "ends", "what"], [[v.name, v.truth.value, v.what] for v in VARIANTS]))
        return
    if folder is None:
        raise click.UsageError("name a FOLDER to write into, or ask for --list")
    import math

    from tomovault.testing.bliss_scan import write_bliss_scan
    from tomovault.testing.edf_scan import write_edf_scan

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    errno11 = 0
    from tomovault.testing.one_file_scan import write_one_file_scan

    writers = {"edf": write_edf_scan, "bliss": write_bliss_scan}
    write = writers.get(writer, write_one_file_scan)
    for number in range(1, scans + 1):
        done = write(
            str(folder),
            f"{name}_{number:04d}" + ("_" if writer == "edf" else ""),
            variant=variant or f"{writer}-plain",
            seed=seed + number,
            shape=(size, size),
            projections=projections,
            speed=speed or math.inf,
            started_at=datetime.now(UTC) - timedelta(hours=scans - number),
            log=log_path,
            digests=as_json,
        )
        errno11 += done.errno11
        for truth in done.scans:
            told = {"name": truth.name, "folder": truth.folder, "truth": truth.verdict.value}
            written.append({**told, "entry": truth.entry, "files": dict(truth.files)})
            if not as_json:
                say(f"wrote {truth.name} in {truth.folder}: in truth {truth.verdict.value}")
    if as_json:
        say_json({"scans": written, "errno11": errno11})
