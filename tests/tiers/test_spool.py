import pytest

from tomovault.core.errors import IntegrityError
from tomovault.tiers.spool import OpenedBundle


@pytest.mark.parametrize("position", [2001, -1, 10**30])
def test_what_is_not_in_a_bundle_is_not_looked_for(tmp_path, position):
    path = tmp_path / "object.tar"
    path.write_bytes(bytes(2000))
    with OpenedBundle(str(path)) as source:
        source.skip_to(1000)
        assert source.read(600) == bytes(600)
        source.skip_to(0)
        with pytest.raises(IntegrityError, match="ends at 2000"):
            source.skip_to(position)
