"""How long review and correction keep a pathologist waiting: keys, strokes, tables, files of corrections.

Run with ``python benchmarks/correcting.py [--json] [--side 60000]`` where there is a screen, or under ``xvfb-run -a -s
"-screen 0 1600x1200x24 +extension GLX"`` (whose graphics run on the processor). Goals: a key of review to the next
finding's first picture in 50 ms; a stroke of the brush in 10 ms beside 2,000 polygons; a table of 10,000 lesions sorted
in 100 ms; a file of 50,000 corners opened in 2 s; 2,000 polygons stay fluid, and 100,000 points load without freezing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import shapely
from napari_window import Heartbeat, rest, until
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from slides_for_benchmarks import write_repeated_slide

from napari_metastasis._napari.app import make_viewer
from napari_metastasis._napari.compat import canvas_widget, window_of
from napari_metastasis._napari.draw_tool import Tool
from napari_metastasis._napari.lesion_table import LesionTableModel
from napari_metastasis._napari.ranking import Ranking
from napari_metastasis._napari.slide_controller import SlideController
from napari_metastasis._napari.view_transform import view_transform
from napari_metastasis._napari.workspace import Workspace
from napari_metastasis.annotations import Correction, Corrections, CorrectionStore
from napari_metastasis.geometry import HeatmapFrame, Point
from napari_metastasis.lesions import LesionRow
from napari_metastasis.scanning import PROBABILITY, MapValues

_MPP = 0.25


class OwnHeartbeat(Heartbeat):
    """Measures what the GUI thread itself does between two beats: what others take from the processor is not in it."""

    def _beat(self) -> None:
        super()._beat()
        now = time.thread_time()
        self.own_ms = max(self.own_ms, (now - self._own) * 1000)
        self._own = now

    def during(self, action: Callable[[], None]) -> np.ndarray:
        """Return the gaps in ms while ``action`` lets the window live."""
        self.own_ms, self._own = 0.0, time.thread_time()
        return super().during(action)


def spread(name: str, seconds: list[float]) -> dict[str, float]:
    """Return median and 95th percentile in ms."""
    p50, p95 = np.percentile(np.array(seconds) * 1000, (50, 95))
    return {f"{name}_p50_ms": float(p50), f"{name}_p95_ms": float(p95)}


@contextmanager
def timed(into: list[float], own: list[float] | None = None) -> Iterator[None]:
    """Append the seconds that the block took, and those of the processor in this thread: others may be at work."""
    begun, processor = time.perf_counter(), time.thread_time()
    yield
    into.append(time.perf_counter() - begun)
    if own is not None:
        own.append(time.thread_time() - processor)


def sorting() -> dict[str, float]:
    """Return how long a table of 10,000 lesions takes to be shown and sorted."""
    rng = np.random.default_rng(1)
    lesions = [
        LesionRow(
            id=number, x=0, y=0, probability=float(p), area_mm2=float(a), length_mm=float(a), detections=1, map="m"
        )
        for number, (p, a) in enumerate(rng.random((10_000, 2)))
    ]
    model, took = LesionTableModel(), list[float]()
    for _ in range(5):
        model.show(lesions, threshold=0.5)
        for column in range(5):
            with timed(took):
                model.sort(column, Qt.SortOrder.DescendingOrder)
        for ranking in Ranking:
            with timed(took):
                model.rank(ranking)
    return {"sort_10000_longest_ms": max(took) * 1000, **spread("sort_10000", took)}


def answer(controller: SlideController, findings: int) -> None:
    """Let the slide have been scanned, with so many findings."""
    session = controller.session
    frame = HeatmapFrame(model=session.slide.frame(0.972), patch_px=96, stride_px=8)
    rng = np.random.default_rng(2)
    heat = np.full(frame.cells.shape, 0.02, np.float32)
    step = int(np.sqrt(heat.size / findings))
    for row in range(step // 2, heat.shape[0] - step // 2, step):
        for column in range(step // 2, heat.shape[1] - step // 2, step):
            size = int(rng.integers(7, max(8, step - 4)))
            heat[row : row + size, column : column + size] = rng.uniform(0.55, 1)
    session.show_maps([MapValues(PROBABILITY, frame, heat)], model_name="m", folder=None)
    # As if the tissue were known only now: its lesions are looked for.
    session.tissue_changed.emit()
    until(lambda: session.found is not None and session.reviewed is not None and not controller.looking_for_lesions)


def reviewing(workspace: Workspace, controller: SlideController) -> dict[str, float]:
    """Return how long a key of review takes to the next finding's first picture, and to its sharp one."""
    window, layer = window_of(workspace.viewer), controller.layers.slide
    canvas = canvas_widget(workspace.viewer)
    keys = (Qt.Key.Key_C, Qt.Key.Key_R, Qt.Key.Key_I)
    QTest.keyClick(window, keys[0])
    rest(2)
    handled, own, paint, sharp = list[float](), list[float](), list[float](), list[float]()
    for number in range(40):
        begun = time.perf_counter()
        with timed(handled, own):
            QTest.keyClick(window, keys[number % 3])
        with timed(paint):
            canvas.repaint()
        until(lambda: layer.loaded)
        canvas.repaint()
        sharp.append(time.perf_counter() - begun)
        # As long as nobody looks at a finding.
        rest(0.4)
    again = list[float]()
    for _ in range(20):
        with timed(again):
            canvas.repaint()
    return {
        **spread("key_handled", handled),
        **spread("key_own", own),
        **spread("first_picture_painted", paint),
        **spread("same_picture_painted_again", again),
        **spread("key_to_sharp_picture", sharp),
    }


