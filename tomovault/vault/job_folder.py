"""The folder through which a daemon and a job process speak: order in, progress and result out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

ORDER = "order.json"
RESULT = "result.json"
PROGRESS = "progress.json"


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """The file holds `value` completely, or is as it was before; after a power cut too, if it is to be `durable`."""
    # One writer a file: so what a killed one left is written over, not left for ever.
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
