"""Models as versions: what each was made from, carried as a folder, removed on request, and never by accident."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_metastasis.cli import main
from napari_metastasis.errors import ModelError, StorageError, UnknownModelError, WeightsError
from napari_metastasis.models import (
    add_model,
    build_network,
    export_model,
    list_models,
    list_versions,
    load_model,
    load_scan_models,
    remove_model,
    save_model,
    version_of,
    zoo,
)
from napari_metastasis.models.replay import Replay, read_replay, write_replay
from napari_metastasis.settings import RefineSettings
from napari_metastasis.training.tasks.detect import patch_spec
from napari_metastasis.workflows.scan import PassRequest, ScanJob
from napari_metastasis.workflows.scan.job_models import check_passes

PARENTS = [{"name": "mine", "weights_sha256": "a" * 64}, {"name": "scannet-pcam", "weights_sha256": "b" * 64}]
SAID = "Better on 3 of 4 places that it did not see, worse on 1"


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(zoo, "own_models_folder", lambda: tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture
def retrained(tmp_path: Path) -> Path:
    """A third version, with what it is not to forget, as a run leaves it among other files."""
    torch.manual_seed(0)
    spec = dataclasses.replace(patch_spec("any", "scannet-small", 0.972), name="mine-v2")
    path = tmp_path / "run" / "mine-v2.safetensors"
    path.parent.mkdir()
    said = {"data": "Corrections of 12 places", "parents": PARENTS, "retrained": {"verdict": {"sentence": SAID}}}
    save_model(path, build_network("scannet-small"), spec, said)
    features, scale = np.zeros((2, 3, 1, 1), np.uint8), np.ones(3, np.float32)
    write_replay(path.with_suffix(".replay"), Replay(features, scale, 0 * scale, np.array([0, 1]), "c" * 64, "none"))
    return path


def test_an_exported_model_is_taken_elsewhere_as_it_was(
    retrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = add_model(retrained)
    files = export_model("mine-v2", tmp_path / "disk" / "mine-v2")
    assert [one.name for one in files] == ["mine-v2.json", "mine-v2.replay", "mine-v2.safetensors"]
    before = {one.name: one.read_bytes() for one in files}
    with pytest.raises(StorageError, match="choose another"):
        export_model("mine-v2", tmp_path / "disk" / "mine-v2")
    assert {one.name: one.read_bytes() for one in files} == before
    assert [one.name for one in (tmp_path / "disk").iterdir()] == ["mine-v2"]
    monkeypatch.setattr(zoo, "own_models_folder", lambda: tmp_path / "elsewhere")
    there = add_model(tmp_path / "disk" / "mine-v2")
    assert there.path != kept.path
    held = load_model("mine-v2")
    assert (held.weights_sha256, held.card) == (load_model(retrained).weights_sha256, load_model(retrained).card)
    replay = read_replay(there.path.with_suffix(".replay"))
    assert replay is not None
    assert replay.labels.tolist() == [0, 1]


def test_what_is_damaged_is_not_exported_and_leaves_nothing(retrained: Path, tmp_path: Path) -> None:
    with retrained.open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\1\2\3\4")
    with pytest.raises(WeightsError):
        export_model(retrained, tmp_path / "disk" / "mine")
    assert not (tmp_path / "disk").exists()


def test_only_ones_own_is_removed_and_its_children_go_on_naming_it(retrained: Path, tmp_path: Path, own: Path) -> None:
    parent = load_model(retrained)
    first = tmp_path / "mine.safetensors"
    save_model(first, parent.network, dataclasses.replace(parent.spec, name="mine"), {})
    add_model(first)
    add_model(retrained)
    for name, error in (("scannet-pcam", ModelError), ("nobody", UnknownModelError), ("../mine", UnknownModelError)):
        with pytest.raises(error):
            remove_model(name)
    before = {entry.name for entry in list_models()}
    remove_model("mine")
    assert {entry.name for entry in list_models()} == before - {"mine"}
    assert sorted(path.name for path in own.iterdir()) == ["mine-v2.json", "mine-v2.replay", "mine-v2.safetensors"]
    version = next(one for one in list_versions() if one.entry.name == "mine-v2")
    assert version.lineage == "scannet-pcam → mine → mine-v2"
    assert version.verdict == SAID
    assert version.data == "Corrections of 12 places"
    assert version.written is not None


def test_a_folder_with_several_models_or_none_is_refused(retrained: Path, tmp_path: Path) -> None:
    shutil.copy(retrained, retrained.with_name("other.safetensors"))
    for folder in (retrained.parent, tmp_path):
        with pytest.raises(ModelError, match="one model"):
            add_model(folder)


@pytest.mark.parametrize("odd", [None, 3, "mine", [None], [{"name": 3}], [{}], {"name": "x"}])
def test_a_card_that_somebody_else_wrote_breaks_no_list(retrained: Path, odd: object) -> None:
    from napari_metastasis.models import correct_card

    correct_card(retrained, {"parents": odd, "retrained": odd, "data": odd})
    add_model(retrained)
    version = version_of(next(one for one in list_models() if one.name == "mine-v2"))
    assert isinstance(version.lineage, str)
    assert version.verdict == ""


def test_a_retrained_model_without_a_refiner_of_its_own_says_why(retrained: Path) -> None:
    models = load_scan_models(retrained, tasks=("refine",))
    assert not models.others
    job = ScanJob(
        slide=Path("a.svs"),
        model=str(retrained),
        passes=(PassRequest(task="refine", settings=RefineSettings(refine=True)),),
    )
    with pytest.raises(
        ModelError, match=r"mine-v2, got none: it was retrained from mine, whose refiner does not fit it"
    ):
        check_passes(job, models)


def test_the_command_line_lists_shows_and_removes_versions(
    retrained: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["models", *map(str, arguments)])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    assert run("add", retrained)[0] == 0
    row = next(line for line in run("list")[1].splitlines() if "mine-v2" in line)
    assert row.split()[-1] == "mine"
    lines = run("show", "mine-v2")[1].splitlines()
    assert lines[:2] == ["lineage: scannet-pcam → mine → mine-v2", f"verdict: {SAID}"]
    # Nobody can be asked: nothing is deleted.
    status, _, error = run("remove", "mine-v2")
    assert status == 1
    assert "--yes" in error
    assert (own / "mine-v2.safetensors").exists()
    assert run("remove", "mine-v2", "--yes")[0] == 0
    assert not list(own.iterdir())
    assert retrained.exists()
