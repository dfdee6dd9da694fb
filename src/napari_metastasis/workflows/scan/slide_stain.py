"""What a slide's stain looks like beside what a model was trained on, and whether it is brought there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from napari_metastasis.errors import ModelError
from napari_metastasis.settings import ScanSettings
from napari_metastasis.slides import Slide
from napari_metastasis.slides.stains import (
    StainedReader,
    mean_density,
    nuclear_tint,
    stain_tables,
    swap_note,
)

if TYPE_CHECKING:
    from napari_metastasis.models import ModelSpec, SegmenterSpec
    from napari_metastasis.scanning.engines.base import UInt8Array
    from napari_metastasis.scanning.scanner import Reader

__all__ = ["SlideStain", "stain_notes"]

#: Of the density that a model was trained on: training varies it from 0.3 to 1.3 times, and less is tested.
_USUAL = (0.4, 1.5)
#: Of red, green or blue: a ten-thousandth of the light comes through.
_MOST_DENSITY = 10.0


@dataclass(frozen=True, slots=True)
class SlideStain:
    """The stain of a slide, as a model sees it.

    Attributes
    ----------
    density
        Mean optical density (natural logarithm) of its tissue, of red, green and blue; ``None`` where it was not
        measured.
    reference
        Of what the model was trained on.
    normalised
        Whether the model sees the slide at that density.
    nuclei
        How much bluer nuclei are than the rest, see :func:`~napari_metastasis.slides.stains.nuclear_tint`; ``None``
        where it was not measured.
    """

    density: tuple[float, ...] | None
    reference: tuple[float, ...]
    normalised: bool
    nuclei: float | None = None

    @classmethod
    def of(cls, pixels: UInt8Array | None, spec: ModelSpec | SegmenterSpec, settings: ScanSettings) -> Self:
        """Return the stain of an open slide.

        Parameters
        ----------
        pixels
            Of its tissue at the model's resolution, from :func:`~napari_metastasis.slides.stains.tissue_pixels`.
        spec, settings
            The model's, and of the scan.

        Raises
        ------
        ModelError
            If it is to be normalised, and the model's card does not say to what.
        """
        wanted = settings.stain == "normalise"
        if wanted and not spec.stain_density:
            raise ModelError(
                f"expected a model whose card has the density of its stains for --stain normalise, got {spec.name}; "
                "scan with --stain as-is"
            )
        found = None if pixels is None or not spec.stain_density else mean_density(pixels)
        tint = None if pixels is None else nuclear_tint(pixels)
        # As it is recorded, so that an earlier result tells the same.
        density = None if found is None else tuple(round(float(value), 3) for value in found)
        nuclei = None if tint is None else round(tint, 3)
        return cls(density, spec.stain_density, wanted and density is not None, nuclei)

    @property
    def ratio(self) -> float | None:
        """Return how many times as dense as in training the slide is; ``None`` where it was not measured."""
        return None if not self.density or not any(self.reference) else sum(self.density) / sum(self.reference)

    @property
    def unusual_density(self) -> str:
        """Return what has to be said of it where it is much paler or denser than in training, and seen as it is."""
        if self.ratio is None or self.normalised or _USUAL[0] <= self.ratio <= _USUAL[1]:
            return ""
        return (
            f"expected stains about as dense as in training, got {self.ratio:.2g} times as dense: answers are less "
            "sure; compare with the stain normalised (--stain normalise, or Stain under Advanced)"
        )

    @property
    def text(self) -> str:
        """Return one line for a person; empty where the stain was not measured."""
        if self.ratio is None:
            return ""
        return f"Stain {self.ratio:.2f} × as dense as in training" + (
            ", scanned at that density" if self.normalised else ""
        )

    def reader(self, slide: Slide) -> Reader:
        """Return what the model reads the slide with."""
        if not self.normalised or self.density is None:
            return slide
        return StainedReader(slide, stain_tables(self.density, self.reference))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` wrote.

        Raises
        ------
        ValueError, TypeError, KeyError
            If it is anything else.
        """
        density, reference = values["density"], tuple(map(float, values["reference"]))
        found = None if density is None else tuple(map(float, density))
        # Of nothing measured, or of a model that does not say, there are none.
        for stain in (found, reference):
            if stain and not (len(stain) == 3 and all(0 <= value <= _MOST_DENSITY for value in stain)):
                raise ValueError("densities that no stain has")
        # Earlier versions did not look at nuclei.
        nuclei = values.get("nuclei")
        return cls(found, reference, bool(values["normalised"]), None if nuclei is None else float(nuclei))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the record of a scan."""
        density = None if self.density is None else list(self.density)
        return {
            "density": density,
            "reference": list(self.reference),
            "normalised": self.normalised,
            "nuclei": self.nuclei,
        }


def stain_notes(stains: Iterable[SlideStain]) -> tuple[str, ...]:
    """Return what has to be said of the results of several models, each thing once: a slide has one stain."""
    stains = tuple(stains)
    exchanged = (swap_note(one.nuclei) for one in stains)
    unusual = (one.unusual_density for one in stains)
    return tuple(note for notes in (exchanged, unusual) if (note := next(filter(None, notes), "")))
