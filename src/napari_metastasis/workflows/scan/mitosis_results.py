"""The mitoses of a result folder: written there, read back, and listed without their map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_metastasis.annotations import HotSpot
from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import Point, Region
from napari_metastasis.lesions import (
    ListedMitoses,
    Mitoses,
    MitosisCount,
    found_mitoses,
    mitoses_table,
    read_listed_mitoses,
    write_mitoses_csv,
    write_mitoses_geojson,
)
from napari_metastasis.scanning import MITOSES, AnsweredMap, MapStore, margin_cells
from napari_metastasis.settings import HotSpotSettings, MitosisSettings
from napari_metastasis.storage import storage_errors
from napari_metastasis.workflows.scan.mitoses import said_in, with_reviews
from napari_metastasis.workflows.scan.result_files import one_writer, write_record
from napari_metastasis.workflows.scan.result_folder import journals_of, record_of, recorded_pass

if TYPE_CHECKING:
    from napari_metastasis.slides import Slide

__all__ = [
    "MitosisSource",
    "StoredMitoses",
    "listed_mitoses",
    "stored_mitoses",
    "update_mitoses",
    "write_mitoses",
    "write_shown_mitoses",
]

#: The files of a result.
_TABLE, _POINTS = "mitoses.csv", "mitoses.geojson"
#: The table rounds places to a hundredth of a pixel.
_ROUNDED_PX = 0.02


def listed_mitoses(folder: Path, record: Mapping[str, Any]) -> Mitoses | None:
    """Return the mitoses of a result folder with what people say of them now; ``None`` where it has none.

    They are read from its table, so that no map is needed.

    Parameters
    ----------
    folder
        The result folder.
    record
        Its ``run.json``.

    Raises
    ------
    StorageError
        If the table is damaged.
    KeyError, TypeError, ValueError
        If the record is.
    """
    if "mitoses" not in record:
        return None
    known, slide = MitosisCount.from_json(record["mitoses"]), record["slide"]
    table = read_listed_mitoses(folder / _TABLE)
    said = said_in(folder, None if slide.get("bounds") is None else Region(*map(int, slide["bounds"])))
    listed = found_mitoses(
        table.xy,
        table.probability,
        threshold=known.threshold,
        mpp=float(slide["mpp"]),
        searched_mm2=known.searched_mm2,
        tissue_mm2=known.tissue_mm2,
        settings=_area_of(record, known),
        searched=_ListedTissue(table, folder, recorded_pass(record, MITOSES.name), is_all=known.searches_all),
        corrections=said,
    )
    listed = listed.unread() if said is None else listed
    # The record has that of the model's own area; without the map nothing is known of another one.
    spot = known.spot
    is_same = listed.spot is not None and spot is not None and listed.spot.center.distance(spot.center) < 1
    return replace(listed, spot_searched_mm2=known.spot_searched_mm2) if is_same else listed


@dataclass(frozen=True, slots=True, eq=False)
class _ListedTissue:
    """What the table of a result says of where was looked at; of what was added since, its map."""

    table: ListedMitoses
    folder: Path
    made: Mapping[str, Any] | None
    is_all: bool

    def mm2_within(self, _: HotSpot) -> None:
        """Say nothing: the table does not know."""

    def holds(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points lie in what was looked at, as the table says; of others, which surely do.

        All do where all tissue was looked at. Else the map has to answer for all around one: that leaves out a few at
        the edge of tissue, until the map is read with the slide.
        """
        table = self.table
        if not len(xy):
            return np.zeros(0, np.bool_)
        inside, new = np.full(len(xy), self.is_all), np.ones(len(xy), np.bool_)
        if len(table.beside_xy):
            distance, nearest = cKDTree(table.beside_xy).query(xy)
            new = distance > _ROUNDED_PX
            inside[~new] = table.looked_at[nearest[~new]]
        if new.any() and self.made is not None and not self.is_all:
            with suppress(StorageError, KeyError), MapStore.open(self.folder / str(self.made["file"])) as store:
                inside[new] = [_is_surrounded(store, Point(*place)) for place in xy[new].tolist()]
        return inside


def _is_surrounded(store: MapStore, place: Point) -> bool:
    """Return whether a map answers for a place and all around it; see :mod:`~napari_metastasis.scanning.looked_at`."""
    frame = store.frame
    cell, reach = frame.cell_at(place), math.floor(margin_cells(frame))
    column, row = round(cell.x), round(cell.y)
    rows, columns = np.nonzero(np.isnan(store.read(Region(column, row, 1, 1).grown(reach))))
    return not bool((np.hypot(rows - reach, columns - reach) <= margin_cells(frame)).any())


def _area_of(record: Mapping[str, Any], known: MitosisCount) -> HotSpotSettings:
    """Return the area that mitoses are counted in: that of the densest, or where there is none what was asked for."""
    if known.spot is not None:
        return HotSpotSettings(area_mm2=known.spot.area_mm2, shape=known.spot.shape)
    try:
        return MitosisSettings(**record["settings"]["mitosis"]).hot_spot
    except (KeyError, TypeError, ValueError):
        # Damaged by hand, or of another version: nothing says in which area they would have been counted.
        return HotSpotSettings()


