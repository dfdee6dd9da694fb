"""The mitoses of a scan: read off their map, written to the result folder, and read back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_metastasis.annotations import Corrections, CorrectionStore, HotSpot
from napari_metastasis.errors import AnnotationError, StorageError
from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, Point, Region
from napari_metastasis.lesions import (
    ListedMitoses,
    Mitoses,
    MitosisCount,
    SearchedTissue,
    find_points,
    found_mitoses,
    mitoses_table,
    read_listed_mitoses,
    write_mitoses_csv,
    write_mitoses_geojson,
)
from napari_metastasis.scanning import MITOSES, AnsweredMap, MapStore, answerable_cells, looked_at
from napari_metastasis.settings import HotSpotSettings, MitosisSettings
from napari_metastasis.storage import storage_errors
from napari_metastasis.workflows.scan.result_files import one_writer, write_record
from napari_metastasis.workflows.scan.result_folder import corrections_folder, journals_of, record_of, recorded_pass

if TYPE_CHECKING:
    from napari_metastasis.slides import Slide, TissueMask
    from napari_metastasis.workflows.scan.prepared import PreparedScan

__all__ = [
    "FoundMitoses",
    "MitosisReading",
    "MitosisSource",
    "StoredMitoses",
    "listed_mitoses",
    "mitoses_of",
    "mitosis_threshold",
    "read_mitoses",
    "stored_mitoses",
    "update_mitoses",
    "with_reviews",
    "write_mitoses",
    "write_shown_mitoses",
]

#: The files of a result.
_TABLE, _POINTS = "mitoses.csv", "mitoses.geojson"
#: The table rounds places to a hundredth of a pixel.
_ROUNDED_PX = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class MitosisReading:
    """A map of mitoses, prepared to be read at every threshold from the floor up.

    Attributes
    ----------
    xy
        (n, 2) float64, all points from the floor up as (x, y) in level-0 pixels, the surest first.
    probability
        (n,) float32.
    floor
        The lowest threshold.
    tissue_mm2
        All tissue of the slide.
    searched
        Where of that was looked at.
    """

    xy: NDArray[np.float64]
    probability: NDArray[np.float32]
    floor: float
    tissue_mm2: float
    searched: SearchedTissue

    def points_at(self, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return places and probabilities of the points at a threshold from the floor up; see the attributes."""
        # As they are stored.
        count = int(np.count_nonzero(self.probability >= np.float32(threshold)))
        return self.xy[:count], self.probability[:count]

    def at(
        self, threshold: float, settings: MitosisSettings, mpp: float, corrections: Corrections | None = None
    ) -> Mitoses:
        """Return the mitoses at a threshold, with what people say of them; one below the floor is the floor."""
        threshold = max(threshold, self.floor)
        return found_mitoses(
            *self.points_at(threshold),
            threshold=float(threshold),
            mpp=mpp,
            searched_mm2=self.searched.mm2,
            tissue_mm2=self.tissue_mm2,
            settings=settings.hot_spot,
            searched=self.searched,
            corrections=corrections,
        )


def read_mitoses(
    cells: ChunkedCells, frame: HeatmapFrame, tissue: TissueMask, settings: MitosisSettings, threshold: float
) -> MitosisReading:
    """Return a map of mitoses, prepared to be read.

    Parameters
    ----------
    cells, frame
        The map.
    tissue
        Where the slide holds tissue.
    settings
        How mitoses are counted.
    threshold
        The lowest that has to be reached, if it is lower than the usual floor.
    """
    floor = settings.floor(threshold)
    rows, columns, sure = find_points(cells, floor=floor, radius=settings.mitosis_radius_um / frame.cell_um)
    first = frame.cell_center(0, 0)
    xy = np.stack([first.x + columns * frame.cell_px, first.y + rows * frame.cell_px], axis=1)
    asked = answerable_cells(tissue, frame, cells)
    searched = SearchedTissue.of(looked_at(asked, cells, frame), frame)
    # In the margin around what was looked at there are answers, and points that were not asked for. A middle may lie
    # on glass, beside the tissue that was.
    in_tissue = asked[np.rint(rows).astype(np.intp), np.rint(columns).astype(np.intp)]
    kept = searched.holds(xy) | ~in_tissue
    return MitosisReading(
        xy=xy[kept],
        probability=sure[kept],
        floor=floor,
        tissue_mm2=int(np.count_nonzero(asked)) * searched.cell_mm2,
        searched=searched,
    )


