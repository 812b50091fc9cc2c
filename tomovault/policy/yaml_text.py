"""YAML text to a checked model. Every problem is reported at once, with file, line, column and a caret.

YAML 1.2, without anchors, tags and merge keys: a file of settings says each thing once, where it is used.
"""

from __future__ import annotations

import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tomovault.core.errors import UserError
from tomovault.policy.quantity import parse_duration, parse_percent, parse_size, parse_switch, show_found

M = TypeVar("M", bound=BaseModel)

Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
Percent = Annotated[float, BeforeValidator(parse_percent)]
Switch = Annotated[bool, BeforeValidator(parse_switch)]
Whole = Annotated[int, Field(strict=True)]

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def parse_word(value: object) -> str:
    """A name that can stand in a sentence, a file name and a citation. Raises ValueError that says what is legal."""
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    raise ValueError(f"{show_found(value)} is not a name; use letters, digits, '.', '_' and '-', at most 64")


Word = Annotated[str, BeforeValidator(parse_word)]

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_WIDEST = 160


class Strict(BaseModel):
    """A model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Fault:
    """A problem below the value that is being checked. `offset` is (line, column) inside its text, from 0."""

    text: str
    path: KeyPath = ()
    at_key: bool = False
    offset: tuple[int, int] | None = None


@dataclass(frozen=True, order=True)
class Spot:
    """A place in a text; line and column count from 0."""

    line: int
    column: int


@dataclass(frozen=True)
class _Problem:
    spot: Spot
    text: str


def faults(found: Iterable[Fault]) -> PydanticCustomError:
    """An error for a validator to raise that carries several problems, each with its own place."""
    listed = list(found)
    return PydanticCustomError("faults", "{text}", {"text": "; ".join(f.text for f in listed), "faults": listed})


def nearest(word: str, known: Iterable[str]) -> str:
    """', did you mean X?' or the list of what is known, to follow a complaint about `word`."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(names)}" if names else ""


