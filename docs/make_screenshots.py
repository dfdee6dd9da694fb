"""Make docs/images/*.jpg: the program's window as it is, on the synthetic sample slide.

Run it where there is a screen, or under ``xvfb-run -a -s "-screen 0 1700x1200x24 +extension GLX"``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import shapely
import shapely.affinity
from napari import Viewer
from napari.settings import get_settings
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_metastasis._napari.app import make_viewer
from napari_metastasis._napari.compat import camera_of, canvas_widget, window_of
from napari_metastasis._napari.draw_tool import Tool
from napari_metastasis._napari.models_dialog import ModelsDialog
from napari_metastasis._napari.panel import MetastasisPanel
from napari_metastasis._napari.session import SlideSession
from napari_metastasis._napari.view_transform import view_transform
from napari_metastasis._napari.workspace import Workspace
from napari_metastasis.annotations import Correction, Corrections, read_asap_xml
from napari_metastasis.geometry import Point, Region, Size
from napari_metastasis.lesions import LesionRow
from napari_metastasis.slides import open_slide, write_pyramid
from napari_metastasis.synthetic import Palette, draw_mitosis, paint_figure, sample_slide_path

IMAGES = Path(__file__).parent / "images"
LARGE, SMALL = (1600, 1000), (1280, 800)
#: Where a part of the slide is scanned alone, as shares of its sides; and how many µm the window's shorter side spans.
PART, PART_UM = (0.40, 0.30), 2200.0
#: Of the part of the slide that mitoses are drawn into, where they are densest, and which they are.
MITOSES_UM, DENSEST_PX, MITOSES_SEED = (2700.0, 2000.0), (2500.0, 1900.0), 7
#: The probability from which they are shown in the picture: the sample slide's dark nuclei are none.
MITOSES_FROM = 0.6
#: Side of a square that is marked as normal tissue, and how many cells lie between two that may be.
NORMAL_UM, _APART = 160.0, 75


# Recent slides, rulers and models of whoever makes the pictures are not in them. Read when they are first needed.
for _place in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
    os.environ[_place] = tempfile.mkdtemp()


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


class Pictures:
    """The program's window, and what is done in it for a picture.

    Parameters
    ----------
    folder
        Where the pictures go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.viewer: Viewer = make_viewer()
        self.workspace = Workspace.of(self.viewer)
        self.panel: MetastasisPanel = window_of(self.viewer).findChild(MetastasisPanel)
        self.size(LARGE)
        until(lambda: self.panel.scan_part.model.currentData() is not None)

    def size(self, size: tuple[int, int]) -> None:
        """Give the window a size."""
        window = window_of(self.viewer)
        window.showNormal()
        window.resize(*size)
        until(lambda: (window.width(), window.height()) == size)

    def open(self, *slides: Path) -> None:
        """Open slides, and wait for what is known of them."""
        count = len(self.workspace.controllers) + len(slides)
        self.workspace.open(slides)
        until(lambda: len(self.workspace.controllers) == count)
        until(lambda: all(one.session.tissue is not None for one in self.workspace.controllers))

    def finish(self) -> None:
        """Wait for the scan, and for what it found."""
        controller = self.workspace.current
        assert controller is not None
        until(lambda: not controller.busy and not controller.looking_for_lesions)
        until(lambda: controller.session.found is not None and controller.session.coverage is not None)

    def go(self, row: LesionRow, magnification: float) -> None:
        """Look at a finding at a magnification."""
        self.panel.results_part.go_to(row)
        rest(1)
        self.workspace.microscope.magnify(magnification)

    def review(self) -> None:
        """Decide on most findings, and look at one that is left among them."""
        part = self.panel.results_part
        rows = sorted(part.table.rows.lesions, key=lambda row: -row.length_mm)
        for row, label in zip(rows[:-1], ("tumour", "tumour", "normal", "tumour", "ignore", "normal"), strict=False):
            part.go_to(row, at_once=True)
            part.decide(label)
        part.go_to(rows[-1], at_once=True)
        self.workspace.microscope.magnify(5)

    def correct(self) -> None:
        """Draw beside the last finding, and stop in the middle of a stroke."""
        correcting, canvas = self.workspace.correcting, canvas_widget(self.viewer)
        self.workspace.microscope.magnify(10)
        rest(1)
        turn = np.linspace(0, 2 * np.pi, 60)
        for label, tool, shares in (
            ("tumour", Tool.LASSO, np.column_stack((0.25 + 0.08 * np.cos(turn), 0.3 + 0.07 * np.sin(turn)))),
            ("normal", Tool.BRUSH, np.column_stack((np.linspace(0.2, 0.36, 60), 0.62 + 0.015 * np.sin(2 * turn)))),
            ("ignore", Tool.BRUSH, np.column_stack((np.linspace(0.68, 0.78, 60), np.linspace(0.6, 0.66, 60)))),
            ("tumour", Tool.BRUSH, np.column_stack((np.linspace(0.56, 0.62, 60), np.linspace(0.42, 0.5, 60)))),
        ):
            correcting.choose(label)
            correcting.tool.take_up(tool)
            places = [QPoint(*(each * (canvas.width(), canvas.height())).astype(int).tolist()) for each in shares]
            QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=places[0])
            for place in places[1:]:
                QTest.mouseMove(canvas, place)
            self._last = places[-1]
            if label != "tumour" or tool is not Tool.BRUSH:
                QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=places[-1])
        rest(1)

    def adjust(self, row: LesionRow) -> None:
        """Drag a corner of a finding's outline, and stop in the middle."""
        correcting, canvas = self.workspace.correcting, canvas_widget(self.viewer)
        self.go(row, 10)
        rest(1)
        correcting.tool.take_up(Tool.CORNERS)
        corners = correcting.corners.tool
        until(lambda: len(corners.handles_px) > 0)
        assert self.workspace.current is not None
        view = view_transform(self.viewer, self.workspace.current.session.slide)
        assert view is not None
        places = np.array([view.to_canvas(Point(*place)) for place in corners.handles_px.tolist()])
        at = places[np.abs(places - (0.62 * canvas.width(), 0.35 * canvas.height())).sum(axis=1).argmin()]
        start = QPoint(*at.astype(int).tolist())
        end = start + QPoint(60, -70)
        QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=start)
        QTest.mouseMove(canvas, end)
        self._last = end
        rest(1)

    def forget_corrections(self) -> None:
        """Show the slide as if nobody had said anything."""
        QTest.mouseRelease(canvas_widget(self.viewer), Qt.MouseButton.LeftButton, pos=self._last)
        self.workspace.correcting.tool.take_up(None)
        self.panel.correct_part.fold.collapse()
        self.panel.verticalScrollBar().setValue(0)
        assert self.workspace.current is not None
        self.workspace.current.session.corrections.begin_with(Corrections())

    def take(self, name: str, *, at: QWidget | None = None, quality: int = 85) -> None:
        """Take a picture of the whole window, scrolled to a part of the panel."""
        if at is not None:
            rest(0.3)
            self.panel.ensureWidgetVisible(at)
        rest(1 if at is not None else 4)
        self.folder.mkdir(parents=True, exist_ok=True)
        pixels = self.viewer.screenshot(canvas_only=False, flash=False)[..., :3]
        # Small enough for a repository, and the colours of the classes stay what they are.
        Image.fromarray(pixels).save(self.folder / f"{name}.jpg", quality=quality, subsampling=0)


