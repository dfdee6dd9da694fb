"""The eight symmetries of the square: tissue has no up, so that its images may be turned and mirrored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["SYMMETRIES", "Symmetry"]

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Symmetry:
    """A mirror image or none, then a rotation by right angles.

    Attributes
    ----------
    mirrored
        Whether left and right are exchanged first.
    quarter_turns
        Counterclockwise rotation after that, in right angles.
    """

    mirrored: bool
    quarter_turns: int

    def apply(self, image: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
        """Return a (rows, columns, …) array mirrored and turned."""
        straight = image[:, ::-1] if self.mirrored else image
        turned: npt.NDArray[_Number] = np.ascontiguousarray(np.rot90(straight, self.quarter_turns))
        return turned

    def undo(self, image: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
        """Return the array that :meth:`apply` was given."""
        back = np.rot90(image, -self.quarter_turns)
        straight: npt.NDArray[_Number] = np.ascontiguousarray(back[:, ::-1] if self.mirrored else back)
        return straight

    def move(self, xy: npt.NDArray[np.float64], side: float) -> npt.NDArray[np.float64]:
        """Return where points, (n, 2) as (x, y) from the corner of a square image, lie after :meth:`apply`."""
        x, y = xy[:, 0], xy[:, 1]
        if self.mirrored:
            x = side - x
        for _ in range(self.quarter_turns):
            x, y = y, side - x
        return np.stack([x, y], axis=1)


#: In the order in which features of views are stored: every second one is a mirror image. The first changes nothing.
SYMMETRIES = tuple(Symmetry(mirrored=bool(number % 2), quarter_turns=number // 2) for number in range(8))
