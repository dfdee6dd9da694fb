"""Mitosis models: networks that answer, for each pixel of a fine map, how near a mitosis is (Pearce 2017).

They are trained on maps of points, and are segmentation networks in all else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from napari_metastasis.models.segmenter import Segmenter, SegmenterSpec

__all__ = ["MitosisModel", "MitosisSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MitosisSpec(SegmenterSpec):
    """What a mitosis model expects of a slide, and what its answers mean.

    Its fields are those of a :class:`~napari_metastasis.models.SegmenterSpec`. ``threshold`` is the probability from
    which the highest pixel of a peak is a mitosis.
    """

    task: ClassVar[str] = "mitosis"
    noun: ClassVar[str] = "mitosis model"


@dataclass(frozen=True, slots=True)
class MitosisModel(Segmenter):
    """A network that finds mitoses, with its contract.

    Attributes
    ----------
    spec
        Its contract.
    """

    kind: ClassVar[type[SegmenterSpec]] = MitosisSpec

    spec: MitosisSpec

    @property
    def contract(self) -> None:
        """Return ``None``: its probabilities are not those of tumour, and no lesion is read from them."""
        return
