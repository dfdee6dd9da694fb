"""How lesions are read off a heatmap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from napari_metastasis.settings._core import SettingsGroup, setting

__all__ = ["THRESHOLD", "DetectionSettings"]

#: Of a model whose card has none (Lin et al. 2019, II-C).
THRESHOLD = 0.5
#: The slider goes down to this part of a model's own threshold: what it left out may be looked at.
_ROOM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionSettings(SettingsGroup):
    """How lesions are read off a heatmap."""

    threshold: float = setting(
        0.0,
        "Probability from which a cell counts as tumour; 0 takes the model's own, by the false area that it was "
        f"calibrated to, or {THRESHOLD} where it was not.",
        minimum=0.0,
        maximum=1.0,
    )
    floor: float = setting(
        0.1,
        "Lowest threshold that the slider reaches, or a quarter of the model's own where that is lower; lesions are "
        "prepared once down to it.",
        minimum=0.001,
        maximum=0.99,
    )
    nms_radius_um: float = setting(
        75.0,
        "Detections closer than this to a stronger one are dropped; 75 µm is the challenge's merging distance.",
        unit="µm",
        minimum=0.0,
        maximum=5000.0,
    )
    opening_um: float = setting(
        31.0,
        "Side of the square of the morphological opening that removes outlying cells, 0 for none; one tumour cell "
        "raises answers over 31 µm, the side of the central square that labels a training patch.",
        unit="µm",
        minimum=0.0,
        maximum=1000.0,
    )

    pixel_opening_um: float = setting(
        16.0,
        "The same of a segmentation, whose pixels answer for themselves: about a tumour cell.",
        unit="µm",
        minimum=0.0,
        maximum=1000.0,
        added=True,
    )
    gap_um: float = setting(
        0.0,
        "Foci whose borders lie no farther apart than this count as one lesion, 0 for none; CAMELYON16's evaluation "
        "takes 75 µm.",
        unit="µm",
        minimum=0.0,
        maximum=5000.0,
        added=True,
    )
    nuclei_per_mm2: float = setting(
        8000.0,
        "Nuclei in a square millimetre of tumour, by which their number is estimated from an area, 0 not to; that of "
        "dense tumour (19 of 20 tumour patches of PCam have fewer than 6,100), so that fewer than 200 are said only of "
        "what can hold no more.",
        unit="1/mm²",
        minimum=0.0,
        maximum=30000.0,
    )

    def on_pixels(self) -> Self:
        """Return settings for the pixels of a segmentation."""
        return replace(self, opening_um=self.pixel_opening_um)

    def with_reachable_threshold(self) -> Self:
        """Return settings with the floor lowered to the threshold, if it was above it."""
        return replace(self, floor=min(self.floor, self.threshold)) if self.threshold else self

    def for_model(self, threshold: float) -> Self:
        """Return settings with a model's own threshold, where none was asked for."""
        return self if self.threshold else self.with_own_threshold(threshold)

    def with_own_threshold(self, threshold: float) -> Self:
        """Return settings with a model's own threshold, and room below it."""
        return replace(self, threshold=threshold, floor=min(self.floor, threshold / _ROOM))
