"""Train a network that finds mitotic figures: crops around points in, maps of π out (Pearce 2017, appendix 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from napari_metastasis.models import (
    InitialWeights,
    MitosisSpec,
    SegmentationNetwork,
    begin_with,
    build_segmentation,
    check_name,
    contract_of_input,
    save_model,
)
from napari_metastasis.models.nets.segmentation import LITE_UNET
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.sampling.crops import UNKNOWN
from napari_metastasis.settings import MitosisNetworkSettings, PieceSettings, PointScoringSettings
from napari_metastasis.training.losses import hinge_loss, point_map_cross_entropy, rare_hinge_loss
from napari_metastasis.training.point_metric import PointMetric
from napari_metastasis.training.tasks.base import Batch, Fitting
from napari_metastasis.training.tasks.segment import SegmentModule
from napari_metastasis.training.tasks.staged import StagedTask, density_of

__all__ = ["MitosisModule", "MitosisTask", "mitosis_task", "point_loss"]

#: Share of a map that is near a point, with which training begins: from one half, it would spend its first steps on
#: learning that points are rare.
_RARE = 0.02
_CARD_THRESHOLD = "validation_threshold"


def mitosis_task(
    name: str, settings: MitosisNetworkSettings, pieces: PieceSettings, initial: InitialWeights | None = None
) -> MitosisTask:
    """Return what trains a network that finds points, normalised as its initial weights were.

    Raises
    ------
    ModelError
        If no network is built like that, or the name cannot name files.
    WeightsError
        If the initial weights do not fit.
    """
    check_name(name)
    spec = MitosisSpec(
        name=name,
        encoder=LITE_UNET,
        decoder="u-net",
        mpp=settings.mpp,
        cell_px=settings.cell_px,
        **contract_of_input(settings.input, initial),
    )
    if initial is not None:
        # Before any crop is looked at.
        begin_with(build_segmentation(spec.built), initial)
    return MitosisTask(spec, initial, settings, pieces, pretrained=initial is not None)


@dataclass(frozen=True)
class MitosisTask(StagedTask[SegmentationNetwork]):
    """Train a network that finds points.

    Attributes
    ----------
    spec
        What to train.
    initial
        Weights that training begins with; ``None`` for random ones.
    how
        The network and its loss.
    pieces
        How crops are shown.
    scoring
        How points that it finds are scored.
    pretrained
        Whether the trunk knew tissue before: it learns slowly.
    """

    metrics: ClassVar[tuple[str, ...]] = ("rare_f1", "f1", "threshold")
    intended_use: ClassVar[str] = "Research. Finding candidates for mitotic figures in H&E-stained breast cancer."

    spec: MitosisSpec
    initial: InitialWeights | None = None
    how: MitosisNetworkSettings = field(default_factory=MitosisNetworkSettings)
    pieces: PieceSettings = field(default_factory=PieceSettings)
    scoring: PointScoringSettings = field(default_factory=PointScoringSettings)
    pretrained: bool = False

    def identity(self) -> dict[str, Any]:
        """Return the contract, what training begins with, and what is learnt how."""
        how = {**asdict(self.how), "initial": self.began["initial"]}
        return {**super().identity(), **self.began, "network": how, "pieces": self.pieces.told()}

    def module(self, fitting: Fitting) -> MitosisModule:
        """Return what Lightning trains."""
        return MitosisModule(self, fitting)

    def trained_on(self, training: BatchSource) -> MitosisTask:
        """Return the task whose contract says how densely the first batches are stained, as they are read."""
        return replace(self, spec=replace(self.spec, stain_density=density_of(training)))

    def store(self, network: SegmentationNetwork, weights: Path, card: dict[str, Any]) -> None:
        """Store the network with the threshold that was best on the validation crops."""
        spec = replace(self.spec, threshold=float(card.get(_CARD_THRESHOLD, self.spec.threshold)))
        learnt = {"loss": self.how.loss, "pieces": self.pieces.told()}
        save_model(weights, network, spec, {**card, **self.began, **learnt})


def point_loss(how: MitosisNetworkSettings) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the loss of log-odds, with π and where it is known; all of one shape."""

    def labels(pi: Tensor, known: Tensor) -> Tensor:
        return torch.where(known, (pi >= how.near_pi).long(), UNKNOWN)

    if how.loss == "hinge":
        return lambda odds, pi, known: hinge_loss(odds, labels(pi, known), margin=how.hinge_margin)
    if how.loss == "rare-hinge":
        return lambda odds, pi, known: rare_hinge_loss(
            odds, labels(pi, known), margin=how.hinge_margin, rarity=how.rarity
        )
    return lambda odds, pi, known: point_map_cross_entropy(odds, pi, known, foreground=how.foreground)


