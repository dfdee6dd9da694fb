"""Train a segmenter: tiles of slides in, outlines of tumour out (Khalil et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import BinaryF1Score, MulticlassJaccardIndex

from napari_metastasis.models import (
    InitialWeights,
    SegmentationNetwork,
    SegmenterSpec,
    begin_with,
    build_segmentation,
    check_name,
    contract_of_input,
    read_model,
    save_model,
)
from napari_metastasis.sampling.batches import BatchSource, PatchBatch
from napari_metastasis.sampling.crops import TileCrop
from napari_metastasis.settings import (
    BoostingSettings,
    MiningSettings,
    SegmenterSettings,
    TileTrainSettings,
    TrainSettings,
)
from napari_metastasis.training.augment import turn_alike, vary_more
from napari_metastasis.training.losses import first_weights, tile_cross_entropy
from napari_metastasis.training.tasks.base import Batch, Fitting, Stage, TaskModule, one_cycle
from napari_metastasis.training.tasks.staged import StagedTask, density_of, rounds_after

__all__ = ["SegmentModule", "SegmentTask", "segment_task"]

_CLASSES = 2
_TUMOUR = 1
_MOMENTUM = 0.9


def segment_task(
    name: str, settings: SegmenterSettings, boosting: BoostingSettings, initial: InitialWeights | None = None
) -> SegmentTask:
    """Return what trains a segmenter, normalised as its initial weights were.

    Raises
    ------
    ModelError
        If no network is built like that, or the name cannot name files.
    """
    check_name(name)
    spec = SegmenterSpec(
        name=name,
        encoder=settings.encoder,
        decoder=settings.decoder,
        width=settings.width,
        batch_norm=settings.batch_norm,
        mpp=settings.mpp,
        cell_px=settings.cell_px,
        **contract_of_input(settings.input, initial),
    )
    if initial is not None:
        # Before any slide is looked at.
        begin_with(build_segmentation(spec.built), initial)
    return SegmentTask(spec, initial, settings.tile_px, settings.focusing, boosting, pretrained=initial is not None)


@dataclass(frozen=True)
class SegmentTask(StagedTask[SegmentationNetwork]):
    """Train a segmenter: general training first, then rounds of boosting (Khalil et al. 2022, 3.2).

    Attributes
    ----------
    spec
        What to train.
    initial
        Weights that training begins with; ``None`` for random ones.
    tile_px
        Side of a tile, as asked for.
    focusing
        Whether nothing is learnt from unlabelled tissue.
    boosting
        Which tiles count, and which are drawn more often.
    pretrained
        Whether the encoder knew tissue before the run's first stage: it learns slowly.
    """

    metrics: ClassVar[tuple[str, ...]] = ("miou", "f1")
    round_word: ClassVar[str] = "boosting"
    found_word: ClassVar[str] = "boosted"

    spec: SegmenterSpec
    initial: InitialWeights | None = None
    tile_px: int = 512
    focusing: bool = True
    boosting: BoostingSettings = field(default_factory=BoostingSettings)
    pretrained: bool = False

    @property
    def crop(self) -> TileCrop:
        """Return tiles of whole blocks, in what their answers depend on."""
        built = self.spec.built
        blocks = max(1, round(self.tile_px / built.block_px))
        return TileCrop(blocks * built.block_px, built.field_px, self.focusing)

    def identity(self) -> dict[str, Any]:
        """Return the contract, what training begins with, and which tiles count."""
        return {
            **super().identity(),
            "initial_sha256": self.began["initial_sha256"],
            "gamma": self.boosting.gamma,
            "pretrained": self.pretrained,
        }

    def module(self, fitting: Fitting) -> SegmentModule:
        """Return what Lightning trains.

        Raises
        ------
        WeightsError
            If the initial weights do not fit.
        """
        return SegmentModule(self, fitting)

    def trained_on(self, training: BatchSource) -> SegmentTask:
        """Return the task whose contract says how densely the first batches are stained, as they are read."""
        return replace(self, spec=replace(self.spec, stain_density=density_of(training)))

    def store(self, network: SegmentationNetwork, weights: Path, card: dict[str, Any]) -> None:
        """Store the segmenter."""
        save_model(weights, network, self.spec, {**card, **self.began})

    def stages(self, settings: TrainSettings, mining: MiningSettings) -> tuple[Stage, ...]:
        """Return general training and, after each round of boosting, a shorter and gentler one."""
        del mining
        rounds = self.boosting
        return rounds_after(settings, rounds.boosting_rounds, rounds.boosting_epochs, rounds.boosting_rate)

    def shares(self, weights: Path, batches: Iterable[PatchBatch], device: str) -> Iterator[tuple[float, float]]:
        """Yield the share of tumour in each tile, and of pixels that a model answers wrongly, of all that a tile has.

        What is not known counts as neither.
        """
        model = read_model(weights)
        network = model.network.to(device).eval()
        mean, std = _normalisation(model.spec)
        for batch in batches:
            image = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float()
            image = self.network_input.of_images(image, torch.from_numpy(batch.stains)) / 255
            labels = torch.from_numpy(batch.labels)
            with torch.inference_mode():
                answers = network(((image - mean) / std).to(device)).argmax(dim=1).cpu()
            wrong = (answers != labels) & (labels >= 0)
            # In the digits that a setting has: a share that is γ must not come out below it.
            shares = [_shares(marked, torch.float64).tolist() for marked in (labels == _TUMOUR, wrong)]
            yield from zip(*shares, strict=True)


def _shares(marked: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return which share of each tile, N x H x W, is marked."""
    return marked.sum(dim=(1, 2)).to(dtype) / marked[0].numel()


