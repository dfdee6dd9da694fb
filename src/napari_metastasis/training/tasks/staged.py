"""Tasks of several stages, each of which goes on from the weights of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from torch import nn

from napari_metastasis.errors import TrainingError, WeightsError
from napari_metastasis.models import InitialWeights, load_initial, read_model, save_model
from napari_metastasis.models.inputs import NetworkInput, input_of
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.settings import TrainSettings
from napari_metastasis.slides.stains import mean_density
from napari_metastasis.training.tasks.base import Stage, TrainingTask

__all__ = ["StagedTask", "density_of", "rounds_after"]

Network = TypeVar("Network", bound=nn.Module)

#: Batches that the stain is measured on: of a few hundred patches.
_MEASURED_BATCHES = 4


def rounds_after(settings: TrainSettings, rounds: int, epochs: int, rate: float) -> tuple[Stage, ...]:
    """Return general training and, after each round, a gentler one of so many epochs; 0 for as many as at first."""
    later = replace(settings, epochs=epochs or settings.epochs, learning_rate=settings.learning_rate * rate)
    further = (Stage(f"stage-{k}", replace(later, seed=settings.seed + k), round=k) for k in range(1, rounds + 1))
    return (Stage("stage-0", settings), *further)


def density_of(training: BatchSource) -> tuple[float, ...]:
    """Return how densely the first batches are stained, as they are read; nothing where nothing is stained."""
    count = min(_MEASURED_BATCHES, training.batches_per_epoch)
    mean = mean_density(np.concatenate([training.batch(k).images.reshape(-1, 3) for k in range(count)]))
    return () if mean is None else tuple(round(float(value), 4) for value in mean)


class StagedTask(TrainingTask[Network]):
    """A task that may begin with weights, and whose run keeps the model of its last stage.

    Attributes
    ----------
    initial
        Weights that training begins with; ``None`` for random ones.
    """

    initial: InitialWeights | None

    @property
    def network_input(self) -> NetworkInput:
        """Return what the contract says."""
        return input_of(self.spec)

    def continued(self, weights: Path) -> Self:
        """Return the task that begins with the model of the stage before."""
        return replace(self, initial=load_initial(weights, tasks=(self.spec.task,)))  # type: ignore[type-var]  # a dataclass

    def check_folder(self, output: Path, rounds: int) -> None:
        """Refuse fewer rounds than a finished run has behind it.

        Raises
        ------
        TrainingError
            No earlier model takes the place of a finished one.
        """
        final = self._final(output)
        done = len(_card_of(final).get(self.found_word, ()))
        if done > rounds:
            raise TrainingError(
                f"expected {self.round_word} rounds of at least {done}, which {final} has behind it, got {rounds}; "
                f"the model after round {rounds} is {output / f'stage-{rounds}' / final.name}"
            )

    def finish(self, weights: Path, output: Path, found: Sequence[int]) -> Path:
        """Store the last stage's model as that of the run; what a card said of data and licence may be corrected."""
        final, model = self._final(output), read_model(weights)
        said = {key: text for key, text in _card_of(final).items() if key in ("data", "licence")}
        save_model(final, model.network, model.spec, {**model.card, **said, self.found_word: list(found)})
        return final

    def _final(self, output: Path) -> Path:
        return output / f"{self.name}.safetensors"

    @property
    def began(self) -> dict[str, str | None]:
        """Return what the card says of the initial weights."""
        initial = self.initial
        return {
            "initial": None if initial is None else initial.name,
            "initial_sha256": None if initial is None else initial.sha256,
        }


def _card_of(weights: Path) -> dict[str, Any]:
    try:
        return dict(read_model(weights).card)
    except WeightsError:
        # Not there, or not whole: a kill may have come between its weights and its card. The stages hold all of it.
        return {}
