"""What a slide's stain looks like beside what a model was trained on, and what the model reads of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from napari_metastasis.errors import ModelError
from napari_metastasis.geometry import ModelFrame, Region
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
    from napari_metastasis.models.inputs import NetworkInput
    from napari_metastasis.scanning.engines.base import UInt8Array
    from napari_metastasis.scanning.scanner import Reader

__all__ = ["InputReader", "SlideStain", "stain_notes"]

#: Of the density that a model was trained on: training varies it from 0.3 to 1.3 times, and less is tested.
_USUAL = (0.4, 1.5)
#: Of red, green or blue: a ten-thousandth of the light comes through.
_MOST_DENSITY = 10.0
#: What is said of a slide that a network does not see as it is.
_READ_AS = {
    "normalised": "brought to the dyes of a reference",
    "stains": "read as haematoxylin and eosin",
    "both": "read as colours, haematoxylin and eosin",
}


@dataclass(frozen=True, slots=True)
class InputReader:
    """Reads what a network reads of a slide.

    Attributes
    ----------
    slide
        The open slide.
    network_input
        What is made of its pixels.
    dyes
        The slide's, eight numbers.
    """

    slide: Reader
    network_input: NetworkInput
    dyes: tuple[float, ...]

    def read(self, frame: ModelFrame, region: Region) -> UInt8Array:
        """Return model pixels, uint8 (rows, columns, channels); white is read outside the slide."""
        return self.network_input.of_pixels(self.slide.read(frame, region), self.dyes)


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
    dyes
        The slide's haematoxylin and eosin, eight numbers; none where the model sees it without them.
    read_as
        What the model reads of the slide: a kind of :class:`~napari_metastasis.models.inputs.NetworkInput`.
    target
        The dyes that the slide is brought to, eight numbers; none where it is not.
    """

    density: tuple[float, ...] | None
    reference: tuple[float, ...]
    normalised: bool
    nuclei: float | None = None
    dyes: tuple[float, ...] = ()
    read_as: str = "rgb"
    target: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        pixels: UInt8Array | None,
        spec: ModelSpec | SegmenterSpec,
        settings: ScanSettings,
        dyes: tuple[float, ...] = (),
    ) -> Self:
        """Return the stain of an open slide.

        Parameters
        ----------
        pixels
            Of its tissue at the model's resolution, from :func:`~napari_metastasis.slides.stains.tissue_pixels`.
        spec, settings
            The model's, and of the scan.
        dyes
            The slide's, where a model needs them.

        Raises
        ------
        ModelError
            If it is to be normalised, and the model's card does not say to what, or the model reads no colours.
        """
        wanted = settings.stain == "normalise"
        if wanted and not spec.stain_density:
            raise ModelError(
                f"expected a model whose card has the density of its stains for --stain normalise, got {spec.name}; "
                "scan with --stain as-is"
            )
        # Imported with torch, which earlier results are read without.
        from napari_metastasis.models.inputs import input_of

        network_input = input_of(spec, settings.stain)
        found = None if pixels is None or not spec.stain_density else mean_density(pixels)
        tint = None if pixels is None else nuclear_tint(pixels)
        # As it is recorded, so that an earlier result tells the same.
        density = None if found is None else tuple(round(float(value), 3) for value in found)
        nuclei = None if tint is None else round(tint, 3)
        read_as = (dyes, network_input.kind, network_input.target) if network_input.needs_stains else ()
        return cls(density, spec.stain_density, wanted and density is not None, nuclei, *read_as)

    @property
    def ratio(self) -> float | None:
        """Return how many times as dense as in training the slide is; ``None`` where it was not measured."""
        return None if not self.density or not any(self.reference) else sum(self.density) / sum(self.reference)

    @property
    def unusual_density(self) -> str:
        """Return what has to be said of it where it is much paler or denser than in training, and seen as it is."""
        if self.ratio is None or self.normalised or self.dyes or _USUAL[0] <= self.ratio <= _USUAL[1]:
            return ""
        return (
            f"expected stains about as dense as in training, got {self.ratio:.2g} times as dense: answers are less "
            "sure; compare with the stain normalised (--stain normalise, or Stain under Advanced)"
        )

    @property
    def text(self) -> str:
        """Return one line for a person; empty where the stain was not measured."""
        if self.dyes:
            dense = "" if self.ratio is None else f"{self.ratio:.2f} × as dense as in training, "
            return f"Stain {dense}{_READ_AS[self.read_as]}"
        if self.ratio is None:
            return ""
        return f"Stain {self.ratio:.2f} × as dense as in training" + (
            ", scanned at that density" if self.normalised else ""
        )

    def reader(self, slide: Slide) -> Reader:
        """Return what the model reads the slide with."""
        if self.dyes:
            from napari_metastasis.models.inputs import NetworkInput

            return InputReader(slide, NetworkInput(self.read_as, self.target), self.dyes)
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
        told = bool(values["normalised"]), None if nuclei is None else float(nuclei)
        read_as = values.get("read_as")
        if read_as is None:
            return cls(found, reference, *told)
        dyes, target = tuple(map(float, values["dyes"])), tuple(map(float, values["target"]))
        return cls(found, reference, *told, dyes, _known(read_as), target)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the record of a scan."""
        density = None if self.density is None else list(self.density)
        return {
            "density": density,
            "reference": list(self.reference),
            "normalised": self.normalised,
            "nuclei": self.nuclei,
            **self._input_json(),
        }

    def _input_json(self) -> dict[str, Any]:
        """Return the dyes and what is read, where the slide is not seen as it is."""
        if not self.dyes:
            return {}
        return {"read_as": self.read_as, "dyes": list(self.dyes), "target": list(self.target)}


def _known(read_as: Any) -> str:
    if read_as not in _READ_AS:
        raise ValueError("an input that no network reads")
    return str(read_as)


def stain_notes(stains: Iterable[SlideStain]) -> tuple[str, ...]:
    """Return what has to be said of the results of several models, each thing once: a slide has one stain."""
    stains = tuple(stains)
    exchanged = (swap_note(one.nuclei) for one in stains)
    unusual = (one.unusual_density for one in stains)
    return tuple(note for notes in (exchanged, unusual) if (note := next(filter(None, notes), "")))
