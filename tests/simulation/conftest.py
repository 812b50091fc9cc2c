from datetime import timedelta
from pathlib import Path

import pytest

from tomovault.policy.document import parse_policy
from tomovault.simulation.scenario import DAY_S, AreaPlan, Arrivals, Machines, People, ScanKind, Scenario

GB = 10**9
SHIPPED = Path(__file__).parents[2] / "policies"

#: Machines for which nothing takes any time that counts in days.
QUICK = Machines(
    pack_bps=1e12,
    pack_bps_while_written=1e12,
    package_share=0.5,
    drive_bps=1e12,
    mount_s=1.0,
    rewind_s=1.0,
    move_bps=1e12,
    reread_bps=1e12,
    reconstruct_bps=1e12,
)


@pytest.fixture(scope="session")
def shipped():
    def read(name):
        path = SHIPPED / f"{name}.yaml"
        return parse_policy(path.read_text("utf-8"), str(path))

    return read


@pytest.fixture
def scenario(shipped):
    """One area of 100 GB in which a scan of 10 GB is written each day, and machines that are quick."""

    def make(policy=None, *, areas=None, **changes):
        plan = {"quota": 100 * GB, "policy": policy or shipped("aggressive"), "high": 0.5, "low": 0.3}
        made = {name: AreaPlan(**{"name": name, **plan, **more}) for name, more in (areas or {"a": {}}).items()}
        settings = {
            "machines": QUICK,
            "arrivals": Arrivals(10.0 * GB, DAY_S, DAY_S, (ScanKind(10 * GB, 1.0),), 30 * DAY_S),
            "people": People(recalls_per_day=0.0),
            "hold": timedelta(days=2),
            "quarantine_share": 1.0,
            "days": 12,
        }
        return Scenario(made, **{**settings, **changes})

    return make
