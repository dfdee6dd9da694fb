"""What is known of a slide's file without reading the slide: for whoever asks why it is not read, or read like this."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from napari_metastasis.errors import FluorescenceError, MissingPixelSizeError, NotASlideError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slide_address import SlidePath, SlideUrl
from napari_metastasis.slides.backend import UInt8Array
from napari_metastasis.slides.opening import check_brightfield, open_backend, pixel_size, slide_file
from napari_metastasis.slides.pyramid import snapped_downsamples
from napari_metastasis.slides.readers import READERS, Glance, readers_of

__all__ = ["LevelFacts", "ReaderFacts", "SlideFacts", "associated_image", "slide_facts"]


@dataclass(frozen=True, slots=True)
class LevelFacts:
    """A level as the file stores it: its size and that of a tile in level pixels, and level-0 pixels along a pixel."""

    size: Size
    downsample: float
    tile: Size


@dataclass(frozen=True, slots=True)
class ReaderFacts:
    """A reader that would take the file.

    Attributes
    ----------
    name
        As ``open_slide(backend=…)`` takes it.
    installed
        Whether its library is there.
    extra
        Of this package, which brings the library; empty where it is always there.
    used
        Whether it is the one that reads.
    """

    name: str
    installed: bool
    extra: str
    used: bool


@dataclass(frozen=True, slots=True)
class SlideFacts:
    """What is known of a file.

    Attributes
    ----------
    path
        As it was given.
    format
        Name of the format.
    levels
        From the finest to the coarsest.
    mpp
        µm per level-0 pixel along x and y; ``None`` where the file states none.
    mpp_source
        Where the file states it.
    objective_power
        Magnification of the objective; ``None`` where the file does not state it.
    bounds
        The part of level 0 that was scanned; ``None`` where all of it was.
    notes
        What would be said of results.
    refused
        Why the slide is not scanned as it is, such as for a missing pixel size; empty where it is.
    readers
        All that would take it, the best first.
    associated
        Names of images beside the slide.
    """

    path: SlidePath
    format: str
    levels: tuple[LevelFacts, ...]
    mpp: tuple[float, float] | None
    mpp_source: str
    objective_power: float | None
    bounds: Region | None
    notes: tuple[str, ...]
    refused: str
    readers: tuple[ReaderFacts, ...]
    associated: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the facts for a JSON file."""
        bounds = self.bounds
        return {
            "path": str(self.path),
            "format": self.format,
            "levels": [
                {
                    "size": [level.size.width, level.size.height],
                    "downsample": level.downsample,
                    "tile": [level.tile.width, level.tile.height],
                }
                for level in self.levels
            ],
            "mpp": None if self.mpp is None else list(self.mpp),
            "mpp_source": self.mpp_source,
            "objective_power": self.objective_power,
            "bounds": None if bounds is None else [bounds.x, bounds.y, bounds.width, bounds.height],
            "notes": list(self.notes),
            "refused": self.refused,
            "readers": [
                {"name": one.name, "installed": one.installed, "extra": one.extra or None, "used": one.used}
                for one in self.readers
            ],
            "associated": list(self.associated),
        }


def slide_facts(path: SlidePath) -> SlideFacts:
    """Return what is known of a slide's file. A few small tiles are decoded, to see whether the slide is light.

    Raises
    ------
    SlideError, MissingDependencyError
        If no reader opens it.
    """
    file = slide_file(path)
    with closing(open_backend(file, "auto", SlideSettings())) as backend:
        refused = ""
        try:
            check_brightfield(backend, path.name)
            pixel_size(backend, path.name)
        except (FluorescenceError, MissingPixelSizeError) as error:
            refused = str(error)
        # At an address, one reader is asked alone.
        fitting = (
            [one for one in READERS if one.name == backend.name]
            if isinstance(file, SlideUrl)
            else readers_of(Glance(file))
        )
        metadata, stated = backend.metadata, backend.metadata.pixel_size
        downsamples = snapped_downsamples(tuple(level.size for level in backend.levels))
        return SlideFacts(
            path=path,
            format=metadata.format,
            levels=tuple(
                LevelFacts(level.size, downsample, level.tile)
                for level, downsample in zip(backend.levels, downsamples, strict=True)
            ),
            mpp=None if stated is None else (stated.x, stated.y),
            mpp_source="" if stated is None else stated.source,
            objective_power=metadata.objective_power,
            bounds=metadata.bounds,
            notes=metadata.notes,
            refused=refused,
            readers=tuple(ReaderFacts(one.name, one.installed, one.extra, one.name == backend.name) for one in fitting),
            associated=tuple(backend.associated),
        )


def associated_image(path: SlidePath, name: str) -> UInt8Array:
    """Return an image beside a slide, such as its label, uint8 of shape (rows, columns, 3).

    Raises
    ------
    NotASlideError
        If the file has no such image.
    SlideError, MissingDependencyError
        If no reader opens the file, or the image cannot be decoded.
    """
    with closing(open_backend(slide_file(path), "auto", SlideSettings())) as backend:
        if name not in backend.associated:
            got = ", ".join(backend.associated) or "none"
            raise NotASlideError(f"expected a {name} image in {path.name}, got {got}; choose another file")
        return backend.associated[name]()
