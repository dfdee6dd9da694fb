"""How outlines of many lesions follow pan and zoom: gaps of the GUI thread with and without them.

Run with ``python benchmarks/outlines.py [--json] [--side 100000] [--lesions 16000] [--seconds 6] [--shapes]`` where
there is a screen, or under ``xvfb-run -a -s "-screen 0 1600x1200x24 +extension GLX"``. Goal: at most 10 % more than
without outlines, or a 95th percentile below 50 ms. ``--shapes`` draws what is in view as a napari Shapes layer instead,
for comparison. The lesions are made, not scanned: isolated cells and micro-metastases all over, and one
macro-metastasis whose border is rough.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from lesion_slider import waves
from napari_window import Heartbeat, rest, until
from numpy.typing import NDArray
from slides_for_benchmarks import write_repeated_slide

from napari_metastasis._napari.app import make_viewer
from napari_metastasis._napari.compat import camera_of
from napari_metastasis._napari.session import SlideSession
from napari_metastasis._napari.slide_controller import SlideController
from napari_metastasis._napari.workspace import Workspace
from napari_metastasis.geometry import HeatmapFrame, ModelFrame
from napari_metastasis.lesions import ContourLines, LesionIndex
from napari_metastasis.scanning import PROBABILITY, MapValues

MPP, MODEL_MPP, PATCH_PX, STRIDE_PX = 0.25, 0.972, 96, 8
#: Magnifications looked at; 0.25 µm are a screen pixel at 40x. The first shows the whole slide.
VIEWS = {"whole slide": None, "2.5x": 2.5, "10x": 10.0, "40x": 40.0}


def many_lesions(rows: int, columns: int, count: int, seed: int = 3) -> NDArray[np.float32]:
    """Return a (rows, columns) map with about so many lesions, of 3 to 12 cells, and one of a fifth of its width."""
    rng = np.random.default_rng(seed)
    values = np.zeros((rows, columns), np.float32)
    y, x = np.ogrid[:rows, :columns]
    distance = np.hypot(y - rows / 2, x - columns / 2).astype(np.float32)
    macro = 1 / (1 + np.exp(np.minimum((distance - 0.1 * columns) / 8 + 2 * waves(rng, (rows, columns), 6, 1.0), 50)))
    np.maximum(values, macro.astype(np.float32), out=values)
    # On a jittered grid, so that lesions do not run together.
    side = math.ceil(math.sqrt(count))
    pitch_y, pitch_x = rows / side, columns / side
    reach = 8
    py, px = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    for number in range(count):
        row, column = divmod(number, side)
        cy = (row + 0.5) * pitch_y + rng.uniform(-0.15, 0.15) * pitch_y
        cx = (column + 0.5) * pitch_x + rng.uniform(-0.15, 0.15) * pitch_x
        top, left = round(cy) - reach, round(cx) - reach
        if min(top, left) < 0 or top + 2 * reach + 1 > rows or left + 2 * reach + 1 > columns:
            continue
        size = rng.uniform(3.5, 6.5)
        bump = 1 / (1 + np.exp((np.hypot(py, 1.3 * px) - size) * 1.5))
        part = values[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
        np.maximum(part, bump.astype(np.float32), out=part)
    return values


def show_many_lesions(session: SlideSession, count: int) -> None:
    """Give a slide a map with about so many lesions, as a scan would."""
    model = ModelFrame.fit(slide=session.slide.size, mpp=MPP, model_mpp=MODEL_MPP, downsamples=(1.0,))
    frame = HeatmapFrame(model, PATCH_PX, STRIDE_PX)
    values = many_lesions(*frame.cells.shape, count)
    session.show_maps([MapValues(PROBABILITY, frame, values)], model_name="made", folder=None)
    session.set_threshold(0.5)
    session.show_lesions(LesionIndex(values, frame, session.detection))


def move(controller: SlideController, zoom: float, seconds: float) -> float:
    """Pan in a circle and zoom in and out around a magnification, as a hand does; return processor ms a picture.

    Those are of all threads, and tell more than gaps do where other programs are at work.
    """
    camera = camera_of(controller.layers._viewer)
    middle = controller.session.slide.size.width * controller.session.slide.mpp / 2
    view, start, pictures, began = 100 / zoom, time.perf_counter(), 0, time.process_time()
    while (t := time.perf_counter() - start) < seconds:
        camera.center = (middle * 0.8 + view * math.sin(t), middle * 0.8 + view * math.cos(t))
        camera.zoom = zoom * (1.0 + 0.4 * math.sin(2 * t))
        rest(1 / 30)
        pictures += 1
    return (time.process_time() - began) * 1000 / pictures


def paths_of(lines: ContourLines) -> list[NDArray[np.float64]]:
    """Return contours as the paths that a Shapes layer takes, (y, x) in level-0 pixels."""
    left, paths = set(range(len(lines))), []
    while left:
        at, path = left.pop(), []
        while True:
            path.append(lines.ends[at, 0, ::-1])
            at = int(lines.following[at])
            if at not in left:
                break
            left.discard(at)
        if len(path) > 1:
            paths.append(np.array([*path, path[0]]))
    return paths


def measure(folder: Path, *, side: int, lesions: int, seconds: float, shapes: bool) -> dict[str, dict[str, float]]:
    """Return figures for each view: gaps in ms, lines drawn, seconds until all of them are."""
    path = folder / f"slide-{side}.tif"
    write_repeated_slide(path, side, mpp=MPP)
    viewer = make_viewer()
    viewer.window.resize(1500, 1000)
    workspace = Workspace.of(viewer)
    workspace.open([path])
    until(lambda: workspace.current is not None and workspace.current.session.tissue is not None)
    controller = workspace.current
    assert controller is not None
    session, outlines = controller.session, controller.layers.outlines
    show_many_lesions(session, lesions)
    found = session.found
    assert found is not None
    until(lambda: outlines.done)
    viewer.fit_to_view()
    fit = camera_of(viewer).zoom
    beat, figures = Heartbeat(), {}
    for name, magnification in VIEWS.items():
        zoom = fit if magnification is None else magnification / 10
        gaps: dict[bool, list[float]] = {False: [], True: []}
        processor: dict[bool, list[float]] = {False: [], True: []}
        camera_of(viewer).zoom = zoom
        layer = None
        for drawn in (False, True, False, True):
            outlines.visible = drawn and not shapes
            if shapes and drawn:
                outlines.visible = True
                until(lambda: outlines.done)
                near = [outlines._squares[key].shown for key in outlines._work.squares]
                outlines.visible = False
                made = [path for one in near if one is not None and len(one) for path in paths_of(one)]
                layer = viewer.add_shapes(
                    made, shape_type="path", edge_width=2 / zoom / MPP, edge_color="green", face_color="transparent",
                    scale=(MPP, MPP), units=("um", "um"),
                )  # fmt: skip
            until(lambda: outlines.done)
            rest(0.5)
            taken = processor[drawn]
            gaps[drawn] += beat.during(lambda z=zoom, t=taken: t.append(move(controller, z, seconds / 2))).tolist()
            if layer is not None:
                viewer.layers.remove(layer)
                layer = None
        outlines.visible = not shapes
        started = time.perf_counter()
        session.set_threshold(0.52)
        session.follow_threshold()
        until(lambda: outlines.done)
        follows = time.perf_counter() - started
        lines = outlines.count
        session.set_threshold(0.5)
        session.follow_threshold()
        figures[name] = {
            "lines": lines,
            "p50_without": statistics.median(gaps[False]),
            "p50_with": statistics.median(gaps[True]),
            "p95_without": float(np.percentile(gaps[False], 95)),
            "p95_with": float(np.percentile(gaps[True], 95)),
            "longest_with": max(gaps[True]),
            "processor_without": min(processor[False]),
            "processor_with": min(processor[True]),
            "follows_threshold_s": follows,
        }
    figures["all"] = {"lesions": len(found.rows)}
    viewer.close()
    workspace.close()
    return figures


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=100_000, help="side of the slide at level 0, in pixels")
    parser.add_argument("--lesions", type=int, default=16_000)
    parser.add_argument("--seconds", type=float, default=6, help="how long to move in each view")
    parser.add_argument("--shapes", action="store_true", help="draw a napari Shapes layer instead, for comparison")
    parser.add_argument("--folder", type=Path, help="where the slide lies or is written to; a temporary one by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        figures = measure(
            folder, side=options.side, lesions=options.lesions, seconds=options.seconds, shapes=options.shapes
        )
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{figures.pop('all')['lesions']:,.0f} lesions on {options.side:,} px; gaps of the GUI thread in ms")
    columns = list(next(iter(figures.values())))
    print(f"{'view':<12}", *(f"{column:>20}" for column in columns))
    for name, row in figures.items():
        print(f"{name:<12}", *(f"{row[column]:>20,.1f}" for column in columns))


if __name__ == "__main__":
    main()
