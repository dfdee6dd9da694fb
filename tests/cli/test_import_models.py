"""Imported models at the command line: what they are asked for, and that they scan as their patches answer."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from torch import Tensor, nn

from cli.conftest import FIXED_ENGINE, Run
from helpers.disc_phantom import disc_slide
from napari_metastasis.geometry import HeatmapFrame, Point, Region, Size
from napari_metastasis.models import load_detector
from napari_metastasis.slides import open_slide

SAMPLE = Path(__file__).resolve().parents[2] / "sample_data" / "lymph-node.tif"
CARD = ("--classes", "normal,tumour", "--mean", 0, 0, 0, "--std", 1, 1, 1, "--activation", "softmax")


class Padded(nn.Module):
    """A small network that pads: what it answers depends on where a patch ends."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, padding=1)
        self.second = nn.Conv2d(8, 8, 3, 2, padding=1)
        self.last = nn.Linear(8, 2)
        generator = torch.Generator().manual_seed(8)
        with torch.no_grad():
            for layer in (self.first, self.second, self.last):
                layer.weight.normal_(0, 3 / layer.weight[0].numel() ** 0.5, generator=generator)

    def forward(self, patches: Tensor) -> Tensor:
        features = torch.relu(self.second(torch.relu(self.first(patches))))
        return self.last(features.mean(dim=(2, 3)))


