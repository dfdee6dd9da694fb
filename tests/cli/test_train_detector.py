"""``train detector``: what it refuses before anything is written, and the whole way on a small cohort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_metastasis.annotations import Annotation, AnnotationSet, write_asap_xml
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import CorruptSlideError, TrainingError
from napari_metastasis.geometry import Size
from napari_metastasis.models import load_model, own_models_folder
from napari_metastasis.slides import Slide, write_pyramid

from .conftest import Run

SIDE = 420


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort file: a tumour slide and a normal one in each of two splits."""
    folder = tmp_path_factory.mktemp("cohort")
    lines = ["slide,annotation,split"]
    for number, (split, tumour) in enumerate((s, t) for s in ("train", "validation") for t in (True, False)):
        pixels = np.array([225, 150, 195]) + np.random.default_rng(number).integers(-9, 10, (SIDE, SIDE, 3))
        if tumour:
            pixels[150:300, 150:300] -= (150, 110, 90)
            ring = np.array([(150, 150), (300, 150), (300, 300), (150, 300)], dtype=float)
            write_asap_xml(folder / f"{number}.xml", AnnotationSet((Annotation.of_rings("a", "_0", ring),)))
        path = folder / f"{number}.tif"
        write_pyramid(path, pixels.clip(0, 255).astype(np.uint8), mpp=0.972, size=Size(SIDE, SIDE))
        lines.append(f"{path.name},{f'{number}.xml' if tumour else ''},{split}")
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "cohort.csv"


def test_nothing_to_train_on(here: Run, tmp_path: Path) -> None:
    here("train", "detector", "--output", tmp_path / "run").fails_with("--cohort or --patches", status=2)
    assert not (tmp_path / "run").exists()


def test_an_architecture_that_cannot_be_trained_is_refused_at_once(here: Run, cohort: Path, tmp_path: Path) -> None:
    run = here("train", "detector", "--output", tmp_path / "run", "--cohort", cohort, "--architecture", "resnet34")
    lite = "efficientnet-lite0, efficientnet-lite0-enlarged, efficientnet-lite0-enlarged-4x4"
    known = f"covnet-256, covnet-64, {lite}, scannet-compact, scannet-small, scannet-vgg16"
    run.fails_with(f"expected an architecture among {known}, got 'resnet34'")
    assert not (tmp_path / "run").exists()


def test_patches_alone_need_some_to_validate_on(here: Run, tmp_path: Path) -> None:
    run = here("train", "detector", "--output", tmp_path / "run", "--patches", tmp_path)
    run.fails_with("--validation", status=2)


def test_every_fault_of_a_cohort_is_named_before_anything_is_written(here: Run, cohort: Path, tmp_path: Path) -> None:
    faulty = cohort.with_name("faulty.csv")
    text = cohort.read_text("utf-8")
    faulty.write_text(text + "gone.tif,,train\n0.tif,missing.xml,validation\n", encoding="utf-8")
    run = here("train", "detector", "--output", tmp_path / "run", "--cohort", faulty)
    assert run.status == 1
    assert "gone" in run.err
    assert "missing.xml" in run.err
    assert "put them right first" in run.err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("line", "goes_on"), [("gone.tif,,train", True), ("0.tif,0.xml,validation", False)])
def test_a_run_that_has_begun_goes_on_without_a_slide_that_is_away(
    here: Run, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, goes_on: bool
) -> None:
    """A slide in two splits is a fault of the list, which was changed."""
    from napari_metastasis.workflows.train import run

    def stop(*_: object, **__: object) -> None:
        raise TrainingError("expected to get here; go on")

    monkeypatch.setattr(run, "train_on_cohort", stop)
    faulty = cohort.with_name("since.csv")
    faulty.write_text(cohort.read_text("utf-8") + line + "\n", encoding="utf-8")
    command = ("train", "detector", "--output", tmp_path / "run", "--cohort", faulty)
    assert "put them right first" in here(*command).err.splitlines()[-1]
    (tmp_path / "run" / "stage-0").mkdir(parents=True)
    (tmp_path / "run" / "stage-0" / "last.ckpt").touch()
    fault, last = here(*command).err.splitlines()
    assert fault.startswith(f"napari-metastasis: {line[0]}")
    assert ("expected to get here" in last) == goes_on
    assert ("put them right first" in last) != goes_on


def test_the_whole_way(here: Run, cohort: Path, tmp_path: Path) -> None:
    settings = ("--device", "cpu", "--precision", "float32", "--workers", 0, "--batch-size", 8, "--epochs", 1)
    sampling = ("--patches-per-epoch", 16, "--validation-patches", 8)
    mining = ("--mining-threshold", 0.0, "--mined-per-slide", 5)
    command = ("train", "detector", "--cohort", cohort, "--output", tmp_path / "mine", "--licence", "CC0")
    run = here(*command, *settings, *sampling, *mining)
    assert run.status == 0, run
    weights = Path(run.out.splitlines()[-1])
    assert weights == tmp_path / "mine" / "scannet-mine.safetensors"
    model = load_model("scannet-mine")
    assert model.weights_sha256 == load_model(weights).weights_sha256
    assert model.card["licence"] == "CC0"
    assert "cohort.csv" in model.card["data"]
    assert "round 1: " in run.err
    assert (own_models_folder() / "scannet-mine.safetensors").exists()
    again = here(*command, *settings, *sampling, *mining)
    assert again.status == 0
    assert again.out.splitlines()[-1] == str(weights)


SMALL = ("--device", "cpu", "--precision", "float32", "--workers", 0, "--batch-size", 8, "--epochs", 1)
FEW = ("--patches-per-epoch", 16, "--validation-patches", 8, "--mining-rounds", 0)


@pytest.mark.parametrize("end", [KeyboardInterrupt, TrainingError("expected a finite loss, got nan; begin anew")])
def test_slides_that_fail_are_named_at_once_and_again_however_the_run_ends(
    here: Run, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    from napari_metastasis.sampling import slide_index
    from napari_metastasis.workflows.train import run as cohort_run

    open_indexed = slide_index.open_indexed

    def fail(slide: CohortSlide) -> Slide:
        if slide.name == "4":
            raise CorruptSlideError("expected pixels, got none; copy it again")
        return open_indexed(slide)

    def stop(*_: object, **__: object) -> None:
        raise end

    monkeypatch.setattr(slide_index, "open_indexed", fail)
    monkeypatch.setattr(cohort_run, "train", stop)
    more = cohort.with_name("more.csv")
    more.write_text(cohort.read_text("utf-8") + "4.tif,,train\n", encoding="utf-8")
    pixels = np.full((SIDE, SIDE, 3), 200, np.uint8)
    write_pyramid(cohort.with_name("4.tif"), pixels, mpp=0.972, size=Size(SIDE, SIDE))
    run = here("train", "detector", "--cohort", more, "--output", tmp_path / "run", *SMALL, *FEW)
    assert run.status == (130 if end is KeyboardInterrupt else 1), run
    first, again, last = run.err.splitlines()
    assert first == (
        "napari-metastasis: 4 gives no patch here and is passed over: expected pixels, got none; copy it again"
    )
    assert again == "napari-metastasis: 4 was passed over: expected pixels, got none; copy it again"
    assert "stopped" in last or "begin anew" in last