def _normalisation(spec: SegmenterSpec) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return mean, std


class SegmentModule(TaskModule[SegmentationNetwork]):
    """Train a segmentation network on tiles."""

    task: SegmentTask
    settings: TileTrainSettings
    mean: Tensor
    std: Tensor

    def __init__(self, task: Any, fitting: Fitting) -> None:
        super().__init__(task, fitting)
        mean, std = _normalisation(task.spec)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @property
    def turns(self) -> bool:
        """Return no: tiles are turned together with their labels."""
        return False

    def configure_network(self) -> SegmentationNetwork:
        """Return the network, with its initial weights; of a pretrained encoder it is noted what it consists of."""
        network = build_segmentation(self.task.spec.built)
        copied = frozenset[str]() if self.task.initial is None else begin_with(network, self.task.initial)
        known = {name for name in copied if network.place_of(name)} if self.task.pretrained else set()
        self._pretrained = frozenset(known)
        return network

    def configure_metrics(self) -> dict[str, Metric | MetricCollection]:
        """Return the mean intersection over union of both classes, and F1, of the pixels of all tiles together."""
        return {"miou": MulticlassJaccardIndex(num_classes=_CLASSES), "f1": BinaryF1Score()}

    def loss(self, batch: Batch, draw: int) -> Tensor:
        """Return the loss of tiles, N x 3 x S x S uint8, with labels N x T x T.

        Tiles that were drawn by their weight count alike, for weights are not to count twice; the others by eq. 1.
        Those drawn by a large weight are varied more (Khalil et al. 2022, 3.2.3).
        """
        image, labels, _, attention, *_ = batch
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + draw)
        image, labels = turn_alike(image, labels, generator)
        varied = self.augment(image.float() / 255, draw)
        first = first_weights(_shares(labels == _TUMOUR), self.task.boosting.gamma)
        weights = torch.where(attention > 0, torch.ones_like(first), first)
        varied, labels = vary_more(varied, labels, attention / (1 + attention), generator)
        varied = self.seen(varied, batch)
        # Dropout draws from the global generator; seeded by the step, resumed training draws what it would have drawn.
        torch.manual_seed(self.settings.seed * 1_000_003 + draw)
        return tile_cross_entropy(self.network(self._normalise(varied)), labels, weights)

    def measure(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the classes and labels of all pixels that are known, and the cross-entropy."""
        image, labels, *_ = batch
        logits = self.averaged_network()(self._normalise(self.seen(image.float() / 255, batch)))
        known = labels >= 0
        loss = tile_cross_entropy(logits, labels, torch.ones(len(labels), device=labels.device))
        return logits.argmax(dim=1)[known], labels[known], loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimiser with a one-cycle schedule; a pretrained encoder has a rate of its own."""
        settings = self.settings
        groups: list[dict[str, Any]] = []
        for known, factor in ((True, settings.trunk_rate), (False, 1.0)):
            of_part = [p for name, p in self.network.named_parameters() if (name in self._pretrained) is known]
            for decayed in (True, False):
                parameters = [p for p in of_part if (p.ndim > 1) is decayed]
                decay = settings.weight_decay if decayed else 0.0
                groups.append({"params": parameters, "weight_decay": decay, "lr": factor * settings.learning_rate})
        groups = [group for group in groups if group["params"]]
        optimiser: torch.optim.Optimizer
        if settings.optimiser == "sgd":
            optimiser = torch.optim.SGD(groups, lr=settings.learning_rate, momentum=_MOMENTUM)
        else:
            optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
        return one_cycle(optimiser, [group["lr"] for group in groups], self.total_steps)

    def _normalise(self, image: Tensor) -> Tensor:
        return ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
