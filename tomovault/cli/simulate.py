"""See the future under a policy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tomovault.cli import common_options, counted, say, say_json, site_folder


@click.command()
@click.argument("policy")
@click.option("--days", type=click.IntRange(1, 3660), default=365, show_default=True, help="So many days from now.")
@click.option("--areas", "areas", multiple=True, metavar="NAME", help="Only this area; may be repeated.")
@click.option(
    "--fill",
    "fill",
    multiple=True,
    metavar="[NAME=]SHARE",
    help="How full an area, or every area, is at the start, such as lamino=99%; its scans are then made up.",
)
@click.option("--prune", type=click.Choice(["on", "off"]), help="As if `prune` were on, or off, for every area.")
@click.option(
    "--arrivals",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The model of what arrives and of the machines (else the policy's own, else 1 TB a day).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another one gives other beam times.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the fill over time as SVG.")
@click.option(
    "--remedy/--no-remedy",
    default=True,
    show_default=True,
    help="Where the demand is not met, search for what would meet it: several more simulations.",
)
@common_options
def command(
    policy: str,
    days: int,
    areas: tuple[str, ...],
    fill: tuple[str, ...],
    prune: str | None,
    arrivals: Path | None,
    seed: int,
    plot: Path | None,
    remedy: bool,
    as_json: bool,
) -> None:
    """Show how full each area will be under POLICY, a name or a file, and how full without it. Nothing is touched.

    The decisions are the daemon's own; what arrives and how fast the machines are is a model. Areas, quotas, marks and
    scans are those of the site; where there is none, those of the policy's model, or else of the ESRF's ID19.
    """
    from tomovault.cli._progress import open_progress
    from tomovault.vault.simulating import Wish

    wish = Wish(
        policy=policy,
        days=days,
        seed=seed,
        model=arrivals,
        areas=areas,
        fill=_fills(fill),
        prune=None if prune is None else prune == "on",
    )
    with open_progress(quiet=as_json) as progress:
        page, series = _simulate(wish, remedy, progress)
    if plot is not None:
        _draw(plot, page, series)
    if as_json:
        say_json(page | {"series": series})
        return
    _tell(page, series)
    if plot is not None:
        say(f"\nDrawn: {plot}")


def _simulate(wish: Any, remedy: bool, progress: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The page of a simulation, with what would meet the demand where it is not met, and the series of its plot."""
    import time

    from tomovault.simulation.model import simulate
    from tomovault.simulation.outcome import page_of, series_of, without_policy
    from tomovault.simulation.remedy import find_remedy, remedy_page
    from tomovault.vault.simulating import prepare

    vault = _vault_if_any()
    prepared = prepare(wish, vault)
    began = time.process_time()
    run = simulate(prepared.scenario, lambda day, days: progress(f"day {day}", day, days))
    took_s = time.process_time() - began
    idle = without_policy(prepared.scenario)
    page = page_of(run, idle, took_s) | {"from": list(prepared.told)}
    if remedy and not page["met"]:
        page["remedy"] = remedy_page(find_remedy(run, progress), run)
    return page, series_of(run, idle)


def _vault_if_any() -> Any:
    """The site that was named or is found from here, open; None where there is none."""
    from tomovault.core.errors import UserError

    named = (click.get_current_context().find_root().obj or {}).get("site") or os.environ.get("TOMOVAULT_SITE")
    try:
        site_folder()
    except UserError:
        if named:
            raise
        return None
    from tomovault.cli import open_vault

    return open_vault()


def _fills(values: tuple[str, ...]) -> dict[str, float] | None:
    from tomovault.policy.quantity import parse_percent

    fills = {}
    for value in values:
        name, _, share = value.rpartition("=")
        try:
            fills[name] = parse_percent(share)
        except ValueError as problem:
            raise click.UsageError(f"--fill {value}: {problem}") from None
    return fills or None


def _draw(path: Path, page: Mapping[str, Any], series: list[dict[str, Any]]) -> None:
    from tomovault.core.errors import UserError
    from tomovault.simulation.svg_plot import draw_svg

    names = " and ".join(page["policies"])
    title = f"{page['days']} days under the policy {names}"
    try:
        path.write_text(draw_svg(series, title, _headline(page)), "utf-8")
    except OSError as problem:
        raise UserError(f"{path}: {problem.strerror}") from problem


def _headline(page: Mapping[str, Any]) -> str:
    from tomovault.vault.sizes import show_bytes

    day, unmet = page["below_high_from_day"], page["unmet_bytes"]
    if day is None:
        held = "Not every area comes below its high mark and stays there"
    else:
        held = "Every area is below its high mark " + ("always" if day == 0 else f"from day {day} on")
    lost = f"; {show_bytes(unmet)} had no room" if unmet else "; everything had room"
    return f"{held}{lost}. With no policy {show_bytes(page['unmet_bytes_without'])} would have had none."


def _tell(page: Mapping[str, Any], series: list[dict[str, Any]]) -> None:
    from tomovault.simulation.text_plot import draw_text

    say("\n".join(page["from"]))
    say(_assumed(page))
    say("\n" + draw_text(series) + "\n")
    _tell_areas(page)
    say("\n" + _headline(page))
    _tell_remedy(page)
    say()
    _tell_work(page)


