"""How mitoses are looked for on slides, and which of the points that are found count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from napari_metastasis.settings._core import setting, setting_of
from napari_metastasis.settings._passes import PassSettings
from napari_metastasis.settings.lesions import DetectionSettings
from napari_metastasis.settings.points import HotSpotSettings, PointScoringSettings

__all__ = ["MitosisSettings"]

_AREA, _AREA_SETTING = setting_of(HotSpotSettings, "area_mm2")
_SHAPE, _SHAPE_SETTING = setting_of(HotSpotSettings, "shape")
_RADIUS, _ = setting_of(PointScoringSettings, "radius_um")
_FLOOR, _ = setting_of(DetectionSettings, "floor")


@dataclass(frozen=True, slots=True, kw_only=True)
class MitosisSettings(PassSettings):
    """Whether mitoses are looked for, where, and how they are counted."""

    SWITCH: ClassVar[str] = "mitosis"
    #: Lesions are never read from its map.
    SHARE: ClassVar[str] = ""
    SLIDER: ClassVar[str] = "mitosis_threshold"
    #: It looks at four times as many pixels as the scan.
    USUAL: ClassVar[bool] = False

    mitosis: bool = setting(False, "Find mitoses: points, their number for each mm², and where they are densest.")
    mitosis_above: float = setting(
        0.0,
        "Look for mitoses only where the map before, exact outlines if they are made, finds tumour at least so "
        "probable, and around that; the lowest value, 0, looks at all tissue.",
        minimum=0.0,
        maximum=1.0,
    )
    mitosis_threshold: float = setting(
        0.0,
        "Probability from which a point counts as a mitosis; 0 takes the model's own.",
        minimum=0.0,
        maximum=1.0,
    )
    mitosis_radius_um: float = setting(
        _RADIUS,
        "Of mitoses closer together than this the surer one counts.",
        unit="µm",
        minimum=0.0,
        maximum=100.0,
    )
    hot_spot_mm2: float = setting(
        _AREA,
        _AREA_SETTING.help,
        unit=_AREA_SETTING.unit,
        minimum=_AREA_SETTING.minimum,
        maximum=_AREA_SETTING.maximum,
    )
    hot_spot_shape: str = setting(_SHAPE, _SHAPE_SETTING.help, choices=_SHAPE_SETTING.choices)

    @property
    def hot_spot(self) -> HotSpotSettings:
        """Return the area that mitoses are counted in."""
        return HotSpotSettings(area_mm2=self.hot_spot_mm2, shape=self.hot_spot_shape)

    def floor(self, threshold: float) -> float:
        """Return the lowest probability of a point that is kept: the slider's end, unless a threshold is lower."""
        return min(_FLOOR, self.mitosis_threshold or threshold, threshold)