class MitosisModule(SegmentModule):
    """Train a map network on mosaics of crops."""

    task: MitosisTask  # type: ignore[assignment]  # what it takes from a segmenter's, both have

    def configure_network(self) -> SegmentationNetwork:
        """Return the network, with its initial weights, the lower layers of its trunk at rest."""
        network = super().configure_network()
        initial = self.task.initial
        if initial is None or initial.architecture != network.architecture.name:
            score = network.get_submodule("score")
            assert isinstance(score.bias, Tensor)
            with torch.no_grad():
                score.bias.copy_(torch.tensor([1 - _RARE, _RARE]).log())
        if initial is not None:
            trunk = network.get_submodule("trunk")
            assert isinstance(trunk, torch.nn.Sequential)
            frozen = self.task.how.frozen_layers if self.task.network_input.channels == 3 else 0
            trunk[:frozen].requires_grad_(requires_grad=False)
        return network

    def configure_metrics(self) -> dict[str, Metric | MetricCollection]:
        """Return F1 of points, and the threshold at which it is highest."""
        task = self.task
        return {
            "points": PointMetric(
                cell_px=task.spec.cell_px,
                mpp=task.spec.mpp,
                radius_um=task.scoring.radius_um,
                expected_per_mm2=task.pieces.expected_per_mm2,
            )
        }

    def loss(self, batch: Batch, draw: int) -> Tensor:
        """Return the loss of mosaics, N x 3 x S x S uint8, with labels and π, N x S x S; each crop varied by itself."""
        _, labels, pi, *_ = batch
        odds = self._log_odds(self.network, self.varied(batch, draw))
        return point_loss(self.task.how)(odds, pi, labels >= 0)

    def varied(self, batch: Batch, draw: int) -> Tensor:
        """Return what the network reads of mosaics, N x channels x S x S, each crop varied by itself."""
        image = batch[0]
        varied = self.augment(self._apart(image.float() / 255), draw)
        # Dropout draws from the global generator; seeded by the step, resumed training draws what it would have drawn.
        torch.manual_seed(self.settings.seed * 1_000_003 + draw)
        return self.seen(self._together(varied, len(image)), batch)

    def measure(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probabilities and labels of mosaics, and the loss."""
        image, labels, pi, *_ = batch
        odds = self._log_odds(self.averaged_network(), self.seen(image.float() / 255, batch))
        return odds.sigmoid(), labels, point_loss(self.task.how)(odds, pi, labels >= 0)

    def _log_odds(self, network: SegmentationNetwork, image: Tensor) -> Tensor:
        """Return the log-odds of images, N x S x S, each within its mirror image."""
        margin = self.task.spec.built.field_px // 2
        # Mirrored as often as it takes: a mosaic may be smaller than what a network reads around it.
        side = image.shape[-1]
        places = torch.arange(-margin, side + margin, device=image.device) % (2 * side)
        places = torch.minimum(places, 2 * side - 1 - places)
        logits = network(self._normalise(image[..., places, :][..., places])).float()
        return logits[:, 1] - logits[:, 0]

    def _apart(self, mosaics: Tensor) -> Tensor:
        """Return the crops of mosaics."""
        count, channels, side, _ = mosaics.shape
        cells = self.task.pieces.crops_a_side
        apart = mosaics.reshape(count, channels, cells, side // cells, cells, side // cells)
        return apart.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, side // cells, side // cells)

    def _together(self, crops: Tensor, count: int) -> Tensor:
        """Return the mosaics of crops."""
        cells, (channels, side, _) = self.task.pieces.crops_a_side, crops.shape[1:]
        laid = crops.reshape(count, cells, cells, channels, side, side).permute(0, 3, 1, 4, 2, 5)
        return laid.reshape(count, channels, cells * side, cells * side)
