"""How refiners are trained, and what they read."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.settings._core import SettingsGroup, other_defaults, setting
from napari_metastasis.settings.scan import DEFAULT_MODEL
from napari_metastasis.settings.train import AugmentSettings, TrainSettings

__all__ = ["EncoderSettings", "GridSettings", "SpatialAugmentSettings", "SpatialTrainSettings"]

#: Encoders that are trained with their refiner.
_LEARNING = frozenset({"resnet34"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSettings(SettingsGroup):
    """Which patches a grid holds, and how it is read (Zheng et al. 2022, 3.2)."""

    grid: int = setting(3, "Patches along a side of a grid.", minimum=1, maximum=64)
    grid_step: int = setting(1, "Strides of the encoder from one patch of a grid to the next.", minimum=1, maximum=64)
    window_step: int = setting(
        1, "Patches from one grid to the next when a slide is refined; a divisor of the grid.", minimum=1, maximum=64
    )
    order: str = setting(
        "raster",
        "How a grid is read: line by line as in the paper, by lines and columns both ways, or every row and then every "
        "column, both ways.",
        choices=("raster", "raster-four", "rows-columns"),
    )
    hidden: int = setting(128, "Units of each LSTM.", minimum=1, maximum=2048)
    projected: int = setting(
        0, "Features of a patch that are kept for refining; 0 keeps all of the encoder's.", minimum=0, maximum=4096
    )
    residual: bool = setting(
        False, "Add the LSTM's answer to the encoder's log-odds instead of putting it in their place."
    )
    smoothing: int = setting(
        1,
        "Side, in patches, of the square over which these log-odds are averaged first, with learnt weights; odd, and 1 "
        "does not average.",
        minimum=1,
        maximum=63,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSettings(SettingsGroup):
    """Whose features a refiner reads."""

    encoder: str = setting(
        DEFAULT_MODEL,
        "A finished model whose features are refined, and which is not changed; or resnet34, which is trained with the "
        "refiner, as in the paper.",
    )
    initial: str = setting(
        "", "Weights that resnet34 begins with: a file under torchvision's names, or resnet34-imagenet."
    )
    mpp: float = setting(
        0.243,
        "Resolution of an encoder that is trained with its refiner; by default the paper's, a 40x lens.",
        unit="µm/px",
        minimum=0.01,
        maximum=100.0,
    )
    dense_coefficient: int = setting(
        0,
        "Dense coefficient of the scans that the refiner of a finished model is for; 0 takes what the model's card "
        "says.",
        minimum=0,
    )

    @property
    def learns(self) -> bool:
        """Return whether the encoder is trained with its refiner."""
        return self.encoder in _LEARNING


@other_defaults(batch_size=16, learning_rate=0.01, weight_decay=0.0, label_smoothing=0.0)
class SpatialTrainSettings(TrainSettings):
    """How a refiner is trained, with its encoder or after it; by default as Zheng et al. 2022 (4.1) do."""

    optimiser: str = setting(
        "rmsprop", "RMSProp with a momentum of 0.9, as in the paper, or AdamW.", choices=("rmsprop", "adamw")
    )
    beta: float = setting(
        1.0, "Weight β of the spatial loss beside the cross-entropy (eq. 6).", minimum=0.0, maximum=100.0
    )
    kept_crops: int = setting(
        0,
        "Crops behind a finished model that are encoded once and learnt from again and again: minutes instead of an "
        "hour; 0 encodes others in every step.",
        minimum=0,
        maximum=10**7,
        added=True,
    )
    absent_share: float = setting(
        0.3,
        "Share of crops that lose a strip of patches, as at the edge of scanned tissue.",
        minimum=0.0,
        maximum=1.0,
    )


@other_defaults(
    stain=0.0,
    hue=0.0,
    background=0.0,
    exposure=0.0,
    gray_share=0.0,
    blur_share=0.0,
    noise_share=0.0,
    jitter_brightness=64 / 255,
    jitter_contrast=0.75,
    jitter_saturation=0.25,
    jitter_hue=0.04,
)
class SpatialAugmentSettings(AugmentSettings):
    """How crops are varied; by default as Zheng et al. 2022 (4.1) do."""

    affine_share: float = setting(
        0.0, "Crops keep their grid: only the eight symmetries of the square turn them.", minimum=0.0, maximum=0.0
    )
