"""How fast points and labels follow the threshold slider on a 12,500 x 6,250 heatmap.

Run with ``python benchmarks/lesion_slider.py [--json] [--share 0.2] [--columns 12500] [--rows 6250]``. The map is made,
not scanned: lymph nodes on glass, a macro-metastasis over a given share of the map (lobes of tumour with stroma between
them, soft borders, a saturated inside with noise), a second one joined to it by a thin bridge, micro-metastases, and
specks of false alarm on the healthy tissue.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Size
from napari_metastasis.lesions import LesionIndex
from napari_metastasis.settings import DetectionSettings

STRIDE_PX, PATCH_PX, SCALE, MPP = 8, 96, 4.0, 0.243
SETTINGS = DetectionSettings()


def waves(rng: np.random.Generator, shape: tuple[int, int], size: float, amplitude: float) -> NDArray[np.float32]:
    """Return smooth noise of a given grain (in cells) and standard deviation."""
    coarse = tuple(int(side / size) + 4 for side in shape)
    noise = ndimage.zoom(rng.standard_normal(coarse).astype(np.float32), size, order=1)[: shape[0], : shape[1]]
    return noise * np.float32(amplitude / max(float(noise.std()), 1e-6))


def heatmap(rows: int, columns: int, share: float, seed: int = 7) -> NDArray[np.float32]:
    """Return a (rows, columns) float32 map with ``share`` of its cells at or above one half, NaN on glass."""
    rng = np.random.default_rng(seed)
    shape = (rows, columns)
    y, x = np.ogrid[:rows, :columns]
    logit = np.full(shape, -6.0, dtype=np.float32)
    # Two lobes of about equal area.
    area = share * rows * columns / 2
    radius = (area / np.pi) ** 0.5
    for center in (0.25, 0.52):
        distance = np.hypot((y - rows / 2) / radius, (x - columns * center) / radius).astype(np.float32)
        np.maximum(logit, (1 - distance) * 60, out=logit)
    np.clip(logit, -6, 6, out=logit)
    for _ in range(400):
        row, column, size = rng.integers(20, rows - 20), rng.integers(20, columns - 20), rng.uniform(3, 20)
        window = slice(max(0, row - 60), row + 60), slice(max(0, column - 60), column + 60)
        bump = 9 - 9 * np.hypot(y[window[0]] - row, x[:, window[1]] - column).astype(np.float32) / np.float32(size)
        np.maximum(logit[window], np.minimum(bump, rng.uniform(-2, 5)), out=logit[window])
    logit += waves(rng, shape, 40, 1.2)
    logit += waves(rng, shape, 6, 0.9)
    logit += waves(rng, shape, 2, 0.4)
    probabilities = (1 / (1 + np.exp(-logit))).astype(np.float32)
    # A neck joins the lobes into one lesion that parts as the threshold passes 0.6: millions of cells change their name
    # at once, the dearest single move there is.
    neck = slice(rows // 2 - 6, rows // 2 + 6), slice(int(columns * 0.25), int(columns * 0.52))
    np.maximum(probabilities[neck], 0.6, out=probabilities[neck])
    glass = np.broadcast_to(np.hypot((y - rows / 2) / rows, (x - columns / 2) / columns) > 0.52, shape)
    probabilities[glass] = np.nan
    return probabilities


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Return the milliseconds that ``work`` takes, and its answer."""
    start = time.perf_counter()
    answer = work()
    return (time.perf_counter() - start) * 1000, answer


def moves(index: LesionIndex, thresholds: list[float]) -> list[float]:
    """Return the milliseconds of each move from one threshold to the next."""
    index.at(thresholds[0])
    return [timed(lambda t=t: index.at(t))[0] for t in thresholds[1:]]


def processor_ms(index: LesionIndex, thresholds: list[float]) -> float:
    """Return the milliseconds of processor time of the second of two moves, over all threads.

    Beside other work on the machine it tells more than the clock does.
    """
    taken = []
    for _ in range(5):
        index.at(thresholds[0])
        start = time.process_time()
        index.at(thresholds[1])
        taken.append((time.process_time() - start) * 1000)
    return statistics.median(taken)


def measure(rows: int, columns: int, share: float) -> dict[str, float]:
    """Return every figure of the benchmark: milliseconds, but where the name says otherwise."""
    model = ModelFrame(scale=SCALE, mpp=MPP, size=Size(columns * STRIDE_PX, rows * STRIDE_PX))
    frame = HeatmapFrame(model, PATCH_PX, STRIDE_PX)
    probabilities = heatmap(rows, columns, share)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    build, index = timed(lambda: LesionIndex(probabilities, frame, SETTINGS))
    assert isinstance(index, LesionIndex)
    steps = [round(0.10 + 0.01 * step, 2) for step in range(90)]
    up, down = moves(index, steps), moves(index, steps[::-1])
    jumps = moves(index, [0.5, 0.9, 0.5, 0.1, 0.5])
    split = statistics.median(moves(index, [0.6, 0.61] * 4)[::2])
    merge = statistics.median(moves(index, [0.61, 0.6] * 4)[::2])
    split_processor = processor_ms(index, [0.6, 0.61])
    merge_processor = processor_ms(index, [0.61, 0.6])
    plain_processor = processor_ms(index, [0.5, 0.51])
    found = index.at(0.5)
    lesions, table = timed(lambda: found.rows)
    outline, _ = timed(lambda: found.lesion(found.rows[0].id) if found.rows else None)
    del table
    return {
        "cells at 0.5, share": float((probabilities >= 0.5).mean()),
        "cells at the floor, share": float((probabilities >= SETTINGS.floor).mean()),
        "lesions at 0.5": float(len(found.rows)),
        "detections at 0.5": float(len(found.detections)),
        "nodes": float(len(index._tree.peak)),
        "build": build,
        "build, growth of peak memory in MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "up by 0.01, median": statistics.median(up),
        "up by 0.01, 95 %": float(np.percentile(up, 95)),
        "up by 0.01, worst": max(up),
        "down by 0.01, median": statistics.median(down),
        "down by 0.01, 95 %": float(np.percentile(down, 95)),
        "down by 0.01, worst": max(down),
        "0.50 to 0.51, processor time": plain_processor,
        "up by 0.01, the lobes part": split,
        "up by 0.01, the lobes part, processor time": split_processor,
        "down by 0.01, the lobes join": merge,
        "down by 0.01, the lobes join, processor time": merge_processor,
        "jump 0.5 to 0.9": jumps[0],
        "jump 0.9 to 0.5": jumps[1],
        "jump 0.5 to 0.1": jumps[2],
        "jump 0.1 to 0.5": jumps[3],
        "table of lesions with lengths": lesions,
        "outline of the largest": outline,
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=6250)
    parser.add_argument("--columns", type=int, default=12500)
    parser.add_argument("--share", type=float, default=0.2, help="share of the map that is tumour")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.rows, options.columns, options.share)
    if options.json:
        print(json.dumps({"machine": platform.processor() or platform.machine(), **figures}))
        return
    print(f"{options.columns:,} x {options.rows:,} cells, milliseconds unless named otherwise")
    for name, value in figures.items():
        print(f"{name:46s} {value:12,.2f}")


if __name__ == "__main__":
    main()
