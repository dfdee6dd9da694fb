"""What a pass is: what it reads, what it writes, how far it must see around a region, and how it resumes.

A scan makes its passes in order. Each takes the pieces of the passes before it, hands them on, and yields its own as
soon as it can read all that they need. What a pass has written is done: the next scan goes on from there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from napari_metastasis.annotations import Annotation
from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Point, Region
from napari_metastasis.models import Detector, Model, Segmenter
from napari_metastasis.scanning.maps.features import FeatureStore
from napari_metastasis.scanning.maps.kinds import MapKind
from napari_metastasis.scanning.maps.ome_zarr import MapHeader, digest, last_written, precision_of, read_header
from napari_metastasis.scanning.maps.store import MapStore
from napari_metastasis.scanning.plan import BoolArray
from napari_metastasis.scanning.scanner import FinishedPiece, Reader, never
from napari_metastasis.scanning.slide_parts import SlidePart, gather, maps_like
from napari_metastasis.settings import PassSettings, ScanSettings, TissueSettings

__all__ = ["FEATURES", "PIXELS", "Pass", "PassContext", "PreparedPass", "cells_around", "map_path", "run_passes"]

#: What a pass names as read that reads the detector's features, and one that reads the slide.
FEATURES, PIXELS = "features", "pixels"


class FramedReader(Reader, Protocol):
    """A slide whose pixels are read at any resolution."""

    def frame(self, model_mpp: float) -> ModelFrame:
        """Return where pixels of so many µm lie."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PassContext:
    """The scan that a pass belongs to.

    Attributes
    ----------
    slide
        Its pixels, and where those of a resolution lie; as it is.
    seen_by
        Returns how a model sees these pixels: as they are, or as dense as what it was trained on.
    detector, settings
        What the slide is scanned with, and how.
    folder
        The result folder.
    identity
        Everything that decides the scan's own map.
    frame
        Where the scan's cells lie.
    region
        Level-0 pixels asked for; ``None`` for the whole slide.
    outlines
        Areas in it, in level-0 pixels, that points are looked for in; none for all of it.
    around
        From :func:`cells_around`.
    focus
        Level-0 location to begin at; ``None`` for the middle.
    tissue
        bool, (rows, columns): the scan's cells that show tissue; ``None`` where glass is scanned as well.
    tissue_over
        Returns the same of the cells of another frame.
    tissue_settings
        How tissue was told from glass; ``None`` where it was not.
    device
        Where a network runs, as torch takes it.
    maps
        Maps that can be read, by name: the scan's own, and those of the passes before.
    features
        The detector's features; ``None`` where they are not kept.
    should_stop
        Asked while a pass measures its engine.
    part
        The part of the slide that is scanned; ``None`` for the whole of it.
    parts
        Folders of scans that answered parts of it: their answers are taken.
    """

    slide: FramedReader
    seen_by: Callable[[Model], Reader] = field(repr=False)
    detector: Detector
    settings: ScanSettings
    folder: Path
    identity: Mapping[str, Any]
    frame: HeatmapFrame
    region: Region | None
    outlines: tuple[Annotation, ...]
    around: Mapping[str, int]
    focus: Point | None
    tissue: BoolArray | None = field(repr=False)
    tissue_over: Callable[[HeatmapFrame], BoolArray] = field(repr=False)
    tissue_settings: TissueSettings | None
    device: str
    maps: Mapping[str, MapStore] = field(repr=False)
    features: FeatureStore | None = field(repr=False)
    should_stop: Callable[[], bool] = field(default=never, repr=False)
    part: SlidePart | None = None
    parts: tuple[Path, ...] = ()

    @property
    def native(self) -> HeatmapFrame:
        """Return where the detector's native cells lie: those of its features."""
        return self.frame.coarser(self.settings.dense_coefficient)

    def cells_of(self, name: str, frame: HeatmapFrame) -> Region:
        """Return the cells that a map has to be answered for: the region, and what later passes read around it."""
        whole = Region.of(frame.cells)
        if self.region is None:
            return whole
        return frame.cells_over(self.region).grown(self.around.get(name, 0)).intersection(whole)

    def open_map(self, kind: MapKind, frame: HeatmapFrame, decides: Mapping[str, Any]) -> MapStore:
        """Return the store that a pass writes: the one found in the result folder, or a new one.

        What other scans answered of parts of the slide is in it.

        Parameters
        ----------
        kind, frame
            What the map is, and where its cells lie.
        decides
            What its values depend on besides the scan's own map and the tissue; with a ``precision``, on that alone
            and not on the scan's.

        Raises
        ------
        StorageError
            If the folder cannot be written.
        """
        identity = self._identity(decides)
        store = MapStore.open_or_create(
            map_path(self.folder, kind, identity), MapHeader(kind=kind, frame=frame, identity=identity)
        )
        if self.parts and store.refusal is None:
            gather(store, maps_like(store, self.parts))
        return store

    def stored_precision(self, kind: MapKind, decides: Mapping[str, Any]) -> str | None:
        """Return the precision of the stored map that a pass goes on with, of several the last written.

        Parameters
        ----------
        kind, decides
            As :meth:`open_map` takes them.

        Returns
        -------
        ``None`` where there is none, or a precision is asked for.
        """
        if self.settings.precision != "auto":
            return None
        paths = sorted(self.folder.glob(f"{kind.stem}*.ome.zarr"), key=last_written, reverse=True)
        return precision_of([self._identity(decides)], map(_identity_at, paths))

    def _identity(self, decides: Mapping[str, Any]) -> dict[str, Any]:
        tissue = None if self.tissue_settings is None else asdict(self.tissue_settings)
        return {**self.identity, **decides, "tissue": tissue}


