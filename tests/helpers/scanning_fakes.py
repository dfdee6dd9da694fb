"""Stand-ins for slides, engines and stores, and the slow oracle that every fast way is compared with."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from napari_metastasis.errors import DeviceMemoryError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size
from napari_metastasis.models import Block, Detector, Encoder, ModelSpec, Refiner, ScanNet, ScanNetArchitecture
from napari_metastasis.scanning import DenseScan, never, run_passes

#: 30 px patch, stride 8.
TINY = ScanNetArchitecture(
    blocks=(Block(6, 1), Block(8, 1), Block(8, 1)),
    head_kernel_px=2,
    head_channels=(8,),
    batch_norm=True,
    dropout=0.0,
)


def tiny_model(mpp: float = 0.972, seed: int = 5) -> Detector:
    """Return a network whose answers spread over 0..1."""
    torch.manual_seed(seed)
    network = ScanNet(TINY).eval().requires_grad_(requires_grad=False)
    network.head[-1].weight.mul_(2.0)
    spec = ModelSpec(name="tiny", architecture="tiny", mpp=mpp, patch_px=TINY.patch_px, stride_px=TINY.stride_px)
    return Detector(spec=spec, network=network, weights_sha256=f"{seed:064d}", card={})


def scan(slide, engine, plan, store, settings, *, features=None, should_stop=never):
    """Run the first pass of a scan."""
    first = DenseScan(slide, engine, plan, store, settings, features)
    return run_passes(first.run(should_stop), (), first.model_px, should_stop)


def encoder_of(refiner: Refiner, model: Detector, alpha: int) -> Encoder:
    """Return the network that scans with a model and hands out what a refiner reads."""
    return Encoder(model.dense(alpha), refiner.feature_layer(model), alpha)


def patch_answer(model: Detector, patch: np.ndarray) -> float:
    """Return the native network's answer for one patch, uint8 (patch, patch, 3)."""
    mean, std = np.array(model.spec.mean), np.array(model.spec.std)
    image = torch.from_numpy(((patch / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32))
    with torch.inference_mode():
        return float(model.network(image).softmax(dim=1)[0, model.spec.tumour_class, 0, 0])


def oracle(model: Detector, slide: ArraySlide, frame: HeatmapFrame, cells: Region) -> np.ndarray:
    """Return the heatmap as its definition says: every patch cut out and answered alone."""
    answers = np.empty(cells.size.shape, np.float32)
    side = frame.patch_px
    for row in range(cells.height):
        for column in range(cells.width):
            x = (cells.x + column) * frame.stride_px - frame.padding_px
            y = (cells.y + row) * frame.stride_px - frame.padding_px
            answers[row, column] = patch_answer(model, slide.read(frame.model, Region(x, y, side, side)))
    return answers


class ArraySlide:
    """A slide in memory whose level 0 is what the model sees."""

    def __init__(self, pixels: np.ndarray, delay: float = 0.0, fails_at: int | None = None) -> None:
        self.pixels = pixels
        self.delay = delay
        self.fails_at = fails_at
        self.reads: list[Region] = []
        self._lock = threading.Lock()

    def heatmap_frame(self, model: Detector, dense_coefficient: int = 2) -> HeatmapFrame:
        size = Size(self.pixels.shape[1], self.pixels.shape[0])
        return HeatmapFrame(
            model=ModelFrame(scale=1.0, mpp=model.spec.mpp, size=size),
            patch_px=model.spec.patch_px,
            stride_px=model.spec.dense_stride_px(dense_coefficient),
        )

    def read(self, frame: ModelFrame, region: Region) -> np.ndarray:
        with self._lock:
            self.reads.append(region)
            number = len(self.reads)
        if self.fails_at is not None and number >= self.fails_at:
            raise ValueError(f"read {number} failed")
        time.sleep(self.delay)
        image = np.full((*region.size.shape, 3), 255, np.uint8)
        inside = region.intersection(Region.of(frame.size))
        if not inside.is_empty:
            image[inside.shifted(-region.x, -region.y).slices] = self.pixels[inside.slices]
        return image


@dataclass
class ArrayStore:
    """A heatmap in memory that also counts who wrote what."""

    frame: HeatmapFrame
    values: np.ndarray = field(init=False)
    writes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.values = np.full(self.frame.cells.shape, np.nan, np.float32)
        self.writes = np.zeros(self.frame.cells.shape, int)

    def write(self, cells: Region, answers: np.ndarray) -> None:
        answered = ~np.isnan(answers)
        self.values[cells.slices][answered] = answers[answered]
        self.writes[cells.slices] += answered


class MeanEngine:
    """Answers with the mean of each patch's centre pixel: quick, and different everywhere.

    Parameters
    ----------
    frame
        Gives patch and stride.
    room_px
        Windows of more pixels do not fit; ``None`` takes all.
    """

    name, precision, device = "fake", "float32", "cpu"

    def __init__(self, frame: HeatmapFrame, *, lanes: int = 1, room_px: float | None = None, delay: float = 0.0):
        self.lanes = lanes
        self.frame = frame
        self.room_px = room_px
        self.delay = delay
        self.windows: list[tuple[int, int]] = []
        self.refused = 0
        self.busy = 0
        self.most_busy = 0
        self._lock = threading.Lock()

    def run(self, images: np.ndarray) -> np.ndarray:
        with self._lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            time.sleep(self.delay)
            height, width = images.shape[1:3]
            if self.room_px is not None and height * width > self.room_px:
                self.refused += 1
                raise DeviceMemoryError("expected room, got none; take less")
            self.windows.append((height, width))
            first, step = self.frame.patch_px // 2, self.frame.stride_px
            rows = (height - self.frame.patch_px) // step + 1
            columns = (width - self.frame.patch_px) // step + 1
            centres = images[:, first::step, first::step][:, :rows, :columns]
            return (centres.astype(np.float32).mean(axis=-1) / 255).astype(np.float32)
        finally:
            with self._lock:
                self.busy -= 1

    def close(self) -> None:
        pass
