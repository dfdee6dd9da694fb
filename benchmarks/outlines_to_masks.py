"""How long a real file of outlines takes to become a level-5 mask and scored lesions.

Run with ``python benchmarks/outlines_to_masks.py [FILE.xml …]``; without files, an outline of 30,000 corners is made.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_metastasis.annotations import Annotation, AnnotationSet, rasterize, read_asap_xml, write_asap_xml
from napari_metastasis.evaluation import reference_from_annotations
from napari_metastasis.geometry import LevelFrame, Region
from napari_metastasis.settings import EvaluationSettings

SETTINGS = EvaluationSettings()
CORNERS = 30_000
REPEATS = 5


def made(path: Path) -> Path:
    """Write one lobed outline of 30,000 corners, 12 mm across, and return where."""
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    reach = 25_000 * (1 + 0.2 * np.sin(11 * angle) + 0.01 * np.random.default_rng(1).standard_normal(CORNERS))
    ring = np.c_[60_000 + reach * np.cos(angle), 90_000 + reach * np.sin(angle)].round()
    write_asap_xml(path, AnnotationSet((Annotation.of_rings(name="made", group="_0", exterior=ring),)))
    return path


def seconds(work: Callable[[], object]) -> float:
    """Return the median of some runs."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure(path: Path) -> dict[str, object]:
    """Time the reading, the drawing and the scoring of one file."""
    outlines = read_asap_xml(path)
    corners = np.concatenate([one.exterior for one in outlines])
    frame = LevelFrame(downsample=SETTINGS.downsample, mpp=SETTINGS.mpp)
    right, bottom = np.ceil(corners.max(axis=0) / SETTINGS.downsample).astype(int)
    window = Region(0, 0, int(right), int(bottom))
    return {
        "file": path.name,
        "outlines": len(outlines),
        "corners": len(corners) + sum(len(hole) for one in outlines for hole in one.holes),
        "read_s": round(seconds(lambda: read_asap_xml(path)), 3),
        "mask_s": round(seconds(lambda: rasterize(outlines, frame, window)), 3),
        "lesions_s": round(seconds(lambda: reference_from_annotations(path.stem, outlines, SETTINGS)), 3),
    }


def main() -> None:
    """Print one JSON object a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    files = parser.parse_args().files
    with tempfile.TemporaryDirectory() as folder:
        for path in files or [made(Path(folder) / "made.xml")]:
            print(json.dumps(measure(path)))


if __name__ == "__main__":
    main()
