"""How long it takes until another open slide is seen: from the click in the list to its tissue on the screen.

Run with ``python benchmarks/switching.py [--json] [--side 100000] [--lesions 16000]`` where there is a screen, or under
``xvfb-run -a -s "-screen 0 1600x1200x24 +extension GLX"``. Goal: 300 ms. Both slides have a map with lesions; each is
left zoomed in at another place.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from napari_window import rest, until
from outlines import MPP, show_many_lesions
from qtpy.QtWidgets import QApplication
from slides_for_benchmarks import write_repeated_slide

from napari_metastasis._napari.app import make_viewer
from napari_metastasis._napari.workspace import Workspace

GOAL_MS, ROUNDS = 300.0, 10


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=100_000, help="side of the slides at level 0, in pixels")
    parser.add_argument("--lesions", type=int, default=16_000)
    parser.add_argument("--folder", type=Path, help="where the slide lies or is written to; a temporary one by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        first = folder / f"slide-{arguments.side}.tif"
        write_repeated_slide(first, arguments.side, mpp=MPP)
        second = Path(temporary) / "second.tif"
        os.symlink(first.absolute(), second)
        viewer = make_viewer()
        viewer.window.resize(1500, 1000)
        workspace = Workspace.of(viewer)
        workspace.open([first, second])
        until(lambda: len(workspace.controllers) == 2)
        until(lambda: all(one.session.tissue is not None for one in workspace.controllers))
        for controller, magnification in zip(workspace.controllers, (2.5, 10.0), strict=True):
            workspace.show(controller)
            show_many_lesions(controller.session, arguments.lesions)
            workspace.microscope.magnify(magnification)
            until(lambda one=controller: one.layers.outlines.done and one.layers.slide.loaded)
            rest(1)
        blocked, seen = [], []
        for turn in range(ROUNDS):
            controller = workspace.controllers[turn % 2]
            began = time.perf_counter()
            workspace.show(controller)
            QApplication.processEvents()
            blocked.append(1000 * (time.perf_counter() - began))
            until(lambda one=controller: one.layers.slide.loaded)
            QApplication.processEvents()
            seen.append(1000 * (time.perf_counter() - began))
            rest(1)
        figures = {
            "tissue seen, median (ms)": statistics.median(seen),
            "tissue seen, longest (ms)": max(seen),
            "window not answering, longest (ms)": max(blocked),
            "goal (ms)": GOAL_MS,
        }
        viewer.close()
        workspace.close()
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:40} {value:8.1f}")


if __name__ == "__main__":
    main()