def _assumed(page: Mapping[str, Any]) -> str:
    from tomovault.vault.sizes import show_bytes

    assumed = page["assumed"]
    rate, slow = (show_bytes(round(assumed[key])) for key in ("pack_bps", "pack_bps_while_written"))
    drives = counted(assumed["drives"], "tape drive")
    disk = f"{counted(len(page['areas']), 'area')} with {show_bytes(page['disk_bytes'])}"
    return (
        f"{disk}, {assumed['start_fill']:.0%} full;"
        f" {show_bytes(round(assumed['bytes_per_day']))} a day for {counted(page['days'], 'day')}; packing {rate}/s,"
        f" {slow}/s beside an acquisition; {drives} at {show_bytes(round(assumed['drive_bps']))}/s;"
        f" {assumed['hold_s'] / 3600:g} h in quarantine"
    )


def _tell_areas(page: Mapping[str, Any]) -> None:
    from tomovault.cli._table import table
    from tomovault.vault.sizes import show_bytes

    head = ["area", "start", "high", "below it from", "highest after", "on disk", "no room for", "with no policy"]
    rows = []
    for area in page["areas"]:
        day, idle = area["below_high_from_day"], area["without"]
        full = "never full" if idle["full_on_day"] is None else f"full on day {idle['full_on_day']}"
        rows.append(
            [
                area["area"],
                f"{area['start_fill']:.0%}",
                f"{area['high']:.0%}",
                "never" if day is None else f"day {day}",
                f"{area['highest_after']:.0%}",
                f"{area['highest_on_disk_after']:.0%}",
                show_bytes(area["unmet_bytes"]) if area["unmet_bytes"] else "nothing",
                f"{full}, no room for {show_bytes(idle['unmet_bytes'])}" if idle["unmet_bytes"] else full,
            ]
        )
    say(table(head, rows, right=[1, 2, 4, 5, 6]))
    for area in page["areas"]:
        if area["below_high_from_day"] != 0 and area["held_above_by"]:
            causes = ", ".join(
                f"{cause} {share:.0%}" for cause, share in area["held_above_by"].items() if share >= 0.01
            )
            say(f"  {area['area']} above its high mark: {causes}")


def _tell_remedy(page: Mapping[str, Any]) -> None:
    from tomovault.vault.sizes import show_bytes

    remedy = page.get("remedy")
    if remedy is None:
        return
    tried = " and ".join(remedy["changes"])
    least, most = remedy["too_little_disk_bytes"], remedy["disk_bytes"]
    if remedy["met"]:
        more = f" ({show_bytes(most)} in all, {show_bytes(most - page['disk_bytes'])} more)" if most else ""
        told = f"It would be met with {tried}{more}: every area below its high mark from day "
        told += f"{remedy['below_high_from_day']} on, and room for everything since."
        if most:
            told += f" {show_bytes(least)} would be too little."
    else:
        besides = f" besides {tried}" if tried else ""
        more = show_bytes(least - page["disk_bytes"])
        told = f"At least {show_bytes(least)} of disk would be needed{besides}, {more} more than there is:"
        told += " so much was tried, and is too little."
    say(told)
    say(f"Found in {counted(remedy['trials'], 'simulation')} of at most {remedy['most_trials']}.")


def _tell_work(page: Mapping[str, Any]) -> None:
    from tomovault.vault.sizes import show_bytes

    pruned, recalls, lost = page["pruned_bytes"], page["recalls"], page["lost"]
    cartridges = ", ".join(f"{count} of {domain}" for domain, count in page["cartridges"].items()) or "none"
    least = page["least_copies_at_a_removal"]
    speed = page["speed"]
    say(f"Written by the beamline   {show_bytes(page['written_bytes'])}")
    say(f"Packed                    {show_bytes(page['packed_bytes'])} to {show_bytes(page['package_bytes'])}")
    say(f"Archived                  {show_bytes(page['archived_bytes'])} on cartridges: {cartridges}")
    volumes = f", volumes {show_bytes(pruned['volume'])}" if pruned["volume"] else ""
    packages = show_bytes(pruned["package"])
    say(f"Pruned                    files {show_bytes(pruned['files'])}, packages {packages}{volumes}")
    say(
        f"Asked for again           {recalls['from_disk']} times from disk, {recalls['from_tape']} from tape"
        f" ({show_bytes(recalls['bytes'])}), {recalls['impossible']} in vain"
    )
    say(f"Tape drives               {page['drive_hours']:.0f} hours, {page['drives_busy']:.0%} of their time")
    say(f"Packing                   {page['packing_busy']:.0%} of the time")
    say(
        "Fewest copies left        "
        + (
            "nothing was removed"
            if least is None
            else f"{least}, counted {page['removals_checked']} times, when a removal begins and ends"
        )
    )
    if lost["scans"]:
        say(f"Lost, not by a removal    {lost['scans']} scans, {show_bytes(lost['bytes'])}: no copy was left anywhere")
    say(f"Simulated                 {speed['cpu_s']:.0f} s, {speed['times_real_time']:,.0f} times real time")