def normal_places(session: SlideSession) -> list[Correction]:
    """Return squares of tissue without any finding, apart from each other, as a person marks them as normal."""
    heat = session.heatmap
    assert heat is not None
    found: list[Correction] = []
    rows, columns = (range(_APART, size - _APART, _APART) for size in heat.values.shape)
    for row, column in itertools.product(rows, columns):
        around = heat.values[row - 5 : row + 6, column - 5 : column + 6]
        if np.isfinite(around).all() and around.max() < session.threshold / 2:
            middle = heat.frame.cell_center(column, row)
            half = NORMAL_UM / session.slide.mpp / 2
            square = shapely.box(middle.x - half, middle.y - half, middle.x + half, middle.y + half)
            found.append(Correction(key=Correction.new_key(), label="normal", shape_px=square))
    return found[:12]


def retrain(pictures: Pictures, slide: Path) -> None:
    """Scan, go through the findings, mark normal tissue, retrain, and compare; take a picture of each."""
    pictures.open(slide)
    # The quick one, which has more to learn here.
    pictures.panel.scan_part.model.choose("scannet-pcam")
    pictures.panel.scan_part.slide_button.click()
    pictures.finish()
    drawn = read_asap_xml(sample_slide_path().with_suffix(".xml"))
    tumour = shapely.union_all([shapely.Polygon(one.exterior) for one in drawn])
    panel, workspace = pictures.panel, pictures.workspace
    findings, part, retrainer = panel.results_part, panel.retrain_part, workspace.retrainer
    controller = workspace.current
    assert controller is not None
    session = controller.session
    rows = sorted(findings.table.rows.lesions, key=lambda row: -row.length_mm)
    for row in rows:
        findings.go_to(row)
        findings.decide("tumour" if tumour.contains(shapely.Point(row.x, row.y)) else "normal")
    session.corrections.do("Mark normal tissue", session.corrections.present.with_(*normal_places(session)))
    workspace.microscope.magnify(5)
    part.budget.setCurrentIndex(0)
    part.start()
    until(lambda: not retrainer.busy or (retrainer.run is not None and bool(retrainer.run.state.epochs)))
    pictures.take("retraining", at=part)
    until(lambda: not retrainer.busy)
    pictures.take("retrained", at=part)
    part.keep_button.click()
    until(lambda: retrainer.kept is not None)
    pictures.go(rows[1], 5)
    # Two that ship: what a minute changes of what was right before is not seen.
    workspace.comparison_wanted.emit("scannet-pcam", "metastasis-lite")
    until(lambda: controller.comparison.kind == "ready")
    part.compare.sides["change"].click()
    pictures.take("what-changed", at=part)
    part.show_models()
    dialogs = part.findChildren(ModelsDialog)
    until(lambda: dialogs[0].tree.topLevelItemCount() > 0)
    dialogs[0].choose(retrainer.kept[0].name if retrainer.kept else "")
    dialogs[0].grab().save(str(pictures.folder / "models.png"))
    dialogs[0].close()
    pictures.viewer.close()
    rest(0.5)


