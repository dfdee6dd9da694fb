"""A model of mitoses retrained on points: what is learnt and held out, whether it is better, and the same run again."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np
import pytest
import scans
import shapely
import torch
from dark_model import dark_model, dark_spots
from scans import scan_with
from spotted_slide import write_shaded_spots

from napari_metastasis.annotations import Correction, Corrections, CorrectionStore
from napari_metastasis.errors import ModelError, TrainingError
from napari_metastasis.lesions import decide_mitosis
from napari_metastasis.models import load_model, save_model
from napari_metastasis.settings import CorrectionSettings, MitosisSettings, PieceSettings, TuneTrainSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.report import read_result
from napari_metastasis.workflows.retrain import Retraining, retrain
from napari_metastasis.workflows.retrain.corrected import Parted, gather, part, reach_um
from napari_metastasis.workflows.retrain.held_tissue import held_tissue
from napari_metastasis.workflows.retrain.mitoses import PointRun

#: Spots that the model overlooks, farther from each other than a crop shows, and one that it finds.
FAINT = [(x, y, 0.7) for x in (200.0, 700.0, 1250.0) for y in (200.0, 650.0, 1100.0) if (x, y) != (700.0, 650.0)]
SURE = (700.0, 650.0, 1.0)
#: Tissue without any.
EMPTY = [(450.0, 420.0), (950.0, 420.0), (450.0, 900.0), (950.0, 900.0)]


@contextmanager
def silent(title, unit):
    assert title
    assert unit
    yield lambda *_: None


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    """A result in which a person added what the model overlooks, confirmed what it finds, and said where nothing is."""
    root = tmp_path_factory.mktemp("spotted")
    path, folder = write_shaded_spots(root / "a.tif", [*FAINT, SURE]), root / "a.metastasis"
    with open_slide(path) as slide:
        scan = replace(scans.SCAN, roi_px=500)
        found = scan_with(
            slide, dark_model(), folder, mitosis_model=dark_spots(), mitosis=MitosisSettings(mitosis=True),
            detects=False, scan=scan,
        ).mitoses  # fmt: skip
    assert found.of_model == 1
    # By keys that stay the same, which decide what is held out.
    places = [("mitosis", spot[:2]) for spot in FAINT] + [("not-mitosis", place) for place in EMPTY]
    said = Corrections.of(
        Correction(key=f"place {number}", label=label, shape_px=shapely.Point(place))
        for number, (label, place) in enumerate(places)
    )
    said, _ = decide_mitosis(found, 0, said, "mitosis", model="mitosis-x", reviewer="B")
    CorrectionStore(folder).save(said)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Weights of the model, in a file."""
    model, path = dark_spots(), tmp_path_factory.mktemp("model") / "mitosis-x.safetensors"
    save_model(path, model.network, replace(model.spec, name="mitosis-x"), {"data": "by hand", "licence": "CC0"})
    return path


def job(corrected, model, output, *, steps=32, corrections=None, **changes):
    settings = TuneTrainSettings(steps=steps, learning_rate=2e-3, ema_decay=0.5)
    # Nothing is held: this model finds what is dark, of which synthetic mitoses in other shades are as well.
    corrections = corrections or CorrectionSettings(held_out_by="place", replay_weight=0)
    return Retraining(
        results=(corrected,), model=model, output=output, name="mitosis-x-v2", budget_s=600.0, settings=settings,
        corrections=corrections, **changes,
    )  # fmt: skip


def test_points_are_learnt_and_judged_by(corrected, model, tmp_path):
    asked = job(corrected, model, tmp_path / "run")
    done = retrain(asked, show=silent, should_stop=lambda: False)
    held = done.parted.held_out
    # Of each class, some: eight were added and one confirmed, and four are none.
    assert {one.label for one in held} == {0, 1}
    assert len(held) + len(done.parted.training) == len(done.corrected.places) == 13
    old, new = load_model(model), load_model(done.weights)
    assert (new.spec.name, new.spec.threshold) == ("mitosis-x-v2", old.spec.threshold)
    assert replace(new.spec, name=old.spec.name) == old.spec
    told = new.card["retrained"]
    assert new.card["parents"][0]["weights_sha256"] == old.weights_sha256
    assert set(told["learnt"]) == {one.key for one in done.parted.training}
    assert told["verdict"]["sentence"] == done.verdict.sentence
    assert "mitosis" in new.card["data"]
    # A few crops say little of how tissue is to be normalised.
    before, after = (one.network.state_dict() for one in (old, new))
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)
    assert not torch.equal(before["score.weight"], after["score.weight"])
    # What was overlooked is more probable now, also where the model was not shown it.
    mitoses = [one for one in done.verdict.places if one.place.label]
    assert all(one.old < old.spec.threshold for one in mitoses)
    assert all(one.new > old.spec.threshold for one in mitoses)
    assert done.verdict.is_better
    assert done.verdict.figures["accuracy"][0].value < 1
    assert "no mitosis" in (tmp_path / "run" / "held-out.csv").read_text()
    assert any("forgetting" in note for note in done.notes)
    # The same command again finds it done, byte by byte.
    before = done.weights.read_bytes(), (tmp_path / "run" / "verdict.json").read_bytes()
    again = retrain(asked, show=silent, should_stop=lambda: False)
    assert (again.weights.read_bytes(), (tmp_path / "run" / "verdict.json").read_bytes()) == before


