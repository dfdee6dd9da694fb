"""Detections of one slide, as CAMELYON16's files hold them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.errors import EvaluationError
from napari_metastasis.plain_csv import CsvRow, read_csv

__all__ = ["SlideDetections", "read_detections_csv"]

#: Side of a slide, in level-0 pixels: more than any scanner makes.
_MOST_PX = 1 << 24
#: How the probability's column is called, where a file names its columns.
_PROBABILITY = frozenset({"p", "prob", "probability", "score"})


@dataclass(frozen=True, slots=True, eq=False)
class SlideDetections:
    """What was found on one slide, which may be nothing.

    Attributes
    ----------
    slide
        The slide's name.
    probabilities
        (n,) float64, 0 to 1.
    points
        (n, 2) float64, (x, y) in level-0 pixels.
    slide_score
        How likely the slide holds a metastasis; ``None`` for the highest probability, or 0 where nothing was found.

    Raises
    ------
    EvaluationError
        If the arrays differ in length, a location is not finite or farther than any slide reaches, or a probability
        lies outside 0 to 1.
    """

    slide: str
    probabilities: NDArray[np.float64]
    points: NDArray[np.float64]
    slide_score: float | None = None

    def __post_init__(self) -> None:
        """Check the arrays."""
        probabilities = np.asarray(self.probabilities, dtype=np.float64).reshape(-1)
        points = np.asarray(self.points, dtype=np.float64).reshape(-1, 2)
        if len(probabilities) != len(points):
            raise EvaluationError(
                f"expected a probability for each of the {len(points)} locations on {self.slide}, "
                f"got {len(probabilities)}; give as many of one as of the other"
            )
        wrong = ~((probabilities >= 0) & (probabilities <= 1) & (np.abs(points) <= _MOST_PX).all(axis=1))
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            x, y = points[first]
            raise EvaluationError(
                f"expected probabilities of 0 to 1 at finite locations, got {probabilities[first]:g} at ({x:g}, {y:g}) "
                f"as detection {first + 1} of {self.slide}; check the columns' order: probability, x, y"
            )
        object.__setattr__(self, "probabilities", probabilities)
        object.__setattr__(self, "points", points)

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def score(self) -> float:
        """Return the slide's score (Lin et al. 2019, II-C: the highest)."""
        if self.slide_score is not None:
            return self.slide_score
        return float(self.probabilities.max()) if len(self) else 0.0


def read_detections_csv(path: str | os.PathLike[str]) -> SlideDetections:
    """Read ``probability,x,y`` rows in level-0 pixels, with or without a header; the file bears the slide's name.

    Parameters
    ----------
    path
        A CSV file. An empty one says that nothing was found. With a header, columns may come in any order, and others
        beside them; rows whose ``id`` begins with P, as in our ``mitoses.csv``, are what people knew of, and left out.

    Raises
    ------
    EvaluationError
        If the file cannot be read, or a row is no detection; the row is named.
    """
    path = Path(path)
    try:
        rows = read_csv(path)
    except OSError as error:
        raise EvaluationError(
            f"expected a readable file of detections, got {path} ({error.strerror}); check the path"
        ) from error
    except ValueError as error:
        raise EvaluationError(
            f"expected a CSV file of detections, got {path}, which is no text ({error}); write probability,x,y rows"
        ) from error
    columns = (0, 1, 2)
    if rows and (named := _columns(rows[0].cells)) is not None:
        names = [name.strip().casefold() for name in rows[0].cells]
        columns, rows = named, rows[1:]
        if "id" in names:
            at = names.index("id")
            rows = [row for row in rows if not (at < len(row.cells) and row.cells[at].startswith("P"))]
    values = np.array([_numbers(path, row, columns) for row in rows]).reshape(-1, 3)
    try:
        return SlideDetections(slide=path.stem, probabilities=values[:, 0], points=values[:, 1:])
    except EvaluationError as error:
        raise EvaluationError(f"{path}: {error}") from error


def _columns(header: Iterable[str]) -> tuple[int, int, int] | None:
    """Return where probability, x and y stand, or ``None`` where the row is no header."""
    names = [name.strip().casefold() for name in header]
    found = next((names.index(name) for name in names if name in _PROBABILITY), None)
    if found is None or names.count("x") != 1 or names.count("y") != 1:
        return None
    return found, names.index("x"), names.index("y")


def _numbers(path: Path, row: CsvRow, columns: tuple[int, int, int]) -> list[float]:
    try:
        return [float(row.cells[column]) for column in columns]
    except (ValueError, IndexError) as error:
        got = ",".join(row.cells)[:60]
        raise EvaluationError(
            f"expected probability,x,y as numbers in line {row.line} of {path}, got {got!r}; correct or remove the line"
        ) from error
