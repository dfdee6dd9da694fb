"""The smaller commands: ``models``, ``evaluate``, ``sample``, ``view`` and ``demo``."""

from __future__ import annotations

import builtins
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
from safetensors.torch import save_file

from cli.conftest import Run
from napari_metastasis.annotations import read_asap_xml
from napari_metastasis.cli import demo
from napari_metastasis.cli.scan import scan_to_end
from napari_metastasis.models import build_network, list_models, own_models_folder
from napari_metastasis.settings import ScanSettings
from napari_metastasis.slides import open_slide


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Twelve patches of noise, in class folders."""
    generator = np.random.default_rng(3)
    folder = tmp_path / "patches"
    for label in "01":
        (folder / label).mkdir(parents=True)
        for number in range(6):
            patch = generator.integers(0, 255, (96, 96, 3), dtype=np.uint8)
            (folder / label / f"{number}.png").write_bytes(imagecodecs.png_encode(patch))
    return folder


def test_models_list_names_what_ships(here: Run) -> None:
    names = [entry.name for entry in list_models()]
    answer = here("models", "list", "--json")
    # In an order of their own: other tests may have trained models for this user.
    kinds = ("models", "refiners", "segmenters", "mitosis_models")
    assert sorted(spec["name"] for key in kinds for spec in answer.json[key]) == sorted(names)
    table = here("models", "list")
    assert table.status == 0
    for name in names:
        assert name in table.out


def test_models_show_tells_the_card(here: Run, model: Path) -> None:
    shown = here("models", "show", model, "--json").json
    assert shown["spec"]["mpp"] == 0.972
    assert shown["card"] == {"data": "none"}
    text = here("models", "show", model).out
    assert "mpp: 0.972" in text
    assert shown["weights_sha256"] in text


def test_models_show_refuses_an_unknown_name(here: Run) -> None:
    here("models", "show", "nobody").fails_with("'nobody'", "models list")


def test_models_import_keeps_another_programs_model(here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "resnet18.elsewhere"
    folder.mkdir()
    config = {
        "spec_version": "1.0",
        "architecture": "resnet18",
        "num_classes": 2,
        "patch_size_pixels": 64,
        "spacing_um_px": 0.5,
        "class_names": ["Stroma", "Epithelium"],
        "transform": [{"name": "ToTensor"}],
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(build_network("resnet18").state_dict(), folder / "model.safetensors")
    here("models", "import", folder).fails_with("expected one class of tumour", "--tumour-class")
    run = here("models", "import", folder, "--name", "theirs", "--tumour-class", "Epithelium")
    assert run.status == 0, run
    kept = own_models_folder() / "theirs.safetensors"
    assert run.out == f"theirs: {kept}\n"
    assert kept.is_file()
    listed = {spec["name"]: spec for spec in here("models", "list", "--json").json["models"]}
    assert listed["theirs"]["tumour_class"] == 1
    assert "not a medical device" in here("models", "show", "theirs").out


def test_evaluate_reports_figures_with_intervals(here: Run, patches: Path, model: Path) -> None:
    found = here("evaluate", "--patches", patches, "--model", model, "--device", "cpu", "--json").json
    assert found["n"] == 12
    for name in ("auc", "accuracy"):
        low, high = found[f"{name}_ci95"]
        assert 0 <= low <= found[name] <= high <= 1
    table = here("evaluate", "--patches", patches, "--model", model, "--device", "cpu").out
    assert f"{found['auc']:.4f}" in table


def test_evaluate_averages_views(here: Run, patches: Path, model: Path) -> None:
    command = ("evaluate", "--patches", patches, "--model", model, "--device", "cpu", "--json", "--augment-views")
    one, eight = here(*command, 1), here(*command, 8)
    assert one.status == eight.status == 0
    assert one.json != eight.json


@pytest.mark.parametrize("views", [0, 2, 16])
def test_evaluate_refuses_other_numbers_of_views(here: Run, patches: Path, views: int) -> None:
    here("evaluate", "--patches", patches, "--augment-views", views).fails_with("augment-views", "1, 8", status=2)


def test_evaluate_refuses_a_missing_device(here: Run, patches: Path, model: Path) -> None:
    here("evaluate", "--patches", patches, "--model", model, "--device", "cuda:99").fails_with("cuda", "--device")


@pytest.mark.parametrize(("device", "words"), [("abacus", ("'abacus'", "choose")), ("cuda:99", ("cuda:99", "choose"))])
def test_train_refuses_a_missing_device(here: Run, patches: Path, tmp_path: Path, device: str, words: tuple) -> None:
    output = tmp_path / "run"
    answer = here(
        "train", "detector", "--patches", patches, "--validation", patches, "--output", output, "--device", device
    )
    answer.fails_with(*words)
    assert not output.exists()


def test_train_without_its_extra_names_what_to_install(
    here: Run, patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    for name in [name for name in sys.modules if name.startswith("napari_metastasis.training.")]:
        monkeypatch.delitem(sys.modules, name)
    answer = here("train", "detector", "--patches", patches, "--validation", patches, "--output", tmp_path / "run")
    answer.fails_with("lightning", "pip install 'napari-metastasis[train]'")


def test_evaluate_without_patches(here: Run, tmp_path: Path) -> None:
    here("evaluate", "--patches", tmp_path / "nothing").fails_with("expected patches", "nothing")


_SMALL = ("--width-px", 1536, "--height-px", 1024, "--macro", 0, "--micro", 0, "--itc", 1, "--node-mm", 0.4)
_PLAIN = ("--fat-mm", 0.02, "--pen-marks", 0, "--blurred-areas", 0, "--folds", 0, "--tears", 0, "--dust", 0)


def test_sample_slide_is_a_slide_with_its_outlines(here: Run, tmp_path: Path) -> None:
    slide = tmp_path / "sample.tif"
    made = here("sample", "slide", slide, *_SMALL, *_PLAIN, "--seed", 5, "--json").json
    assert made == {
        "slide": str(slide),
        "annotations": str(slide.with_suffix(".xml")),
        "metastases": {"macro": 0, "micro": 0, "itc": 1},
    }
    with open_slide(slide) as opened:
        assert (opened.size.width, opened.size.height) == (1536, 1024)
        assert opened.mpp == pytest.approx(0.486, rel=1e-3)
    assert len(read_asap_xml(slide.with_suffix(".xml"))) == 1
    before = slide.read_bytes()
    here("sample", "slide", slide, *_SMALL, *_PLAIN).fails_with("sample.tif", "--overwrite")
    assert slide.read_bytes() == before
    assert here("sample", "slide", slide, *_SMALL, *_PLAIN, "--seed", 5, "--overwrite").status == 0
    assert slide.read_bytes() == before


def test_sample_slide_without_room_leaves_nothing(here: Run, tmp_path: Path) -> None:
    options = ("--width-px", 512, "--height-px", 512, "--macro", 3)
    here("sample", "slide", tmp_path / "sample.tif", *options).fails_with("room")
    assert list(tmp_path.iterdir()) == []


def _stub_slide(*_: object) -> SimpleNamespace:
    return SimpleNamespace(close=lambda: None)


def test_view_refuses_what_is_no_slide_before_any_window_opens(here: Run, tmp_path: Path) -> None:
    here("view", tmp_path / "nothing.svs").fails_with("nothing.svs")


def test_view_without_napari_names_what_to_install(here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def without_napari(name: str, *arguments: object) -> object:
        if name == "napari":
            raise ModuleNotFoundError("No module named 'napari'", name="napari")
        return genuine(name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_napari)
    monkeypatch.setattr("napari_metastasis.slides.open_slide", _stub_slide)
    here("view", "slide.svs").fails_with("expected napari", "install", "Qt")


def test_view_opens_the_one_window_there_is(here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[object, ...]] = []
    app = SimpleNamespace(view=lambda slides, mpp, *, swap_red_blue: done.append((slides, mpp, swap_red_blue)))
    monkeypatch.setitem(sys.modules, "napari", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "napari_metastasis._napari.app", app)
    monkeypatch.setattr("napari_metastasis._napari.display.can_open", lambda: True)
    monkeypatch.setattr("napari_metastasis.slides.open_slide", _stub_slide)
    assert here("view", "a.svs", "b.svs", "--mpp", 0.25).status == 0
    assert here("view", "--swap-red-blue").status == 0
    assert done == [([Path("a.svs"), Path("b.svs")], 0.25, False), ([], None, True)]


def test_view_refuses_a_pixel_size_for_no_slide(here: Run) -> None:
    here("view", "--mpp", 0.25).fails_with("expected slides for --mpp", "got none", status=2)


def test_view_without_a_screen_is_one_line(process: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qt would end the interpreter."""
    for name in ("WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    for display in ("", ":4321"):
        monkeypatch.setenv("DISPLAY", display)
        process("view").fails_with("expected a screen", "'scan'")


@pytest.mark.shared
def test_demo_scans_draws_and_shows_nothing_without_a_display(
    here: Run, model: Path, cmu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_metastasis.synthetic.sample_slide_path", lambda **_: cmu)
    # Nothing is left to be measured: the engines are, in tests of their own.
    fixed = ScanSettings(engine="torch", precision="float32", roi_px=512)
    monkeypatch.setattr(demo, "scan_to_end", lambda job, *rest: scan_to_end(replace(job, scan=fixed), *rest))
    monkeypatch.setenv("CI", "true")
    answer = here("demo", "--model", model, "--output", tmp_path / "out")
    assert answer.status == 0
    picture = imagecodecs.png_decode((tmp_path / "out" / "overview.png").read_bytes())
    assert picture.ndim == 3
    assert picture.std() > 10
    assert str(tmp_path / "out" / "overview.png") in answer.out
    assert "Slide score" in answer.out
