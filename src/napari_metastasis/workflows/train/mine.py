"""One round of hard-negative mining over a cohort: scan with a model, keep what it takes for tumour and is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import MetastasisError, TrainingError
from napari_metastasis.models import read_model
from napari_metastasis.sampling.hard_negatives import (
    HardNegative,
    read_hard_negatives,
    strongest_first,
    write_hard_negatives,
)
from napari_metastasis.settings import MiningSettings, SamplingSettings, ScanSettings, TissueSettings
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.workflows.scan.batch import FailedSlide, scan_cohort
from napari_metastasis.workflows.scan_job import ScanJob
from napari_metastasis.workflows.train.contact_sheet import draw_hard_negatives
from napari_metastasis.workflows.train.false_positives import mine_slide

__all__ = ["listing", "mine_cohort"]

#: Settings that another list of hard negatives follows from.
_DECIDE_WHAT_IS_MINED = ("mining_threshold", "mined_per_slide", "mined_apart_um")


def mine_cohort(
    slides: Sequence[CohortSlide],
    weights: Path,
    folder: Path,
    *,
    mining: MiningSettings,
    sampling: SamplingSettings,
    scan: ScanSettings,
    tissue: TissueSettings,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
    pass_over: Callable[[CohortSlide, str], None],
) -> tuple[HardNegative, ...]:
    """Return a model's false positives on slides, strongest first; what was mined before is read back.

    Parameters
    ----------
    slides
        To mine. Those that show nothing known to be normal have nothing to give.
    weights
        The model.
    folder
        Gets the heatmaps, ``hard_negatives.csv``, the contact sheets, and ``mining.json``: what they follow from.
    mining, sampling
        What is a false positive; ``sampling.tumour_value`` is known.
    scan, tissue
        How slides are scanned.
    progress, should_stop
        See :func:`~napari_metastasis.workflows.scan.batch.scan_cohort`.
    pass_over
        Told of each slide that gives nothing because of an error, and why.

    Raises
    ------
    TrainingError
        If the folder holds places mined otherwise.
    ScanCancelledError
        If ``should_stop`` said so; the same call goes on.
    """
    listed, record = folder / "hard_negatives.csv", folder / "mining.json"
    model = read_model(weights)
    wanted = {
        "weights_sha256": model.weights_sha256,
        # Not the number of rounds, nor how many are drawn: with more of either a run goes on.
        "mining": {name: asdict(mining)[name] for name in _DECIDE_WHAT_IS_MINED},
        "sampling": {name: value for name, value in asdict(sampling).items() if name != "open_slides"},
        "slides": hashlib.sha256(json.dumps(listing(slides)).encode()).hexdigest(),
    }
    text = json.dumps(wanted, indent=2) + "\n"
    if listed.exists() and record.exists():
        if record.read_text(encoding="utf-8") == text:
            return read_hard_negatives(listed)
        raise TrainingError(
            f"expected mined places of this run, got those of other settings in {folder}; choose another --output"
        )
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    usable = [slide for slide in slides if slide.shows_normal]
    mined: list[HardNegative] = []
    failed = 0
    for entry in scan_cohort(
        usable,
        ScanJob(slide=folder, model=str(weights), scan=scan, tissue=tissue),
        output=folder,
        progress=progress,
        should_stop=should_stop,
    ):
        if isinstance(entry, FailedSlide):
            pass_over(entry.slide, entry.reason)
            failed += 1
            continue
        heatmap, frame = entry.result.probabilities, entry.result.frame
        try:
            mined += mine_slide(entry.slide, heatmap, frame, mining, sampling, tumour_value=sampling.tumour_value)
        except MetastasisError as error:
            pass_over(entry.slide, str(error))
        # Or it would be held while the next slide is scanned.
        del entry, heatmap, frame
    if usable and failed == len(usable):
        raise TrainingError(
            f"expected training slides that can be scanned, got none of {failed}; check the disk: the same command "
            "goes on from there"
        )
    places = strongest_first(mined)
    draw_hard_negatives(folder / "mined.png", places, usable, model.spec, most=mining.sheet_patches)
    write_hard_negatives(listed, places)
    with atomic_text(record) as file:
        file.write(text)
    return places


def listing(slides: Sequence[CohortSlide]) -> list[tuple[str, ...]]:
    """Return what slides are, wherever they lie: enough to tell two cohorts apart."""
    return [
        (
            slide.name,
            slide.split,
            slide.annotation.name if slide.annotation else "",
            str(slide.exhaustive),
            str(slide.mpp),
        )
        for slide in slides
    ]
