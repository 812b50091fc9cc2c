"""Show the life of a scan."""

from __future__ import annotations

from pathlib import Path

import click

from tomovault.cli import common_options


@click.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Made anew.",
)
@click.option("--catalogue", metavar="URL", help="Another catalogue than SQLite, such as postgresql+psycopg://...")
@common_options
def command(folder: Path, catalogue: str | None, as_json: bool) -> None:
    """Make a simulated site, let two beamlines write scans into it, and take each through its life.

    The scans are detected, certified, packed, archived twice, previewed and reconstructed; originals are pruned under
    a permit when their area is over its high mark, for one scan the package too; then they are restored and compared,
    byte for byte, with what was written.
    """
    from tomovault.cli.dev._demo import run_demo

    run_demo(folder, catalogue, quiet=as_json)
