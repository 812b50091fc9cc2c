"""Run the daemon."""

from __future__ import annotations

import click

from tomovault.cli import common_options, counted, open_vault, say, say_json


@click.command()
@click.option("--until-idle", is_flag=True, help="Exit once nothing is due, running or settling.")
@click.option("--quiet", is_flag=True, help="No progress on the terminal; the log goes to the run folder all the same.")
@click.option(
    "--metrics",
    metavar="ADDRESS:PORT",
    help="Serve metrics for Prometheus there, such as 127.0.0.1:9464; else where tomovault.yaml says (`metrics:`).",
)
@common_options
def command(until_idle: bool, quiet: bool, metrics: str | None, as_json: bool) -> int:
    """Watch the areas and take every scan through its life, in the foreground.

    Ctrl-C or SIGTERM stops gracefully: running jobs are ended and queued again, nothing is left half done.
    On SQLite a second daemon exits 75 and names the one that leads. On PostgreSQL one daemon of each machine may run:
    one decides, the others watch the areas of their machine (`host:`) and run the jobs there, and one of them takes the
    lead when the leader is gone.

    Where the file of a policy is wrong, the rules are those that were last in force, and an alarm says so; it exits 2
    only where the policy was never in force.
    """
    from tomovault.daemon.loop import run_daemon
    from tomovault.daemon.screen import open_screen
    from tomovault.vault.logs import start_log
    from tomovault.vault.telling import last_told

    listen = _listen(metrics)
    vault = open_vault()
    start_log(vault.run_folder / f"{vault.daemon_name}.log")
    with open_screen(vault, quiet=quiet or as_json) as screen:
        failed = run_daemon(vault, until_idle=until_idle, tell=screen.tell, metrics=listen)
    alarms = last_told(vault).get("alarms", [])
    if as_json:
        say_json({"failed_jobs": failed, "alarms": alarms})
        return 0
    for alarm in alarms:
        say(f"{alarm['area']}: {alarm['text']}")
    if failed:
        say(f"{counted(failed, 'job')} failed; `tomovault status` says which and why.")
    return 0


def _listen(metrics: str | None) -> str | None:
    from tomovault.vault.metrics_section import parse_listen

    try:
        return None if metrics is None else parse_listen(metrics)
    except ValueError as problem:
        raise click.BadParameter(str(problem), param_hint="--metrics") from problem
