"""Train a detector: labelled patches in, a patch classifier out (Lin et al. 2019)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_metastasis.errors import ModelError, TrainingError
from napari_metastasis.models import (
    EfficientNetLite,
    FullyConvolutionalNetwork,
    InitialWeights,
    ModelSpec,
    ScanNet,
    begin_with,
    build_fully_convolutional,
    check_name,
    contract_of_input,
    find_architecture,
    save_model,
)
from napari_metastasis.models.nets.scannet import ScanNetArchitecture
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.sampling.crops import PatchCrop
from napari_metastasis.settings import MiningSettings, TrainSettings
from napari_metastasis.training.augment import mixed_up
from napari_metastasis.training.equivariance import orientations_are_tied, tie_orientations, untie_orientations
from napari_metastasis.training.losses import hard_weights
from napari_metastasis.training.mosaic import (
    Surroundings,
    in_gray,
    mirrored,
    mosaic_logits,
    pad_layers,
    skip_layers,
    with_gap,
)
from napari_metastasis.training.tasks.base import Batch, Fitting, Stage, TaskModule, one_cycle
from napari_metastasis.training.tasks.staged import StagedTask, density_of, rounds_after

__all__ = ["DetectorModule", "DetectorTask", "patch_spec"]

#: Of the learning rate: for layers that begin at random behind a pretrained trunk, and for the weights that gather
#: cells, which are small, so that equal steps would change them most.
_HEAD_RATE, _GATHER_RATE = 3.0, 0.1


def patch_spec(
    name: str, architecture: str, mpp: float, initial: InitialWeights | None = None, *, reads: str = "rgb"
) -> ModelSpec:
    """Return the contract of a network that is trained on patches at ``mpp``, normalised as its initial weights were.

    What it reads is one of :data:`~napari_metastasis.settings.INPUTS`.

    Raises
    ------
    ModelError
        If no network has this architecture, or the model's name cannot name its files.
    """
    check_name(name)
    network = find_architecture(architecture)
    return ModelSpec(
        name=name,
        architecture=architecture,
        mpp=mpp,
        patch_px=network.patch_px,
        stride_px=network.stride_px,
        field_px=network.field_px,
        dense_coefficient=network.dense_coefficient,
        **contract_of_input(reads, initial),
    )


@dataclass(frozen=True)
class DetectorTask(StagedTask[FullyConvolutionalNetwork]):
    """Train a detector: general training first, then rounds of hard-negative mining (Lin et al. 2019, II-C).

    Attributes
    ----------
    spec
        What to train.
    initial
        Weights that training begins with; ``None`` for random ones.
    surroundings
        What patches are trained in, of networks that see further.
    stochastic_depth
        How often these leave residual blocks out; see :func:`~napari_metastasis.training.mosaic.skip_layers`.
    hard_normals
        How far normal patches weigh by their loss; see :func:`~napari_metastasis.training.losses.hard_weights`.
    """

    spec: ModelSpec
    initial: InitialWeights | None = None
    surroundings: Surroundings = field(default_factory=Surroundings)
    stochastic_depth: float = 0.0
    hard_normals: float = 0.0

    def __post_init__(self) -> None:
        """Refuse margins that no patch can fill.

        Raises
        ------
        TrainingError
            If they are as wide as the patch that they mirror.
        """
        if self.sees_further and self.margin_px >= self.spec.patch_px:
            cells = self.surroundings.margin_cells
            raise TrainingError(
                f"expected margins under the patch's {self.spec.patch_px} px, got {cells} cells of "
                f"{self.spec.stride_px} px; choose fewer --margin-cells"
            )

    @property
    def crop(self) -> PatchCrop:
        """Return a patch, in as much of its slide as the margins of a patch that has none."""
        return PatchCrop(self.spec.patch_px, self.margin_px if self.sees_further else 0)

    @property
    def margin_px(self) -> int:
        """Return the width of the margins, in model pixels."""
        return self.surroundings.margin_cells * self.spec.stride_px

    @property
    def sees_further(self) -> bool:
        """Return whether an answer depends on more than a patch, so that patches are trained in surroundings."""
        return self.spec.field_px > self.spec.patch_px

    def identity(self) -> dict[str, Any]:
        """Return the contract, what training begins with, and the surroundings that patches are given."""
        further = {**asdict(self.surroundings), "stochastic_depth": self.stochastic_depth} if self.sees_further else {}
        hard = {"hard_normals": self.hard_normals} if self.hard_normals else {}
        return {**super().identity(), "initial_sha256": self.began["initial_sha256"], **further, **hard}

    def module(self, fitting: Fitting) -> DetectorModule:
        """Return what Lightning trains.

        Raises
        ------
        ModelError
            If the initial weights are of another architecture, or not tied in orientation while these are to be.
        """
        return DetectorModule(self, fitting)

    def trained_on(self, training: BatchSource) -> DetectorTask:
        """Return the task whose contract says how densely the first batches are stained, as they are read.

        Slides can be brought to that density; nothing is said where nothing is stained.
        """
        return replace(self, spec=replace(self.spec, stain_density=density_of(training)))

    def store(self, network: FullyConvolutionalNetwork, weights: Path, card: dict[str, Any]) -> None:
        """Store the detector."""
        save_model(weights, network, self.spec, {**card, **self.began})

    def stages(self, settings: TrainSettings, mining: MiningSettings) -> tuple[Stage, ...]:
        """Return general training and, after each round of mining, a shorter and gentler one: its model is good."""
        return rounds_after(settings, mining.mining_rounds, mining.mining_epochs, mining.mining_rate)


class DetectorModule(TaskModule[FullyConvolutionalNetwork]):
    """Train a fully convolutional network on labelled patches."""

    task: DetectorTask
    mean: Tensor
    std: Tensor

    def __init__(self, task: DetectorTask, fitting: Fitting) -> None:
        super().__init__(task, fitting)
        self.cross_entropy = nn.CrossEntropyLoss(reduction="none", label_smoothing=self.settings.label_smoothing)
        self.register_buffer("mean", torch.tensor(task.spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(task.spec.std).view(1, -1, 1, 1), persistent=False)

    @property
    def turns(self) -> bool:
        """Return whether patches are turned: of no use to a network that knows all orientations."""
        return not self._tied

    @property
    def _tied(self) -> bool:
        # ImageNet's filters know one orientation each.
        return self.settings.tie_orientations and isinstance(
            find_architecture(self.task.spec.architecture), ScanNetArchitecture
        )

    def configure_network(self) -> FullyConvolutionalNetwork:
        """Return the network, with its orientations tied where the settings ask for it and its family can be."""
        spec, initial, tied = self.task.spec, self.task.initial, self._tied
        network = build_fully_convolutional(spec.architecture, self.task.network_input.channels)
        if initial is not None:
            _begin_with(network, spec, initial, tied=tied)
        if isinstance(network, EfficientNetLite):
            pad_layers(network)
            skip_layers(network, self.task.stochastic_depth)
        elif tied:
            tie_orientations(network)
        return network

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW with a one-cycle schedule; a pretrained family's new layers have rates of their own."""
        network = self.network
        if not isinstance(network, EfficientNetLite):
            return super().configure_optimizers()
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        groups: list[dict[str, Any]] = [
            {"params": list(network.gather.parameters()), "weight_decay": 0.0, "lr": _GATHER_RATE * rate}
        ]
        for part, factor in (([network.trunk], 1.0), ([network.cells, network.classify], _HEAD_RATE)):
            parameters = [each for module in part for each in module.parameters()]
            matrices, others = ([p for p in parameters if (p.ndim > 1) is flag] for flag in (True, False))
            groups.append({"params": matrices, "weight_decay": decay, "lr": factor * rate})
            groups.append({"params": others, "weight_decay": 0.0, "lr": factor * rate})
        return one_cycle(torch.optim.AdamW(groups), [group["lr"] for group in groups], self.total_steps)

    def loss(self, batch: Batch, draw: int) -> Tensor:
        """Return the cross-entropy of patches, N x 3 x H x W uint8, with their targets, N."""
        image, _, targets, *_ = batch
        # Dropout draws from the global generator; seeded by the step, resumed training draws what it would have drawn.
        torch.manual_seed(self.settings.seed * 1_000_003 + draw)
        varied = self.seen(self.augment(image.float() / 255, draw), batch)
        if self.augment.settings.mixup:
            varied, targets = mixed_up(varied, targets, self.augment.settings.mixup)
        logits = self._answer(self.network, self._normalise(varied), draw)
        of_classes = [1 - targets, targets] if self.task.spec.tumour_class == 1 else [targets, 1 - targets]
        losses: Tensor = self.cross_entropy(logits, torch.stack(of_classes, dim=1))
        if self.task.hard_normals:
            losses = losses * hard_weights(losses.detach(), targets < 0.5, self.task.hard_normals)
        return losses.mean()

    def measure(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probabilities of tumour, the labels, and the cross-entropy with these."""
        image, label, *_ = batch
        tumour = self.task.spec.tumour_class
        averaged = self.averaged_network() if self.task.sees_further else self.average
        seen = self.seen(image.float() / 255, batch)
        logits = self._answer(averaged, self._normalise(seen), None).float()
        # Labels say whether there is tumour, not which logit is its own.
        of_class = label if tumour == 1 else 1 - label
        return logits.softmax(dim=1)[:, tumour], label, nn.functional.cross_entropy(logits, of_class)

    def finished_network(self) -> FullyConvolutionalNetwork:
        """Return an ordinary network, which pads nothing, with the averaged weights."""
        network = self.averaged_network()
        if isinstance(network, ScanNet):
            return untie_orientations(network)
        ordinary = EfficientNetLite(network.architecture)
        ordinary.load_state_dict(network.state_dict())
        return ordinary.train(network.training)

    def _answer(self, network: nn.Module, patches: Tensor, draw: int | None) -> Tensor:
        """Return the logits, N x classes, of normalised patches, perhaps in margins of :attr:`DetectorTask.crop`.

        Without a draw nothing is left to chance.
        """
        task = self.task
        if not isinstance(network, EfficientNetLite):
            logits: Tensor = network(patches).flatten(1)
            return logits
        # Those of slides lie in their own surroundings.
        margin = (patches.shape[-1] - task.spec.patch_px) // 2
        if draw is None:
            return mosaic_logits(network, patches if margin else in_gray(patches, task.margin_px))
        chance = torch.rand((), generator=torch.Generator().manual_seed(self.settings.seed * 1_000_003 + draw))
        around = task.surroundings
        if chance < around.margin_share:
            return mosaic_logits(network, patches if margin else mirrored(patches, task.margin_px))
        inner = slice(margin, margin + task.spec.patch_px)
        return mosaic_logits(network, with_gap(patches[:, :, inner, inner], around.gap_cells, task.spec.stride_px))

    def _normalise(self, image: Tensor) -> Tensor:
        return ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def _begin_with(network: FullyConvolutionalNetwork, spec: ModelSpec, initial: InitialWeights, *, tied: bool) -> None:
    if initial.architecture not in (None, spec.architecture):
        raise ModelError(
            f"expected initial weights of {spec.architecture}, got {initial.architecture}; "
            "choose another initial model or architecture"
        )
    begin_with(network, initial)
    if tied and isinstance(network, ScanNet) and not orientations_are_tied(network):
        raise ModelError(
            f"expected initial weights that were trained with tied orientations, got {initial.name}, whose "
            "filters are free; add --no-tie-orientations"
        )