def with_mitoses(path: Path) -> Path:
    """Write a part of the sample slide with synthetic mitoses drawn into its largest metastasis; return the path."""
    drawn = max(read_asap_xml(sample_slide_path().with_suffix(".xml")), key=lambda one: one.outline_px.area)
    rng = np.random.default_rng(MITOSES_SEED)
    with open_slide(sample_slide_path()) as slide:
        half = Size(round(MITOSES_UM[0] / slide.mpp / 2), round(MITOSES_UM[1] / slide.mpp / 2))
        middle, mpp = drawn.outline_px.centroid, slide.mpp
        part = Region(round(middle.x) - half.width, round(middle.y) - half.height, 2 * half.width, 2 * half.height)
        pixels = slide.read(slide.frame(mpp), part).copy()
    inside = shapely.affinity.translate(drawn.outline_px, -part.x, -part.y).buffer(-60)
    palette = Palette.of(pixels, np.ones(pixels.shape[:2], np.bool_), mpp)
    # More of them in one place, as tumours have it.
    spread = np.concatenate([rng.uniform((0, 0), pixels.shape[1::-1], (60, 2)), rng.normal(DENSEST_PX, 420, (40, 2))])
    for x, y in spread.round().astype(int).tolist():
        if inside.contains(shapely.Point(x, y)):
            paint_figure(pixels, draw_mitosis(rng, mpp), palette, y, x, mpp, rng)
    write_pyramid(path, pixels, mpp=mpp, size=part.size)
    return path


