"""What is found between the stages of a run, so that later stages train on more of it: errors of the model so far."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.sampling.boosting import Pool, crop_pool, with_boosted
from napari_metastasis.sampling.failures import SlideFailure, add_failure, read_failures
from napari_metastasis.sampling.hard_negative_batches import check_shares, with_hard_negatives
from napari_metastasis.sampling.hard_negatives import HardNegative, strongest_first
from napari_metastasis.sampling.slide_batches import BatchPlan
from napari_metastasis.scanning import resolve_devices
from napari_metastasis.training.tasks.base import TrainingTask
from napari_metastasis.workflows.train.boost import BoostingSteps, boost_pool
from napari_metastasis.workflows.train.mine import MiningSteps, mine_cohort
from napari_metastasis.workflows.train.plan import CohortTraining, StepProgress

__all__ = ["BoostingRounds", "MiningRounds", "Rounds"]

_LOG = logging.getLogger(__name__)


class Rounds(ABC):
    """The rounds of one run.

    Parameters
    ----------
    slides
        That are trained on.
    task
        What is trained.
    how
        Every setting.
    output
        Run folder.
    steps
        Shows the steps, and stops them.
    journal
        File of slides that failed.

    Attributes
    ----------
    found
        How much each round found.
    """

    #: What is found, for a person, and how the folders of rounds begin.
    noun: ClassVar[str]
    folder: ClassVar[str]

    def __init__(
        self,
        slides: Sequence[CohortSlide],
        task: TrainingTask[Any],
        how: CohortTraining,
        output: Path,
        steps: StepProgress,
        journal: Path,
    ) -> None:
        self.slides = tuple(slides)
        self.task = task
        self.how = how
        self.output = output
        self.steps = steps
        self.journal = journal
        self.found: list[int] = []

    @abstractmethod
    def check(self, batch_size: int) -> None:
        """Refuse settings that no later stage could use, before hours of general training."""

    @abstractmethod
    def find(self, number: int, weights: Path | None) -> bool:
        """Find the errors of the model of the stage before, and return whether any are there, of all rounds."""

    @abstractmethod
    def batches(self, plan: BatchPlan) -> BatchSource:
        """Return the batches of a stage, with what was found before it."""


class MiningRounds(Rounds):
    """False positives of a model on training slides (Lin et al. 2019, II-C)."""

    noun = "hard negatives"
    folder = "mining"

    def __init__(self, *run: Any) -> None:
        super().__init__(*run)
        self.mined: tuple[HardNegative, ...] = ()

    def check(self, batch_size: int) -> None:
        """Refuse shares that leave no room for other patches."""
        check_shares(self.how.sampling, self.how.mining, batch_size)

    def find(self, number: int, weights: Path | None) -> bool:
        """Mine the training slides with the model that the task names."""
        model = self.task.mined_with(self.output, weights)
        with self.steps.bar(f"Mining, round {number}") as progress:
            steps = MiningSteps(progress, self.steps.should_stop, self._fail)
            fresh = mine_cohort(self.slides, model, self.output / f"mining-{number}", self.how, steps)
        self.found.append(len(fresh))
        # Each with the probability of the latest model that found it.
        locations = {(location.slide, location.x, location.y): location for location in (*self.mined, *fresh)}
        self.mined = strongest_first(locations.values())
        return bool(self.mined)

    def batches(self, plan: BatchPlan) -> BatchSource:
        """Return patches of slides, with mined locations in place of other normal ones."""
        return with_hard_negatives(self.slides, self.mined, plan, self.how.mining)

    def _fail(self, slide: CohortSlide, reason: str) -> None:
        if slide.name not in {failure.slide for failure in read_failures(self.journal)}:
            _LOG.warning("%s is not mined and is passed over: %s", slide.name, reason)
        add_failure(self.journal, SlideFailure(slide.name, reason))


class BoostingRounds(Rounds):
    """Tiles that a model answers wrongly, tumour or not (Khalil et al. 2022, 3.2.2)."""

    noun = "tiles with errors"
    folder = "boosting"

    def __init__(self, *run: Any, prepare: Callable[[str, BatchSource], None]) -> None:
        super().__init__(*run)
        self.pool: Pool | None = None
        self._prepare = prepare

    def check(self, batch_size: int) -> None:
        """Nothing can be wrong: a batch of one is drawn without boosting."""

    def find(self, number: int, weights: Path | None) -> bool:
        """Answer the pool with the model of the stage before."""
        assert weights is not None, "a first stage comes before the first round"
        plan = BatchPlan(
            self.task.patches,
            self.how.sampling,
            1,
            0,
            journal=self.journal,
            crop=self.task.crop,
            tells_stains=self.task.network_input.needs_stains,
        )
        crops = crop_pool(self.slides, plan) if self.pool is None else self.pool.crops
        self._prepare("Looking at training slides", crops)
        with self.steps.crops(f"Boosting, round {number}") as progress:
            pool = boost_pool(
                crops,
                self.pool,
                self.task,
                weights,
                self.output / f"boosting-{number}",
                device=resolve_devices(self.how.train.device)[0],
                steps=BoostingSteps(progress, self.steps.should_stop),
            )
        raised = pool.weights > (pool.first if self.pool is None else self.pool.weights)
        self.found.append(int(raised.sum()))
        self.pool = pool
        return bool(pool.boosted.any())

    def batches(self, plan: BatchPlan) -> BatchSource:
        """Return tiles of slides, with those of the pool by how much their weights were raised."""
        return with_boosted(self.slides, self.pool, plan)
