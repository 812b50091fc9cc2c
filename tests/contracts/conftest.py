"""What a kind of tier needs from its site before the contract can be asked of it."""

import pytest

#: An archive behind commands, as a site would write them: objects are files in a folder, of which `{}` is the place.
_COMMANDS = {
    "put": ["/bin/sh", "-c", 'cp "$1" "{}/$2.new" && mv "{}/$2.new" "{}/$2" && echo "far:$2"', "put"],
    "get": ["/bin/sh", "-c", 'test -e "{}/${{1#far:}}" || exit 66; cp "{}/${{1#far:}}" "$2"', "get"],
    "query": ["/bin/sh", "-c", 'test -e "{}/${{1#far:}}" || exit 66', "query"],
    "remove": ["/bin/sh", "-c", 'test -e "{}/${{1#far:}}" || exit 66; rm "{}/${{1#far:}}"', "remove"],
    "list": ["/bin/sh", "-c", 'cd "{}" && for o in *.tar; do test -e "$o" && echo "far:$o"; done; true'],
}
_ABOUT = {"put": ["{file}", "{name}"], "get": ["{uri}", "{file}"], "query": ["{uri}"], "remove": ["{uri}"], "list": []}


@pytest.fixture
def needed(plugin, place):
    """Options without which a kind cannot be."""
    if not plugin.__module__.endswith(".command"):
        return {}
    store = place / "store"
    store.mkdir()
    return {verb: [w.format(*[store] * 3) for w in words] + _ABOUT[verb] for verb, words in _COMMANDS.items()}
