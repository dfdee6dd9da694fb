"""The scan end to end against the network alone on the same ROIs, and a slide with much tissue from edge to edge.

Goals: reading, planning and storing cost at most 15 %; 200 Mpx of tissue at 0.972 µm/px take 100 s in float32 on two
cores, and 20 s with bfloat16 in hardware.

    python benchmarks/scan_end_to_end.py                      20 Mpx, a minute
    python benchmarks/scan_end_to_end.py --tissue-mpx 200     the goal's slide
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from model_scan import prepared_with
from slides_for_benchmarks import write_repeated_slide

from napari_metastasis.models import ARCHITECTURES, Detector, ModelSpec, build_network, load_detector
from napari_metastasis.scanning import Roi
from napari_metastasis.settings import DEFAULT_MODEL, ScanSettings
from napari_metastasis.slides import Slide, open_slide
from napari_metastasis.workflows.scan import PreparedScan, ScanJob

#: ROIs whose images are held in memory at once while the network runs alone.
_HELD_ROIS = 32


def _model(name: str) -> Detector:
    """Return a model by name or path, or an untrained network by its architecture: the speed is the same."""
    if name not in ARCHITECTURES:
        return load_detector(name)
    torch.manual_seed(0)
    network = build_network(name).eval().requires_grad_(requires_grad=False)
    spec = ModelSpec(
        name=name,
        architecture=name,
        mpp=0.972,
        patch_px=network.architecture.patch_px,
        stride_px=network.architecture.stride_px,
    )
    return Detector(spec=spec, network=network, weights_sha256="0" * 64, card={})


def _network_seconds(prepared: PreparedScan, slide: Slide) -> float:
    """Return how long the engine takes for every ROI of the plan, without reading and storing."""
    seconds = 0.0
    rois: Sequence[Roi] = prepared.plan.rois
    with ThreadPoolExecutor(prepared.chosen.engine.lanes) as lanes:
        for first in range(0, len(rois), _HELD_ROIS):
            images = [slide.read(prepared.frame.model, roi.read)[None] for roi in rois[first : first + _HELD_ROIS]]
            begun = time.perf_counter()
            list(lanes.map(prepared.chosen.engine.run, images))
            seconds += time.perf_counter() - begun
    return seconds


def _scan_seconds(prepared: PreparedScan) -> float:
    begun = time.perf_counter()
    for _ in prepared.run():
        pass
    prepared.heatmap.finish()
    return time.perf_counter() - begun


def measure(arguments: argparse.Namespace, work: Path) -> dict[str, object]:
    """Return one table row."""
    model = _model(arguments.model)
    side_px = round((arguments.tissue_mpx * 1e6) ** 0.5 * model.spec.mpp / arguments.mpp)
    path = arguments.slides / f"repeated-{side_px}-{arguments.mpp}.tif"
    arguments.slides.mkdir(parents=True, exist_ok=True)
    write_repeated_slide(path, side_px, mpp=arguments.mpp)
    settings = ScanSettings(
        # The slide is tissue from edge to edge, which Otsu's threshold cannot know.
        tissue_only=False,
        device=arguments.device,
        engine=arguments.engine,
        precision=arguments.precision,
        roi_px=arguments.roi_px,
        threads=arguments.threads,
        dense_coefficient=arguments.dense_coefficient,
    )
    with (
        open_slide(path) as slide,
        prepared_with(model, slide, ScanJob(slide=path, scan=settings, output=work)) as prepared,
    ):
        # Before and after, because a machine's clock falls while it works.
        alone = [_network_seconds(prepared, slide)]
        end_to_end = _scan_seconds(prepared)
        alone.append(_network_seconds(prepared, slide))
        mpx = prepared.plan.model_px / 1e6
        mean = sum(alone) / 2
        return {
            "model": model.spec.name,
            "engine": prepared.chosen.engine.name,
            "precision": prepared.chosen.engine.precision,
            "device": prepared.chosen.engine.device,
            "roi_px": prepared.chosen.roi_px,
            "tissue_mpx": round(mpx, 1),
            "network_s": round(mean, 2),
            "scan_s": round(end_to_end, 2),
            "overhead_percent": round(100 * (end_to_end / mean - 1), 1),
            "scan_mpx_per_s": round(mpx / end_to_end, 2),
            "seconds_for_200_mpx": round(200 * end_to_end / mpx, 1),
        }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name, path, or an architecture with random weights")
    parser.add_argument("--tissue-mpx", type=float, default=20)
    parser.add_argument("--mpp", type=float, default=0.486, help="of the slide's level 0")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--roi-px", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dense-coefficient", type=int, default=0, help="the model's own by default")
    parser.add_argument("--slides", type=Path, default=Path(tempfile.gettempdir()) / "napari-metastasis-benchmarks")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        row = measure(arguments, Path(work))
    if arguments.json:
        print(json.dumps(row))
        return
    for name, value in row.items():
        print(f"{name:22}{value}")


if __name__ == "__main__":
    main()
