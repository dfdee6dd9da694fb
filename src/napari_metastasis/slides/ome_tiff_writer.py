"""What makes encoded tiles a pyramidal OME-TIFF: the smaller levels lie in SubIFDs of the first page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import tifffile

from napari_metastasis.slides.backend import UInt8Array
from napari_metastasis.slides.pieces import PyramidPieces
from napari_metastasis.slides.slide import Slide
from napari_metastasis.slides.writer import write_level
from napari_metastasis.storage import atomic_write

__all__ = ["write_ome_tiff"]

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_MICRO = "&#181;m"


def write_ome_tiff(
    path: Path, pieces: PyramidPieces, slide: Slide, *, compression: str, beside: Mapping[str, UInt8Array]
) -> None:
    """Write an OME-TIFF of tiles that are there.

    Parameters
    ----------
    path
        File to write.
    pieces
        The tiles, encoded as ``compression`` says.
    slide
        For what is known of it.
    compression
        As :class:`~napari_metastasis.settings.PyramidSettings` names it.
    beside
        Images that become pages of their own, by their names.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    with atomic_write(path) as file:
        # tifffile wants a name, and this file has none yet.
        named = tifffile.FileHandle(file, name=path.name, offset=0, size=0)
        with tifffile.TiffWriter(named, bigtiff=True) as tiff:
            for level, size in enumerate(pieces.sizes):
                first = {"subifds": len(pieces.sizes) - 1, "description": _description(slide, beside)}
                write_level(
                    tiff,
                    pieces.encoded(level),
                    size,
                    index=level,
                    mpp=slide.mpp,
                    tile_px=pieces.tile_px,
                    compression=compression,
                    more=first if level == 0 else None,
                )
            for image in beside.values():
                tiff.write(np.ascontiguousarray(image), photometric="rgb", compression="adobe_deflate", metadata=None)


def _description(slide: Slide, beside: Mapping[str, UInt8Array]) -> bytes:
    """Return the OME-XML of a slide and of the images beside it."""
    power = slide.objective_power
    instrument = reference = ""
    if power is not None:
        instrument = (
            f'<Instrument ID="Instrument:0"><Objective ID="Objective:0" NominalMagnification="{power:g}"/></Instrument>'
        )
        reference = '<InstrumentRef ID="Instrument:0"/><ObjectiveSettings ID="Objective:0"/>'
    size = f'PhysicalSizeX="{slide.mpp!r}" PhysicalSizeXUnit="{_MICRO}" '
    size += f'PhysicalSizeY="{slide.mpp!r}" PhysicalSizeYUnit="{_MICRO}"'
    images = [_image(0, slide.name, slide.size.shape, size, reference)]
    images += [_image(number, name, image.shape, "", "") for number, (name, image) in enumerate(beside.items(), 1)]
    text = f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_SCHEMA}">{instrument}{"".join(images)}</OME>'
    return text.encode("ascii", errors="xmlcharrefreplace")


def _image(number: int, name: str, shape: tuple[int, ...], size: str, reference: str) -> str:
    # Names need not be UTF-8; XML holds no control characters.
    plain = "".join(sign for sign in name if sign.isprintable() and not "\ud800" <= sign <= "\udfff")
    return (
        f'<Image ID="Image:{number}" Name={quoteattr(plain)}>{reference}<Pixels ID="Pixels:{number}" '
        f'DimensionOrder="XYCZT" Type="uint8" Interleaved="true" SizeX="{shape[1]}" SizeY="{shape[0]}" SizeC="3" '
        f'SizeZ="1" SizeT="1" {size}><Channel ID="Channel:{number}:0" SamplesPerPixel="3"/>'
        f'<TiffData IFD="{number}" PlaneCount="1"/></Pixels></Image>'
    )
