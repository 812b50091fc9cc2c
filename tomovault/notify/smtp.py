"""Mail by SMTP (RFC 5321), one recipient a delivery, so that one wrong address keeps nobody else waiting."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, ClassVar

from tomovault.core.errors import Transient, UserError
from tomovault.core.notice import Channel, Message, harmless
from tomovault.notify.address import is_address
from tomovault.notify.secret import keys_of, problems_of, read_secret
from tomovault.notify.values import THIS_MACHINE, problem_of_timeout, timeout_of

_TLS = ("starttls", "tls", "none")
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class SmtpChannel:
    """Sends through one mail server. Without TLS, no password goes to another machine."""

    OPTIONS: ClassVar[frozenset[str]] = frozenset(
        {"host", "port", "tls", "from", "user", "ca_file", "timeout"}
    ) | keys_of("password")
    ADDRESSED: ClassVar[bool] = True

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._name = name
        self._options = options
        self._host = str(options["host"])
        self._tls = str(options.get("tls", "starttls"))
        self._port = int(options.get("port", _PORTS[self._tls]))
        self._timeout_s = timeout_of(options)

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """See `Channel`."""
        host = options.get("host")
        if not isinstance(host, str) or not host.strip() or any(c.isspace() or c == "/" for c in host):
            yield "host", "the name of the mail server, such as smtp.example.org"
        port = options.get("port", 25)
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
            yield "port", "a port is a number from 1 to 65535"
        tls = options.get("tls", "starttls")
        if tls not in _TLS:
            yield "tls", f"one of {', '.join(_TLS)}"
        if not is_address(options.get("from")):
            yield "from", "the address that messages come from, such as tomovault@example.org"
        user = options.get("user")
        if user is not None and not isinstance(user, str):
            yield "user", "the name that the mail server knows us by"
        yield from problems_of("password", options)
        if user is not None and not keys_of("password") & options.keys():
            yield "user", "it needs its password: password_file or password_variable"
        if user is not None and tls == "none" and host not in THIS_MACHINE:
            yield "tls", "without TLS the password would travel in the clear"
        yield from problem_of_timeout(options)

    def send(self, message: Message) -> None:
        """See `Channel`."""
        try:
            with self._connected() as server:
                server.send_message(self._mail(message), to_addrs=list(message.recipients))
        except smtplib.SMTPAuthenticationError as problem:
            raise UserError(f"{self._host} does not let us in ({problem.smtp_code})") from problem
        except smtplib.SMTPRecipientsRefused as problem:
            told = "; ".join(f"{who}: {_words(said)}" for who, (_, said) in sorted(problem.recipients.items()))
            raise Transient(f"{self._host} refuses {told}") from problem
        except smtplib.SMTPResponseException as problem:
            raise Transient(f"{self._host} says {problem.smtp_code} {_words(problem.smtp_error)}") from problem
        except (smtplib.SMTPException, OSError) as problem:
            raise Transient(f"{self._host}:{self._port}: {harmless(problem) or type(problem).__name__}") from problem

    def health(self) -> str:
        """See `Channel`."""
        read_secret("password", self._options)
        return f"mail by {self._host}:{self._port} ({'no TLS' if self._tls == 'none' else self._tls})"

    def _connected(self) -> smtplib.SMTP:
        """A session in which a message can be sent."""
        password = read_secret("password", self._options)
        context = None if self._tls == "none" else ssl.create_default_context(cafile=self._options.get("ca_file"))
        us = _our_name()
        server: smtplib.SMTP
        if self._tls == "tls":
            server = smtplib.SMTP_SSL(self._host, self._port, us, timeout=self._timeout_s, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, us, timeout=self._timeout_s)
        try:
            if self._tls == "starttls":
                server.starttls(context=context)
            if password is not None:
                server.login(str(self._options.get("user", "")), password)
        except BaseException:
            server.close()
            raise
        return server

    def _mail(self, message: Message) -> EmailMessage:
        sender = str(self._options["from"])
        mail = EmailMessage()
        mail["From"] = sender
        mail["To"] = ", ".join(message.recipients)
        mail["Subject"] = harmless(message.subject)
        mail["Date"] = format_datetime(message.at)
        mail["Message-ID"] = f"<{message.id}@{sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Tomovault-Topic"] = message.topic
        mail.set_content(message.text, cte="quoted-printable")
        return mail


def _our_name() -> str:
    """What we call ourselves to a mail server, without asking a name server, which may take its time."""
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"


def _words(said: bytes | str) -> str:
    return harmless(said.decode("utf-8", "replace") if isinstance(said, bytes) else said)


PLUGIN: type[Channel] = SmtpChannel
