"""A process that finds this first on its path lives on another day: wherever tomovault asks for the date it is told one
that differs from the machine's by STORY_LATER_S seconds. Whatever else asks is told the truth.
"""

import importlib.machinery
import os
import sys
from datetime import datetime, timedelta

_LATER = timedelta(seconds=float(os.environ["STORY_LATER_S"]))


class _Told(type(datetime)):
    def __instancecheck__(cls, one):
        return isinstance(one, datetime)


class _OtherDay(datetime, metaclass=_Told):
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + _LATER


class _Modules(importlib.machinery.PathFinder):
    """Finds modules of tomovault, which are given the other clock once they were run."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if not fullname.startswith("tomovault."):
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_tell(module):
                run(module)
                if vars(module).get("datetime") is datetime:
                    module.datetime = _OtherDay

            spec.loader.exec_module = run_and_tell
        return spec


sys.meta_path.insert(0, _Modules)
