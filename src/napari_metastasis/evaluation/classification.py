"""A measured figure and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Estimate"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured figure and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def ci95(self) -> tuple[float, float]:
        """Return both ends of the interval."""
        return self.low, self.high

    def to_json(self, name: str) -> dict[str, Any]:
        """Return the figure under ``name`` and its interval under ``<name>_ci95``, each unless it is NaN."""
        figure: dict[str, Any] = {} if math.isnan(self.value) else {name: self.value}
        return figure if math.isnan(self.low) else figure | {f"{name}_ci95": list(self.ci95)}
