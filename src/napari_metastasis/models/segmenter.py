"""Segmenters: networks that answer for pixels, from which lesions get their outlines (Khalil et al. 2022)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional

from napari_metastasis.errors import ModelError, brief
from napari_metastasis.models.calibration import Calibrated
from napari_metastasis.models.card import check_pixels, read_contract
from napari_metastasis.models.dense import MIDDLE_GRAY, fold_normalisation, folded_layers
from napari_metastasis.models.inputs import NetworkInput, said_of, without_usual_input
from napari_metastasis.models.model import Model
from napari_metastasis.models.nets.architectures import build_segmentation
from napari_metastasis.models.nets.segmentation import SegmentationArchitecture, SegmentationNetwork

__all__ = ["Segmenter", "SegmenterSpec", "SegmentingNetwork"]

#: The logits are of normal tissue and of tumour.
_NORMAL, _TUMOUR = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterSpec(Calibrated):
    """What a segmenter expects of a slide, and what its answers mean.

    Attributes
    ----------
    name
        Name in the zoo.
    encoder, decoder, width, batch_norm
        See :class:`~napari_metastasis.models.nets.segmentation.SegmentationArchitecture`.
    mpp
        Micrometres per pixel that the model was trained at.
    cell_px
        Side of a pixel of its map, in model pixels: probabilities are averaged over so many.
    mean, std
        Normalisation of red, green and blue, or of what else :attr:`input` says is read, after scaling to 0..1.
    stain_density
        Mean optical density (natural logarithm) of red, green and blue over the tissue that it was trained on; empty
        where that is not known.
    input, stain_matrix
        What the network reads, see :class:`~napari_metastasis.models.inputs.NetworkInput`, and the dyes of what it was
        trained on, eight numbers; empty where these are not known.
    temperature, shift, prior, threshold
        See :class:`~napari_metastasis.models.calibration.Calibrated`.
    """

    #: The task of its models, and what they are called in messages.
    task: ClassVar[str] = "segment"
    noun: ClassVar[str] = "segmenter"
    #: Its map has one density, which :attr:`cell_px` says.
    dense_coefficient: ClassVar[int] = 1

    encoder: str
    decoder: str
    mpp: float
    cell_px: int
    width: float = 1.0
    batch_norm: bool = False
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)
    stain_density: tuple[float, ...] = ()
    input: str = "rgb"
    stain_matrix: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that no scan can use."""
        block = self.built.block_px
        if self.cell_px < 1 or block % self.cell_px:
            raise ModelError(
                f"expected pixels of the map that divide the network's {block} px, got {self.cell_px}; correct the card"
            )
        check_pixels(self)
        self.check_calibration()

    @property
    def built(self) -> SegmentationArchitecture:
        """Return its network's architecture."""
        return SegmentationArchitecture(
            encoder=self.encoder,
            decoder=self.decoder,
            width=self.width,
            batch_norm=self.batch_norm,
            input_channels=NetworkInput(self.input).channels,
        )

    @property
    def architecture(self) -> str:
        """Return its network's name for a person."""
        return self.built.name

    @property
    def field_px(self) -> int:
        """Return the side of the window that a pixel of the map depends on, in model pixels."""
        return self.built.field_px + self.cell_px

    @property
    def patch_px(self) -> int:
        """Return the side of the square that an answer speaks of: a pixel of the map, in model pixels."""
        return self.cell_px

    @property
    def block_cells(self) -> int:
        """Return the side, in pixels of the map, of the squares that are answered together."""
        return self.built.block_px // self.cell_px

    def dense_stride_px(self, dense_coefficient: int) -> int:
        """Return the distance between answers, in model pixels.

        Raises
        ------
        ModelError
            If another dense coefficient than 1 is asked for.
        """
        if dense_coefficient != 1:
            raise ModelError(
                f"expected dense coefficient 1 for {self.noun} {self.name}, got {brief(dense_coefficient)}; "
                "leave it out"
            )
        return self.cell_px

    def to_json(self) -> dict[str, Any]:
        """Return the contract as plain values that JSON can hold."""
        return without_usual_input(self.without_idle_calibration(asdict(self)))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the contract that :meth:`to_json` wrote.

        Raises
        ------
        ModelError
            If a field is missing, unknown or of the wrong kind.
        """
        return read_contract(cls, values, cls.noun)


class SegmentingNetwork(nn.Module):
    """A segmentation network that takes raw pixels and gives the probability of tumour in each pixel of its map.

    Parameters
    ----------
    network
        In evaluation mode. It is not changed.
    spec
        Its contract. Normalisation is folded into the first convolution, exactly, where nothing is padded.

    Attributes
    ----------
    layers
        From raw pixels, less :data:`~napari_metastasis.models.MIDDLE_GRAY`, to logits; ``None`` where they do not
        simply follow each other.
    cell_px
        Side of a pixel of the map.
    scale, shift
        From the difference of the logits to log-odds on slides.
    """

    def __init__(self, network: SegmentationNetwork, spec: SegmenterSpec) -> None:
        super().__init__()
        self._spec = spec
        self.cell_px = spec.cell_px
        self.scale, self.shift = 1 / spec.temperature, spec.shift + spec.prior_log_odds
        self.layers: nn.Sequential | None = None
        if network.layers is None:
            self.network = copy.deepcopy(network)
        else:
            self.layers = folded_layers(network.layers)
            fold_normalisation(self.layers, spec)
        self.eval().requires_grad_(requires_grad=False)

    def logits(self, image: Tensor) -> Tensor:
        """Return the logits, N x classes x H' x W', of raw images, N x 3 x H x W in 0..255."""
        if self.layers is None:
            mean, std = (image.new_tensor(each).view(1, -1, 1, 1) for each in (self._spec.mean, self._spec.std))
            answers: Tensor = self.network((image / 255 - mean) / std)
        else:
            answers = self.layers(image - MIDDLE_GRAY)
        return answers

    def forward(self, image: Tensor) -> Tensor:
        """Return the tumour probability, N x h x w float32, of raw images, N x 3 x (field + c·h) x (field + c·w)."""
        # float32, because a half-precision softmax has no digits left near 1.
        logits = self.logits(image).float()
        log_odds = (logits[:, _TUMOUR] - logits[:, _NORMAL]) * self.scale + self.shift
        return functional.avg_pool2d(log_odds.sigmoid(), self.cell_px)


@dataclass(frozen=True, slots=True)
class Segmenter(Model):
    """A segmentation network with its contract.

    Attributes
    ----------
    spec
        Its contract.
    network
        Normalised N x 3 x H x W to logits of its middle.
    """

    #: Of its contract.
    kind: ClassVar[type[SegmenterSpec]] = SegmenterSpec

    spec: SegmenterSpec
    network: SegmentationNetwork

    @classmethod
    def blank(cls, values: Mapping[str, Any], path: Path) -> tuple[SegmenterSpec, nn.Module]:
        """Return the contract and its network; see :meth:`Model.blank`."""
        try:
            spec = cls.kind.from_json(values)
        except ModelError as error:
            raise ModelError(f"{error} ({path})") from error
        return spec, build_segmentation(spec.built)

    @property
    def reads(self) -> str:
        """Return what it reads of a slide, and of which pixels."""
        return said_of(self.spec)

    @property
    def block_cells(self) -> int:
        """Return the side, in cells of its map, of the squares that no piece of a scan splits."""
        return self.spec.block_cells

    @property
    def engines(self) -> tuple[str, ...]:
        """Return what can run its network: names of engines."""
        return ("openvino", "torch")

    def columns(self) -> dict[str, str]:
        """Return its row in a list of models, by heading."""
        spec = self.spec
        return {
            "name": spec.name,
            "network": spec.architecture,
            "µm/px": f"{spec.mpp:g}",
            "pixel": f"{spec.mpp * spec.cell_px:.2g} µm",
            "weights": self.weights_sha256[:8],
        }

    def dense(self, dense_coefficient: int) -> SegmentingNetwork:
        """Return the network that answers every pixel of the map from raw pixels.

        Raises
        ------
        ModelError
            If another dense coefficient than 1 is asked for.
        """
        self.spec.dense_stride_px(dense_coefficient)
        return SegmentingNetwork(self.network, self.spec)