def mitosis_threshold(prepared: PreparedScan) -> float:
    """Return from which probability mitoses count in a scan: what was asked for, or the model's own; 0 without them."""
    settings = prepared.job.settings_of(MitosisSettings)
    if settings is None:
        return 0.0
    own: float = prepared.models.others["mitosis"].spec.threshold
    return settings.mitosis_threshold or own


def mitoses_of(prepared: PreparedScan, maps: Sequence[AnsweredMap]) -> FoundMitoses | None:
    """Return the mitoses that a scan found; ``None`` where it did not look for them.

    Parameters
    ----------
    prepared
        The scan, at its end or stopped.
    maps
        Its maps.
    """
    found = next((one for one in maps if one.kind.name == MITOSES.name), None)
    settings = prepared.job.settings_of(MitosisSettings)
    if found is None or settings is None:
        return None
    threshold, slide = mitosis_threshold(prepared), prepared.slide
    reading = read_mitoses(found.cells, found.frame, prepared.tissue, settings, threshold)
    said = _said_in(prepared.folder, slide.bounds)
    mitoses = reading.at(threshold, settings, slide.mpp, said)
    return FoundMitoses(mitoses.unread() if said is None else mitoses, reading)


@dataclass(frozen=True, slots=True, eq=False)
class FoundMitoses:
    """The mitoses of a scan.

    Attributes
    ----------
    mitoses
        With what people said of them.
    reading
        What lies at any other threshold.
    """

    mitoses: Mitoses
    reading: MitosisReading


def with_reviews(mitoses: Mitoses, folder: Path, *, bounds: Region | None) -> Mitoses:
    """Return mitoses with what the corrections of their slide say; a damaged file of these is told, and stops nothing.

    Parameters
    ----------
    mitoses
        What a model found; what was said of it before is forgotten.
    folder
        The result folder.
    bounds
        The slide's bounds, if it states any.
    """
    said = _said_in(folder, bounds)
    return mitoses.unread() if said is None else mitoses.reviewed(said)


def _said_in(folder: Path, bounds: Region | None) -> Corrections | None:
    """Return the corrections of a result's slide; ``None`` where they cannot be read."""
    try:
        return CorrectionStore(corrections_folder(folder), bounds=bounds).read()
    except (AnnotationError, StorageError):
        return None


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
    said = _said_in(folder, None if slide.get("bounds") is None else Region(*map(int, slide["bounds"])))
    listed = found_mitoses(
        table.xy,
        table.probability,
        threshold=known.threshold,
        mpp=float(slide["mpp"]),
        searched_mm2=known.searched_mm2,
        tissue_mm2=known.tissue_mm2,
        settings=_area_of(record, known),
        searched=_ListedTissue(table, folder, recorded_pass(record, MITOSES.name)),
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

    def mm2_within(self, _: HotSpot) -> None:
        """Say nothing: the table does not know."""

    def holds(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points lie in what was looked at, as the table says; of others, which the map answers for."""
        table = self.table
        if not len(xy):
            return np.zeros(0, np.bool_)
        inside, new = np.ones(len(xy), np.bool_), np.ones(len(xy), np.bool_)
        if len(table.beside_xy):
            distance, nearest = cKDTree(table.beside_xy).query(xy)
            new = distance > _ROUNDED_PX
            inside[~new] = table.looked_at[nearest[~new]]
        if new.any() and self.made is not None:
            with suppress(StorageError, KeyError), MapStore.open(self.folder / str(self.made["file"])) as store:
                inside[new] = [_is_answered(store, Point(*place)) for place in xy[new].tolist()]
        return inside


def _is_answered(store: MapStore, place: Point) -> bool:
    cell = store.frame.cell_at(place)
    at = Region(round(cell.x), round(cell.y), 1, 1).intersection(Region.of(store.frame.cells))
    return not at.is_empty and not bool(np.isnan(store.read(at)).any())


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
