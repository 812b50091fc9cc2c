import inspect

import pytest

from tomovault.core import errors
from tomovault.core.errors import IntegrityError, NoSpace, Refused, TomovaultError, Transient, UserError

FAMILIES = {UserError: 2, Refused: 3, IntegrityError: 4, Transient: 75}


def test_every_error_is_of_one_family_and_has_its_exit_code():
    kinds = [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, TomovaultError)]
    for kind in kinds:
        if kind is TomovaultError:
            assert kind.exit_code == 1
            continue
        (family,) = [f for f in FAMILIES if issubclass(kind, f)]
        assert kind.exit_code == FAMILIES[family]


def test_message_hint_and_who_refused():
    error = Refused("no", by="law 4", hint="archive it first")
    assert (str(error), error.message, error.by, error.hint) == ("no", "no", "law 4", "archive it first")
    assert NoSpace("full").hint == ""
    with pytest.raises(TypeError):
        Refused("no")
