"""The keys of a tier in `tomovault.yaml` that say how full it may be: their checks, and the way to `Marks`."""

from __future__ import annotations

from collections.abc import Iterator

from tomovault.core.replica import TierClass
from tomovault.policy.yaml_text import Fault, KeyPath, Percent, Size, Strict, Switch
from tomovault.vault.site_settings import Marks

_HIGH, _LOW = 0.85, 0.75

#: The only classes of tiers from which a watermark removes anything.
ON_DISK = (TierClass.FAST, TierClass.SERVER)


class TierMarks(Strict):
    """What a tier of any kind may say."""

    quota: Size | None = None
    high: Percent | None = None
    low: Percent | None = None
    prune: Switch | None = None

    @property
    def is_marked(self) -> bool:
        """Whether it says anything of them."""
        return any(value is not None for value in (self.quota, self.high, self.low, self.prune))

    def marks(self, tier_class: TierClass, on_media: int | None) -> Marks | None:
        """The marks of a tier of a class whose media together hold so much, as far as is known; None without any."""
        if not self.is_marked:
            return None
        low = self._low if tier_class in ON_DISK else None
        return Marks(self._high, low, on_media if self.quota is None else self.quota, bool(self.prune))

    def problems_of_marks(
        self, here: KeyPath, tier_class: TierClass, *, is_sized: bool, has_quarantine: bool
    ) -> Iterator[Fault]:
        """What is wrong with them in a tier of a class. `is_sized`: how much it holds is known without a quota;
        `has_quarantine`: its kind keeps files in folders, which can be moved to one.
        """
        if self.quota == 0:
            yield Fault("a quota of nothing; leave it out for the size of the file system", (*here, "quota"))
        if tier_class in ON_DISK:
            if self.is_marked and not self._low < self._high:
                told = "the low watermark must be below the high one"
                yield Fault(told, (*here, "low" if self.low is not None else "high"))
            if self.prune and not has_quarantine:
                told = "nothing can be moved to a quarantine there (law 5), so no rule may remove from it: leave it off"
                yield Fault(told, (*here, "prune"))
            return
        for key, is_given in (("low", self.low is not None), ("prune", bool(self.prune))):
            if is_given:
                told = f"a watermark never removes anything from a tier of class {tier_class}: {key!r} is for disks"
                yield Fault(told, (*here, key), at_key=True)
        if self.high is not None and self.quota is None and not is_sized:
            told = "how much the tier holds is not known: give its 'quota', or 'capacity' and 'slots'"
            yield Fault(told, (*here, "high"), at_key=True)

    @property
    def _high(self) -> float:
        return _HIGH if self.high is None else self.high

    @property
    def _low(self) -> float:
        return _LOW if self.low is None else self.low
