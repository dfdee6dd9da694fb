"""How networks that find points, such as mitotic figures, are trained: on which crops, and how these are shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_metastasis.settings._core import SettingsGroup, other_defaults, setting
from napari_metastasis.settings.points import PointMapSettings
from napari_metastasis.settings.sampling import CohortSettings
from napari_metastasis.settings.segmenter import TileAugmentSettings, TileTrainSettings
from napari_metastasis.settings.slides import INPUT_HELP, INPUTS

__all__ = [
    "MitosisAugmentSettings",
    "MitosisMapSettings",
    "MitosisNetworkSettings",
    "MitosisTrainSettings",
    "PieceSettings",
    "PointCropSettings",
    "PointSplitSettings",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointCropSettings(SettingsGroup):
    """Crops around points, and which of their slides are learnt from."""

    crops: Path | None = setting(None, "Crops around points: a folder or zip archive, instead of a cohort.")
    crops_table: Path | None = setting(
        None, "CSV with a row for each crop: file, slide, x and y, and source where slides of several share a name."
    )
    crops_mpp: float = setting(0.25, "Resolution of the crops: a 40x lens.", unit="µm/px", minimum=0.01, maximum=100.0)
    test_share: float = setting(
        0.2,
        "Share of the slides that training never looks at: what the model is measured on.",
        minimum=0.0,
        maximum=0.9,
    )
    point_classes: str = setting(
        "mitotic figure,mitosis,mitoses,none",
        "Classes of the points of a cohort that are looked for, by commas; none is what a file without classes has. "
        "Where others lie, such as what was taken for a mitosis, nothing is.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceSettings(SettingsGroup):
    """How crops are shown: most of a slide holds no point, and none lies in the middle of what is read."""

    empty_share: float = setting(
        0.5,
        "Share of the crops of which a strip without a point is shown instead, mirrored until it is as large.",
        minimum=0.0,
        maximum=0.99,
    )
    clear_um: float = setting(
        6.0, "How far such a strip keeps from every point: a cell's radius.", unit="µm", minimum=0.0, maximum=100.0
    )
    synthetic_share: float = setting(
        0.0,
        "Share of the strips into which one to three synthetic mitoses are drawn, with the dyes of the strip; their "
        "points are learnt from. What is validated on stays real.",
        minimum=0.0,
        maximum=1.0,
        added=True,
    )
    lookalike_share: float = setting(
        0.0,
        "Share of the strips into which one to three synthetic cells are drawn that are no mitoses, and are taken for "
        "such: shrunken, broken and squeezed nuclei.",
        minimum=0.0,
        maximum=1.0,
        added=True,
    )
    edge_um: float = setting(
        2.0, "How near a point may come to the edge of a crop that is shifted.", unit="µm", minimum=0.0, maximum=100.0
    )
    crop_um: float = setting(
        32.0, "Side of the crops that are cut from a cohort's slides.", unit="µm", minimum=1.0, maximum=1000.0
    )
    others_a_slide: int = setting(
        32,
        "Crops of tissue without points that each slide of a cohort gives at least, always the same ones.",
        minimum=0,
        maximum=100_000,
    )
    crops_a_side: int = setting(
        8, "Crops along a side of a mosaic: a network that pads nothing reads little else.", minimum=1, maximum=64
    )
    mosaics_per_epoch: int = setting(
        100, "Mosaics after which the model is measured and stored.", minimum=2, maximum=1_000_000
    )
    expected_per_mm2: float = setting(
        15.0,
        "Points in a mm² of tissue for which the threshold is chosen, in crops they are hundreds of times as dense: an "
        "assumption, of a tumour that grows fast.",
        unit="1/mm²",
        minimum=0.01,
        maximum=10_000.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MitosisNetworkSettings(SettingsGroup):
    """Which network finds points, and by which loss it learns them."""

    mpp: float = setting(0.5, "Resolution: a 20x lens.", unit="µm/px", minimum=0.05, maximum=10.0)
    cell_px: int = setting(
        2,
        "Side of a pixel of the map that a scan writes: a figure has 20 of these across at 0.5 µm.",
        unit="px",
        minimum=1,
        maximum=16,
    )
    initial: str = setting(
        "metastasis-lite",
        "Model whose trunk training begins with, another map network, the last.ckpt of another run, or a file of "
        "ImageNet's EfficientNet-lite weights; empty for random ones.",
    )
    input: str = setting("rgb", INPUT_HELP, choices=INPUTS)
    frozen_layers: int = setting(
        4,
        "Layers of the trunk, from the image upwards, that keep the weights that they begin with: their gradients cost "
        "half of a step. None does where the network reads dyes, which these have never seen.",
        minimum=0,
        maximum=11,
    )
    loss: str = setting(
        "cross-entropy",
        "Cross-entropy with π, in which what is near a point counts more; or hinge and rare-hinge (Pearce 2017), which "
        "learn from where π is high alone, and whose answers are no probabilities.",
        choices=("cross-entropy", "hinge", "rare-hinge"),
    )
    foreground: float = setting(
        5.0, "What a pixel at a point counts in the cross-entropy; one far away counts 1.", minimum=1.0, maximum=1000.0
    )
    hinge_margin: float = setting(1.0, "Margin Δ of the hinge losses.", minimum=0.0, maximum=10.0)
    rarity: float = setting(
        2.0,
        "Exponent a of the rare hinge loss, in which a point counts e^a: the paper tries 2 and 4.",
        minimum=0.0,
        maximum=10.0,
    )
    near_pi: float = setting(
        0.3, "Least π of a pixel that is one of a point, to the hinge losses.", minimum=0.01, maximum=0.99
    )


@other_defaults(validation_share=0.2, split_seed=2017)
class PointSplitSettings(CohortSettings):
    """Which slides tell the threshold and the best epoch: of a cohort that marks none, or of crops."""


@other_defaults(density_share=0.7, density_min=0.5, density_max=2.2)
class MitosisAugmentSettings(TileAugmentSettings):
    """How crops are varied: on a darkly stained slide, a nucleus is as dark as a mitosis elsewhere."""


@other_defaults(decay_per_um=0.4)
class MitosisMapSettings(PointMapSettings):
    """π around mitotic figures: narrower than in the paper, so that two beside each other have a peak each."""


@other_defaults(epochs=12, trunk_rate=0.3, learning_rate=2e-3, weight_decay=0.01, ema_decay=0.99, label_smoothing=0.0)
class MitosisTrainSettings(TileTrainSettings):
    """How a network that finds points is trained; a batch is of mosaics."""

    batch_size: int = setting(1, "Mosaics of crops in one optimiser step, on each device.", minimum=1, maximum=1024)