def mitoses(pictures: Pictures, slide: Path) -> None:
    """Look for mitoses in the tumour that a scan found, decide on a few, and take a picture where they are densest."""
    pictures.size(SMALL)
    pictures.open(slide)
    panel, controller = pictures.panel, pictures.workspace.current
    assert controller is not None
    panel.scan_part.slide_button.click()
    pictures.finish()
    part, state = panel.mitosis_part, controller.session.mitoses
    part.fold.expand()
    part.tumour_button.click()
    until(lambda: controller.busy)
    until(lambda: not controller.busy and not controller.mitoses.running)
    part.threshold.setValue(MITOSES_FROM)
    until(lambda: state.found is not None and state.found.threshold == state.threshold)
    part.on_button.click()
    for button in (part.yes_button, part.yes_button, part.no_button, part.yes_button):
        button.click()
        until(lambda: not controller.mitoses.running)
    # Tissue and rings: the heat is left out, as the slider of the overlay does.
    controller.layers.strength = 0.0
    assert controller.layers.detections is not None
    controller.layers.detections.visible = False
    pictures.workspace.microscope.bar.legend.setChecked(False)
    part.show_spot()
    rest(1)
    panel.verticalScrollBar().setValue(panel.verticalScrollBar().maximum())
    pictures.take("mitoses", at=part, quality=70)
    pictures.viewer.close()
    rest(0.5)


def main() -> None:
    """Open, scan, look, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=IMAGES)
    parser.add_argument("--retraining", action="store_true", help="only the pictures of a retraining")
    parser.add_argument("--mitoses", action="store_true", help="only the picture of mitoses")
    parser.add_argument("--theme", default="dark", help="of these pictures")
    arguments = parser.parse_args()
    settings = get_settings()
    if arguments.mitoses:
        settings.appearance.theme = arguments.theme
        with tempfile.TemporaryDirectory() as name:
            mitoses(Pictures(arguments.output), with_mitoses(Path(name) / "drawn-mitoses.tif"))
        return
    if arguments.retraining:
        settings.appearance.theme = arguments.theme
        with tempfile.TemporaryDirectory() as name:
            slide = Path(shutil.copy(sample_slide_path(), Path(name) / "node-1.tif"))
            retrain(Pictures(arguments.output), slide)
        return
    settings.appearance.theme = "dark"
    with tempfile.TemporaryDirectory() as name:
        # Copies, so that no result folder comes to lie in the source tree.
        first, second = Path(name) / "node-1.tif", Path(name) / "node-2.tif"
        for copy in (first, second):
            shutil.copy(sample_slide_path(), copy)
        pictures = Pictures(arguments.output)
        pictures.open(first)
        pictures.panel.scan_part.slide_button.click()
        pictures.finish()
        rows = pictures.panel.results_part.table.rows.lesions
        largest = sorted(rows, key=lambda row: -row.length_mm)
        # The second largest: the largest hides the tissue that the others lie in.
        pictures.go(largest[1], 5)
        pictures.take("window")
        pictures.workspace.microscope.magnify(1.25)
        pictures.take("node")
        pictures.go(largest[1], 20)
        pictures.take("lesion")
        pictures.go(next(row for row in rows if row.size_class == "itc"), 40)
        pictures.take("isolated-cells")
        pictures.review()
        pictures.take("review")
        pictures.correct()
        pictures.take("correct")
        pictures.forget_corrections()
        pictures.adjust(largest[1])
        pictures.take("adjust")
        pictures.forget_corrections()

        pictures.open(second)
        pictures.workspace.show(pictures.workspace.controllers[1])
        slide = pictures.workspace.controllers[1].session.slide
        at = Point(PART[0] * slide.size.width, PART[1] * slide.size.height).to_um(slide.mpp)
        camera = camera_of(pictures.viewer)
        camera.center, camera.zoom = (at.y, at.x), min(pictures.viewer.window._qt_viewer.canvas.size) / PART_UM
        pictures.panel.scan_part.view_button.click()
        pictures.finish()
        pictures.workspace.home()
        pictures.take("part")
        pictures.workspace.show(pictures.workspace.controllers[0])
        pictures.workspace.home()
        pictures.take("two-slides")

        settings.appearance.theme = "light"
        pictures.take("light")
        pictures.size(SMALL)
        pictures.workspace.home()
        pictures.take("small")

        settings.appearance.theme = "dark"
        pictures.size(LARGE)
        pictures.workspace.close_slide(pictures.workspace.controllers[1])
        (segment,) = pictures.panel.scan_part.switches["segment"].widgets.values()
        segment.value = True
        pictures.panel.scan_part.slide_button.click()
        pictures.finish()
        rows = pictures.panel.results_part.table.rows.lesions
        pictures.go(next(row for row in rows if row.size_class == "itc"), 40)
        pictures.take("segmentation")
        pictures.viewer.close()
        rest(0.5)


if __name__ == "__main__":
    main()