def polygons(count: int, corners: int, side: int, seed: int) -> Corrections:
    """Return areas of so many corners, spread over a slide."""
    rng = np.random.default_rng(seed)
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    made = []
    for x, y in rng.uniform(0.05, 0.95, (count, 2)) * side:
        radius = 60 * (1 + 0.2 * rng.standard_normal(corners).cumsum() / np.sqrt(corners))
        outline = shapely.Polygon(np.column_stack((x + radius * np.cos(turn), y + radius * np.sin(turn)))).buffer(0)
        made.append(Correction(key=Correction.new_key(), label="tumour", shape_px=outline))
    return Corrections.of(made)


def drawing(workspace: Workspace) -> dict[str, float]:
    """Return how long the window takes for each move of the brush, and for what a stroke becomes."""
    tool, canvas = workspace.correcting.tool, canvas_widget(workspace.viewer)
    workspace.microscope.magnify(10)
    rest(1)
    tool.take_up(Tool.BRUSH)
    moves, strokes, own = list[float](), list[float](), list[float]()
    rng = np.random.default_rng(3)
    for _ in range(40):
        x, y = rng.uniform(0.2, 0.8, 2) * (canvas.width(), canvas.height())
        QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=QPoint(int(x), int(y)))
        for step in range(30):
            with timed(moves):
                QTest.mouseMove(canvas, QPoint(int(x + 3 * step), int(y + 20 * np.sin(step / 5))))
        with timed(strokes, own):
            QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=QPoint(int(x + 90), int(y)))
        rest(0.2)
    tool.take_up(None)
    return {**spread("brush_move", moves), **spread("stroke", strokes), **spread("stroke_own", own)}


def adjusting(workspace: Workspace, controller: SlideController) -> dict[str, float]:
    """Return how long each move of a corner takes, of an outline of 5,000, and what it becomes when it is let go."""
    corrections, corners = controller.session.corrections, workspace.correcting.corners.tool
    canvas, slide = canvas_widget(workspace.viewer), controller.session.slide
    workspace.microscope.magnify(5)
    rest(1)
    view = view_transform(workspace.viewer, slide)
    assert view is not None
    turn = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    radius = 250 * view.px * (1 + 0.1 * np.sin(9 * turn) + 0.01 * np.sin(200 * turn))
    outline = shapely.Polygon(
        np.column_stack((view.focus.x + radius * np.cos(turn), view.focus.y + radius * np.sin(turn)))
    )
    said = Correction(key=Correction.new_key(), label="tumour", shape_px=outline)
    corrections.do("Draw", corrections.present.with_(said))
    corrections.select(said.key)
    workspace.correcting.toggle(Tool.CORNERS)
    until(lambda: len(corners.handles_px) > 0)
    shown = len(corners.handles_px)
    moves, steps, own = list[float](), list[float](), list[float]()
    for number in range(20):
        handles = corners.handles_px
        x, y = (round(each) for each in view.to_canvas(Point(*handles[number * 7 % len(handles)].tolist())))
        QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=QPoint(x, y))
        for step in range(10):
            with timed(moves):
                QTest.mouseMove(canvas, QPoint(x + (step % 4), y + 3 + step % 2))
        with timed(steps, own):
            QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=QPoint(x + 1, y + 3))
        rest(0.2)
    workspace.correcting.toggle(Tool.CORNERS)
    return {
        "corners_shown": shown,
        **spread("corner_move", moves),
        **spread("corner", steps),
        **spread("corner_own", own),
    }


