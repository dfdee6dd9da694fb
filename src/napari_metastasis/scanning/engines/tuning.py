"""Which engine, precision and ROI size are fastest here: measured once, remembered for this machine.

Which ways are worth measuring is decided purely. Results lie in a small JSON file in the user's cache, which may be
lost or damaged at any time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from napari_metastasis.errors import (
    DeviceError,
    DeviceMemoryError,
    MetastasisError,
    MissingDependencyError,
    ScanCancelledError,
)
from napari_metastasis.memory_file import change_memory, memory_entries, read_memory
from napari_metastasis.scanning.engines.base import Engine, FloatArray, UInt8Array
from napari_metastasis.scanning.scanner import never
from napari_metastasis.settings import ScanSettings, TuningSettings

__all__ = ["Candidate", "Tuned", "TuningCache", "candidates", "measure", "phantom", "tune"]

#: Sides tried, in model pixels. Small ones stay in a processor's cache and answer soon; large ones fill a GPU.
ROI_PX = {"cpu": (640, 1152), "mps": (1152, 2176), "cuda": (1152, 2176, 4224)}

#: A larger ROI has to be this much faster, because it answers later and takes more memory.
_WORTH = 1.05

#: An engine that reaches less than this share of another's rate in a small window is not tried in larger ones.
_HOPE = 0.8

#: Runs of one window, unless the first takes long.
_RUNS = 3
_LONG_SECONDS = 0.8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to run the network that may be the fastest."""

    engine: str
    precision: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was found to be fastest.

    Attributes
    ----------
    engine, precision
        As the settings name them.
    roi_px
        Side of an ROI, in model pixels.
    mpx_per_s
        Model pixels answered per second, in millions, while it was measured.
    """

    engine: str
    precision: str
    roi_px: int
    mpx_per_s: float


def candidates(
    *,
    engine: str,
    precision: str,
    device: str,
    openvino_precisions: Sequence[str],
    torch_precisions: Sequence[str],
    runs_on: Sequence[str] = ("openvino", "torch"),
) -> tuple[Candidate, ...]:
    """Return every way that the settings allow and this machine does in hardware, the most promising first.

    Parameters
    ----------
    engine, precision
        As set; ``"auto"`` leaves the choice.
    device
        Kind of device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
    openvino_precisions, torch_precisions
        What each computes in hardware here, ``"float32"`` among them; empty where OpenVINO is not installed.
    runs_on
        Engines that run the network.
    """
    offered = {
        "openvino": openvino_precisions if device == "cpu" else (),
        "torch": torch_precisions,
        "onnxruntime": ("float32",),
    }
    found = []
    for name, known in offered.items():
        if engine not in ("auto", name) or name not in runs_on:
            continue
        # The reduced ones first: where a processor has them, they are several times faster.
        wanted = sorted(known, key=lambda each: each == "float32") if precision == "auto" else [precision]
        # An engine or a precision that was asked for by name is tried even where it will be slow, or refuse.
        found += [Candidate(name, each) for each in wanted if each in known or engine == name or name != "openvino"]
    return tuple(found)


def phantom(side_px: int) -> UInt8Array:
    """Return a seeded image with the colours and the grain of H&E-stained tissue, uint8 (1, side, side, 3).

    Noise alone would not do: networks answer it all alike, and a precision that ruins real answers would pass.
    """
    generator = np.random.default_rng(2019)
    tissue = np.zeros((side_px, side_px))
    for grain_px in (4, 12, 48):
        cells = generator.random((-(-side_px // grain_px),) * 2)
        tissue += np.kron(cells, np.ones((grain_px, grain_px)))[:side_px, :side_px] / 3
    nuclei = np.clip((tissue - 0.5) * 6, 0, 1)[..., None]
    eosin, haematoxylin = np.array([225.0, 165.0, 200.0]), np.array([85.0, 50.0, 125.0])
    colour = eosin * (1 - nuclei) + haematoxylin * nuclei + generator.normal(0, 6, (side_px, side_px, 1))
    image: UInt8Array = np.clip(colour, 0, 255).astype(np.uint8)[None]
    return image


def measure(engine: Engine, image: UInt8Array) -> float:
    """Return the seconds that one run of ``image`` takes, the fastest of a few.

    Other programs only ever slow a run down. The first run also fills caches, and decides alone where it is long.
    """
    fastest = math.inf
    for _ in range(_RUNS):
        begun = time.perf_counter()
        engine.run(image)
        fastest = min(fastest, time.perf_counter() - begun)
        if fastest > _LONG_SECONDS:
            break
    return fastest


def tune(
    ways: Sequence[Candidate],
    *,
    build: Callable[[Candidate], Engine],
    reference: Callable[[UInt8Array], FloatArray],
    windows: Mapping[int, int],
    settings: TuningSettings,
    should_stop: Callable[[], bool] = never,
    image_of: Callable[[int], UInt8Array] = phantom,
) -> tuple[Tuned, Engine]:
    """Return the fastest way that is accurate enough with the window that suits it, and its engine, ready to run.

    Parameters
    ----------
    ways
        Tried in this order until the time is spent; the first that runs is always measured.
    build
        Makes the engine of a candidate.
    reference
        The network's float32 answers to an image.
    windows
        Side of a window -> side of the square that its answers stand for, both in model pixels, ascending. A window's
        margin is read but answers for nothing.
    settings
        When to stop, and what is accurate enough.
    should_stop
        Asked before each window.
    image_of
        Returns an image of tissue of a side, uint8 (1, side, side, channels), as the network reads it.

    Raises
    ------
    DeviceError
        If none of them runs.
    ScanCancelledError
        If ``should_stop`` said so.
    """
    deadline = time.perf_counter() + settings.budget_seconds
    best: tuple[Tuned, Engine] | None = None
    refusal: MetastasisError | None = None
    for way in ways:
        if best is not None and time.perf_counter() > deadline:
            break
        beat = best[0].mpx_per_s if best else 0.0
        try:
            with _closed_on_error(build(way)) as engine:
                if way.precision != "float32" and len(ways) > 1:
                    _check_accuracy(engine, reference, image_of(min(windows)), settings.tolerance)
                found = _measured(engine, way, windows, image_of, beat=beat, deadline=deadline, should_stop=should_stop)
        except (DeviceError, MissingDependencyError) as error:
            refusal = error
            continue
        except ScanCancelledError:
            if best is not None:
                best[1].close()
            raise
        if found.mpx_per_s <= beat:
            engine.close()
            continue
        if best is not None:
            best[1].close()
        best = found, engine
    if best is None:
        raise refusal or DeviceError("expected a way to run the network, got none; choose --engine torch")
    return best


@contextmanager
def _closed_on_error(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    except MetastasisError:
        engine.close()
        raise


def _check_accuracy(
    engine: Engine, reference: Callable[[UInt8Array], FloatArray], image: UInt8Array, tolerance: float
) -> None:
    # NaN, as float16 gives where it overflows, compares false and is refused as well.
    difference = float(np.abs(engine.run(image) - reference(image)).max())
    if not difference <= tolerance:
        raise DeviceError(
            f"expected answers in {engine.precision} within {tolerance:g} of float32, got {difference:.3f}; "
            "choose --precision float32"
        )


def _measured(
    engine: Engine,
    way: Candidate,
    windows: Mapping[int, int],
    image_of: Callable[[int], UInt8Array],
    *,
    beat: float,
    deadline: float,
    should_stop: Callable[[], bool],
) -> Tuned:
    """Return the window that suits an engine; larger ones are tried while there is time and they may win."""
    best: Tuned | None = None
    for window_px, answered_px in windows.items():
        if should_stop():
            raise ScanCancelledError("expected to choose an engine first, but the scan was stopped; start it again")
        if best is not None and (time.perf_counter() > deadline or best.mpx_per_s < _HOPE * beat):
            break
        try:
            rate = answered_px**2 / measure(engine, image_of(window_px)) / 1e6
        except DeviceMemoryError:
            if best is None:
                raise
            break
        if best is None or rate > _WORTH * best.mpx_per_s:
            best = Tuned(engine=way.engine, precision=way.precision, roi_px=window_px, mpx_per_s=rate)
    assert best is not None  # there is at least one window
    return best


class TuningCache:
    """What was measured on this machine, by a key that stands for the conditions.

    Parameters
    ----------
    path
        JSON file; it may be absent, damaged or unwritable, and the measurement is then simply made again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> Tuned | None:
        """Return what was remembered under ``key``."""
        try:
            values = memory_entries(read_memory(self._path))[key]
            if type(values["roi_px"]) is not int or not 0 < values["mpx_per_s"] < math.inf:
                return None
            found = Tuned(
                engine=str(values["engine"]),
                precision=str(values["precision"]),
                roi_px=values["roi_px"],
                mpx_per_s=float(values["mpx_per_s"]),
            )
            # Held against the ranges of the settings: a file that was edited or damaged may name anything.
            ScanSettings(engine=found.engine, precision=found.precision, roi_px=found.roi_px)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return None if "auto" in (found.engine, found.precision) or found.roi_px < 1 else found

    def put(self, key: str, tuned: Tuned) -> None:
        """Remember ``tuned``; what cannot be written is forgotten, since it can be measured again."""
        change_memory(self._path, lambda before: {**memory_entries(before), key: asdict(tuned)})