class Dark(nn.Module):
    """Takes the middle 8 px of a patch of 32 px for tumour where they are dark; for images, of every fourth patch."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, patches: Tensor) -> Tensor:
        light = torch.nn.functional.avg_pool2d(patches[:, :, 12:-12, 12:-12].mean(dim=1, keepdim=True), 8, 4)
        odds = 40 * (0.55 - light)
        logits = torch.cat([-odds / 2, odds / 2], dim=1)
        return logits.flatten(1) if self.flat else logits


def written(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if path.suffix == ".pt":
            torch.jit.script(network.eval()).save(str(path))
        else:
            torch.onnx.export(
                network.eval(), (torch.zeros(2, 3, 32, 32),), path, dynamo=False, opset_version=17,
                input_names=["patches"], output_names=["answers"],
                dynamic_axes={"patches": {0: "count", 2: "height", 3: "width"}},
            )  # fmt: skip
    return path


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_what_is_missing_stands_in_one_line(here: Run, tmp_path: Path) -> None:
    path = written(Padded(), tmp_path / "theirs.onnx")
    wanted = "--mpp, --patch-px, --classes, --mean, --std, --activation; give them"
    here("models", "import", path).fails_with("expected a card for theirs", wanted)
    here("models", "import", path, *CARD, "--mpp", 0.486).fails_with("got none of --patch-px; give them")
    here("models", "import", path, *CARD, "--mpp", 0.486, "--patch-px", 32, "--mean", 3, 3).fails_with(status=2)


class Terminal(io.StringIO):
    """A person at a terminal, who answers in this order."""

    def isatty(self) -> bool:
        return True


def test_a_person_is_asked_for_trust_and_for_what_is_missing(
    here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(Padded(), tmp_path / "theirs.pt")
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    refused = here("models", "import", path)
    assert refused.status == 1
    assert "Do you trust where it is from? [y/N]" in refused.err
    assert "add --trust" in refused.err

    answers = ("y", "32", "stroma, nests", "0 0 0", "1, 1, 1", "softmax", "nests")
    monkeypatch.setattr(sys, "stdin", Terminal("\n".join(answers) + "\n"))
    run = here("models", "import", path, "--mpp", 0.486)
    assert run.status == 0, run
    assert "Micrometres" not in run.err
    spec = load_detector("theirs").spec
    assert (spec.mpp, spec.patch_px, spec.classes, spec.tumour_class) == (0.486, 32, ("stroma", "nests"), 1)


def test_torchscript_is_refused_without_trust_and_told_on_its_card(here: Run, tmp_path: Path) -> None:
    path = written(Padded(), tmp_path / "theirs.pt")
    command = ("models", "import", path, *CARD, "--mpp", 0.486, "--patch-px", 32)
    here(*command).fails_with("is code and runs with your rights", "--trust")
    assert here(*command, "--trust").status == 0
    shown = here("models", "show", "theirs").out
    assert "runs code: TorchScript of others, which this user trusted" in shown
    assert "architecture: torchscript" in shown


def test_a_folder_with_code_of_others_is_added_with_trust_alone(
    here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(Padded(), tmp_path / "theirs.pt")
    assert here("models", "import", path, *CARD, "--mpp", 0.486, "--patch-px", 32, "--trust").status == 0
    assert here("models", "export", "theirs", tmp_path / "folder").status == 0
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    assert here("models", "add", tmp_path / "folder").status == 0
    scan = ("scan", SAMPLE, "--model", "theirs", "--region", 5000, 4000, 64, 64, "--output", tmp_path / "out")
    here(*scan, *FIXED_ENGINE).fails_with("expected code that is trusted here", "with --trust")
    assert here("models", "add", tmp_path / "folder", "--trust").status == 0
    assert here(*scan, *FIXED_ENGINE, "--no-tissue").status == 0


def test_a_scan_of_the_sample_slide_answers_as_each_patch_by_itself(here: Run, tmp_path: Path) -> None:
    network, side, stride = Padded(), 32, 16
    path = written(network, tmp_path / "theirs.onnx")
    run = here("models", "import", path, *CARD, "--mpp", 0.486, "--patch-px", side, "--stride", stride)
    assert run.status == 0, run
    region = Region(5000, 4000, 400, 300)
    answer = here(
        "scan", SAMPLE, "--model", "theirs", "--region", region.x, region.y, region.width, region.height,
        "--output", tmp_path / "out", "--engine", "onnxruntime", "--precision", "float32", "--roi-px", 160,
        "--no-tissue", "--device", "cpu", "--json",
    )  # fmt: skip
    assert answer.status == 0, answer
    heatmap = zarr.open_group(answer.json["output"] + "/heatmap.ome.zarr", mode="r")["0"][:]
    places = np.argwhere(~np.isnan(heatmap))
    assert len(places) >= (region.width // stride) * (region.height // stride)

    # The oracle reads the file with another library, and crops each patch by itself.
    pixels = tifffile.imread(SAMPLE, level=0)
    differences, answers = [], []
    for row, column in places:
        # A map begins so that it covers the slide: half of what a patch is larger than its stride.
        y, x = (int(each) * stride - (side - stride) // 2 for each in (row, column))
        patch = torch.from_numpy(pixels[y : y + side, x : x + side].copy()).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            answers.append(float(network(patch).softmax(dim=1)[0, 1]))
        differences.append(abs(answers[-1] - float(heatmap[row, column])))
    assert np.std(answers) > 1e-3
    assert max(differences) < 1e-5


@pytest.mark.parametrize("flat", [True, False], ids=["patchwise", "dense"])
@pytest.mark.parametrize("slide_mpp", [0.486, 0.25])
def test_a_disc_stays_at_its_place(here: Run, tmp_path: Path, flat: bool, slide_mpp: float) -> None:
    """Put a disc on a slide, and find the heatmap's centroid within half a cell of it."""
    center, radius = Point(1130.0, 640.0), 230.0
    disc_slide(tmp_path / "disc.tif", size=Size(1700, 1200), mpp=slide_mpp, center=center, radius_px=radius)
    path = written(Dark(flat=flat), tmp_path / "dark.pt")
    stride = ("--stride", 8) if flat else ()
    command = ("models", "import", path, *CARD, "--mpp", 0.972, "--patch-px", 32, *stride, "--trust")
    assert here(*command).status == 0
    spec = load_detector("dark").spec
    assert spec.fully_convolutional is not flat
    assert spec.stride_px == (8 if flat else 4)
    answer = here(
        "scan", tmp_path / "disc.tif", "--model", "dark", "--output", tmp_path / "out", "--no-tissue", "--json",
        "--device", "cpu", *FIXED_ENGINE,
    )  # fmt: skip
    assert answer.status == 0, answer
    heatmap = zarr.open_group(answer.json["output"] + "/heatmap.ome.zarr", mode="r")["0"][:]
    with open_slide(tmp_path / "disc.tif") as slide:
        frame = HeatmapFrame(model=slide.frame(0.972), patch_px=32, stride_px=spec.stride_px)
    assert heatmap.shape == frame.cells.shape
    assert np.nanmax(heatmap) > 0.99
    weights = np.nan_to_num(heatmap)
    row, column = (float((weights * grid).sum() / weights.sum()) for grid in np.indices(weights.shape))
    assert frame.cell_center(column, row).distance(center) < frame.cell_px / 2
    (lesion,) = answer.json["lesions"]
    assert lesion["area_mm2"] == pytest.approx(np.pi * (radius * slide_mpp / 1000) ** 2, rel=0.15)


def test_models_go_out_at_the_command_line(here: Run, tmp_path: Path) -> None:
    run = here("models", "export", "scannet-pcam", tmp_path / "folder", "--to", "wsinfer")
    assert run.status == 0, run
    assert sorted(Path(line).name for line in run.out.splitlines()) == [
        "config.json",
        "model.safetensors",
        "torchscript_model.pt",
    ]
    here("models", "export", "spatial-lite", tmp_path / "r", "--to", "wsinfer").fails_with("expected a detector")
    assert here("models", "import", tmp_path / "folder", "--name", "back").status == 0
