"""Read the pixel size from the metadata of slide files, in every dialect, as µm per pixel."""

from __future__ import annotations

import math
import re
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from napari_metastasis.slides.backend import PixelSize

__all__ = [
    "MAX_MPP",
    "MIN_MPP",
    "aperio_fields",
    "number",
    "ome_objective_power",
    "ome_pixel_size",
    "philips_pixel_size",
    "plausible",
    "resolution_pixel_size",
    "scn_scan",
    "xml_root",
]

#: No light microscope resolves less than 0.05 µm, and no slide scanner stores more than 20 µm per level-0 pixel. Other
#: values are a printer's resolution (72 dpi is 353 µm) or a default that nobody set.
MIN_MPP, MAX_MPP = 0.05, 20.0

_UM_PER_OME_UNIT = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "µm": 1.0,
    "μm": 1.0,  # the Greek letter, which Bio-Formats has written as well
    "um": 1.0,
    "micron": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "Å": 1e-4,
    "in": 25400.0,
}
_UM_PER_TIFF_UNIT = {2: 25400.0, 3: 10000.0}


def number(text: object) -> float | None:
    """Return a finite number read from ``text``, with a decimal comma or point; ``None`` where there is none."""
    try:
        value = float(str(text).strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def plausible(x: float | None, y: float | None, source: str = "") -> PixelSize | None:
    """Return the pixel size, or ``None`` where either number cannot be one of a slide.

    Parameters
    ----------
    x, y
        µm per pixel.
    source
        Where the file states it.
    """
    if x is None or y is None or not (MIN_MPP <= x <= MAX_MPP and MIN_MPP <= y <= MAX_MPP):
        return None
    return PixelSize(x, y, source)


def xml_root(text: str) -> Element | None:
    """Return the root of an XML description, or ``None`` where the text is not XML, or not harmless."""
    try:
        return fromstring(text.strip("\x00 \r\n\t\ufeff").encode())
    except (ParseError, DefusedXmlException, ValueError):
        return None


def aperio_fields(description: str) -> dict[str, str]:
    """Return the ``key = value`` fields of an Aperio ImageDescription; the last of a repeated key wins."""
    fields = {}
    for part in description.split("|")[1:]:
        key, sign, value = part.partition("=")
        if sign:
            fields[key.strip()] = value.strip()
    return fields


def resolution_pixel_size(x: object, y: object, unit: int) -> PixelSize | None:
    """Return the pixel size of the TIFF resolution tags.

    Parameters
    ----------
    x, y
        XResolution and YResolution: (numerator, denominator) pairs in pixels per unit.
    unit
        ResolutionUnit: 2 for inch, 3 for centimetre; without one the numbers mean nothing.
    """
    um = _UM_PER_TIFF_UNIT.get(unit)
    if um is None:
        return None
    return plausible(_um_per_pixel(x, um), _um_per_pixel(y, um), "TIFF resolution")


def _um_per_pixel(resolution: object, um: float) -> float | None:
    if not (isinstance(resolution, tuple | list) and len(resolution) == 2):
        return None
    pixels, units = float(resolution[0]), float(resolution[1])
    return um * units / pixels if pixels > 0 else None


def ome_pixel_size(root: Element, *, width: int, height: int) -> PixelSize | None:
    """Return the pixel size of the image of OME-XML that has this size; a missing unit means µm, as the schema says.

    Images are told apart by their sizes, never by their numbers: writers leave images out of a file, or add some.
    ``None`` where images of this size state different ones.
    """
    found = {
        _ome_size_of(element)
        for element in root.iter()
        if _local(element.tag) == "Pixels"
        and (number(element.get("SizeX")), number(element.get("SizeY"))) == (width, height)
    }
    return found.pop() if len(found) == 1 else None


def _ome_size_of(pixels: Element) -> PixelSize | None:
    """Return the pixel size that a ``Pixels`` element states."""
    sizes = []
    for axis in "XY":
        value = number(pixels.get(f"PhysicalSize{axis}"))
        um = _UM_PER_OME_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        sizes.append(None if value is None or um is None else value * um)
    return plausible(sizes[0], sizes[1], "OME-XML")


def ome_objective_power(root: Element) -> float | None:
    """Return the nominal magnification of the first objective of OME-XML."""
    for element in root.iter():
        if _local(element.tag) == "Objective":
            return number(element.get("NominalMagnification"))
    return None


def philips_pixel_size(description: str) -> PixelSize | None:
    """Return the pixel size of a Philips description: the finest DICOM_PIXEL_SPACING, rows first, in mm."""
    spacings = re.findall(
        r'Name="DICOM_PIXEL_SPACING"[^>]*>\s*(?:"|&quot;)([\d.eE+-]+)(?:"|&quot;)\s+(?:"|&quot;)([\d.eE+-]+)',
        description,
    )
    found = [plausible(_mm(column), _mm(row), "DICOM_PIXEL_SPACING") for row, column in spacings]
    known = [size for size in found if size is not None]
    return min(known, key=lambda size: size.x) if known else None


def _mm(text: str) -> float | None:
    value = number(text)
    return None if value is None else value * 1000


def scn_scan(root: Element, *, width: int, height: int) -> tuple[PixelSize | None, float | None]:
    """Return pixel size and objective power of the image of a Leica SCN description with this level-0 size.

    A ``view`` gives the scanned area in nm.
    """
    for image in (element for element in root.iter() if _local(element.tag) == "image"):
        parts = {_local(element.tag): element for element in image.iter()}
        pixels, view = parts.get("pixels"), parts.get("view")
        if pixels is None or view is None:
            continue
        if (number(pixels.get("sizeX")), number(pixels.get("sizeY"))) != (width, height):
            continue
        across, down = number(view.get("sizeX")), number(view.get("sizeY"))
        size = plausible(
            None if across is None else across / 1000 / width,
            None if down is None else down / 1000 / height,
            "view of the SCN description",
        )
        objective = parts.get("objective")
        return size, None if objective is None else number(objective.text)
    return None, None


def _local(tag: object) -> str:
    return str(tag).rpartition("}")[2]
