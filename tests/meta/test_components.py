"""System components: `TOMOVAULT_REQUIRE=all` fails here where one is missing, whoever would have skipped for it."""

import pytest

NAMES = ("fabio", "moto", "nxtomo", "openssl", "postgresql", "systemd-analyze", "uml", "zstd")


def test_every_component_is_listed(components):
    assert set(components) == set(NAMES)
    assert all(c.install.split()[0] in ("apt", "pip") and c.install.split()[1:] for c in components.values())


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.component(name)) for name in NAMES])
def test_the_component_is_here(components, name):
    assert components[name].problem() == ""


def test_a_missing_component_says_what_to_install(components):
    missing = type(components["zstd"])("zstd", "no-such-program-at-all --version", "apt zstd")
    assert missing.problem().startswith("zstd is not here (")
    assert missing.problem().endswith("apt-get install zstd")
