"""Runs a plan: readers ahead of the network, the network without a pause, the store behind it.

Reading, computing and writing are three stages on threads of their own, tied by futures. At most as many ROIs are under
way as there are readers, lanes and queue places: these bound the memory, whatever the slide's size.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from napari_metastasis.errors import DeviceError, DeviceMemoryError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, any_of_blocks
from napari_metastasis.scanning.engines.base import Engine, FloatArray, UInt8Array
from napari_metastasis.scanning.maps.kinds import PROBABILITY
from napari_metastasis.scanning.plan import BoolArray, Roi, ScanPlan
from napari_metastasis.scanning.views import encode_views, predict_views
from napari_metastasis.settings import ScanSettings
from napari_metastasis.slides import reading_threads

__all__ = ["AnswerSink", "DenseScan", "FeatureSink", "FinishedPiece", "Reader", "never"]

#: Probabilities of an ROI, and its features where they are kept.
_Answers = tuple[FloatArray, FloatArray | None]

#: How long the consumer waits for an answer before it looks whether it should stop.
_POLL_SECONDS = 0.05


class Reader(Protocol):
    """What a scan needs of a slide. Called from many threads at once."""

    def read(self, frame: ModelFrame, region: Region) -> UInt8Array:
        """Return model pixels, uint8 (rows, columns, 3), white outside the slide."""
        ...


class AnswerSink(Protocol):
    """What a scan needs of a store."""

    def write(self, cells: Region, answers: FloatArray) -> None:
        """Store answers; NaN leaves a cell as it is."""
        ...


class FeatureSink(Protocol):
    """What a scan needs of a store of features."""

    def write(self, cells: Region, features: FloatArray) -> None:
        """Store float32 features, (views, rows, columns, features) of native cells; NaN leaves a cell as it is."""
        ...


@dataclass(frozen=True, slots=True)
class FinishedPiece:
    """A piece of a map that is answered and stored.

    Attributes
    ----------
    map
        Name of the map.
    cells
        Where the answers lie on it.
    values
        float32, (rows, columns) of ``cells``; NaN where there is no new answer to keep: on glass, in cells answered
        before, and in cells around the region whose features alone are read.
    model_px
        Model pixels that this piece answers for, as progress counts them.
    done, total
        Model pixels answered by this scan until now, and by all of it.
    """

    map: str
    cells: Region
    values: FloatArray
    model_px: int
    done: int = 0
    total: int = 0


def never() -> bool:
    """Return False: the ``should_stop`` of a scan that runs to its end."""
    return False


@dataclass(frozen=True, slots=True)
class DenseScan:
    """A pass that reads pixels: probabilities come out, and the features that later passes read.

    An ROI that does not fit the device's memory is split, and so is every later one of its size.

    Attributes
    ----------
    slide
        Read with ``settings.threads`` threads, which decode ahead of the network; 0 takes what suits the engine.
    engine
        Runs the network.
    plan
        What to scan.
    store
        Where the answers are stored.
    settings
        ``threads``, ``queue_rois``, ``augment_views`` and ``dense_coefficient`` are used.
    features
        Where the encoder's features are stored, each ROI's before its answers; the plan then has blocks of
        ``dense_coefficient`` cells. ``None`` where no pass reads features.
    map
        Name of the map that is written.
    """

    slide: Reader
    engine: Engine
    plan: ScanPlan
    store: AnswerSink
    settings: ScanSettings
    features: FeatureSink | None = None
    map: str = PROBABILITY.name

    @property
    def model_px(self) -> int:
        """Return the model pixels that are to be answered."""
        return self.plan.model_px

    def run(self, should_stop: Callable[[], bool] = never) -> Generator[FinishedPiece]:
        """Scan, and yield each finished ROI, in the plan's order, after it was stored.

        Closing the generator ends the scan like ``should_stop``: no thread is left, and what was yielded is stored.

        Parameters
        ----------
        should_stop
            Asked several times a second; the scan ends once it returns True.

        Raises
        ------
        CorruptSlideError
            If a part of the slide cannot be read.
        DeviceError
            If the device fails, its memory does not take a single patch, or an answer is no number.
        StorageError
            If an answer cannot be stored.
        """
        plan = self.plan
        stages = _Stages(self.slide, self.engine, plan.frame, self.settings, encodes=self.features is not None)
        try:
            todo = deque(plan.rois)
            too_large_px = math.inf
            while todo or stages.pending:
                while todo and stages.has_room:
                    roi = todo.popleft()
                    if roi.read.size.area >= too_large_px and not roi.is_single:
                        todo.extendleft(reversed(roi.halves(plan.frame)))
                        continue
                    stages.begin(roi)
                roi, future = stages.pending[0]
                while not future.done():
                    if should_stop():
                        return
                    wait([future], timeout=_POLL_SECONDS)
                if should_stop():
                    return
                stages.pending.popleft()
                try:
                    answers, encoded = future.result()
                except DeviceMemoryError as error:
                    if roi.is_single:
                        raise _no_room(self.engine) from error
                    too_large_px = min(too_large_px, roi.read.size.area)
                    stages.begin_first(roi.halves(plan.frame))
                    continue
                yield self._stored(roi, answers, encoded)
        finally:
            stages.close()

    def _stored(self, roi: Roi, answers: FloatArray, encoded: FloatArray | None) -> FinishedPiece:
        """Store an ROI's features, then its answers."""
        plan = self.plan
        needed = plan.needed[roi.write.slices]
        # A window of whole blocks may answer past the map's edge.
        answers = answers[: roi.write.height, : roi.write.width]
        if np.isnan(answers[needed]).any():
            raise _no_numbers(self.engine)
        answers[~plan.kept[roi.write.slices]] = np.nan
        if self.features is not None and encoded is not None:
            self._store_features(roi, encoded, needed)
        self.store.write(roi.write, answers)
        model_px = roi.write.size.area * plan.frame.stride_px**2
        return FinishedPiece(map=self.map, cells=roi.write, values=answers, model_px=model_px)

    def _store_features(self, roi: Roi, encoded: FloatArray, needed: BoolArray) -> None:
        """Store the features of the native cells of which any dense cell is needed."""
        assert self.features is not None
        of_native = any_of_blocks(needed, roi.block)
        rows, columns = of_native.shape
        encoded = encoded[:, :rows, :columns]
        if np.isnan(encoded[:, of_native]).any():
            raise _no_numbers(self.engine)
        encoded[:, ~of_native] = np.nan
        self.features.write(roi.write.coarse(roi.block), encoded)


