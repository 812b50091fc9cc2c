"""Column types: bytes-safe paths and text, aware UTC times, JSON that keeps surrogate escapes."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, LargeBinary, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from tomovault.core.manifest import path_bytes
from tomovault.core.wire import to_plain

_UNSAFE = re.compile("[\\\\\x00\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(\\|u[0-9a-f]{4})")


def canonical_json(value: Any) -> str:
    """The one text of a plain value: sorted keys, no blanks, ASCII only (surrogates stay escapes)."""
    return json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def escape_text(text: str) -> str:
    """Text that both databases store: a lone surrogate, NUL or backslash becomes an escape. One-to-one."""
    return _UNSAFE.sub(lambda m: "\\\\" if m[0] == "\\" else f"\\u{ord(m[0]):04x}", text)


def unescape_text(text: str) -> str:
    """What `escape_text` was given."""
    return _ESCAPED.sub(lambda m: "\\" if m[1] == "\\" else chr(int(m[1][1:], 16)), text)


class PathBytes(TypeDecorator[str]):
    """A file name or path: surrogate-escaped text in Python, the file system's bytes in the database."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        """Encode as the file system knows it."""
        return None if value is None else path_bytes(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """Decode with surrogate escapes."""
        return None if value is None else bytes(value).decode("utf-8", "surrogateescape")


class SafeText(TypeDecorator[str]):
    """Any Python text, lone surrogates and NUL included; readable in the database where it is plain."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """See `escape_text`."""
        return None if value is None else escape_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """See `unescape_text`."""
        return None if value is None else unescape_text(value)


class Time(TypeDecorator[datetime]):
    """Aware UTC in, aware UTC out, to the microsecond; a naive time is refused with ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite has no zones: its text is UTC by definition."""
        return dialect.type_descriptor(DateTime(timezone=dialect.name != "sqlite"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; SQLite gets it without the zone."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"a time without a zone: {value.isoformat()}")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """A plain value as canonical JSON text, the same in both databases; None is SQL NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Dataclasses, enums and times are made plain first."""
        return None if value is None else canonical_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Parse."""
        return None if value is None else json.loads(value)