@dataclass(frozen=True, slots=True, eq=False)
class StoredMitoses:
    """The map of mitoses that a scan left, and how it was read.

    Attributes
    ----------
    map
        Its answers.
    threshold
        Probability from which mitoses counted last.
    settings
        How they are counted.
    model_name
        Of the model that answered in it.
    source
        Where the map lies.
    """

    map: AnsweredMap
    threshold: float
    settings: MitosisSettings
    model_name: str
    source: MitosisSource


def stored_mitoses(folder: Path, record: Any, journals: Mapping[str, int]) -> StoredMitoses | None:
    """Return the mitoses of a result; ``None`` where its record says of none.

    Parameters
    ----------
    folder
        The result folder.
    record
        What its ``run.json`` says.
    journals
        How long the journals of its maps are.

    Raises
    ------
    StorageError
        If it says of some, but they cannot be read.
    """
    made, source = recorded_pass(record, MITOSES.name), MitosisSource.of(folder, record, journals)
    if made is None or source is None:
        return None
    try:
        model = str(made["model"]["name"])
        settings = MitosisSettings(**record["settings"]["mitosis"])
        threshold = float(record["mitoses"]["threshold"])
        if not (math.isfinite(threshold) and 0 < threshold <= 1):
            raise ValueError("a threshold that is no probability")
        with MapStore.open(folder / source.file) as store:
            shown = AnsweredMap(store.kind, store.frame, store.answered())
            return StoredMitoses(shown, threshold, settings, model, source)
    except (KeyError, TypeError, ValueError, StorageError) as error:
        # Damaged by hand, or of a later version.
        raise StorageError(
            f"expected to read the mitoses found before, but the map of mitoses, {source.file}, cannot be read; look "
            "for them again"
        ) from error


def write_mitoses(folder: Path, mitoses: Mitoses, *, known_as: str, bounds: Region | None) -> None:
    """Write ``mitoses.geojson`` and ``mitoses.csv``, in :func:`~.result_files.one_writer`.

    Parameters
    ----------
    folder
        The result folder.
    mitoses
        What was found.
    known_as
        By what the scan knows the slide.
    bounds
        The slide's bounds, if it states any.

    Raises
    ------
    StorageError
        If the disk refuses; each file is whole or as it was.
    """
    # The table last: what it says is what is compared.
    write_mitoses_geojson(folder / _POINTS, mitoses, slide=known_as, bounds=bounds)
    write_mitoses_csv(folder / _TABLE, mitoses)


def update_mitoses(folder: Path, mitoses: Mitoses, *, known_as: str, bounds: Region | None) -> bool:
    """Write the mitoses of a result anew where its table says something else, and return whether.

    Parameters
    ----------
    folder
        The result folder.
    mitoses
        From :func:`listed_mitoses`.
    known_as, bounds
        As :func:`write_mitoses` takes them.

    Raises
    ------
    StorageError
        If the table cannot be read, or the disk refuses.
    """
    with storage_errors(folder / _TABLE):
        written = (folder / _TABLE).read_bytes()
    if written == mitoses_table(mitoses).encode():
        return False
    write_mitoses(folder, mitoses, known_as=known_as, bounds=bounds)
    return True


@dataclass(frozen=True, slots=True)
class MitosisSource:
    """The map of a result that mitoses were read from.

    Attributes
    ----------
    folder
        The result folder.
    file
        Name of the map's file.
    journal
        How long its journal was, in bytes: it grows with every answer.
    """

    folder: Path
    file: str
    journal: int

    @classmethod
    def of(cls, folder: Path, record: Any, journals: Mapping[str, int]) -> MitosisSource | None:
        """Return the map that a record says the mitoses are of; ``None`` where it says of none."""
        made = recorded_pass(record, MITOSES.name)
        if made is None or "mitoses" not in record:
            return None
        file = str(made["file"])
        return cls(folder, file, journals.get(file, 0))


def write_shown_mitoses(source: MitosisSource, slide: Slide, mitoses: Mitoses) -> bool:
    """Write the mitoses of a result anew as they are shown, and say so in ``run.json``; all else there stays.

    Parameters
    ----------
    source
        What they were read from.
    slide
        The open slide.
    mitoses
        What is shown.

    Returns
    -------
    Whether anything was written: not where the record says of no mitoses.

    Raises
    ------
    StorageError
        If the folder is gone, holds other mitoses than those read, or the disk refuses. Each file is whole or as it
        was.
    """
    folder = source.folder
    with one_writer(folder):
        record = record_of(folder)
        if not isinstance(record, dict) or "mitoses" not in record:
            return False
        if MitosisSource.of(folder, record, journals_of(folder)) != source:
            raise StorageError(
                f"expected the mitoses in {folder} as they were read, got others, which another scan found; open the "
                "slide again to see them, and to write files at another threshold"
            )
        known_as = str(record.get("heatmap", {}).get("identity", {}).get("slide", slide.fingerprint))
        if known_as not in (slide.fingerprint, slide.earlier_fingerprint):
            raise StorageError(
                f"expected results of {slide.name} in {folder}, got those of another slide; scan into another folder"
            )
        listed = with_reviews(mitoses, folder, bounds=slide.bounds)
        write_mitoses(folder, listed, known_as=known_as, bounds=slide.bounds)
        write_record(folder, {**record, "mitoses": listed.own.to_json()})
    return True
