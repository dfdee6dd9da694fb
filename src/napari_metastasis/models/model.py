"""The base class of models, and how one is read from disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from napari_metastasis.errors import ModelError
from napari_metastasis.models.calibration import Calibrated
from napari_metastasis.models.weights_file import Contract, read_weights
from napari_metastasis.tasks import find_task, resolve

__all__ = ["Model", "read_model", "without_memory"]


@dataclass(frozen=True, slots=True)
class Model(ABC):
    """A network with its contract; each task has a subclass.

    Attributes
    ----------
    spec
        What the model expects and what its answers mean.
    network
        float32, in evaluation mode.
    weights_sha256
        Hash of the stored weights, which names them in results.
    card
        What the model was trained on, its measured accuracy and intended use.
    """

    spec: Any
    network: Any
    weights_sha256: str
    card: Mapping[str, Any]

    @classmethod
    @abstractmethod
    def blank(cls, values: Mapping[str, Any], path: Path) -> tuple[Contract, nn.Module]:
        """Return the contract on a card and a network for it, whose weights are not read yet.

        Parameters
        ----------
        values
            The contract on the card.
        path
            Of the weights, for messages.

        Raises
        ------
        ModelError
            If the contract is incomplete, or fits no network.
        """

    @property
    def name(self) -> str:
        """Return its name in the zoo."""
        name: str = self.spec.name
        return name

    @property
    def task(self) -> str:
        """Return its task."""
        task: str = self.spec.task
        return task

    @property
    def contract(self) -> Calibrated | None:
        """Return how its answers are probabilities of tumour on slides; ``None`` where they are something else."""
        return self.spec if isinstance(self.spec, Calibrated) else None

    def with_prior(self, prior: float) -> Self:
        """Return the model for slides with another share of tumour; see :meth:`Calibrated.with_prior`."""
        return replace(self, spec=self.spec.with_prior(prior))

    def uncalibrated(self) -> Self:
        """Return the model with the network's own answers."""
        return replace(self, spec=self.spec.uncalibrated())

    @property
    def reads(self) -> str:
        """Return what it reads, in a few words: pixels, or the features of another model."""
        return "pixels"

    @property
    def encoder_sha256(self) -> str:
        """Return the hash of the detector whose features it reads; empty where it reads pixels."""
        return ""

    def check(self, detector: Model) -> None:
        """Refuse a detector whose features the model was not trained on; a model that reads pixels takes any.

        Raises
        ------
        ModelError
            If it was trained on the features of another one.
        """
        del detector

    def feature_layer(self, detector: Model) -> nn.Conv2d:
        """Return the 1x1 convolution from a detector's features to what the model reads.

        Raises
        ------
        ModelError
            If it reads pixels, or the features of another detector.
        """
        raise ModelError(
            f"expected a model that reads the features of {detector.name}, got {self.name}, which reads {self.reads}; "
            "choose another"
        )

    def columns(self) -> dict[str, str]:
        """Return its row in a list of models, by heading."""
        return {"name": self.name, "reads": self.reads, "weights": self.weights_sha256[:8]}

    def to_json(self) -> dict[str, Any]:
        """Return its card as plain values."""
        return {
            "task": self.task,
            "reads": self.reads,
            "spec": self.spec.to_json(),
            "weights_sha256": self.weights_sha256,
            "card": dict(self.card),
        }


class _WithoutMemory(TorchFunctionMode):
    """Builds networks whose parameters have names, sizes and kinds, but no values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return a call's result: without memory where it makes a tensor, unchanged where it draws values into one."""
        del types
        kwargs = dict(kwargs or {})
        if func is Tensor.normal_ or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        # torch's own `with torch.device("meta")` takes seconds where a network computes anything.
        if func in (torch.empty, torch.zeros, torch.ones) and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def without_memory() -> TorchFunctionMode:
    """Return a context in which networks are built without values: their parameters have names, sizes and kinds."""
    return _WithoutMemory()


def read_model(path: Path) -> Model:
    """Return the model whose weights are stored at ``path``, with its card beside it.

    Raises
    ------
    WeightsError
        If a file is missing, damaged, or belongs to another network.
    ModelError
        If its card is incomplete, or names an unknown task.
    """
    stored = read_weights(path)
    task = find_task(stored.task)
    kind: type[Model] = resolve(task.model)
    # Without memory first: a card may ask for a network that no file holds the weights of.
    with without_memory():
        spec, outline = kind.blank(stored.spec, path)
    called = getattr(spec, "architecture", task.noun)
    stored.check(outline, called)
    spec, network = kind.blank(stored.spec, path)
    stored.fill(network, called)
    return kind(spec=spec, network=network, weights_sha256=stored.sha256, card=stored.card)
