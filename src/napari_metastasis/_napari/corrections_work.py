"""The work on the file of corrections that is done beside the window: functions that know neither Qt nor napari."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_metastasis.annotations import Corrections, CorrectionStore
    from napari_metastasis.slides import Slide

__all__ = ["Kept", "look_work", "open_work", "save_work"]

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
    """

    store: CorrectionStore
    corrections: Corrections
    held: bool = True
    by_others: bool = False
    disputed: tuple[str, ...] = ()


def open_work(slide: Slide, folder: Path | None, store: CorrectionStore | None, _: ShouldStop) -> Kept:
    """Read the corrections of a slide.

    Parameters
    ----------
    slide
        The open slide.
    folder
        Where its results lie; ``None`` where there are none yet.
    store
        What is read so far: it stays, where it is the one.
    """
    from napari_metastasis.annotations import CorrectionStore
    from napari_metastasis.workflows.scan import corrections_folder, default_output

    place = default_output(slide) if folder is None else corrections_folder(folder)
    if store is not None and store.path.parent.absolute() == place.absolute():
        return Kept(store, store.saved)
    fresh = CorrectionStore(place, bounds=slide.bounds)
    return Kept(fresh, fresh.read(), held=fresh.path.exists())


def save_work(
    store: CorrectionStore | None,
    mine: Corrections,
    _: ShouldStop,
    *,
    slide: Slide | None = None,
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
        As :func:`open_work` takes them, where there is no store.
    """
    from napari_metastasis.annotations import ChangedBeneathError

    if store is None:
        assert slide is not None
        store = open_work(slide, folder, None, _).store
        store.merge(mine)
        return Kept(store, store.saved, by_others=True)
    try:
        store.save(mine)
    except ChangedBeneathError:
        together, disputed = store.merge(mine)
        return Kept(store, together, by_others=True, disputed=disputed)
    return Kept(store, mine)


def look_work(store: CorrectionStore, _: ShouldStop) -> Kept:
    """Read what somebody else made of the file, if anybody did."""
    if not store.is_changed_beneath:
        return Kept(store, store.saved)
    return Kept(store, store.read(), by_others=True)
