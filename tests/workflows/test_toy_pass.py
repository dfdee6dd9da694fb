"""A new pass touches its own file, its card and one list: a toy one is scanned, resumed, recorded and shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_pass
from dark_model import dark_model
from scans import SCAN
from scipy import ndimage

from napari_metastasis import tasks
from napari_metastasis.geometry import Region
from napari_metastasis.models import Model, ScanModels, list_models, read_model, save_model
from napari_metastasis.scanning import MapStore
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan import AtHand, PassRequest, ScanJob, earlier_result, scan_slide

HELPERS = Path(toy_pass.__file__).parent
ON = (PassRequest(task="toy", settings=toy_pass.ToySettings(toy=True)),)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """Make the toy task known, and keep a model of it among the user's own."""
    monkeypatch.setattr(tasks, "TASKS", (*tasks.TASKS, toy_pass.TOY))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    network = torch.nn.Conv2d(1, 1, 3, bias=False)
    torch.nn.init.constant_(network.weight, 1 / 9)
    path = tmp_path / "data" / "napari-metastasis" / "models" / "averager.safetensors"
    path.parent.mkdir(parents=True)
    save_model(path, network, toy_pass.ToySpec("averager"), {"data": "none"})
    return read_model(path)


def scan(slide, toy, dark, output, **changes):
    job = ScanJob(
        slide=slide.path, passes=ON, output=output,
        scan=SCAN,
        **{key: changes.pop(key) for key in ("region",) if key in changes},
    )  # fmt: skip
    with EngineCache(lambda _: ScanModels(dark, {"toy": toy})) as engines:
        return scan_slide(job, AtHand(slide=slide, engines=engines), **changes)


def maps(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with MapStore.open(folder / "heatmap.ome.zarr") as own, MapStore.open(folder / "averaged.ome.zarr") as averaged:
        return own.values(), averaged.values()


def test_it_scans_and_resumes_and_is_recorded(slide, toy, tmp_path):
    dark = dark_model()
    whole = scan(slide, toy, dark, tmp_path / "whole")
    own, averaged = maps(whole.output)
    expected = ndimage.uniform_filter(np.nan_to_num(own), 3, mode="constant")
    answered = np.isfinite(averaged)
    np.testing.assert_array_equal(answered, np.isfinite(own))
    np.testing.assert_allclose(averaged[answered], expected[answered], atol=1e-6)
    np.testing.assert_array_equal(whole.probabilities[answered], averaged[answered])
    assert {lesion.map for lesion in whole.lesions} == {"averaged"}
    (made,) = json.loads((whole.output / "run.json").read_text())["passes"]
    assert (made["task"], made["map"], made["cells_answered"]) == ("toy", "averaged", answered.sum())
    # Stopped twice, in pieces of other sizes, and asked for a region first: the same map.
    part = scan(slide, toy, dark, tmp_path / "parts", region=Region(900, 400, 300, 300))
    assert part.finished
    seen = []
    stopped = scan(
        slide, toy, dark, tmp_path / "parts",
        progress=lambda *done: seen.append(done), should_stop=lambda: len(seen) > 3,
    )  # fmt: skip
    assert not stopped.finished
    assert scan(slide, toy, dark, tmp_path / "parts").finished
    np.testing.assert_allclose(maps(tmp_path / "parts")[1], averaged, atol=1e-6)
    assert [one.kind.name for one in earlier_result(slide, tmp_path / "parts").maps] == ["probability", "averaged"]


def test_its_models_are_listed(toy):
    assert [entry.name for entry in list_models("toy")] == ["averager"]
    assert toy.columns()["reads"] == "pixels"


@pytest.mark.usefixtures("toy")
def test_the_command_line_takes_its_options():
    code = f"""
import sys
sys.path.append({str(HELPERS)!r})
import toy_pass
from napari_metastasis import tasks
tasks.TASKS = (*tasks.TASKS, toy_pass.TOY)
from napari_metastasis.cli import main
main(sys.argv[1:])
"""
    run = [sys.executable, "-c", code]
    listed = subprocess.run([*run, "models", "list"], capture_output=True, text=True, check=True)
    assert "averager" in listed.stdout
    told = subprocess.run([*run, "scan", "--help"], capture_output=True, text=True, check=True)
    assert "--toy-share" in told.stdout
