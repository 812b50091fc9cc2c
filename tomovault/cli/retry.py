"""Do what has failed again, or what waits at once."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tomovault.cli import common_options, counted, open_vault, say, say_json, who


@click.command()
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--all", "everything", is_flag=True, help="Every failed job but what a person asked for.")
@common_options
def command(jobs: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Queue failed jobs again, their attempts counted from 0; a job that waits for its next attempt is done at once.

    A job whose attempts are used up stays failed until something new is known, or a person says that what stood in
    its way is mended: room on a disk, a right, a library. A removal that stopped half-way goes on from where it is,
    once everything that permits it was looked at again. `tomovault status` shows which jobs failed or wait, and why.
    """
    from tomovault.core.errors import Refused, UserError
    from tomovault.core.known import OWN_RULES, JobStatus
    from tomovault.vault.again import do_again

    if bool(jobs) == everything:
        raise click.UsageError("name the jobs to do again, or say --all")
    vault = open_vault()
    again = []
    left = {}
    with vault.catalogue.reading() as tx:
        if everything:
            failed = vault.catalogue.list_jobs(tx, JobStatus.FAILED, 100_000)
            jobs = tuple(j.id for j in failed if "@" in j.rule or j.rule in OWN_RULES)
    for job in jobs:
        try:
            with vault.catalogue.writing() as tx:
                do_again(vault, tx, job, who(), datetime.now(UTC))
        except (Refused, UserError) as problem:
            if not everything:
                raise
            left[job] = problem.message
        else:
            again.append(job)
    if as_json:
        say_json({"again": again, "left": left})
        return
    say(f"{counted(len(again), 'job')} will be done again." if again else "No job has failed that can be done again.")
    for job, reason in left.items():
        say(f"  {job}: {reason}")
