"""Labels that are probabilities: of readers who disagree, or of a larger network that a small one learns from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.patches import PatchSource
from napari_metastasis.errors import PatchDatasetError, brief
from napari_metastasis.plain_csv import read_csv

__all__ = ["read_soft_labels"]

_COLUMNS = ("patch", "probability")
_REMEDY = (
    "give a CSV with the columns patch (its path in the folder or archive, its number in an HDF5 file) and probability "
    "(of tumour, 0 to 1)"
)


def read_soft_labels(path: Path, patches: PatchSource) -> npt.NDArray[np.float32]:
    """Return the probability of tumour that every patch is to teach; of those not listed, their own label.

    Parameters
    ----------
    path
        CSV with the columns ``patch`` and ``probability``.
    patches
        What the names speak of.

    Returns
    -------
    (n,) float32 in 0..1.

    Raises
    ------
    PatchDatasetError
        If the file cannot be read, names nothing, a patch twice, or one that is not there or in two sets.
    """
    targets = patches.labels.astype(np.float32)
    index_of = {name: index for index, name in enumerate(patches.names)}
    occurring = Counter(patches.names)
    lines: dict[str, int] = {}
    try:
        rows = read_csv(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PatchDatasetError(f"expected soft labels in {path}, got {reason}; {_REMEDY}") from error
    header = rows[0].cells if rows else []
    if any(header.count(name) != 1 for name in _COLUMNS):
        raise PatchDatasetError(f"expected the columns {', '.join(_COLUMNS)} in {path}; {_REMEDY}")
    for row in rows[1:]:
        name, text = (dict(zip(header, row.cells, strict=False)).get(column) for column in _COLUMNS)
        where = f"{path}, line {row.line}"
        if name is None or occurring[name] != 1:
            raise PatchDatasetError(
                f"expected one patch named {brief(name)}, got {occurring[name or '']} ({where}); {_REMEDY}"
            )
        if lines.setdefault(name, row.line) != row.line:
            raise PatchDatasetError(
                f"expected each patch once, got {name!r} in line {lines[name]} as well ({where}); keep one of the two"
            )
        targets[index_of[name]] = _probability(text, where)
    if not lines:
        raise PatchDatasetError(f"expected soft labels in {path}, got none; {_REMEDY}")
    return targets


def _probability(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise PatchDatasetError(f"expected a probability of 0 to 1, got {brief(text)} ({where}); {_REMEDY}")
    return value
