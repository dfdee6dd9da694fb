"""How segmenters are trained: which network, on which tiles, and which of these it sees again (Khalil et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.settings._core import SettingsGroup, other_defaults, setting
from napari_metastasis.settings.sampling import SamplingSettings
from napari_metastasis.settings.slides import INPUT_HELP, INPUTS
from napari_metastasis.settings.train import AugmentSettings, TrainSettings

__all__ = [
    "BoostingSettings",
    "SegmenterSettings",
    "TileAugmentSettings",
    "TileSamplingSettings",
    "TileTrainSettings",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterSettings(SettingsGroup):
    """Which segmentation network is trained, and on which tiles."""

    encoder: str = setting(
        "vgg16",
        "What an image is encoded by: vgg16, as in the paper, efficientnet-lite0-enlarged, a detector's trunk, or "
        "efficientnet-lite0 with decoder u-net, which begins with the same and sees single pixels.",
    )
    decoder: str = setting(
        "fcn-32s",
        "How pixels are answered: fcn-32s, as in the paper, which fragments least; or, to compare it with, fcn-16s, "
        "fcn-8s, u-net or segnet.",
    )
    width: float = setting(
        1.0,
        "Share of VGG16's channels that are kept: 0.25 makes a network of a sixteenth of the weights.",
        minimum=1 / 64,
        maximum=1.0,
    )
    batch_norm: bool = setting(
        False, "Normalise batches behind each convolution of VGG16: for networks that begin with random weights."
    )
    input: str = setting("rgb", INPUT_HELP, choices=INPUTS)
    mpp: float = setting(
        0.972, "Resolution of the tiles: that of the detectors, a 10x lens.", unit="µm/px", minimum=0.01, maximum=100.0
    )
    cell_px: int = setting(
        4,
        "Side of a pixel of the map that a scan writes: finer outlines cost room, and masks drawn by hand have none.",
        unit="px",
        minimum=1,
        maximum=32,
    )
    initial: str = setting(
        "",
        "Weights that training begins with: another segmenter, a detector with the same encoder, the last.ckpt of "
        "another run, a file of ImageNet's VGG16 or EfficientNet-lite weights, vgg16-imagenet, or "
        "efficientnet-lite0-imagenet; random ones by default.",
    )
    tile_px: int = setting(
        512, "Side of a tile, rounded to what the network answers together.", unit="px", minimum=32, maximum=4096
    )
    focusing: bool = setting(
        True,
        "Learn nothing from tissue that nobody labelled, on slides not outlined completely (3.2.4); else it counts as "
        "normal.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingSettings(SettingsGroup):
    """Which tiles a segmenter is trained on more (Khalil et al. 2022, 3.2.2)."""

    gamma: float = setting(
        0.05,
        "Share of a tile (γ) that must be tumour for a tile with tumour to count at first (eq. 1), and that must be "
        "answered wrongly for its weight to be raised (eq. 2); lower it for foci of a few cells.",
        minimum=0.0,
        maximum=1.0,
    )
    chi: float = setting(
        1.0,
        "By how much a round raises a tile's weight (χ); the paper does not say. 1 draws such tiles twice as often.",
        minimum=0.0,
        maximum=100.0,
    )
    boosting_rounds: int = setting(
        1, "Times that tiles are answered and training goes on with new weights; 0 boosts none.", minimum=0, maximum=20
    )
    boosting_epochs: int = setting(
        0, "Epochs of training after each round; 0 takes as many as at first.", minimum=0, maximum=1000
    )
    boosting_rate: float = setting(
        0.3,
        "Peak learning rate after a round, as a share of the first stage's; training goes on from a good model.",
        minimum=0.001,
        maximum=10.0,
    )
    pool_tiles: int = setting(
        512,
        "Tiles that are answered in each round, always the same ones, of all training slides.",
        minimum=1,
        maximum=10_000_000,
    )


@other_defaults(epochs=20, batch_size=4, learning_rate=1e-3, label_smoothing=0.0)
class TileTrainSettings(TrainSettings):
    """How a segmenter is trained. A tile has thousands of answers: a few in a batch are enough."""

    optimiser: str = setting(
        "adamw",
        "AdamW, or stochastic gradient descent with a momentum of 0.9, as in the paper, whose rate of 1e-10 is for a "
        "loss that is summed over pixels; here it is their mean.",
        choices=("adamw", "sgd"),
    )
    trunk_rate: float = setting(
        0.2,
        "Learning rate of an encoder that begins with weights, as a share of the others': it knows tissue already.",
        minimum=0.0,
        maximum=10.0,
    )


@other_defaults(patches_per_epoch=512, validation_patches=128)
class TileSamplingSettings(SamplingSettings):
    """Which tiles are taken from slides: a location of a class, and a tile that it lies anywhere in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileAugmentSettings(AugmentSettings):
    """How tiles are varied; labels turn with them, by the eight symmetries of the square alone."""

    affine_share: float = setting(0.0, "Tiles are turned with their labels instead.", minimum=0.0, maximum=0.0)
    mixup: float = setting(0.0, "Labels of pixels are not blended.", minimum=0.0, maximum=0.0, added=True)
