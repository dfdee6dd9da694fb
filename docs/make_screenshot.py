"""Make docs/images/window.png: the whole window, with the sample slide scanned and refined.

Run it where there is a screen, or under ``xvfb-run -a -s "-screen 0 1600x1200x24 +extension GLX"``.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import QApplication

from napari_metastasis._napari.app import make_viewer
from napari_metastasis._napari.workspace import Workspace
from napari_metastasis.synthetic import sample_slide_path

IMAGE = Path(__file__).parent / "images" / "window.png"


def until(condition: Callable[[], bool], *, timeout_s: float = 600) -> None:
    """Let the window live until something is so."""
    end = time.monotonic() + timeout_s
    while not condition():
        QApplication.processEvents()
        time.sleep(0.01)
        if time.monotonic() > end:
            raise TimeoutError("expected the window to be ready, but it is not; look at its messages")


def rest(seconds: float) -> None:
    """Let the window live for a while: tiles arrive, layouts settle."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end)


def main() -> None:
    """Open, scan, look at a lesion, and take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slide", type=Path, help="slide to show; the sample slide by default")
    parser.add_argument("--model", type=Path, help="weights to scan with; the model that ships by default")
    parser.add_argument("--output", type=Path, default=IMAGE)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # A copy, so that the result folder does not come to lie in the source tree.
        slide = Path(folder) / "sample.tif"
        shutil.copy(arguments.slide or sample_slide_path(), slide)
        viewer = make_viewer()
        viewer.window.resize(1500, 1020)
        panel = next(each for each in QApplication.allWidgets() if type(each).__name__ == "MetastasisPanel")
        workspace = Workspace.of(viewer)
        workspace.open([slide])
        until(lambda: workspace.current is not None and workspace.current.session.tissue is not None)
        if arguments.model is not None:
            panel.scan_part.add_model_file(arguments.model)
        until(lambda: panel.scan_part.model.currentData() is not None)
        if arguments.model is not None:
            until(lambda: panel.scan_part.model.currentData() == str(arguments.model))
        rest(1)
        viewer.fit_to_view()
        panel.scan_part.where.setCurrentIndex(panel.scan_part.where.findData("slide"))
        refine = panel.scan_part.switches["refine"].widgets["refine"]
        refine.value = refine.enabled
        panel.scan_part.scan()
        controller = workspace.current
        assert controller is not None
        until(lambda: not controller.busy and not controller.looking_for_lesions)
        lesions = panel.results_part.table.rows.lesions
        if lesions:
            # The second largest: the largest hides the tissue that the others lie in.
            row = min(1, len(lesions) - 1)
            panel.results_part.table.selectRow(row)
            panel.results_part.go_to(lesions[row])
        rest(3)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        viewer.screenshot(str(arguments.output), canvas_only=False, flash=False)
        viewer.close()
        workspace.close()
        rest(0.5)


if __name__ == "__main__":
    main()