def test_other_tissue_is_answered_as_before(corrected, model, tmp_path, monkeypatch):
    old, gathered = load_model(model), gather((corrected,), load_model(model).spec)
    scale = old.spec.mpp / 0.25
    said = np.array([[one.area_px.centroid.x, one.area_px.centroid.y] for one in gathered.places]) / scale
    with held_tissue(
        gathered.slides, [said], mpp=old.spec.mpp, side_px=64, pieces=PieceSettings(crops_a_side=2), seed=99
    ) as mosaics:
        shown = [mosaics.mosaic(number) for number in range(3)]
    # Crops in tissue have synthetic mitoses, and nothing is known where people spoke.
    assert sum(len(one.xy) for one in shown) >= 6, [len(one.xy) for one in shown]
    assert not all(one.known.all() for one in shown)
    # Where no tissue is found, what lies around corrected places is taken.
    with monkeypatch.context() as patch:
        patch.setattr("napari_metastasis.workflows.retrain.held_tissue.places_in_tissue", lambda *_: np.empty((0, 2)))
        with held_tissue(
            gathered.slides, [said], mpp=old.spec.mpp, side_px=64, pieces=PieceSettings(crops_a_side=2), seed=99
        ) as pale:
            away = np.abs(pale.source.xy[:, None] - said[None]).max(axis=2).min(axis=1)
    assert len(pale.source.xy) == 128
    assert away.max() <= 2 * 64 + 1
    images = torch.from_numpy(np.stack([one.image for one in shown])).permute(0, 3, 1, 2).float()

    def answers(network):
        with torch.no_grad():
            return network.dense(1)(torch.nn.functional.pad(images, [old.spec.built.field_px // 2] * 4, "reflect"))

    moved = []
    for weight in (0, 40):
        corrections = CorrectionSettings(held_out_share=0, replay_weight=weight)
        done = retrain(
            job(corrected, model, tmp_path / str(weight), steps=8, corrections=corrections),
            show=silent, should_stop=lambda: False,
        )  # fmt: skip
        assert any("forgetting" in note for note in done.notes) == (weight == 0)
        moved.append(float((answers(load_model(done.weights)) - answers(old)).abs().mean()))
    assert moved[1] < 0.5 * moved[0], moved


def test_rejections_alone_teach_nothing(corrected, model, tmp_path):
    store = CorrectionStore(corrected)
    said = store.read()
    store.save(Corrections.of(one for one in said if one.label == "not-mitosis"))
    try:
        with pytest.raises(TrainingError, match="confirmed or added beside 4 places that are none, got no such"):
            retrain(
                job(corrected, model, tmp_path, corrections=CorrectionSettings(held_out_share=0)),
                show=silent, should_stop=lambda: False,
            )  # fmt: skip
    finally:
        store.save(said)


def test_it_learns_nothing_of_what_lies_beside(corrected, model, result, tmp_path):
    spec = load_model(model).spec
    # What the model found and nobody spoke of is neither one nor none: nothing is learnt within 7.5 µm.
    found = read_result(corrected).mitoses
    gathered = gather((corrected,), spec)
    assert (len(gathered.pending), len(gathered.pending[0])) == (1, 0)
    store = CorrectionStore(corrected)
    said = store.read()
    store.save(said.without(found.reviews[0].keys[0]))
    try:
        pending = gather((corrected,), spec)
    finally:
        store.save(said)
    np.testing.assert_allclose(pending.pending[0], found.xy[:1])
    place = next(one for one in pending.places if one.area_px.centroid.distance(shapely.Point(450, 420)) < 2)
    beside = replace(
        place, area_px=shapely.box(found.xy[0, 0] + 39, found.xy[0, 1] - 1, found.xy[0, 0] + 41, found.xy[0, 1] + 1)
    )
    run = PointRun(
        job(corrected, model, tmp_path), load_model(model), pending, Parted((beside,), (), "place"), "x", tmp_path, None
    )
    with closing(run._crops((beside,))) as pictures:
        source = run._batches((beside,), pictures, seed=1).mosaics.source
        crop, side = source.read(0), source.side_px
    rows, columns = np.mgrid[:side, :side] + 0.5
    # 40 px of 0.25 µm to the left.
    away = np.hypot(rows - side / 2, columns - side / 2 + 10 / spec.mpp) * spec.mpp
    assert not crop.known[away < 7].any()
    assert crop.known[away > 8].all()
    parted = part(gather((corrected,), spec), spec, CorrectionSettings(held_out_by="place"), seed=1)
    middles = [[one.area_px.centroid for one in places] for places in (parted.held_out, parted.training)]
    # Of squares, along x or along y.
    apart = [max(abs(one.x - other.x), abs(one.y - other.y)) for one in middles[0] for other in middles[1]]
    assert min(apart) * 0.25 >= reach_um(spec, CorrectionSettings()) == 32
    with pytest.raises(TrainingError, match="expected mitoses that were confirmed, rejected or added, got none in 1"):
        gather((result,), spec)
    with pytest.raises(ModelError, match="got --patches, which are for detectors"):
        retrain(job(corrected, model, tmp_path, patches=tmp_path), show=silent, should_stop=lambda: False)
