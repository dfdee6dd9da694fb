"""How scans are refined."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.settings._core import check, setting

__all__ = ["NOT_REFINED", "RefineSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineSettings:
    """Whether neighbouring patches have a say in each other's answers, and how much of it."""

    refine: bool = setting(False, "Refine the map: an LSTM reads every patch together with its neighbours.")
    refined_share: float = setting(
        1.0,
        "Share of the refined probability in what detections and lesions are read from; the rest is the scan's own.",
        minimum=0.0,
        maximum=1.0,
    )
    keep_features: bool = setting(
        True,
        "Keep the encoded patches of a scan, so that it can be refined later: some twice the heatmap for each view.",
    )

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check(self)

    @property
    def encodes(self) -> bool:
        """Return whether a scan hands out encoded patches, to be refined now or later."""
        return self.refine or self.keep_features


#: Nothing is refined or kept for it: scans that are looked at once, such as those that are mined.
NOT_REFINED = RefineSettings(keep_features=False)
