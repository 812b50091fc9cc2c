"""The folder through which a daemon and a job process speak: order in, progress and result out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

ORDER = "order.json"
RESULT = "result.json"
PROGRESS = "progress.json"


def write_json(path: Path, value: Any) -> None:
    """The file holds `value` completely, or is as it was before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
