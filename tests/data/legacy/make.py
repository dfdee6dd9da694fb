"""Write ``legacy.zip``: what version 0.1 of the program left on disk before its rooms were rebuilt.

It is to be run with that program, commit 94116df, and not with today's, whose results are compared with these files:

    git worktree add /tmp/before 94116df
    HOME=/tmp/nobody PYTHONPATH=/tmp/before/src .venv/bin/python tests/data/legacy/make.py

Everything in it is drawn by numpy here; no slide of a patient is read. ``tests/test_legacy.py`` says what lies where.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from napari_metastasis.pipeline import scan_slide
from napari_metastasis.pipeline.cohort_run import CohortTraining
from napari_metastasis.pipeline.spatial_run import train_refiner_on_cohort
from napari_metastasis.pipeline.stages import train_on_cohort
from napari_metastasis.training.cohort import Cohort, CohortSlide
from napari_metastasis.training.loop import patch_spec
from napari_metastasis.training.spatial_loop import RefinerJob

from napari_metastasis.annotations import Annotation, AnnotationSet, write_asap_xml
from napari_metastasis.geometry import Size
from napari_metastasis.models import (
    ModelSpec,
    RefinerSpec,
    SpatialNetwork,
    build_network,
    load_model,
    load_refiner,
    save_checkpoint,
    save_refiner,
)
from napari_metastasis.settings import (
    AugmentSettings,
    DetectionSettings,
    GridSettings,
    MiningSettings,
    RefineSettings,
    SamplingSettings,
    ScanSettings,
    SpatialAugmentSettings,
    SpatialTrainSettings,
    TissueSettings,
    TrainSettings,
)
from napari_metastasis.slides import open_slide, write_pyramid
from napari_metastasis.training import fitting

GLASS, TISSUE, DARK, MIMIC = (245, 245, 245), (225, 150, 195), (70, 30, 110), (110, 30, 70)
SCAN = ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=200)
GRID = GridSettings(
    grid=3, grid_step=2, window_step=3, order="rows-columns", hidden=3, projected=2, residual=True, smoothing=3
)
SMALL = {"batch_size": 4, "device": "cpu", "precision": "float32", "workers": 0}


def write_scanned_slide(path: Path) -> None:
    """Draw a dark disc on tissue, 0.486 µm per pixel."""
    rows, columns = np.mgrid[:700, :900] + 0.5
    pixels = np.full((700, 900, 3), GLASS, np.uint8)
    pixels[100:600, 100:800] = TISSUE
    pixels[np.hypot(columns - 520, rows - 340) < 150] = DARK
    write_pyramid(path, pixels, mpp=0.486, size=Size(900, 700), compression="deflate")


def write_training_slides(folder: Path) -> Cohort:
    """Draw a slide with an outlined dark square, and one with a mimic of it, for training and for validation."""
    slides = []
    for number, (split, tumour) in enumerate((s, t) for s in ("train", "validation") for t in (True, False)):
        pixels = np.full((420, 420, 3), GLASS, np.uint8)
        pixels[30:390, 30:390] = TISSUE
        pixels[150:300, 150 : 300 + 10 * number] = DARK if tumour else MIMIC
        path, outline = folder / f"{number}.tif", folder / f"{number}.xml" if tumour else None
        write_pyramid(path, pixels, mpp=0.972, size=Size(420, 420), compression="deflate")
        if outline is not None:
            ring = np.array([(150, 150), (300, 150), (300, 300), (150, 300)], dtype=float)
            write_asap_xml(outline, AnnotationSet((Annotation(name="square", group="_0", exterior=ring),)))
        slides.append(CohortSlide(name=path.stem, path=path, annotation=outline, split=split, tumour=tumour))
    return Cohort(slides=tuple(slides), origin=folder, layout="file")


def save_detector(path: Path) -> None:
    """Write weights, nearly all of them 0, that answer how dark a patch's middle is."""
    network = build_network("scannet-small").eval()
    state = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    convolutions = [name for name, tensor in state.items() if tensor.ndim == 4]
    for name in state:
        if name.endswith("running_var"):
            state[name].fill_(1)
    for name in convolutions:
        if name.startswith("features"):
            state[name][0, 0, 1, 1] = 1
            state[f"features.{int(name.split('.')[1]) + 1}.weight"].fill_(1)
    first, last = (name for name in convolutions if name.startswith("head"))
    state[convolutions[0]][0, :, 1, 1] = -1 / 3
    state[first][0, 0] = 1 / state[first][0, 0].numel()
    state[last][0, 0, 0, 0], state[last][1, 0, 0, 0] = -20.0, 20.0
    bias = last.replace("weight", "bias")
    state[bias][0], state[bias][1] = 10.0, -10.0
    network.load_state_dict(state)
    architecture = network.architecture
    spec = ModelSpec(
        name="darkness", architecture="scannet-small", mpp=0.972, patch_px=architecture.patch_px,
        stride_px=architecture.stride_px, mean=(1.0, 1.0, 1.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip
    save_checkpoint(path, network, spec, {"data": "none: made by hand", "licence": "CC0"})


def save_mover(path: Path) -> None:
    """Write a refiner that moves the detector's answers a little."""
    detector = load_model("darkness")
    spec = RefinerSpec(
        name="mover", encoder="darkness", encoder_sha256=detector.weights_sha256,
        encoder_features=detector.network.feature_channels, projected=3, hidden=4, grid=4, grid_step=2, window_step=2,
        order="raster-four", residual=True, smoothing=3, dense_coefficient=2,
    )  # fmt: skip
    torch.manual_seed(4)
    network = SpatialNetwork(spec).eval().requires_grad_(requires_grad=False)
    torch.nn.init.normal_(network.answer.weight)
    save_refiner(path, network, {"data": "none: drawn at random", "licence": "CC0"})


def scan(slide_path: Path, output: Path, *, stop_after: int | None = None) -> None:
    """Scan and refine a slide; a scan that is stopped has told of a few pieces."""
    told: list[tuple[int, int]] = []
    with open_slide(slide_path) as slide:
        scan_slide(
            slide, load_model("darkness"), scan=SCAN, tissue=TissueSettings(), detection=DetectionSettings(),
            refiner=load_refiner("mover"), refine=RefineSettings(refine=True), output=output,
            progress=lambda *done: told.append(done),
            should_stop=lambda: stop_after is not None and len(told) > stop_after,
        )  # fmt: skip


def how(train: TrainSettings, augment: AugmentSettings) -> CohortTraining:
    """Return the settings of a training of seconds."""
    return CohortTraining(
        train=train, augment=augment, sampling=SamplingSettings(patches_per_epoch=8, validation_patches=4),
        mining=MiningSettings(mining_threshold=0.0, mined_per_slide=10, mining_epochs=1, sheet_patches=5),
        scan=replace(SCAN, dense_coefficient=1), tissue=TissueSettings(),
    )  # fmt: skip


def run_options(output: Path) -> dict[str, object]:
    """Return what every training is told."""
    return {
        "output": output, "data_description": "squares", "licence": "CC0",
        "bar": lambda _: nullcontext(lambda *_: None), "should_stop": lambda: False,
    }  # fmt: skip


def train_refiner(cohort: Cohort, output: Path) -> None:
    """Train a refiner behind the detector, two epochs."""
    train = SpatialTrainSettings(**SMALL, epochs=2, optimiser="adamw", learning_rate=0.01)
    job = RefinerJob("trained", load_model("darkness"), GRID, 2)
    train_refiner_on_cohort(cohort, job, how(train, SpatialAugmentSettings()), **run_options(output))


def stop_refiner(cohort: Cohort, output: Path) -> None:
    """Begin the same training, and stop it in its second epoch."""
    steps: list[int] = []
    original = fitting.PatchTraining.on_train_batch_end

    def die(self: fitting.PatchTraining, *args: object) -> None:
        original(self, *args)
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt

    fitting.PatchTraining.on_train_batch_end = die
    try:
        train_refiner(cohort, output)
    except (KeyboardInterrupt, SystemExit):
        pass
    else:
        raise RuntimeError("expected the training to stop in its second epoch, got to its end; train for longer")
    finally:
        fitting.PatchTraining.on_train_batch_end = original


def train_detector(cohort: Cohort, output: Path) -> None:
    """Train a detector in two stages, and keep what is written about it: its weights are large."""
    train = TrainSettings(**SMALL, epochs=1)
    spec = patch_spec("staged", "scannet-small", 0.972)
    train_on_cohort(cohort, spec, how(train, AugmentSettings()), **run_options(output))
    for path in (*output.rglob("*.safetensors"), *output.rglob("*.ckpt")):
        path.unlink()


def main() -> None:
    """Make everything in a folder of its own, and pack it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "legacy"
        os.environ["XDG_DATA_HOME"], os.environ["XDG_CACHE_HOME"] = str(root), str(Path(folder) / "cache")
        models = root / "napari-metastasis" / "models"
        (models / "refiners").mkdir(parents=True)
        save_detector(models / "darkness.safetensors")
        save_mover(models / "refiners" / "mover.safetensors")
        write_scanned_slide(root / "disc.tif")
        scan(root / "disc.tif", root / "finished.metastasis")
        scan(root / "disc.tif", root / "stopped.metastasis", stop_after=6)
        (root / "slides").mkdir()
        cohort = write_training_slides(root / "slides")
        train_refiner(cohort, root / "refiner")
        stop_refiner(cohort, root / "refiner-stopped")
        train_detector(cohort, root / "detector")
        # What a run wrote for people alone, and heatmaps of mining, which are like those of the scans.
        for path in (*root.rglob("*.png"), *root.rglob("log"), *root.glob("*/mining-1/*.metastasis")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        packed = Path(__file__).with_name("legacy.zip")
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    # Without the time of the day.
                    entry = zipfile.ZipInfo(path.relative_to(root).as_posix())
                    archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main()
