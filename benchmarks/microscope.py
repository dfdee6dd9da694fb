"""How long the overview takes, and what the microscope's overlays cost while the view is panned.

Run with ``python benchmarks/microscope.py [--json] [--side 100000] [--seconds 8]`` where there is a screen, or under
``xvfb-run -a -s "-screen 0 1600x1200x24 +extension GLX"``. Goals: the overview's first picture in 300 ms; gaps of the
GUI thread (95 of 100) at most a tenth longer than without overlays, or under 50 ms. The first picture waits for napari
to open the slide; the overview's own share of that is told beside it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from napari_window import Heartbeat, pan, rest, until
from qtpy.QtWidgets import QApplication
from slides_for_benchmarks import write_piece_on_glass

from napari_metastasis._napari.app import make_viewer
from napari_metastasis._napari.overview import thumbnail_image
from napari_metastasis._napari.overview_work import thumbnail_work
from napari_metastasis._napari.ruler import Measured
from napari_metastasis._napari.workspace import Workspace
from napari_metastasis.geometry import HeatmapFrame, Point
from napari_metastasis.scanning import PROBABILITY, MapValues

_MPP = 0.25


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "glass.tif"
        write_piece_on_glass(path, arguments.side, piece_px=8192, mpp=_MPP)
        found = _measured(path, arguments.seconds)
    print(
        json.dumps(found) if arguments.json else "\n".join(f"{name:40} {value:8.1f}" for name, value in found.items())
    )
    QApplication.processEvents()


def _measured(path: Path, seconds: float) -> dict[str, float]:
    viewer = make_viewer()
    viewer.window._qt_window.resize(1600, 1000)
    workspace = Workspace.of(viewer)
    rest(3)  # what is imported beside the window
    microscope = workspace.microscope
    widget = microscope.overview.widget
    workspace.open([path], None)
    until(lambda: workspace.current is not None)
    controller = workspace.current
    assert controller is not None
    found = {"overview, first picture (ms)": 1000 * until(lambda: widget._thumbnail is not None)}
    began = time.perf_counter()
    thumbnail_image(thumbnail_work(controller.session.slide, lambda: False), 1.0)
    widget.grab()
    found["overview, own share of it (ms)"] = 1000 * (time.perf_counter() - began)
    until(lambda: controller.session.tissue is not None)
    session = controller.session
    frame = HeatmapFrame(model=session.slide.frame(1.0), patch_px=32, stride_px=8)
    values = np.random.default_rng(1).random(frame.cells.shape, dtype=np.float32)
    began = time.perf_counter()
    session.show_maps([MapValues(PROBABILITY, frame, values)], model_name="", folder=None)
    until(lambda: widget._heat is not None)
    found[f"overview, heat of {values.size / 1e6:.0f} M cells (ms)"] = 1000 * (time.perf_counter() - began)
    for layer in controller.layers.maps.values():
        layer.visible = False
    middle = session.slide.size.width / 2
    for row in range(4):
        at = Point(middle - 2000, middle - 3000 + row * 1500)
        microscope.ruler._lines.append(Measured(at, Point(at.x + 4000, at.y + 200), _MPP))
    microscope.magnify(10)
    rest(2)
    beat = Heartbeat()
    gaps: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for shown in (True, False, True, False):
        microscope.overview.switch(shown)
        microscope.show_color_bar(shown)
        kept, lines = list(microscope.ruler.lines), microscope.ruler._lines
        if not shown:
            lines.clear()
        microscope.ruler.follow()
        gaps[shown].append(beat.during(lambda: pan(workspace, controller, seconds)))
        lines[:] = kept
    for shown, parts in gaps.items():
        all_gaps = np.concatenate(parts)
        name = "with overlays" if shown else "without"
        found[f"pan {name}, median gap (ms)"] = float(np.median(all_gaps))
        found[f"pan {name}, 95 % of gaps (ms)"] = float(np.percentile(all_gaps, 95))
    viewer.close()
    return found


if __name__ == "__main__":
    main()
