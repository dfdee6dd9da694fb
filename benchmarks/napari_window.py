"""How long the napari window keeps a pathologist waiting: opening a slide, panning while it is scanned, the slider.

Run with ``python benchmarks/napari_window.py [--json] [--side 100000] [--seconds 15] [--model FILE]`` where there is a
screen, or under ``xvfb-run -a -s "-screen 0 1600x1200x24 +extension GLX"`` (whose graphics run on the processor and so
compete with the scan). Goals: a slide is open in 1 s; while it is scanned and panned the GUI thread is blocked for less
than 50 ms in 95 of 100 turns; the slider's handler takes less than 16 ms.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from slides_for_benchmarks import write_repeated_slide

from napari_metastasis._napari.app import make_viewer
from napari_metastasis._napari.compat import camera_of
from napari_metastasis._napari.slide_controller import SlideController
from napari_metastasis._napari.workspace import Workspace

_HEARTBEAT_MS = 5


def until(condition: Callable[[], bool], *, timeout_s: float = 600) -> float:
    """Let the window live until something is so; return the seconds that took."""
    start = time.perf_counter()
    while not condition():
        QApplication.processEvents()
        time.sleep(0.001)
        if time.perf_counter() - start > timeout_s:
            raise TimeoutError("expected the window to be ready, but it is not; look at its messages")
    return time.perf_counter() - start


def rest(seconds: float) -> None:
    """Let the window live for a while."""
    end = time.perf_counter() + seconds
    until(lambda: time.perf_counter() > end)


class Heartbeat:
    """Measures how long the GUI thread does not get round to a timer that is due every 5 ms."""

    def __init__(self) -> None:
        self.gaps_ms: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setInterval(_HEARTBEAT_MS)
        self._timer.timeout.connect(self._beat)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps_ms.append(max(0.0, (now - self._last) * 1000 - _HEARTBEAT_MS))
        self._last = now

    def during(self, action: Callable[[], None]) -> np.ndarray:
        """Return the gaps in ms while ``action`` lets the window live."""
        self.gaps_ms, self._last = [], time.perf_counter()
        self._timer.start()
        action()
        self._timer.stop()
        return np.array(self.gaps_ms)


def pan(workspace: Workspace, controller: SlideController, seconds: float) -> None:
    """Move over the slide in a circle, and zoom in and out, as a hand does."""
    camera = camera_of(workspace.viewer)
    width_um = controller.session.slide.size.width * controller.session.slide.mpp
    zoom, start = camera.zoom, time.perf_counter()
    while (t := time.perf_counter() - start) < seconds:
        camera.center = (width_um * (0.5 + 0.1 * math.sin(t)), width_um * (0.5 + 0.1 * math.cos(t)))
        camera.zoom = zoom * (4 + 3 * math.sin(t / 2))
        rest(1 / 30)


def turns(name: str, beat: Heartbeat, action: Callable[[], None]) -> dict[str, float]:
    """Return the gaps while ``action`` lets the window live, and the processor time that the GUI thread took for each.

    The latter does not count what other threads and other programs take.
    """
    began = time.thread_time()
    gaps = beat.during(action)
    p50, p95 = map(float, np.percentile(gaps, (50, 95)))
    own_ms = (time.thread_time() - began) * 1000 / len(gaps)
    return {
        f"{name}_gap_p50_ms": p50,
        f"{name}_gap_p95_ms": p95,
        f"{name}_gap_longest_ms": float(gaps.max()),
        f"{name}_own_ms": own_ms,
    }


def measure(folder: Path, *, side: int, seconds: float, model: Path | None) -> dict[str, float]:
    """Return the figures."""
    slide = folder / f"slide-{side}.tif"
    write_repeated_slide(slide, side, mpp=0.25)
    started = time.perf_counter()
    viewer = make_viewer()
    viewer.window.resize(1500, 1000)
    panel = next(each for each in QApplication.allWidgets() if type(each).__name__ == "MetastasisPanel")
    workspace = Workspace.of(viewer)
    if model is not None:
        panel.scan_part.add_model_file(model)
    until(lambda: panel.scan_part.model.currentData() is not None)
    rest(1)
    figures = {"window_s": time.perf_counter() - started}

    beat = Heartbeat()
    begun = time.perf_counter()
    workspace.open([slide])
    gaps = beat.during(lambda: void(until(lambda: workspace.current is not None)))
    controller = workspace.current
    assert controller is not None
    until(lambda: controller.layers.slide.loaded)
    figures["open_s"] = time.perf_counter() - begun
    figures["open_longest_gap_ms"] = float(gaps.max(initial=0))
    until(lambda: controller.session.tissue is not None)

    # What the graphics cost alone: with software rendering, most of every gap.
    figures |= turns("panning", beat, lambda: pan(workspace, controller, seconds / 2))
    begun = time.perf_counter()
    panel.scan_part.scan("slide")
    until(lambda: controller.session.activity.done > 0 or not controller.busy)
    figures["first_answer_s"] = time.perf_counter() - begun
    rates: list[float] = []
    controller.session.activity_changed.connect(lambda activity: rates.append(activity.mpx_per_s))
    figures |= turns("scanning", beat, lambda: rest(seconds / 2))
    figures |= turns("scanning_and_panning", beat, lambda: pan(workspace, controller, seconds))
    figures["scanning_mpx_per_s"] = max(rates, default=0.0)
    controller.cancel()
    until(lambda: not controller.busy and not controller.looking_for_lesions)

    slider, took = panel.results_part.threshold, []
    for value in np.linspace(0.2, 0.9, 60):
        begun = time.perf_counter()
        slider.setValue(float(value))
        took.append((time.perf_counter() - begun) * 1000)
        rest(0.02)
    figures["slider_p95_ms"] = float(np.percentile(took, 95))
    follow = []
    for value in (0.3, 0.7, 0.4, 0.6):
        controller.session.set_threshold(value)
        begun = time.perf_counter()
        controller.session.follow_threshold()
        follow.append((time.perf_counter() - begun) * 1000)
    figures["labels_follow_ms"] = max(follow)
    begun = time.perf_counter()
    viewer.close()
    workspace.close()
    figures["close_s"] = time.perf_counter() - begun
    return figures


def void(_: object) -> None:
    """Take a value and give none."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--side", type=int, default=100_000, help="side of the slide at level 0, in pixels")
    parser.add_argument("--seconds", type=float, default=15, help="how long to pan while scanning")
    parser.add_argument("--model", type=Path, help="weights to scan with; the model that ships by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), side=arguments.side, seconds=arguments.seconds, model=arguments.model)
    figures["load_average"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    if arguments.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
        return
    for name, value in figures.items():
        print(f"{name:<36} {value:10.2f}")


if __name__ == "__main__":
    main()
