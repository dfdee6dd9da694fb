"""How scans are refined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from napari_metastasis.settings._core import setting
from napari_metastasis.settings._passes import PassSettings

__all__ = ["RefineSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineSettings(PassSettings):
    """Whether a scan is refined, and how much of the refined map counts."""

    SWITCH: ClassVar[str] = "refine"
    SHARE: ClassVar[str] = "refined_share"
    KEEP: ClassVar[str] = "keep_features"

    refine: bool = setting(False, "Refine the map: an LSTM reads every patch together with its neighbours.")
    refined_share: float = setting(
        1.0,
        "Share of the refined map in what detections and lesions are read from; the rest is the scan's own map.",
        minimum=0.0,
        maximum=1.0,
    )
    keep_features: bool = setting(
        True,
        "Keep the encoded patches of a scan, to refine it later: several times the heatmap's size for each view.",
    )
