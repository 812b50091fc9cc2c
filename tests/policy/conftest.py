from datetime import UTC, datetime, timedelta

import pytest

from tomovault.core.known import KnownScan, Product
from tomovault.core.replica import Form, ProductKind, Replica, ReplicaState, TierClass
from tomovault.core.scan import Certificate, Condition, Verdict
from tomovault.policy.area_facts import AreaFacts
from tomovault.policy.document import parse_policy

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def now():
    return NOW


@pytest.fixture
def replica():
    def make(name, form=Form.PACKAGE, tier="tape", tier_class=TierClass.ARCHIVE, **kwargs):
        return Replica(
            **{
                "id": name,
                "product": ProductKind.ORIGINAL,
                "digest": "d",
                "lossless": True,
                "form": form,
                "tier": tier,
                "tier_class": tier_class,
                "domain": name,
                "location": f"/{name}",
                "bytes": 100,
                "state": ReplicaState.VERIFIED,
                "sha256": "s",
                "written_at": NOW - timedelta(days=9),
                "verified_at": NOW - timedelta(days=9),
                **kwargs,
            }
        )

    return make


@pytest.fixture
def scan():
    def make(*replicas, **kwargs):
        product = Product("p", ProductKind.ORIGINAL, "d", 100, 3, True, False, NOW - timedelta(days=10))
        return KnownScan(
            **{
                "id": "s1",
                "name": "bone_1",
                "root": "/data/bone_1",
                "area": "inhouse",
                "format": "edf",
                "entry": "",
                "identity": "i",
                "certificate": Certificate(Verdict.COMPLETE),
                "settled": True,
                "first_seen_at": NOW - timedelta(days=11),
                "changed_at": NOW - timedelta(days=11),
                "acquired_at": NOW - timedelta(days=12),
                "bytes": 10**9,
                "files": 3000,
                "beamline": "ID19",
                "proposal": "ma1234",
                "conditions": {
                    "frame_width": Condition(2048, "px", "x"),
                    "frame_height": Condition(1024, "px", "x"),
                    "n_projections": Condition(1500, None, "x"),
                },
                "products": (product,),
                "replicas": replicas,
                **kwargs,
            }
        )

    return make


@pytest.fixture
def area():
    def make(**kwargs):
        return AreaFacts(
            **{
                "name": "inhouse",
                "prune_on": True,
                "used_fraction": 0.5,
                "quota_bytes": 1000,
                "used_bytes": 500,
                **kwargs,
            }
        )

    return make


@pytest.fixture
def policy():
    def make(*rules, head=""):
        text = f"name: test\nversion: 7\n{head}\nrules:\n" + "".join(f"  - {rule}\n" for rule in rules)
        return parse_policy(text if rules else text.replace("rules:\n", "rules: []\n"), "test.yaml")

    return make


@pytest.fixture
def archived(scan, replica):
    """A scan with its files, a package beside them and two copies on tape."""

    def make(**kwargs):
        files = replica("f", Form.FILES, "inhouse", TierClass.SERVER, domain="disk", location="/data/bone_1")
        package = replica("p", tier="inhouse", tier_class=TierClass.SERVER, domain="disk")
        tapes = [replica(f"t{i}", **kwargs) for i in (1, 2)]
        return scan(files, package, *tapes)

    return make