def moving(beat: Heartbeat, workspace: Workspace, side: int) -> dict[str, float]:
    """Return the gaps of the GUI thread while the slide is moved."""
    camera = workspace.viewer.scene.camera
    workspace.microscope.magnify(2.5)
    rest(1)

    def move() -> None:
        for step in range(60):
            share = 0.5 + 0.2 * np.sin(step / 10)
            camera.center = (side * _MPP * share, side * _MPP * share)
            rest(1 / 30)

    gaps = beat.during(move)
    return {"moving_gap_p50_ms": float(np.percentile(gaps, 50)), "moving_gap_p95_ms": float(np.percentile(gaps, 95))}


def opening(beat: Heartbeat, controller: SlideController, said: Corrections) -> tuple[float, float]:
    """Return how long a file of corrections takes to be read and drawn, and the longest gap of the GUI thread."""
    corrections, drawn = controller.session.corrections, controller.layers.drawn
    corrections.begin_with(Corrections())
    until(lambda: controller.corrections.settled)
    path = controller.corrections.path
    assert path is not None
    other = CorrectionStore(path.parent)
    other.read()
    other.save(said)
    rest(0.2)

    def wait() -> None:
        controller.corrections.look()
        until(lambda: len(corrections.present) == len(said))
        until(lambda: drawn.done and drawn.count > 0)

    begun = time.perf_counter()
    gaps = beat.during(wait)
    return time.perf_counter() - begun, float(gaps.max(initial=0))


def measure(folder: Path, side: int) -> dict[str, float]:
    """Return the figures."""
    slide = folder / "slide.tif"
    write_repeated_slide(slide, side, mpp=_MPP)
    figures = sorting()
    viewer = make_viewer()
    viewer.window.resize(1500, 1000)
    workspace, beat = Workspace.of(viewer), OwnHeartbeat()
    workspace.open([slide])
    until(lambda: workspace.current is not None)
    controller = workspace.current
    assert controller is not None
    until(lambda: controller.session.tissue is not None and controller.corrections.settled)
    rest(2)
    figures |= {f"without_{name}": value for name, value in moving(beat, workspace, side).items()}
    for name, said in (
        ("open_50000_corners", polygons(500, 100, side, 4)),
        ("open_100000_points", points(100_000, side)),
        ("open_2000_polygons", polygons(2000, 100, side, 5)),
    ):
        took, gap = opening(beat, controller, said)
        figures |= {f"{name}_s": took, f"{name}_longest_gap_ms": gap, f"{name}_longest_own_ms": beat.own_ms}
        rest(2)
    answer(controller, 2000)
    figures["findings"] = len(controller.session.found.rows) if controller.session.found is not None else 0
    until(lambda: not controller.reviews.running)
    rest(2)
    with_all = moving(beat, workspace, side)
    figures |= {f"with_polygons_{name}": value for name, value in with_all.items()}
    figures |= reviewing(workspace, controller)
    figures |= drawing(workspace)
    figures |= adjusting(workspace, controller)
    until(lambda: controller.corrections.settled)
    viewer.close()
    rest(0.5)
    return figures


def points(count: int, side: int) -> Corrections:
    """Return points, spread over a slide."""
    places = np.random.default_rng(6).uniform(0, side, (count, 2))
    return Corrections.of(
        Correction(key=str(number), label="normal", shape_px=shapely.Point(place))
        for number, place in enumerate(places)
    )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", type=int, default=60_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), arguments.side)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:36} {value:10.2f}")


if __name__ == "__main__":
    main()
