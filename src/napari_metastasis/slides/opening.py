"""Open a slide: choose the backend that reads it, or say why none can."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from napari_metastasis.errors import (
    FluorescenceError,
    MissingDependencyError,
    MissingPixelSizeError,
    NotASlideError,
    SettingsError,
    SlideError,
)
from napari_metastasis.geometry import Region
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slide_address import SlidePath, SlideUrl, slide_path
from napari_metastasis.slide_suffixes import CHOOSE
from napari_metastasis.slides.backend import Backend, UInt8Array, UnsupportedDialectError
from napari_metastasis.slides.dicom_folder import dicom_files
from napari_metastasis.slides.metadata import MAX_MPP, MIN_MPP
from napari_metastasis.slides.readers import READERS, Glance, Reader, readers_of
from napari_metastasis.slides.remote import open_remote
from napari_metastasis.slides.slide import Slide
from napari_metastasis.slides.swapped import SwappedBackend
from napari_metastasis.slides.zarr_files import is_zarr

__all__ = ["check_brightfield", "open_backend", "open_slide", "pixel_size", "slide_file"]

_DEFAULTS = SlideSettings()

#: Pixels are taken as square up to this difference between x and y; one number then serves both.
_MAX_ANISOTROPY = 0.02

#: Tiles that decide whether the background is dark; more would make opening slow.
_SAMPLED_TILES = 16
#: Of a tile, every fourth pixel along each side is enough.
_SAMPLE_STEP = 4
#: A pixel is dark where no channel reaches the first level, and light where every channel reaches the second.
_DARK, _LIGHT = 64, 160
_DARK_SHARE, _LIGHT_SHARE = 0.5, 0.005


def open_slide(
    path: str | SlidePath,
    mpp: float | None = None,
    settings: SlideSettings = _DEFAULTS,
    *,
    backend: str = "auto",
    swap_red_blue: bool = False,
) -> Slide:
    """Open a whole-slide image.

    Parameters
    ----------
    path
        A slide file, a folder with the DICOM files of one slide, an OME-Zarr (a folder, or one .zip file), or the
        address of a TIFF or an OME-Zarr (https://…, s3://…).
    mpp
        Micrometres per level-0 pixel; needed where the file states none; it overrides the file's.
    settings
        Size of cache, chunks and thumbnail.
    backend
        Library that reads, by its name in :data:`~napari_metastasis.slides.readers.READERS`; ``auto`` takes the one
        that fits best.
    swap_red_blue
        Whether the file holds red and blue in each other's place, and they are put right.

    Returns
    -------
    Slide
        Close it, or use it in a ``with`` statement.

    Raises
    ------
    NotASlideError
        If there is no such file, or it is no slide that can be read.
    CorruptSlideError
        If the file is cut off or damaged.
    MissingPixelSizeError
        If the file states no pixel size, or one that differs along x and y, and ``mpp`` is not given.
    FluorescenceError
        If the image is no brightfield image.
    NetworkError
        If a slide at an address cannot be reached.
    MissingDependencyError
        If the library that reads the file, or what reads addresses, is not installed.
    SettingsError
        If ``mpp`` cannot be the pixel size of a slide, or there is no such backend.
    """
    path = slide_path(path)
    if backend not in (names := ("auto", *(reader.name for reader in READERS))):
        raise SettingsError(f"expected backend to be one of {', '.join(names)}, got {backend!r}; choose one of them")
    if mpp is not None and not (math.isfinite(mpp) and MIN_MPP <= mpp <= MAX_MPP):
        raise SettingsError(
            f"expected a pixel size between {MIN_MPP:g} and {MAX_MPP:g} µm, got {mpp:g}; "
            "look it up in the scanner's settings (0.25 is usual at 40x, 0.5 at 20x)"
        )
    file = slide_file(path)
    reader = open_backend(file, backend, settings)
    if swap_red_blue:
        reader = SwappedBackend(reader)
    try:
        check_brightfield(reader, path.name)
        return Slide(
            path,
            reader,
            file=file,
            mpp=pixel_size(reader, path.name) if mpp is None else float(mpp),
            mpp_supplied=mpp is not None,
            swapped=swap_red_blue,
            settings=settings,
            reopen=(_reopen, (path, mpp, settings, backend, swap_red_blue)),
        )
    except BaseException:
        reader.close()
        raise


def _reopen(path: SlidePath, mpp: float | None, settings: SlideSettings, backend: str, swapped: bool) -> Slide:
    return open_slide(path, mpp, settings, backend=backend, swap_red_blue=swapped)


def slide_file(path: SlidePath) -> SlidePath:
    """Return what a reader opens: a file, the folder of a format that is one, or an address.

    Raises
    ------
    NotASlideError
        If there is none.
    """
    if isinstance(path, SlideUrl):
        return path
    remedy = CHOOSE
    try:
        if path.is_dir():
            if is_zarr(path):
                return path
            inside = dicom_files(path)
            if inside:
                return inside[0]
            raise NotASlideError(f"expected a slide file, got the folder {path}; {remedy}").in_window(
                f"The folder {path.name} holds no slide that can be read. {remedy[:1].upper()}{remedy[1:]}."
            )
        if not path.exists():
            raise NotASlideError(f"expected a slide file, but {path} does not exist; check the path")
        if not path.is_file():
            raise NotASlideError(f"expected a slide file, got {path}, which is no regular file; {remedy}")
        if path.stat().st_size == 0:
            raise NotASlideError(f"expected a slide file, but {path.name} is empty; copy it again from its source")
    except OSError as error:
        raise NotASlideError(
            f"expected a slide file, but {path} cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    return path


def open_backend(path: SlidePath, backend: str, settings: SlideSettings) -> Backend:
    """Open what :func:`slide_file` found with a reader, or with the one that fits best.

    Raises
    ------
    SlideError, MissingDependencyError
        As :func:`open_slide` does.
    """
    if isinstance(path, SlideUrl):
        return open_remote(path, settings)
    glance = Glance(path)
    fitting = readers_of(glance)
    if backend == "auto":
        # Nothing is seen in the file: OpenSlide says so.
        return _first_that_opens(path, fitting or [_named("openslide")], settings)
    chosen = _named(backend)
    if chosen.reads and chosen not in fitting:
        raise NotASlideError(
            f"expected a {chosen.reads} file for {backend}, got {path.name}; let the backend be chosen automatically"
        )
    return _first_that_opens(path, [chosen], settings)


def _named(name: str) -> Reader:
    return next(reader for reader in READERS if reader.name == name)


def _first_that_opens(path: Path, readers: list[Reader], settings: SlideSettings) -> Backend:
    """Open a file with the first reader that is there and knows its dialect.

    Raises
    ------
    MissingDependencyError
        If a reader is not there, and none of the others opens the file.
    SlideError
        As the first that is there has it.
    """
    missing: list[MissingDependencyError] = []
    failed: list[Exception] = []
    for reader in readers:
        if not reader.installed:
            missing.append(reader.missing(path))
            continue
        try:
            return reader.open(path, settings)
        except UnsupportedDialectError as error:
            failed.append(error)
        except SlideError as error:
            # A reader that is not there may have known better.
            failed.append(error)
            if not missing:
                break
    raise missing[0] if missing else failed[-1]


def pixel_size(reader: Backend, name: str) -> float:
    """Return the pixel size that a file states, in µm.

    Raises
    ------
    MissingPixelSizeError
        If it states none, or one that differs along x and y.
    """
    stated = reader.metadata.pixel_size
    if stated is None:
        raise MissingPixelSizeError(
            f"expected {name} to state its pixel size, but it does not; supply it in µm per pixel: --mpp on the "
            "command line, or “Set pixel size…” in napari (0.25 is usual at 40x, 0.5 at 20x)"
        ).in_window(f"{name} does not state its pixel size. Enter it with “Set pixel size…”.")
    if abs(stated.x / stated.y - 1) > _MAX_ANISOTROPY:
        raise MissingPixelSizeError(
            f"expected square pixels, but {name} states {stated.x:g} x {stated.y:g} µm; if that is an error of the "
            "file, supply the true size: --mpp on the command line, or “Set pixel size…” in napari"
        )
    return math.sqrt(stated.x * stated.y)


def check_brightfield(reader: Backend, name: str) -> None:
    """Refuse fluorescence images: what the file says, or a dark background.

    Raises
    ------
    FluorescenceError
        If it is one.
    """
    remedy = "choose an H&E slide"
    stated = reader.metadata.fluorescence
    if stated:
        raise FluorescenceError(f"expected a brightfield slide, got fluorescence ({stated}) in {name}; {remedy}")
    pixels = _sampled_pixels(reader)
    dark = float(np.mean(pixels.max(axis=1) < _DARK))
    light = float(np.mean(pixels.min(axis=1) > _LIGHT))
    if dark > _DARK_SHARE and light < _LIGHT_SHARE:
        raise FluorescenceError(
            f"expected a brightfield slide on a light ground, but {dark:.0%} of {name} is dark: a fluorescence image; "
            f"{remedy}"
        )


def _sampled_pixels(reader: Backend) -> UInt8Array:
    """Return pixels from tiles spread over the coarsest level, uint8 of shape (pixels, 3)."""
    level = len(reader.levels) - 1
    stored = reader.levels[level]
    whole = Region.of(stored.size)
    side = math.isqrt(_SAMPLED_TILES)
    wide = min(stored.tile.width, max(1, stored.size.width // side))
    high = min(stored.tile.height, max(1, stored.size.height // side))
    samples = []
    for row in range(side):
        for column in range(side):
            x = (2 * column + 1) * stored.size.width // (2 * side) // stored.tile.width * stored.tile.width
            y = (2 * row + 1) * stored.size.height // (2 * side) // stored.tile.height * stored.tile.height
            pixels = reader.read(level, Region(x, y, wide, high).intersection(whole))
            samples.append(pixels[::_SAMPLE_STEP, ::_SAMPLE_STEP].reshape(-1, 3))
    return np.concatenate(samples)
