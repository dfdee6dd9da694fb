"""``train segmenter``: a segmenter comes out under its name, and what makes no sense is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_metastasis.models import load_model

from .conftest import Run
from .test_train_detector import cohort  # noqa: F401

SMALL = (
    "--device", "cpu", "--precision", "float32", "--workers", 0, "--batch-size", 2, "--epochs", 1,
    "--patches-per-epoch", 4, "--validation-patches", 2, "--pool-tiles", 3, "--tile-px", 32,
    "--encoder", "vgg16", "--width", 1 / 64,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_the_whole_way(here: Run, cohort: Path, tmp_path: Path) -> None:  # noqa: F811
    run = here("train", "segmenter", "--cohort", cohort, "--output", tmp_path / "mine", *SMALL)
    assert run.status == 0, run
    weights = Path(run.out.splitlines()[-1])
    assert weights == tmp_path / "mine" / "focus-mine.safetensors"
    assert "tiles with errors; see" in run.err
    model = load_model("focus-mine", "segment")
    assert model.weights_sha256 == load_model(weights, "segment").weights_sha256
    assert model.card["settings"]["trunk_rate"] == 0.2
    # Another decoder begins with its encoder.
    other = ("--decoder", "fcn-8s", "--initial", weights, "--boosting-rounds", 0)
    run = here("train", "segmenter", "--cohort", cohort, "--output", tmp_path / "other", *SMALL, *other)
    assert run.status == 0, run
    assert load_model("focus-other", "segment").card["initial"] == "focus-mine"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--decoder", "nobody"), ("expected a segmentation decoder among", "nobody")),
        (("--encoder", "efficientnet-lite0-enlarged", "--width", 0.5), ("choose encoder vgg16 for others",)),
        (("--cell-px", 5), ("expected pixels of the map that divide", "5")),
        (("--initial", "metastasis-lite"), ("metastasis-lite", "choose another initial model")),
        (("--initial", "nobody"), ("nobody", "vgg16-imagenet")),
        (("--initial", "spatial-lite"), ("expected a segmenter, got spatial-lite, which is a refiner",)),
        (("--gamma", 2), ("expected gamma between 0 and 1",)),
        (("--optimiser", "rmsprop"), ("rmsprop", "adamw, sgd")),
        (("--mining-rounds", 1), ("mining-rounds",)),
    ],
)
def test_what_makes_no_sense_is_refused(
    here: Run,
    cohort: Path,  # noqa: F811
    tmp_path: Path,
    options: tuple[object, ...],
    words: tuple[str, ...],
) -> None:
    run = here("train", "segmenter", "--cohort", cohort, "--output", tmp_path / "run", *SMALL, *options)
    assert run.status != 0
    for word in words:
        assert word in run.err, run.err
    assert len(run.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()
