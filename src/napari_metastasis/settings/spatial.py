"""How refiners are trained, and what they read."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.settings._core import check, setting
from napari_metastasis.settings.train import AugmentSettings, TrainSettings

__all__ = ["GridSettings", "SpatialAugmentSettings", "SpatialTrainSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSettings:
    """Which patches speak to each other, and how a grid of them is read (Zheng et al. 2022, 3.2)."""

    grid: int = setting(3, "Patches along a side of a grid.", minimum=1, maximum=64)
    grid_step: int = setting(1, "Strides of the encoder from one patch of a grid to the next.", minimum=1, maximum=64)
    window_step: int = setting(
        1, "Patches from one grid to the next when a slide is refined; it divides the grid.", minimum=1, maximum=64
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
        "Patches of the grid along a side of the square over which these log-odds are averaged first, by weights that "
        "are learnt; an odd number, and 1 leaves them as they are.",
        minimum=1,
        maximum=63,
    )

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpatialTrainSettings(TrainSettings):
    """How a refiner is trained, with its encoder or behind it; by default as Zheng et al. 2022 (4.1) do."""

    batch_size: int = setting(16, "Windows in one optimiser step, on each device.", minimum=2, maximum=8192)
    learning_rate: float = setting(0.01, "Peak of the one-cycle schedule.", minimum=1e-6, maximum=1.0)
    weight_decay: float = setting(0.0, "Weight decay.", minimum=0.0, maximum=1.0)
    label_smoothing: float = setting(0.0, "Share of the label spread over both classes.", minimum=0.0, maximum=0.5)
    optimiser: str = setting(
        "rmsprop", "RMSProp with a momentum of 0.9, as in the paper, or AdamW.", choices=("rmsprop", "adamw")
    )
    beta: float = setting(
        1.0, "Weight β of the spatial loss beside the cross-entropy (eq. 6).", minimum=0.0, maximum=100.0
    )
    absent_share: float = setting(
        0.3,
        "Share of windows of which a strip is taken away, as at the edge of tissue that was scanned.",
        minimum=0.0,
        maximum=1.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpatialAugmentSettings(AugmentSettings):
    """How windows are varied: by default as Zheng et al. 2022 (4.1) vary patches."""

    affine_share: float = setting(
        0.0, "Windows keep their grid: only the eight symmetries of the square turn them.", minimum=0.0, maximum=0.0
    )
    stain: float = setting(0.0, "Largest relative change of the amount of each stain.", minimum=0.0, maximum=2.0)
    hue: float = setting(
        0.0, "Largest change of each entry of the colour mixing in optical density.", minimum=0.0, maximum=1.0
    )
    background: float = setting(0.0, "Largest shift in absorbance of each channel.", minimum=0.0, maximum=1.0)
    exposure: float = setting(0.0, "Largest shift in absorbance of all three.", minimum=0.0, maximum=1.0)
    gray_share: float = setting(0.0, "Share of windows drawn towards gray.", minimum=0.0, maximum=1.0)
    blur_share: float = setting(0.0, "Share of windows out of focus.", minimum=0.0, maximum=1.0)
    noise_share: float = setting(0.0, "Share of windows with sensor noise.", minimum=0.0, maximum=1.0)
    jitter_brightness: float = setting(64 / 255, "Largest relative change of brightness.", minimum=0.0, maximum=1.0)
    jitter_contrast: float = setting(0.75, "Largest relative change of contrast.", minimum=0.0, maximum=1.0)
    jitter_saturation: float = setting(0.25, "Largest relative change of saturation.", minimum=0.0, maximum=1.0)
    jitter_hue: float = setting(0.04, "Largest turn of the hue, of a whole circle.", minimum=0.0, maximum=0.5)
