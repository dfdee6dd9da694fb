"""Write any slide that opens as an OME-Zarr 0.5 or as a pyramidal OME-TIFF: whole or not at all, and going on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_metastasis.errors import SettingsError, StorageError, in_one_line
from napari_metastasis.geometry import Region, Size
from napari_metastasis.partials import LOCK_HELD, lock
from napari_metastasis.plain_json import PlainJsonError, read_json
from napari_metastasis.settings import PyramidSettings
from napari_metastasis.slides.backend import UInt8Array
from napari_metastasis.slides.ome_tiff_writer import write_ome_tiff
from napari_metastasis.slides.ome_zarr_writer import describe_ome_zarr, encode_chunk, write_zip
from napari_metastasis.slides.pieces import PyramidPieces, ReadLevel
from napari_metastasis.slides.slide import Slide
from napari_metastasis.slides.writer import check_pyramid, half_size, level_sizes, tile_encoder
from napari_metastasis.storage import atomic_text, storage_errors

__all__ = ["Converted", "convert_slide", "unfinished_folder"]

#: How outputs are called, and what they then are; the longest comes first.
_TIFF = "ome-tiff"
_KINDS = ((".zarr.zip", "ome-zarr-zip"), (".zarr", "ome-zarr"), (".tif", _TIFF), (".tiff", _TIFF))
#: To be raised when the same job writes other bytes.
_VERSION = 1
_LABEL = "label"
_DEFAULTS = PyramidSettings()


@dataclass(frozen=True, slots=True)
class Converted:
    """A slide that was written.

    Attributes
    ----------
    path
        Where it lies.
    levels
        How many there are.
    went_on
        Pieces of an earlier, unfinished conversion that were used.
    notes
        What a person has to know of it, a line each.
    """

    path: Path
    levels: int
    went_on: int
    notes: tuple[str, ...]


def unfinished_folder(output: Path) -> Path:
    """Return the folder beside an output that holds what is finished of it."""
    return output.with_name(f"{output.name}.unfinished")


def convert_slide(
    slide: Slide,
    output: Path,
    settings: PyramidSettings = _DEFAULTS,
    *,
    with_label: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Converted | None:
    """Write a slide in another format; memory holds one piece of it, 64 MiB.

    What was finished when it is stopped, killed, or the disk is full lies in a folder beside the output; the same call
    goes on from there, and ends with the same bytes.

    Parameters
    ----------
    slide
        The open slide.
    output
        ``….zarr`` for a folder, ``….zarr.zip`` for one file, ``….tif`` or ``….tiff`` for an OME-TIFF. An OME-Zarr keeps
        every pixel; of a TIFF the settings say how it is compressed.
    settings
        Tiles, compression of a TIFF, threads.
    with_label
        Whether the image of the label is kept, which may name the patient.
    overwrite
        Whether what lies at ``output`` is replaced, once the new one is whole.
    progress
        Called with the level-0 pixels that are done and those of the slide.
    should_stop
        Asked before every piece.

    Returns
    -------
    What was written; ``None`` where it was stopped.

    Raises
    ------
    SettingsError
        If the output's name tells no format, or tiles have a size that TIFF has not.
    StorageError
        If something lies there, another conversion is at work on it, or the disk refuses.
    SlideError
        If the slide cannot be read to its end.
    """
    kind = _kind_of(output)
    check_pyramid(mpp=slide.mpp, size=slide.size, tile_px=settings.tile_px, levels=None)
    if not overwrite and os.path.lexists(output):
        raise StorageError(
            f"expected the name of a new slide, got {output}, which is there; choose another, or use --overwrite"
        )
    beside, notes = _beside(slide, with_label=with_label)
    levels = _levels(slide, settings.tile_px)
    with _work_folder(output, _job_of(slide, kind, settings)) as work:
        pieces = PyramidPieces(
            work / "slide",
            work / "finished",
            tuple(size for size, _ in levels),
            frozenset(number for number, (_, given) in enumerate(levels) if given is not None),
            settings.tile_px,
            tile_encoder(settings.compression, tile_px=settings.tile_px, quality=settings.quality)
            if kind == _TIFF
            else encode_chunk(settings.tile_px),
        )

        def read(level: int, region: Region) -> UInt8Array:
            given = levels[level][1]
            assert given is not None
            return slide.read_level(given, region)

        went_on = _make_pieces(pieces, read, settings.threads, progress, should_stop)
        if went_on is None:
            return None
        pieces.make_coarse_levels(read)
        _finish(output, kind, work, pieces, slide, settings, beside)
    with storage_errors(output):
        shutil.rmtree(work)
    return Converted(output, len(levels), went_on, notes)


def _kind_of(output: Path) -> str:
    name = output.name.lower()
    kind = next((kind for suffix, kind in _KINDS if name.endswith(suffix) and name != suffix), "")
    if not kind:
        raise SettingsError(
            f"expected the name of a new slide that ends in .ome.zarr, .ome.zarr.zip or .ome.tif, got {output}; choose "
            "one of these, on a disk of this machine"
        )
    return kind


def _job_of(slide: Slide, kind: str, settings: PyramidSettings) -> dict[str, Any]:
    """Return all that decides the bytes of tiles, as plain values."""
    is_tiff = kind == _TIFF
    return {
        "version": _VERSION,
        "slide": slide.fingerprint,
        "mpp": slide.mpp,
        "kind": kind.removesuffix("-zip"),
        "tile_px": settings.tile_px,
        "compression": settings.compression if is_tiff else "zstd",
        "quality": settings.quality if is_tiff and settings.compression == "jpeg" else None,
    }


def _levels(slide: Slide, tile_px: int) -> list[tuple[Size, int | None]]:
    """Return the size of every level to write, each half of the one before, and the slide's own that it is, if any.

    Levels that the file holds are kept, pixel by pixel, so that a model sees the same; what lies between is averaged.
    """
    own = {level.downsample: (level.size, index) for index, level in enumerate(slide.levels) if level.stored}
    found: list[tuple[Size, int | None]] = []
    for number, whole in enumerate(level_sizes(slide.size, tile_px=tile_px, levels=None)):
        # What is averaged is half of the level below, which a scanner may have cut.
        size = half_size(found[-1][0]) if found else whole
        given, index = own.get(2.0**number, (size, None))
        # Scanners cut the last row and column of a level that is odd, or keep it.
        fits = 0 <= whole.width - given.width <= 1 and 0 <= whole.height - given.height <= 1
        found.append((given, index) if fits else (size, None))
    return found


def _beside(slide: Slide, *, with_label: bool) -> tuple[dict[str, UInt8Array], tuple[str, ...]]:
    """Return the images beside a slide that are kept, and what has to be said of them."""
    notes, kept = list(slide.notes), {}
    for name in slide.associated_images:
        if name.lower() == _LABEL and not with_label:
            notes.append("the image of the label is left out, since it may name the patient; --with-label keeps it")
            continue
        try:
            kept[name] = slide.associated_images[name]
        # Readers of damaged images raise what they like; the slide itself is whole.
        except Exception as error:  # noqa: BLE001
            notes.append(f"the {name} image is left out: {in_one_line(error)}")
    if "macro" in kept and not with_label:
        notes.append("the macro image is kept; some scanners' show the label, too: look at it before you hand it on")
    return kept, tuple(notes)


def _make_pieces(
    pieces: PyramidPieces,
    read: ReadLevel,
    threads: int,
    progress: Callable[[int, int], None] | None,
    should_stop: Callable[[], bool],
) -> int | None:
    """Make the pieces that are not there; return how many were, and ``None`` where it was stopped."""
    done = went_on = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="convert") as pool:
        for region in pieces.regions:
            if should_stop():
                return None
            if pieces.is_finished(region):
                went_on += 1
            else:
                pieces.make(region, read, pool)
            done += region.size.area
            if progress is not None:
                progress(done, pieces.sizes[0].area)
    return went_on


def _finish(
    output: Path,
    kind: str,
    work: Path,
    pieces: PyramidPieces,
    slide: Slide,
    settings: PyramidSettings,
    beside: Mapping[str, UInt8Array],
) -> None:
    """Make the output of tiles that are all there."""
    if kind == _TIFF:
        write_ome_tiff(output, pieces, slide, compression=settings.compression, beside=beside)
        return
    describe_ome_zarr(pieces, slide, beside=beside)
    if kind == "ome-zarr-zip":
        write_zip(output, pieces.tiles)
        return
    with storage_errors(output):
        if os.path.lexists(output):
            # Out of the way, and back where the new one cannot take its place.
            replaced = work / "replaced"
            os.rename(output, replaced)
            try:
                os.rename(pieces.tiles, output)
            except BaseException:
                os.rename(replaced, output)
                raise
        else:
            os.rename(pieces.tiles, output)


@contextmanager
def _work_folder(output: Path, job: Mapping[str, Any]) -> Iterator[Path]:
    """Hold the folder of an unfinished conversion, which is this one; alone, and made if need be.

    Raises
    ------
    StorageError
        If it is that of another slide or other settings, somebody else works in it, or the disk refuses.
    """
    work = unfinished_folder(output)
    with storage_errors(work):
        work.mkdir(exist_ok=True)
        descriptor = os.open(work / "writer.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            lock(descriptor)
        except OSError as error:
            if error.errno in LOCK_HELD:
                raise StorageError(
                    f"expected nobody else to write {output}, got another conversion at work; wait for it, or choose "
                    "another output"
                ) from error
        _check_job(work, output, job)
        yield work
    finally:
        os.close(descriptor)


def _check_job(work: Path, output: Path, job: Mapping[str, Any]) -> None:
    """Refuse to go on with another conversion, and write down which one this is."""
    path, known = work / "job.json", None
    with suppress(FileNotFoundError, PlainJsonError):
        known = read_json(path)
    if known is None:
        with atomic_text(path) as file:
            json.dump(dict(job), file, indent=1)
    elif known != dict(job):
        raise StorageError(
            f"expected the unfinished conversion of the same slide with the same settings in {work}, got another one; "
            f"delete that folder, or choose another name than {output.name}"
        )
