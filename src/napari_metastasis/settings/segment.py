"""How slides are segmented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from napari_metastasis.settings._core import setting
from napari_metastasis.settings._passes import PassSettings

__all__ = ["SegmentSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSettings(PassSettings):
    """Whether tumour is segmented, where, and whether lesions are read from that."""

    SWITCH: ClassVar[str] = "segment"
    SHARE: ClassVar[str] = "read_segmentation"
    #: It takes about as long as the scan.
    USUAL: ClassVar[bool] = False

    segment: bool = setting(False, "Segment the tumour: lesions get outlines of pixels, and are measured by them.")
    segment_above: float = setting(
        0.0,
        "Draw exact outlines only where the scan finds tumour at least so probable, and around that; "
        "the lowest value, 0, looks at all tissue.",
        minimum=0.0,
        maximum=1.0,
    )
    read_segmentation: bool = setting(
        True, "Read outlines, sizes and the table from the exact outlines; else from the scan."
    )
