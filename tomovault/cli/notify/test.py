"""Try a channel."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click

from tomovault.cli import common_options, open_vault, say, say_json, who


@click.command()
@click.argument("channel")
@click.option("--to", "recipient", metavar="ADDRESS", help="Where to, on a channel with addresses.")
@common_options
def command(channel: str, recipient: str | None, as_json: bool) -> None:
    """Send a message by CHANNEL now, and say what happened. Nothing else is done.

    Without --to, a channel with addresses sends to all those that `notify:` names for it. Exit code 75 where the other
    side did not take the message, 2 where the channel cannot be used as it is.
    """
    from tomovault.vault.notify_checks import send_test

    vault = open_vault()
    began = time.monotonic()
    sent = send_test(vault.site, channel, who(), datetime.now(UTC), recipient)
    took_s = time.monotonic() - began
    if as_json:
        say_json({"channel": channel, "id": sent.id, "recipients": list(sent.recipients), "took_s": round(took_s, 3)})
    else:
        to = f" for {', '.join(sent.recipients)}" if sent.recipients else ""
        say(f"{channel} took the message {sent.id}{to}, in {took_s:.1f} s.")