def map_path(folder: Path, kind: MapKind, identity: Mapping[str, Any]) -> Path:
    """Return where a map lies: under its own name, or a longer one where a map of other settings has that."""
    path = folder / f"{kind.stem}.ome.zarr"
    if not path.exists():
        return path
    wanted = digest(identity)
    return path if digest(_identity_at(path)) == wanted else folder / f"{kind.stem}-{wanted[:8]}.ome.zarr"


def _identity_at(path: Path) -> Mapping[str, Any]:
    """Return the identity of a stored map; nothing of one that is not ours, or of another version: it is left alone."""
    try:
        return read_header(path).identity
    except StorageError:
        return {}


class PreparedPass(Protocol):
    """A pass that is ready to run."""

    @property
    def store(self) -> MapStore:
        """Return the map that it writes."""
        ...

    @property
    def model_px(self) -> int:
        """Return the work that is left, in the detector's model pixels."""
        ...

    @property
    def finished(self) -> bool:
        """Return whether all that was asked for is answered."""
        ...

    def run(self, pieces: Generator[FinishedPiece], should_stop: Callable[[], bool]) -> Generator[FinishedPiece]:
        """Yield the pieces of the passes before, and its own after they were stored.

        Parameters
        ----------
        pieces
            Of the passes before; closed with this.
        should_stop
            Asked before each piece of its own.
        """
        ...

    def close(self) -> None:
        """Close the map; a second call does nothing."""
        ...


class Pass(ABC):
    """One pass of a scan, made of its model and its options."""

    #: The map that it writes.
    writes: ClassVar[MapKind]
    #: What it reads: :data:`FEATURES`, :data:`PIXELS`, or the name of a map.
    reads: ClassVar[str]

    @classmethod
    @abstractmethod
    def of(cls, model: Model, settings: PassSettings) -> Self:
        """Return the pass that a model makes."""

    @property
    def looks(self) -> Detector | Segmenter | None:
        """Return the model that looks at the slide's pixels; ``None`` where the pass reads what others wrote."""
        return None

    @property
    def is_divisible(self) -> bool:
        """Return whether parts of a slide can make it, each for itself: where it waits for no map of the whole."""
        return False

    @property
    def reach_cells(self) -> int:
        """Return how far around a cell the pass reads, in cells of what it reads."""
        return 0

    @property
    @abstractmethod
    def decides(self) -> Mapping[str, Any]:
        """Return what its values depend on besides the scan's own map, as plain values: weights, options, a version."""

    def notes(self, settings: ScanSettings) -> tuple[str, ...]:
        """Return what a person has to know before a scan with these settings."""
        del settings
        return ()

    @abstractmethod
    def prepare(self, context: PassContext) -> PreparedPass:
        """Return the pass ready to run.

        Raises
        ------
        DeviceError
            If the device does not take its network.
        StorageError
            If the result folder cannot be written.
        """


def cells_around(passes: Sequence[Pass]) -> dict[str, int]:
    """Return how many cells around a region each map, and the features, must hold for the passes that read them.

    Without these, a cell at the region's edge would have fewer neighbours than in a scan of the whole slide.

    Parameters
    ----------
    passes
        In their order. Each writes cells of the size that it reads.
    """
    around: dict[str, int] = {}
    for each in reversed(passes):
        reaches = around.get(each.writes.name, 0) + each.reach_cells
        around[each.reads] = max(around.get(each.reads, 0), reaches)
    return around


def run_passes(
    pieces: Generator[FinishedPiece], passes: tuple[PreparedPass, ...], total: int, should_stop: Callable[[], bool]
) -> Generator[FinishedPiece]:
    """Yield the pieces of a scan and of the passes that follow it, each with the progress of the whole.

    Parameters
    ----------
    pieces
        Of the scan itself.
    passes
        That follow, in their order.
    total
        Model pixels of all of them.
    should_stop
        Asked before each piece.
    """
    for following in passes:
        pieces = following.run(pieces, should_stop)
    done = 0
    with closing(pieces):
        for piece in pieces:
            done += piece.model_px
            yield replace(piece, done=done, total=total)
