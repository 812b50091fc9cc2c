"""Frozen dataclasses of `core` to and from plain JSON values, without loss.

Used for what crosses a process boundary (job folders, inspection children) and for JSON columns.
Text may hold surrogate escapes, since file names are bytes; `json.dumps` keeps them when
`ensure_ascii` is left on.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, Union

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return `value` as dicts, lists, text, numbers, booleans and None only.

    Raises TypeError for a type that has no plain form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, typing.Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(v) for v in value]
    raise TypeError(f"no plain form for {type(value).__name__}")


def from_plain(kind: type[T], value: Any) -> T:
    """Build a `kind` from what `to_plain` returned; unknown keys and wrong types raise ValueError."""
    result: T = _decode(kind, value, kind.__name__)
    return result


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any or kind is object:
        return value
    if origin in (Union, types.UnionType):
        return _decode_union(kind, value, where)
    if origin is tuple:
        inner = typing.get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_decode(inner[0], v, where) for v in _listed(value, where))
        return tuple(_decode(k, v, where) for k, v in zip(inner, _listed(value, where), strict=True))
    if origin in (list, set, frozenset):
        (inner_kind,) = typing.get_args(kind)
        return origin(_decode(inner_kind, v, where) for v in _listed(value, where))
    if origin is not None and issubclass(origin, typing.Mapping):
        _, value_kind = typing.get_args(kind)
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected an object, found {type(value).__name__}")
        return {k: _decode(value_kind, v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    return _decode_scalar(kind, value, where)


def _decode_union(kind: Any, value: Any, where: str) -> Any:
    choices = typing.get_args(kind)
    if value is None and type(None) in choices:
        return None
    if type(value) in choices and isinstance(value, (bool, int, float, str)):
        return value  # an int stays one where a float would do as well
    problems = []
    # A number keeps its type: 3 for `float | int` stays an int, whichever comes first.
    for choice in sorted(choices, key=lambda choice: choice is not type(value)):
        if choice is type(None):
            continue
        try:
            return _decode(choice, value, where)
        except (ValueError, TypeError) as problem:
            problems.append(str(problem))
    raise ValueError("; ".join(problems) or f"{where}: no value")


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, found {type(value).__name__}")
    hints = _hints(kind)
    unknown = set(value) - set(hints)
    if unknown:
        raise ValueError(f"{where}: unknown keys {sorted(unknown)}")
    lacking = [f.name for f in dataclasses.fields(kind) if f.name not in value and _required(f)]
    if lacking:
        raise ValueError(f"{where}: missing keys {lacking}")
    return kind(**{k: _decode(hints[k], v, f"{where}.{k}") for k, v in value.items()})


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _decode_scalar(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if kind is datetime and isinstance(value, str):
        return datetime.fromisoformat(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{where}: expected {kind}, found {type(value).__name__}")


def _listed(value: Any, where: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where}: expected a list, found {type(value).__name__}")
    return list(value)
