"""What refining adds to a scan, and what encoding every patch once saves.

Goals: with a refiner behind the shipped model it costs at most 15 % of the scan; behind an encoder that pads, encoding
once is at least k·k times cheaper for grids of k x k patches than encoding every grid anew.

    python benchmarks/refinement.py [--refiner NAME] [--tissue-mpx 16] [--repeats 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from model_scan import prepared_with
from slides_for_benchmarks import write_repeated_slide

from napari_metastasis.models import (
    Detector,
    Encoder,
    ModelSpec,
    Refiner,
    RefinerSpec,
    SpatialNetwork,
    build_network,
    load_scan_models,
)
from napari_metastasis.scanning.passes.refine import RefinePass
from napari_metastasis.settings import RefineSettings, ScanSettings
from napari_metastasis.slides import Slide, open_slide
from napari_metastasis.workflows.scan import PassRequest, ScanJob

_MPP = 0.972


def scan_seconds(slide: Slide, model: Detector, refiner: Refiner | None, settings: ScanSettings) -> float:
    """Return how long a scan takes, with refining where there is a refiner, and both maps written."""
    refine = RefineSettings(refine=refiner is not None, keep_features=refiner is not None)
    others = {} if refiner is None else {"refine": refiner}
    with tempfile.TemporaryDirectory() as work:
        requests = (PassRequest(task="refine", settings=refine),)
        job = ScanJob(slide=slide.path, passes=requests, scan=settings, output=Path(work) / "out")
        with prepared_with(model, slide, job, **others) as prepared:
            begun = time.perf_counter()
            for _ in prepared.run():
                pass
            prepared.finish()
            return time.perf_counter() - begun


def beside_a_scan(arguments: argparse.Namespace) -> None:
    """Print what refining adds to scans of the same slide, in turns."""
    both = load_scan_models(arguments.refiner)
    known = both.others["refine"]
    assert isinstance(known, Refiner)
    settings = ScanSettings(tissue_only=False, roi_px=1152, precision="float32", engine=arguments.engine)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tissue.tif"
        write_repeated_slide(path, round((arguments.tissue_mpx * 1e6) ** 0.5), mpp=_MPP)
        with open_slide(path) as slide:
            found = [
                [scan_seconds(slide, both.detector, refiner, settings) for refiner in (None, known)]
                for _ in range(arguments.repeats)
            ]
    alone, refined = np.median(found, axis=0)
    added = np.median([second / first - 1 for first, second in found])
    spec = known.spec
    print("| refiner | grid | order | scan, s | scan and refining, s | added | goal |")
    print("|---|---|---|---|---|---|---|")
    grid = f"{spec.grid} x {spec.grid}, every {spec.grid_step}"
    print(f"| `{spec.name}` | {grid} | {spec.order} | {alone:.1f} | {refined:.1f} | **{added:.1%}** | 15 % |")


def encoding_once(side: int, grid: int) -> None:
    """Print the time of every grid encoded anew against every patch encoded once, for the paper's encoder."""
    torch.manual_seed(0)
    network = build_network("resnet34").eval().requires_grad_(requires_grad=False)
    spec = ModelSpec(name="resnet34", architecture="resnet34", mpp=0.243, patch_px=256, stride_px=64)
    model = Detector(spec=spec, network=network, weights_sha256="0" * 64, card={})
    refining = RefinerSpec(
        name="paper", encoder="resnet34", encoder_sha256="0" * 64, encoder_features=512, projected=0, hidden=128,
        grid=grid, grid_step=1, window_step=1, order="raster", residual=False, smoothing=1, dense_coefficient=1,
    )  # fmt: skip
    refiner = Refiner(spec=refining, network=SpatialNetwork(refining).eval(), weights_sha256="0" * 64, card={})
    encoder = Encoder(model.dense(1), refiner.feature_layer(model), 1)
    image = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (1, 3, *[256 + (side - 1) * 64] * 2)).astype(np.float32)
    )
    halo = refining.halo_cells
    with torch.inference_mode():
        encoder(image[:, :, :256, :256])  # what is set up once is nobody's cost
        begun = time.perf_counter()
        features = encoder(image)[1][0].permute(1, 2, 0).numpy()
        around = np.full((1, side + 2 * halo, side + 2 * halo, refining.features), np.nan, np.float32)
        around[0, halo : halo + side, halo : halo + side] = features
        once_map = RefinePass(refiner).answer(around)
        once = time.perf_counter() - begun
        total, count = np.zeros((side, side)), np.zeros((side, side))
        begun = time.perf_counter()
        # Grids that reach past the square as well: every patch belongs to as many.
        for y in range(1 - grid, side):
            for x in range(1 - grid, side):
                rows, columns = (slice(max(0, at), min(side, at + grid)) for at in (y, x))
                of_image = [slice(at.start * 64, 256 + (at.stop - 1) * 64) for at in (rows, columns)]
                cells = torch.full((1, grid, grid, refining.features), torch.nan)
                inside = [slice(part.start - at, part.stop - at) for part, at in ((rows, y), (columns, x))]
                cells[0, inside[0], inside[1]] = encoder(image[:, :, *of_image])[1][0].permute(1, 2, 0)
                odds = refiner.network(cells)[0, inside[0], inside[1]]
                total[rows, columns] += odds.sigmoid().numpy()
                count[rows, columns] += 1
        anew = time.perf_counter() - begun
    difference = np.abs(total / count - once_map).max()
    print(
        f"| {side} x {side} | {grid} x {grid} | {anew:.1f} | {once:.1f} | **{anew / once:.1f}** | {grid * grid} | "
        f"{difference:.1e} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refiner", default="spatial-lite")
    parser.add_argument("--tissue-mpx", type=float, default=16.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--side", type=int, default=12, help="patches along a side of the square that is encoded")
    arguments = parser.parse_args()
    beside_a_scan(arguments)
    print("\n| patches | grids | every grid anew, s | every patch once, s | times cheaper | goal | difference |")
    print("|---|---|---|---|---|---|---|")
    for grid in (2, 3):
        encoding_once(arguments.side, grid)


if __name__ == "__main__":
    main()
