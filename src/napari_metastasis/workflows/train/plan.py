"""Inputs and results of a training run on a cohort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_metastasis.sampling.batches import BalancedPatches, BatchSource
from napari_metastasis.sampling.failures import SlideFailure
from napari_metastasis.settings import (
    AugmentSettings,
    ClusterSettings,
    MiningSettings,
    SamplingSettings,
    ScanSettings,
    TissueSettings,
    TrainSettings,
)
from napari_metastasis.workflows.scan.batch import ProgressBar

__all__ = ["CohortTraining", "LabelledPatches", "StagedRun", "StepProgress"]

_ALONE = ClusterSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortTraining:
    """How a model is trained on the slides of a cohort: every setting of a run, in its groups."""

    train: TrainSettings
    augment: AugmentSettings
    sampling: SamplingSettings
    mining: MiningSettings
    scan: ScanSettings
    tissue: TissueSettings
    cluster: ClusterSettings = _ALONE


@dataclass(frozen=True, slots=True)
class StepProgress:
    """Progress of the steps around training, which has its own bar, and whether to stop them.

    Attributes
    ----------
    bar
        Shows one step, in parts of slides.
    should_stop
        Asked during these steps.
    crops
        Shows one step, in crops.
    """

    bar: ProgressBar
    should_stop: Callable[[], bool]
    crops: ProgressBar


@dataclass(frozen=True, slots=True)
class LabelledPatches:
    """Labelled patches beside the slides.

    Attributes
    ----------
    training
        Their batch is the part that they take of every batch; ``None`` where all patches come from slides.
    validation
        What each epoch is measured on; the cohort's validation slides where it is ``None``.
    """

    training: BalancedPatches | None = None
    validation: BatchSource | None = None


@dataclass(frozen=True, slots=True)
class StagedRun:
    """The result of a run.

    Attributes
    ----------
    weights
        The final model.
    mined
        How much was found in each round.
    failures
        Slides that patches could not be taken from, or that could not be scanned; each is named once.
    noun, folder
        What was found, for a person, and how the folders of the rounds begin.
    """

    weights: Path
    mined: tuple[int, ...]
    failures: tuple[SlideFailure, ...]
    noun: str = "hard negatives"
    folder: str = "mining"
