"""One round of boosting over a cohort: answer a pool of tiles with a model, raise the weights of those it errs on."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_metastasis.errors import ScanCancelledError, StorageError, TrainingError
from napari_metastasis.models import read_model
from napari_metastasis.plain_csv import read_csv
from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.sampling.boosting import Pool
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.resume import resume_slides, write_slides
from napari_metastasis.settings import BoostingSettings
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.training.losses import boosted_weights, first_weights
from napari_metastasis.training.tasks.base import TrainingTask

__all__ = ["BoostingSteps", "boost_pool"]

FloatArray = npt.NDArray[np.float64]

#: File of a round's folder: what was seen of the slides.
_SLIDES = "slides.json"
_COLUMNS = ["tile", "tumour_share", "error_share", "weight"]


@dataclass(frozen=True, slots=True)
class BoostingSteps:
    """Progress of boosting, and whether to stop it.

    Attributes
    ----------
    progress
        Called with (tiles done, tiles in all).
    should_stop
        Asked between tiles.
    """

    progress: Callable[[int, int], None]
    should_stop: Callable[[], bool]


def boost_pool(
    crops: SlideBatches,
    before: Pool | None,
    task: TrainingTask[Any],
    weights: Path,
    folder: Path,
    *,
    device: str,
    steps: BoostingSteps,
) -> Pool:
    """Return a pool with the weights that a model's errors give it (Khalil et al. 2022, eq. 1 and 2).

    What was boosted before is read back.

    Parameters
    ----------
    crops
        The tiles, one by one.
    before
        The pool of the round before; ``None`` in the first.
    task
        What is trained, which says how it boosts.
    weights
        Of the model.
    folder
        Gets ``tiles.csv``, and ``boosting.json`` and ``slides.json``: what it follows from.
    device
        Where tiles are answered.
    steps
        Its progress, and whether to stop it.

    Raises
    ------
    TrainingError
        If the folder holds weights of other settings, or a tile can no longer be read.
    StorageError
        If the folder cannot be written, or what lies there is damaged.
    ScanCancelledError
        If ``steps`` said so; the same call begins the round anew.
    """
    how = task.boosting
    assert how is not None
    listed, record = folder / "tiles.csv", folder / "boosting.json"
    if os.path.exists(record):
        # The tiles that were answered, though a slide may be away by now.
        resume_slides(folder / _SLIDES, {"pool": crops})
    text = _recorded(crops, before, how, weights)
    if os.path.exists(listed) and os.path.exists(record):
        if record.read_text(encoding="utf-8") != text:
            raise TrainingError(
                f"expected boosted tiles of this run, got those of other settings in {folder}; choose another --output"
            )
        return _pool(crops, before, how, _read(listed, how.pool_tiles))
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    found = list(task.shares(weights, _one_by_one(crops, how.pool_tiles, steps), device))
    pool = _pool(crops, before, how, np.array(found, np.float64))
    with atomic_text(listed) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        # The shortest decimals that read back the same.
        table.writerows(
            (tile, repr(tumour), repr(error), f"{weight:g}")
            for tile, ((tumour, error), weight) in enumerate(zip(found, pool.weights.tolist(), strict=True))
        )
    write_slides(folder / _SLIDES, {"pool": crops})
    with atomic_text(record) as file:
        file.write(text)
    return pool


def _one_by_one(crops: SlideBatches, count: int, steps: BoostingSteps) -> Iterator[PatchBatch]:
    for tile in range(count):
        if steps.should_stop():
            raise ScanCancelledError("expected to answer every tile, but was stopped; the same command begins anew")
        yield crops.batch(tile)
        steps.progress(tile + 1, count)


def _pool(crops: SlideBatches, before: Pool | None, how: BoostingSettings, shares: FloatArray) -> Pool:
    """Return the pool of a round, by the shares of tumour and of errors, (n, 2), of its tiles."""
    tumour, errors = torch.from_numpy(shares).unbind(dim=1)
    first = first_weights(tumour, how.gamma) if before is None else torch.from_numpy(before.first)
    weights = first if before is None else torch.from_numpy(before.weights)
    raised = boosted_weights(weights, errors, how.gamma, how.chi)
    return Pool(crops, first.float().numpy(), raised.float().numpy())


def _recorded(crops: SlideBatches, before: Pool | None, how: BoostingSettings, weights: Path) -> str:
    """Return what decides the weights of a round, as JSON."""
    wanted = {
        "weights_sha256": read_model(weights).weights_sha256,
        "tiles_sha256": crops.fingerprint,
        "tiles": how.pool_tiles,
        "gamma": how.gamma,
        "chi": how.chi,
        "before_sha256": None if before is None else hashlib.sha256(before.weights.tobytes()).hexdigest(),
    }
    return json.dumps(wanted, indent=2) + "\n"


def _read(path: Path, count: int) -> FloatArray:
    """Return the shares of tumour and of errors, (n, 2), that a round wrote down.

    Raises
    ------
    StorageError
        If they are damaged.
    """
    wanted = f"expected the shares of {count} tiles in {path}"
    try:
        rows = read_csv(path)
        shares = np.array([[float(cell) for cell in row.cells[1:3]] for row in rows[1:]], np.float64)
    except (OSError, ValueError) as error:
        raise StorageError(f"{wanted}, got none to read; move the folder away: the same command goes on") from error
    # Written so that NaN, which compares false with everything, is refused as well.
    if shares.shape != (count, 2) or not bool(((shares >= 0) & (shares <= 1)).all()):
        raise StorageError(f"{wanted}, got others; move the folder away: the same command goes on")
    return shares