def point_at(text: str, file_name: str, spot: Spot, problem: str) -> str:
    """`file:line:column: problem` with the source line and a caret under the place."""
    head = f"{file_name}:{spot.line + 1}:{spot.column + 1}: {problem}"
    lines = text.splitlines()
    if spot.line >= len(lines):
        return head
    line = lines[spot.line]
    start = max(0, spot.column - _WIDEST // 2) if len(line) > _WIDEST else 0
    shown = line[start : start + _WIDEST]
    indent = "".join("\t" if c == "\t" else " " for c in shown[: spot.column - start])
    return f"{head}\n    {_printable(shown)}\n    {indent}^"


def parse(
    text: str,
    file_name: str,
    model: type[M],
    check: typing.Callable[[M], Iterable[Fault]] | None = None,
    known: Mapping[str, Any] | None = None,
) -> M:
    """The model that the text holds. Its validators may ask for what is `known` besides, as their context.

    `check` may find more problems, once every value is right by itself; it names each by its path of keys.
    Raises UserError whose message has one entry for each problem, in the order of the file.
    """
    document = Document(text, file_name)
    problems = list(document.problems)
    value: M | None = None
    try:
        value = model.model_validate(document.plain, context=known)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problems.extend(document.explain(detail, model))
    if value is not None and not problems and check is not None:
        problems.extend(_Problem(document.spot(f.path, at_key=f.at_key), f.text) for f in check(value))
    if problems or value is None:
        raise document.error(problems)
    return value


def faults_of(error: ValidationError, model: type[BaseModel], path: KeyPath = ()) -> list[Fault]:
    """The problems of a value that was checked by itself and stands at `path`, for a validator around it to raise."""
    found = []
    for detail in error.errors(include_url=False):
        where: KeyPath = tuple(detail["loc"])
        if detail["type"] == "extra_forbidden":
            told = f"unknown key {str(where[-1])!r}{nearest(str(where[-1]), _known_keys(model, where[:-1]))}"
            found.append(Fault(told, (*path, *where), at_key=True))
        else:
            found.append(Fault(_say(detail), (*path, *where)))
    return found


def point_out(text: str, file_name: str, found: Sequence[Fault]) -> list[str]:
    """What was found in a right text, each with its place, the line and a caret, in the order given."""
    document = Document(text, file_name)
    return [point_at(text, file_name, document.spot_of(fault), fault.text) for fault in found]


@functools.lru_cache(maxsize=4)
def _nodes(text: str) -> Node | None:
    """The tree of a text, which nobody changes; one command reads the same few files again and again."""
    node: Node | None = YAML(typ="safe", pure=True).compose(text)
    return node


class Document:
    """A YAML text with the place of each key and value; syntax errors are raised as UserError at once."""

    def __init__(self, text: str, file_name: str) -> None:
        self.text = text
        self.file_name = file_name
        self.problems: list[_Problem] = []
        self._seen: set[int] = set()
        self._constructor = YAML(typ="safe", pure=True).constructor
        self._root = self._compose()
        self.plain: Any = {} if self._root is None else self._plain(self._root)

    def error(self, problems: Sequence[_Problem]) -> UserError:
        """One error that shows every problem in the order of the file."""
        shown: list[str] = []
        for problem in sorted(problems, key=lambda p: p.spot):
            entry = point_at(self.text, self.file_name, problem.spot, problem.text)
            if entry not in shown:
                shown.append(entry)
        count = "1 problem" if len(shown) == 1 else f"{len(shown)} problems"
        return UserError("\n".join(shown), hint=f"{count} in {self.file_name}; nothing was done")

    def spot(self, path: KeyPath, *, at_key: bool = False) -> Spot:
        """Where the value at `path` stands, or its key; for what is missing, the nearest thing around it."""
        key, value = self._find(path)
        empty = isinstance(value, ScalarNode) and value.value == "" and value.style is None
        node = key if (at_key or empty) and key is not None else value
        return Spot(0, 0) if node is None else _spot(node)

    def explain(self, detail: ErrorDetails, model: type[BaseModel]) -> list[_Problem]:
        """Problems with places, from one error of the model."""
        path: KeyPath = tuple(detail["loc"])
        kind, context = detail["type"], detail.get("ctx", {})
        if kind == "faults":
            return [_Problem(self.spot_of(f, path), f.text) for f in context["faults"]]
        if kind == "extra_forbidden":
            name = str(path[-1])
            text = f"unknown key {name!r}{nearest(name, _known_keys(model, path[:-1]))}"
            return [_Problem(self.spot(path, at_key=True), text)]
        if kind == "missing":
            return [_Problem(self.spot(path[:-1], at_key=True), f"the key {str(path[-1])!r} is missing")]
        if path and path[-1] == "[key]":
            return [_Problem(self.spot(path[:-1], at_key=True), _say(detail))]
        return [_Problem(self.spot(path), _say(detail))]

    def _compose(self) -> Node | None:
        try:
            node = _nodes(self.text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            spot = Spot(mark.line, mark.column) if mark else Spot(0, 0)
            said = ", ".join(str(part) for part in (error.context, _first_line(error.problem)) if part)
            raise self.error([_Problem(spot, f"not YAML: {said}")]) from None
        except YAMLError as error:
            before = self.text[: getattr(error, "position", 0)]
            spot = Spot(before.count("\n"), len(before) - (before.rfind("\n") + 1))
            raise self.error([_Problem(spot, "not YAML: a control character is not allowed")]) from None
        except RecursionError:
            raise self.error([_Problem(Spot(0, 0), "not YAML that a person wrote: nested too deep")]) from None
        return node

    def _plain(self, node: Node) -> Any:
        if node.anchor is not None or id(node) in self._seen:
            self._complain(node, "anchors and aliases are not used here; write the value again")
            return None
        self._seen.add(id(node))
        if isinstance(node, MappingNode):
            return self._plain_mapping(node)
        if isinstance(node, SequenceNode):
            return [self._plain(item) for item in node.value]
        tag = str(node.tag).removeprefix(_TAG)
        if tag in ("int", "float", "bool", "null"):
            try:
                return self._constructor.construct_object(node)
            except (ValueError, YAMLError):
                return str(node.value)
        if tag not in ("str", "timestamp"):
            self._complain(node, f"the tag {str(node.tag)!r} is not used here")
        return str(node.value)

    def _plain_mapping(self, node: MappingNode) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first: dict[str, Spot] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._complain(key, "a key must be a word")
                continue
            name = str(key.value)
            if name in result:
                self._complain(key, f"the key {name!r} is here twice, first in line {first[name].line + 1}")
                continue
            first[name] = _spot(key)
            result[name] = self._plain(value)
        return result

    def _complain(self, node: Node, text: str) -> None:
        self.problems.append(_Problem(_spot(node), text))

    def _find(self, path: KeyPath) -> tuple[Node | None, Node | None]:
        key: Node | None = None
        node = self._root
        for part in path:
            if isinstance(node, MappingNode):
                pair = next(((k, v) for k, v in node.value if k.value == part), None)
                if pair is not None:
                    key, node = pair
            elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
                key, node = None, node.value[part]
        return key, node

    def spot_of(self, fault: Fault, path: KeyPath = ()) -> Spot:
        """Where a fault is, whose own path begins at `path`."""
        full = path + fault.path
        start = self.spot(full, at_key=fault.at_key)
        _, node = self._find(full)
        if fault.offset is None or not isinstance(node, ScalarNode):
            return start
        line, column = fault.offset
        if node.style in ("|", ">"):
            source = self.text.splitlines()[start.line + 1 :]
            indent = next((len(s) - len(s.lstrip()) for s in source if s.strip()), 0)
            return Spot(start.line + 1 + line, indent + column)
        if node.start_mark.line != node.end_mark.line and node.style is not None:
            return start
        quote = 1 if node.style in ("'", '"') else 0
        return Spot(start.line, start.column + quote + column) if line == 0 else start


def _spot(node: Node) -> Spot:
    return Spot(node.start_mark.line, node.start_mark.column)


def _first_line(text: object) -> str:
    return str(text or "").strip().splitlines()[0] if str(text or "").strip() else ""


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line)


def _say(detail: ErrorDetails) -> str:
    kind, found = detail["type"], detail.get("input")
    if kind in ("value_error", "assertion_error"):
        return str(detail.get("ctx", {}).get("error", detail["msg"]))
    if kind in ("literal_error", "enum"):
        known = [word.strip("'") for word in str(detail["ctx"]["expected"]).replace(" or ", ", ").split(", ")]
        return f"{show_found(found)} is not one of {', '.join(known)}{_close_only(found, known)}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"a mapping of keys is needed here, not {show_found(found)}"
    said = detail["msg"].removeprefix("Input should be ")
    if isinstance(found, (dict, list)):
        return detail["msg"]
    return f"{show_found(found)} will not do here: it should be {said}" if said != detail["msg"] else detail["msg"]


def _close_only(found: object, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(found), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _known_keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    kinds: list[Any] = [model]
    for part in path:
        inner: list[Any] = []
        for kind in kinds:
            inner.extend(_inside(kind, part))
        kinds = inner or kinds
    return [_key_of(name, info) for kind in kinds if _is_model(kind) for name, info in kind.model_fields.items()]


def _inside(kind: Any, part: str | int) -> list[Any]:
    if _is_model(kind):
        for name, info in kind.model_fields.items():
            if _key_of(name, info) == part:
                return _flatten(info.annotation)
        return []
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
        return _flatten(arguments[1])
    if isinstance(origin, type) and issubclass(origin, Sequence) and arguments:
        return _flatten(arguments[0])
    return []


def _flatten(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [kind for choice in typing.get_args(annotation) for kind in _flatten(choice)]
    if typing.get_origin(annotation) is Annotated:
        return _flatten(typing.get_args(annotation)[0])
    return [annotation]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _key_of(name: str, info: FieldInfo) -> str:
    return info.alias or name
