"""What dense scanning costs: one ROI at dense coefficients 1, 2 and 4, against its patches answered one by one.

Run with ``python benchmarks/dense_scan.py [--architecture scannet-vgg16] [--device cpu] [--precision float32]``.
The paper's network answers its ROI of 2,868 px, extended for the dense coefficient (Lin et al. 2019, II-C); weights are
drawn at random, since they change no timing. Each figure is the best of several runs, and the patches are timed on a
sample: their cost is the same wherever they lie.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from napari_metastasis.models import ARCHITECTURES, DenseScanNet, ModelSpec, build_network

#: Map of the paper's ROI at the network's own stride (Lin et al. 2019, Table I).
NATIVE_CELLS = 83
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def best_seconds(network: DenseScanNet, image: torch.Tensor, precision: str, repeats: int) -> float:
    """Return the shortest time of one forward pass."""
    best = float("inf")
    device = image.device.type
    with (
        torch.inference_mode(),
        torch.autocast(device, DTYPES[precision], enabled=precision != "float32"),
    ):
        network(image[:, :, : min(512, image.shape[2]), : min(512, image.shape[3])])
        for _ in range(repeats):
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            network(image)
            if device == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="scannet-vgg16", choices=sorted(ARCHITECTURES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=sorted(DTYPES))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    network = build_network(arguments.architecture).eval()
    shape = network.architecture
    spec = ModelSpec(
        name="random", architecture=arguments.architecture, mpp=0.25, patch_px=shape.patch_px, stride_px=shape.stride_px
    )
    rows = []
    for alpha in (1, 2, 4):
        stride = spec.dense_stride_px(alpha)
        cells = NATIVE_CELLS * alpha
        side = shape.patch_px + (cells - 1) * stride
        dense = DenseScanNet(network, spec, alpha).to(arguments.device, memory_format=torch.channels_last)
        image = torch.rand(1, 3, side, side, device=arguments.device) * 255
        image = image.contiguous(memory_format=torch.channels_last)
        roi = best_seconds(dense, image, arguments.precision, arguments.repeats)
        patch = DenseScanNet(network, spec, 1).to(arguments.device, memory_format=torch.channels_last)
        crop = image[:, :, : shape.patch_px, : shape.patch_px].contiguous(memory_format=torch.channels_last)
        one = best_seconds(patch, crop, arguments.precision, 10 * arguments.repeats)
        rows.append(
            {
                "dense_coefficient": alpha,
                "stride_px": stride,
                "roi_px": side,
                "seconds": round(roi, 3),
                "relative_to_native": round(roi / rows[0]["seconds"], 3) if rows else 1.0,
                "patch_seconds": round(one, 5),
                "times_cheaper_than_patches": round(one * cells * cells / roi, 1),
            }
        )
    if arguments.json:
        print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}))
        return
    print(f"{arguments.architecture}, {arguments.device}, {arguments.precision}, {torch.get_num_threads()} threads")
    print("| α | stride px | ROI px | s | against α = 1 | one patch, s | times cheaper than patches |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
