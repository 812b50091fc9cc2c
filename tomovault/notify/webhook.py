"""A POST of JSON to a URL, signed where a secret is shared; redirects lead to the same host or nowhere."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import SplitResult, urljoin, urlsplit

from tomovault import __version__
from tomovault.core.errors import Transient, UserError
from tomovault.core.notice import Channel, Message, harmless
from tomovault.notify.secret import keys_of, problems_of, read_secret
from tomovault.notify.values import THIS_MACHINE, problem_of_timeout, timeout_of
from tomovault.notify.wording import as_json

#: The header with the HMAC-SHA256 of the body, in hexadecimal.
SIGNATURE = "X-Tomovault-Signature"

_REDIRECTS = 3
#: Of these alone the second request is what the first was (RFC 9110, 15.4).
_SAME_AGAIN = (307, 308)


class WebhookChannel:
    """Posts to one URL: by https, or by http to this machine alone."""

    OPTIONS: ClassVar[frozenset[str]] = frozenset({"url", "ca_file", "timeout"}) | keys_of("secret")
    ADDRESSED: ClassVar[bool] = False

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._name = name
        self._options = options
        self._url = str(options["url"])
        self._timeout_s = timeout_of(options)

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """See `Channel`."""
        url = options.get("url")
        parts = _split(url) if isinstance(url, str) else None
        if parts is None:
            yield "url", "a URL such as https://chat.example.org/hooks/data"
        elif parts.username or parts.password:
            yield "url", "a password in a URL is in the site's file; use secret_file"
        elif parts.scheme == "http" and parts.hostname not in THIS_MACHINE:
            yield "url", "a webhook without TLS must be on this machine: https"
        yield from problems_of("secret", options)
        yield from problem_of_timeout(options)

    def send(self, message: Message) -> None:
        """See `Channel`."""
        body = json.dumps(as_json(message), ensure_ascii=True, allow_nan=False).encode("ascii")
        headers = {"Content-Type": "application/json", "User-Agent": f"tomovault/{__version__}"}
        secret = read_secret("secret", self._options)
        if secret is not None:
            headers[SIGNATURE] = "sha256=" + hmac.new(secret.encode("utf-8"), body, hashlib.sha256).hexdigest()
        url = self._url
        for _ in range(_REDIRECTS + 1):
            status, location = self._post(url, body, headers)
            if 200 <= status < 300:
                return
            if status not in _SAME_AGAIN or not location:
                raise Transient(f"{_host(url)} answers {status}")
            url = self._followed(url, location)
        raise Transient(f"{_host(url)} redirects again and again")

    def health(self) -> str:
        """See `Channel`."""
        signed = "signed" if read_secret("secret", self._options) is not None else "not signed"
        return f"posts to {_host(self._url)}, {signed}"

    def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        """(status, where it redirects to) of one request. Raises Transient where there is no answer."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self._options.get("ca_file"))
            connection = http.client.HTTPSConnection(parts.netloc, timeout=self._timeout_s, context=context)
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=self._timeout_s)
        try:
            connection.request("POST", target, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Location", "")
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise Transient(f"{_host(url)}: {harmless(problem) or type(problem).__name__}") from problem
        finally:
            connection.close()

    def _followed(self, url: str, location: str) -> str:
        before, after = urlsplit(url), _split(urljoin(url, location))
        if after is None or (after.scheme, after.netloc) != (before.scheme, before.netloc):
            raise UserError(f"{before.hostname} redirects to another place, which is not told anything")
        return after.geturl()


def _split(url: str) -> SplitResult | None:
    """The parts of a URL that can be posted to; None for any other text."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable and not any(c.isspace() or not c.isprintable() for c in url) else None


def _host(url: str) -> str:
    """The host alone: the rest of a webhook's URL is often a secret."""
    return urlsplit(url).hostname or "?"


PLUGIN: type[Channel] = WebhookChannel