def _no_room(engine: Engine) -> DeviceError:
    elsewhere = "" if engine.device == "cpu" else ", or choose --device cpu"
    return DeviceError(
        f"expected room on {engine.device} for a single patch, but its memory is full; "
        f"close other programs that use it{elsewhere}"
    )


def _no_numbers(engine: Engine) -> DeviceError:
    # Stored, they would read as "not scanned", and no later scan would ever come to an end.
    remedy = "choose another model" if engine.precision == "float32" else "choose --precision float32"
    return DeviceError(f"expected probabilities from {engine.name} in {engine.precision}, got NaN; {remedy}")


class _Stages:
    """The threads of one scan: readers, then one for each lane of the engine; the consumer takes :attr:`pending`.

    Attributes
    ----------
    pending
        ROIs that were begun and not yet taken, in the order of the plan.
    """

    def __init__(
        self, slide: Reader, engine: Engine, frame: HeatmapFrame, settings: ScanSettings, *, encodes: bool
    ) -> None:
        self._slide = slide
        self._engine = engine
        self._frame = frame
        self._views = settings.augment_views
        self._encodes = encodes
        threads = reading_threads(settings.threads, beside_network=engine.device == "cpu")
        self._capacity = threads + engine.lanes + settings.queue_rois
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="read-roi")
        self._lanes = ThreadPoolExecutor(engine.lanes, thread_name_prefix="run-roi")
        self.pending: deque[tuple[Roi, Future[_Answers]]] = deque()

    @property
    def has_room(self) -> bool:
        """Return whether another ROI may begin."""
        return len(self.pending) < self._capacity

    def _submit(self, roi: Roi) -> tuple[Roi, Future[_Answers]]:
        image = self._readers.submit(self._slide.read, self._frame.model, roi.read)
        # A lane waits for its image; both pools work in the order of submission, so that it is the next to be read.
        return roi, self._lanes.submit(self._answers, image)

    def _answers(self, image: Future[UInt8Array]) -> _Answers:
        if self._encodes:
            return encode_views(self._engine, image.result(), self._views)
        return predict_views(self._engine, image.result(), self._views), None

    def begin(self, roi: Roi) -> None:
        """Read and compute an ROI behind those that were begun before."""
        self.pending.append(self._submit(roi))

    def begin_first(self, rois: Sequence[Roi]) -> None:
        """Read and compute ROIs that are to be taken before those that were begun."""
        self.pending.extendleft(reversed([self._submit(roi) for roi in rois]))

    def close(self) -> None:
        """Drop ROIs that were not begun, wait for the others, and end every thread."""
        # The readers first: a lane may be waiting for an image, which then arrives or is cancelled.
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._lanes.shutdown(wait=True, cancel_futures=True)
        self.pending.clear()
