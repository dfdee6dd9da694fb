"""``train mitosis``: from crops and other tissue to a model under its name; what makes no sense is refused."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dotted_crops import write_dotted_crops

from napari_metastasis.geometry import Size
from napari_metastasis.models import MitosisModel, load_model
from napari_metastasis.sampling.point_batches import PointBatches
from napari_metastasis.slides import write_pyramid
from napari_metastasis.synthetic import FigurePainter
from napari_metastasis.workflows.train.declaration import Chosen
from napari_metastasis.workflows.train.mitosis import MITOSIS

from .conftest import Run

SMALL = (
    "--device", "cpu", "--precision", "float32", "--workers", 0, "--epochs", 1, "--mosaics-per-epoch", 2,
    "--crops-a-side", 2, "--mpp", 0.25, "--initial", "", "--validation-share", 0.34, "--test-share", 0.34,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_the_whole_way(here: Run, tmp_path: Path) -> None:
    crops, table = write_dotted_crops(tmp_path)
    tissue = np.random.default_rng(2).integers([190, 120, 160], [230, 160, 200], (256, 256, 3)).astype(np.uint8)
    write_pyramid(tmp_path / "other.tif", tissue, mpp=0.25, size=Size(256, 256), compression="deflate")
    (tmp_path / "others.csv").write_text("slide,split\nother.tif,train\n", encoding="utf-8")
    data = ("--crops", crops, "--crops-table", table, "--cohort", tmp_path / "others.csv", "--others-a-slide", 3)
    run = here("train", "mitosis", *data, "--output", tmp_path / "mine", *SMALL)
    assert run.status == 0, run
    model = load_model("mitosis-mine", "mitosis")
    assert isinstance(model, MitosisModel)
    assert model.card["data"] == "Trained on crops.zip, others.csv"
    assert "mitotic figures" in model.card["intended_use"]
    # Another goes on from its last epoch.
    more = ("--initial", tmp_path / "mine" / "last.ckpt", "--loss", "hinge", "--lookalike-share", 0.5)
    run = here("train", "mitosis", *data, "--output", tmp_path / "more", *SMALL, *more)
    assert run.status == 0, run
    card = load_model("mitosis-more", "mitosis").card
    assert card["initial"] == "mitosis-mine, unfinished"
    assert card["pieces"]["lookalike_share"] == 0.5
    # What nobody asked to be drawn is told as before.
    assert not {"synthetic_share", "lookalike_share"} & set(model.card["pieces"])
    # Slides without any point are nothing to learn from alone.
    run = here("train", "mitosis", *data[4:], "--output", tmp_path / "none", *SMALL)
    assert run.status == 1
    assert "expected points on the slides to learn from, got none" in run.err
    # Nor to validate on: the threshold would be the lowest.
    (tmp_path / "other.csv").write_text("x,y\n128,128\n", encoding="utf-8")
    write_pyramid(tmp_path / "empty.tif", tissue, mpp=0.25, size=Size(256, 256), compression="deflate")
    rows = "slide,annotation,split\nother.tif,other.csv,train\nempty.tif,,validation\n"
    (tmp_path / "others.csv").write_text(rows, encoding="utf-8")
    run = here("train", "mitosis", *data[4:], "--output", tmp_path / "none", *SMALL)
    assert run.status == 1
    assert "expected points on the slides to validate on, got none" in run.err
    for options, words in (((), "expected --cohort or --crops"), (data[:2], "expected --crops and --crops-table")):
        run = here("train", "mitosis", *options, "--output", tmp_path / "wrong", *SMALL)
        assert run.status == 2
        assert words in run.err
        assert len(run.err.splitlines()) == 1


def test_what_is_drawn_is_learnt_from_and_never_measured_on(tmp_path: Path) -> None:
    crops, table = write_dotted_crops(tmp_path)

    def batches(**pieces: float) -> tuple[PointBatches, PointBatches]:
        groups = {one.name: one.group() for one in MITOSIS.groups}
        given = replace(groups["crops"], crops=crops, crops_table=table, test_share=0.34)
        groups |= {"crops": given, "splits": replace(groups["splits"], validation_share=0.34)}
        groups["pieces"] = replace(groups["pieces"], **pieces)
        groups["network"] = replace(groups["network"], mpp=0.25, initial="")
        told = {"cohort": None, "name": "any", "description": "", "licence": "", "given": {}}
        chosen = Chosen(output=tmp_path / "run", groups=groups, fetching=nullcontext, **told)
        return MITOSIS.batches(chosen, MITOSIS.make(chosen))

    usual, both = batches(), batches(synthetic_share=0.5, lookalike_share=0.25)
    assert both[0].mosaics.painter == FigurePainter(0.5, 0.25, 6.0)
    assert [one.mosaics.painter for one in (*usual, both[1])] == [None] * 3
    assert usual[0].fingerprint != both[0].fingerprint
    assert usual[1].fingerprint == both[1].fingerprint
