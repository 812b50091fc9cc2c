"""The text files beside an EDF series: `.info`, `.xml` and `.vol.info`, read tolerantly.

Bytes are Latin-1, lines end in any way, the first '=' separates, and a number may be written 1500.0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.parsers import expat

#: Longer files of this kind are not what they claim to be.
LONGEST_TEXT = 4 * 1024 * 1024

#: A number, and words after it.
_NUMBER = re.compile(r"([-+]?(?:\d++\.?\d*+|\.\d++)(?:[eE][-+]?\d++)?)(?=\s|;|$)")
_COUNTS = frozenset({"tomo_n", "ref_n", "ref_on", "dark_n"})


def number(text: str | None) -> float | None:
    """The finite number that is the first word of `text`, None where that is none: nothing is made of a part of it."""
    found = _NUMBER.match(text.strip()) if text else None
    if found is None:
        return None
    value = float(found[1])
    return value if math.isfinite(value) else None


def whole(text: str | None) -> int | None:
    """A count: the whole number that `text` states, also as 1500.0; None where it is negative or not whole.

    -1 stands for an unknown value in the XML files.
    """
    value = number(text)
    if value is None or value < 0 or value > 1e9 or value != int(value):
        return None
    return int(value)


def parse_info(raw: bytes) -> dict[str, str]:
    """Keys and values of a `.info` text; keys in lower case, comment lines ('!', '#') left out.

    A count in a last line that has no end is left out, too: digits of it may be missing.
    """
    values: dict[str, str] = {}
    for line in raw.decode("latin-1").replace("\0", " ").splitlines(keepends=True):
        key, separator, value = (part.strip() for part in line.partition("="))
        cut = key.lower() in _COUNTS and not line.endswith(("\n", "\r"))
        if separator and key and key[0] not in ("!", "#") and not cut:
            values[key.lower()] = value.rstrip(";").strip()
    return values


@dataclass(frozen=True)
class XmlText:
    """What an `.xml` file says: text of the leaves below `acquisition`, keys in lower case.

    `whole` is False where the document ends in the middle or is not XML; `problem` says so in words.
    """

    values: Mapping[str, str]
    motors: Mapping[str, str]
    whole: bool
    problem: str = ""


class _Collector:
    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.motors: dict[str, str] = {}
        self.path: list[str] = []
        self.text: list[str] = []
        self.motor_name = ""

    def start(self, name: str, _attributes: object) -> None:
        self.path.append(name.lower())
        self.text = []
        if len(self.path) > 64:
            raise ValueError("nested too deeply")

    def data(self, text: str) -> None:
        self.text.append(text)

    def end(self, _name: str) -> None:
        text = "".join(self.text).strip()
        leaf = self.path[-1]
        if leaf == "motorname":
            self.motor_name = text
        elif leaf == "motorposition" and self.motor_name:
            self.motors[self.motor_name] = text
        elif "acquisition" in self.path[:-1] and text:
            self.values.setdefault(leaf, text)
        self.path.pop()
        self.text = []

    def refuse(self, *_arguments: object) -> None:
        raise ValueError("it declares entities")


def parse_xml(raw: bytes) -> XmlText:
    """Read a TomoDB record, whatever its root is called; entities are refused, never expanded."""
    found = _Collector()
    problem = ""
    for encoding in (None, "iso-8859-1"):
        found = _Collector()
        parser = expat.ParserCreate(encoding)
        parser.buffer_text = True
        parser.StartElementHandler = found.start
        parser.EndElementHandler = found.end
        parser.CharacterDataHandler = found.data
        parser.EntityDeclHandler = found.refuse
        try:
            parser.Parse(raw, True)
        except (expat.ExpatError, ValueError, LookupError) as error:
            problem = f"not whole XML: {error}"
        else:
            return XmlText(found.values, found.motors, whole=True)
    return XmlText(found.values, found.motors, whole=False, problem=problem)
