"""One round of hard-negative mining over a cohort: scan with a model, keep its false positives."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import TrainingError, one_of_many
from napari_metastasis.models import Model, read_model
from napari_metastasis.sampling.hard_negatives import (
    HardNegative,
    read_hard_negatives,
    strongest_first,
    write_hard_negatives,
)
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.workflows.cluster.opening import open_cluster
from napari_metastasis.workflows.scan.batch import FailedSlide, scan_cohort
from napari_metastasis.workflows.scan_job import ScanJob
from napari_metastasis.workflows.train.contact_sheet import draw_hard_negatives
from napari_metastasis.workflows.train.false_positives import mine_slide
from napari_metastasis.workflows.train.plan import CohortTraining

__all__ = ["MiningSteps", "listing", "mine_cohort"]

_LOG = logging.getLogger(__name__)

#: Mining settings that decide a list of hard negatives.
_DECIDE_WHAT_IS_MINED = ("mining_threshold", "mined_per_slide", "mined_apart_um")


@dataclass(frozen=True, slots=True)
class MiningSteps:
    """Progress of mining, whether to stop it, and where its failures go.

    Attributes
    ----------
    progress, should_stop
        See :func:`~napari_metastasis.workflows.scan.batch.scan_cohort`.
    pass_over
        Called with each slide that cannot be mined, and why.
    """

    progress: Callable[[int, int], None]
    should_stop: Callable[[], bool]
    pass_over: Callable[[CohortSlide, str], None]


def mine_cohort(
    slides: Sequence[CohortSlide], weights: Path, folder: Path, how: CohortTraining, steps: MiningSteps
) -> tuple[HardNegative, ...]:
    """Return a model's false positives on slides, strongest first; what was mined before is read back.

    Parameters
    ----------
    slides
        To mine. Those that show no tissue known to be normal are left out.
    weights
        The model.
    folder
        Gets the heatmaps, ``hard_negatives.csv``, the contact sheets, and ``mining.json``: what they follow from.
    how
        What is a false positive, with ``how.sampling.tumour_value`` known, and how slides are scanned.
    steps
        Its progress, and whether to stop it.

    Raises
    ------
    TrainingError
        If the folder holds locations mined otherwise.
    ScanCancelledError
        If ``steps`` said so; the same call goes on.
    """
    listed, record = folder / "hard_negatives.csv", folder / "mining.json"
    model = read_model(weights)
    text = _recorded(slides, model, how)
    if os.path.exists(listed) and os.path.exists(record):
        if record.read_text(encoding="utf-8") == text:
            return read_hard_negatives(listed)
        raise TrainingError(
            f"expected mined locations of this run, got those of other settings in {folder}; choose another --output"
        )
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    usable = [slide for slide in slides if slide.shows_normal]
    locations = strongest_first(_mined(usable, weights, model, folder, how, steps))
    draw_hard_negatives(folder / "mined.png", locations, usable, model.spec, most=how.mining.sheet_patches)
    write_hard_negatives(listed, locations)
    with atomic_text(record) as file:
        file.write(text)
    return locations


def _recorded(slides: Sequence[CohortSlide], model: Model, how: CohortTraining) -> str:
    """Return what decides a list of hard negatives, as JSON."""
    wanted = {
        "weights_sha256": model.weights_sha256,
        # Not the number of rounds, nor how many are drawn: with more of either a run goes on.
        "mining": {name: asdict(how.mining)[name] for name in _DECIDE_WHAT_IS_MINED},
        "sampling": {name: value for name, value in asdict(how.sampling).items() if name != "open_slides"},
        "slides": hashlib.sha256(json.dumps(listing(slides)).encode()).hexdigest(),
    }
    return json.dumps(wanted, indent=2) + "\n"


def _mined(
    slides: Sequence[CohortSlide], weights: Path, model: Model, folder: Path, how: CohortTraining, steps: MiningSteps
) -> list[HardNegative]:
    """Scan slides and return the model's false positives."""
    mined: list[HardNegative] = []
    failed = 0
    job = ScanJob(slide=folder, model=str(weights), scan=how.scan, tissue=how.tissue)
    with ExitStack() as opened:
        scanner = opened.enter_context(open_cluster(how.cluster, how.scan, steps.should_stop))
        if scanner is not None and scanner.dashboard:
            _LOG.warning("what the workers do is shown at %s", scanner.dashboard)
        scans = scan_cohort(
            slides, job, output=folder, scanner=scanner, progress=steps.progress, should_stop=steps.should_stop
        )
        # Closed at once where mining fails: the scans hold an engine.
        for entry in opened.enter_context(closing(scans)):
            if isinstance(entry, FailedSlide):
                steps.pass_over(entry.slide, entry.reason)
                failed += 1
                continue
            heatmap, frame = entry.result.probabilities, entry.result.frame
            with one_of_many(partial(steps.pass_over, entry.slide)):
                mined += mine_slide(
                    entry.slide, heatmap, frame, how.mining, how.sampling,
                    tumour_value=how.sampling.tumour_value, patch_px=model.spec.patch_px,
                )  # fmt: skip
            # Or it would be held while the next slide is scanned.
            del entry, heatmap, frame
    if slides and failed == len(slides):
        raise TrainingError(
            f"expected training slides that can be scanned, got none of {failed}; check the disk: the same command "
            "goes on from there"
        )
    return mined


def listing(slides: Sequence[CohortSlide]) -> list[tuple[str, ...]]:
    """Return slides as plain values, wherever they lie: enough to tell two cohorts apart."""
    return [
        (
            slide.name,
            slide.split,
            slide.annotation.name if slide.annotation else "",
            str(slide.exhaustive),
            str(slide.mpp),
            *(("red and blue swapped",) if slide.swap_red_blue else ()),
        )
        for slide in slides
    ]
