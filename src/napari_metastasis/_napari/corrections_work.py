"""The work on the file of corrections that is done beside the window: functions that know neither Qt nor napari."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_metastasis.errors import MetastasisError
from napari_metastasis.memory_file import memory_path

if TYPE_CHECKING:
    from napari_metastasis._napari.reading_progress import ReadingProgress
    from napari_metastasis.annotations import Corrections, CorrectionStore
    from napari_metastasis.slides import Slide

__all__ = ["Kept", "last_save_work", "look_work", "open_work", "rescue_path", "save_work"]

ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What lies on the disk after something was done.

    Attributes
    ----------
    store
        The file.
    corrections
        What it holds.
    held
        Whether it held anything before.
    by_others
        Whether another window or program had changed it.
    disputed
        Keys of what both had changed.
    rescued
        What could not be saved when the slide was closed last, where there is any.
    """

    store: CorrectionStore
    corrections: Corrections
    held: bool = True
    by_others: bool = False
    disputed: tuple[str, ...] = ()
    rescued: Corrections | None = None


def rescue_path(slide: Slide) -> Path:
    """Return where this user's corrections of a slide are kept that could not be saved when it was closed."""
    return memory_path("unsaved-corrections") / f"{slide.fingerprint}.geojson"


def open_work(
    slide: Slide,
    folder: Path | None,
    store: CorrectionStore | None,
    should_stop: ShouldStop,
    *,
    progress: ReadingProgress | None = None,
) -> Kept:
    """Read the corrections of a slide.

    Parameters
    ----------
    slide
        The open slide.
    folder
        Where its results lie; ``None`` where there are none yet.
    store
        What is read so far: it stays, where it is the one.
    progress
        Is told how far it is.
    """
    from napari_metastasis.annotations import CorrectionStore
    from napari_metastasis.workflows.scan import corrections_folder, default_output

    place = default_output(slide) if folder is None else corrections_folder(folder)
    if store is not None and store.path.parent.absolute() == place.absolute():
        return Kept(store, store.saved)
    fresh = CorrectionStore(place, bounds=slide.bounds)
    held = fresh.read() if progress is None else fresh.read(progress.tell(should_stop))
    return Kept(fresh, _looked_through(held), held=fresh.path.exists(), rescued=_rescued(slide))


def save_work(
    store: CorrectionStore | None,
    mine: Corrections,
    _: ShouldStop,
    *,
    slide: Slide,
    folder: Path | None = None,
) -> Kept:
    """Write corrections; where somebody else changed the file, both are put together.

    Parameters
    ----------
    store
        The file; ``None`` where it was not read yet.
    mine
        All of them.
    slide, folder
        As :func:`open_work` takes them.
    """
    from napari_metastasis.annotations import ChangedBeneathError, Corrections

    if store is None:
        store = open_work(slide, folder, None, _).store
        store.merge(mine.merged(store.saved, Corrections())[0])
        return Kept(store, store.saved, by_others=True)
    try:
        store.save(mine)
        kept = Kept(store, mine)
    except ChangedBeneathError:
        together, disputed = store.merge(mine)
        kept = Kept(store, together, by_others=True, disputed=disputed)
    # What it held is part of what was saved.
    with suppress(OSError):
        rescue_path(slide).unlink(missing_ok=True)
    return kept


def last_save_work(
    store: CorrectionStore | None, mine: Corrections, _: ShouldStop, *, slide: Slide, folder: Path | None
) -> None:
    """Write corrections for the last time; where the disk refuses, keep them in the user's own folder."""
    from napari_metastasis.annotations import Corrections, write_corrections

    try:
        save_work(store, mine, _, slide=slide, folder=folder)
    except MetastasisError:
        path = rescue_path(slide)
        before = _rescued(slide) or Corrections()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_corrections(path, mine.merged(before, Corrections())[0], bounds=slide.bounds)


def _rescued(slide: Slide) -> Corrections | None:
    """Return what could not be saved when a slide was closed; ``None`` where there is nothing, or it is damaged."""
    from napari_metastasis.annotations import read_corrections

    path = rescue_path(slide)
    try:
        return read_corrections(path, bounds=slide.bounds).corrections if path.exists() else None
    except MetastasisError:
        return None


def look_work(store: CorrectionStore, _: ShouldStop) -> Kept:
    """Read what somebody else made of the file, if anybody did."""
    if not store.is_changed_beneath:
        return Kept(store, store.saved)
    return Kept(store, _looked_through(store.read()), by_others=True)


def _looked_through(corrections: Corrections) -> Corrections:
    """Return corrections, what a window asks of many of them found out already."""
    for name in ("areas", "points", "places_px", "states"):
        getattr(corrections, name)
    return corrections
