"""``train refiner``, and what its refiner is then asked to do: scan, refine later, evaluate, be listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from napari_metastasis.models import add_model, load_model, save_model
from napari_metastasis.settings import DEFAULT_MODEL

from .conftest import FIXED_ENGINE, Run
from .test_train_detector import cohort  # noqa: F401

SMALL = (
    "--device", "cpu", "--precision", "float32", "--workers", 0, "--batch-size", 4, "--epochs", 1,
    "--optimiser", "adamw",
    "--patches-per-epoch", 8, "--validation-patches", 4, "--mining-threshold", 0.0, "--mined-per-slide", 5,
    "--grid", 2, "--grid-step", 2, "--window-step", 2, "--hidden", 4, "--projected", 3, "--residual",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_the_whole_way(here: Run, cohort: Path, tmp_path: Path) -> None:  # noqa: F811
    run = here("train", "refiner", "--cohort", cohort, "--output", tmp_path / "mine", "--name", "mine", *SMALL)
    assert run.status == 0, run
    weights = Path(run.out.splitlines()[-1])
    assert weights == tmp_path / "mine" / "spatial" / "mine.safetensors"
    assert "--model mine" in run.err
    assert load_model("mine", "refine").weights_sha256 == load_model(weights, "refine").weights_sha256

    assert "mine" in {refiner["name"] for refiner in here("models", "list", "--json").json["refiners"]}
    assert "mine" in here("models", "list").out
    assert here("models", "show", "mine", "--json").json["spec"]["encoder"] == DEFAULT_MODEL

    slide = cohort.parent / "2.tif"
    first = here("scan", slide, "--output", tmp_path / "out", "--json", *FIXED_ENGINE)
    assert first.status == 0, first
    assert not (tmp_path / "out" / "refined.ome.zarr").exists()
    later = here("scan", slide, "--output", tmp_path / "out", "--refine", "--json", *FIXED_ENGINE)
    assert later.status == 0, later
    assert later.json["finished"]
    assert later.json["mpx_per_s"] == 0, "nothing was scanned again"
    assert (tmp_path / "out" / "refined.ome.zarr").exists()
    by_name = here("scan", slide, "--output", tmp_path / "other", "--model", "mine", "--json", *FIXED_ENGINE)
    assert (tmp_path / "other" / "refined.ome.zarr").exists()
    assert by_name.json["slide_score"] == pytest.approx(later.json["slide_score"], abs=1e-3)

    measured = here(
        "evaluate", "--cohort", cohort, "--model", "mine", "--output", tmp_path / "scans", "--json", *FIXED_ENGINE
    )
    assert measured.status == 0, measured
    assert measured.json["measured"]["refiner"] == "mine"
    assert (tmp_path / "scans" / "report-refined" / "report.html").exists()


def test_without_a_refiner_nothing_is_refined(here: Run, cohort: Path, tmp_path: Path) -> None:  # noqa: F811
    model = load_model("scannet-pcam")
    next(model.network.parameters()).mul_(1.01)
    other = tmp_path / "other.safetensors"
    save_model(other, model.network, replace(model.spec, name="other"), {})
    run = here(
        "scan", cohort.parent / "0.tif", "--output", tmp_path / "out", "--model", other, "--refine", *FIXED_ENGINE
    )
    run.fails_with("expected a refiner for other", "without --refine")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--encoder", "resnet34", "--dense-coefficient", 4), ("resnet34", "--dense-coefficient")),
        (("--encoder", "resnet34", "--kept-crops", 64), ("resnet34", "--kept-crops")),
        (("--initial", "resnet34-imagenet"), ("a finished model", "--initial")),
        (("--encoder", "nobody"), ("nobody",)),
        (("--grid", 3, "--window-step", 2), ("divides the grid of 3",)),
    ],
)
def test_what_it_refuses(here: Run, cohort: Path, tmp_path: Path, options: tuple, words: tuple) -> None:  # noqa: F811
    run = here("train", "refiner", "--cohort", cohort, "--output", tmp_path / "run", *options)
    assert run.status in (1, 2)
    for word in words:
        assert word in run.err
    assert not (tmp_path / "run" / "spatial").exists()


def test_a_refiner_that_cannot_be_read_hides_no_other(here: Run, tmp_path: Path) -> None:
    older = load_model("spatial-scannet", "refine")
    older.network.spec = replace(older.spec, name="older")
    save_model(tmp_path / "older.safetensors", older.network, older.network.spec, {})
    card = add_model(tmp_path / "older.safetensors").path.with_suffix(".json")
    card.write_text(card.read_text().replace('"smoothing"', '"averaging"'))
    run = here("models", "list", "--json")
    assert run.status == 0, run
    assert {refiner["name"] for refiner in run.json["refiners"]} == {"spatial-lite", "spatial-scannet"}
    assert "older is left out: expected a refiner's card" in run.err
