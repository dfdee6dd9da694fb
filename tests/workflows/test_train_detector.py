"""Training on slides: general training, mining, training on with what was mined; and again after a kill."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from training_cohort import MPP, no_bar

from napari_metastasis.cohorts.cohort import Cohort
from napari_metastasis.errors import CohortError, SettingsError, TrainingError
from napari_metastasis.models import correct_card, load_model
from napari_metastasis.sampling.batches import BalancedPatches
from napari_metastasis.sampling.hard_negatives import read_hard_negatives
from napari_metastasis.settings import (
    AugmentSettings,
    MiningSettings,
    SamplingSettings,
    ScanSettings,
    TissueSettings,
    TrainSettings,
)
from napari_metastasis.training.tasks.detect import DetectorTask, patch_spec
from napari_metastasis.training.train import TrainingRun
from napari_metastasis.workflows.scan import FailedSlide
from napari_metastasis.workflows.train import mine as mining_round
from napari_metastasis.workflows.train import rounds
from napari_metastasis.workflows.train import run as cohort_run
from napari_metastasis.workflows.train.plan import CohortTraining, LabelledPatches, StepProgress
from napari_metastasis.workflows.train.run import train_on_cohort


def how(**mining):
    return CohortTraining(
        train=TrainSettings(epochs=2, batch_size=8, device="cpu", precision="float32", workers=0),
        augment=AugmentSettings(),
        sampling=SamplingSettings(patches_per_epoch=32, validation_patches=16),
        # A model trained for seconds is unsure of everything: nearly all it sees is mined.
        mining=MiningSettings(mining_threshold=0.0, mined_per_slide=20, mining_epochs=1, sheet_patches=5, **mining),
        scan=ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=320, dense_coefficient=1),
        tissue=TissueSettings(),
    )


def train(cohort, output, settings=None, patches=None):
    return train_on_cohort(
        cohort,
        DetectorTask(patch_spec("staged", "scannet-small", MPP)),
        settings or how(),
        TrainingRun(output, "squares", "CC0"),
        StepProgress(no_bar, lambda: False, no_bar),
        LabelledPatches(patches),
    )


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    return train(cohort, tmp_path_factory.mktemp("run"))


def test_every_stage_leaves_what_it_did(finished):
    run = finished.weights.parent
    model = load_model(finished.weights)
    assert model.card["data"] == "squares"
    assert model.card["mined"] == list(finished.mined)
    assert finished.mined[0] > 0
    assert finished.failures == ()
    for name in ("cohort.csv", "stage-0/curves.png", "mining-1/mined.png", "stage-1/staged.safetensors"):
        assert (run / name).is_file(), name
    assert model.weights_sha256 == load_model(run / "stage-1" / "staged.safetensors").weights_sha256
    first = load_model(run / "stage-0" / "staged.safetensors")
    assert load_model(run / "stage-1" / "staged.safetensors").card["initial_sha256"] == first.weights_sha256


def test_only_normal_tissue_of_training_slides_is_mined(finished, cohort):
    mined = read_hard_negatives(finished.weights.parent / "mining-1" / "hard_negatives.csv")
    assert {one.slide for one in mined} <= {slide.name for slide in cohort.of("train")}
    on_tumour_slide = [one for one in mined if one.slide == "slide-0"]
    assert all(not (240 < one.x < 440 and 200 < one.y < 400) for one in on_tumour_slide)


class Killed(BaseException):
    """Stands for the death of the process: nothing may catch it."""


@pytest.mark.parametrize("victim", ["train", "write_hard_negatives"])
def test_a_killed_run_goes_on_to_the_same_weights(finished, cohort, tmp_path, monkeypatch, victim):
    home = cohort_run if victim == "train" else mining_round
    original, calls = getattr(home, victim), []

    def die(*args, **kwargs):
        calls.append(victim)
        # The second stage's training, or the end of the mining.
        if len(calls) == (2 if victim == "train" else 1):
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(home, victim, die)
        with pytest.raises(Killed):
            train(cohort, tmp_path)
    assert load_model(train(cohort, tmp_path).weights).weights_sha256 == load_model(finished.weights).weights_sha256


def test_without_rounds_the_first_stage_is_the_model(cohort, finished, tmp_path):
    run = train(cohort, tmp_path, how(mining_rounds=0))
    first = load_model(finished.weights.parent / "stage-0" / "staged.safetensors")
    assert run.mined == ()
    assert load_model(run.weights).weights_sha256 == first.weights_sha256


# The labelled patches are noise, far denser than the slides that are mined.
@pytest.mark.filterwarnings("ignore::napari_metastasis.errors.StainWarning")
def test_labelled_patches_take_their_part_of_every_batch(cohort, tmp_path, monkeypatch):
    class Green:
        labels = np.array([0, 1] * 8, dtype=np.int64)

        def __len__(self):
            return 16

        def read(self, index):
            return np.full((96, 96, 3), (0, 200, index), dtype=np.uint8)

    batches = []

    def look(*what, training, **how):
        batches.append(training.batch(0))
        return original(*what, training=training, **how)

    original = cohort_run.train
    monkeypatch.setattr(cohort_run, "train", look)
    train(cohort, tmp_path, patches=BalancedPatches(Green(), 96, 3, seed=1))
    assert [len(batch.labels) for batch in batches] == [8, 8]
    assert [int((batch.images[:, 0, 0, 1] == 200).sum()) for batch in batches] == [3, 3]


def test_mined_locations_of_other_settings_are_not_taken_for_these(cohort, finished):
    with pytest.raises(TrainingError, match="choose another --output"):
        train(cohort, finished.weights.parent, how(mined_apart_um=100.0))


def test_a_slide_that_is_away_does_not_make_it_another_run(cohort, finished, tmp_path):
    run = shutil.copytree(finished.weights.parent, tmp_path / "run")
    for name in ("staged.safetensors", "staged.json"):
        (run / "stage-1" / name).unlink()
        (run / name).unlink()
    gone = [
        replace(slide, path=tmp_path / slide.path.name) if slide.tumour is False else slide for slide in cohort.slides
    ]
    again = train(replace(cohort, slides=tuple(gone)), run)
    assert load_model(again.weights).weights_sha256 == load_model(finished.weights).weights_sha256
    assert sorted(failure.slide for failure in again.failures) == ["slide-1", "slide-3"]
    # A run of a time when nothing was written down is known by its fingerprints, as long as all is there.
    record = run / "stage-0" / "slides.json"
    written = record.read_bytes()
    record.unlink()
    with pytest.raises(TrainingError, match="another run"):
        train(replace(cohort, slides=tuple(gone)), run)
    train(cohort, run)
    assert record.read_bytes() == written


def test_a_run_on_other_slides_is_not_overwritten(cohort, finished):
    listed = finished.weights.parent / "cohort.csv"
    before = listed.read_bytes()
    fewer = Cohort(slides=cohort.slides[1:], origin=cohort.origin, layout="file")
    with pytest.raises(TrainingError, match="the same slides and splits"):
        train(fewer, finished.weights.parent)
    assert listed.read_bytes() == before
    assert sorted(path.name for path in listed.parent.glob(".*")) == []


def test_slides_that_all_fail_are_not_taken_for_slides_without_false_positives(cohort, tmp_path, monkeypatch):
    def away(slides, *_, **__):
        for slide in slides:
            yield FailedSlide(slide, "the disk is away")

    with monkeypatch.context() as patch:
        patch.setattr(mining_round, "scan_cohort", away)
        with pytest.raises(TrainingError, match="check the disk: the same command goes on"):
            train(cohort, tmp_path)
    assert not (tmp_path / "mining-1" / "hard_negatives.csv").exists()


def test_a_round_without_hard_negatives_ends_the_run_and_says_so(cohort, finished, tmp_path, monkeypatch, caplog):
    def mine_nothing(slides, *what):
        steps = what[-1]
        for _ in range(2):
            steps.pass_over(slides[0], "the disk is away")
        return ()

    shutil.copytree(finished.weights.parent / "stage-0", tmp_path / "stage-0")
    monkeypatch.setattr(rounds, "mine_cohort", mine_nothing)
    run = train(cohort, tmp_path, how(mining_rounds=2))
    assert run.mined == (0,)
    assert (
        load_model(run.weights).weights_sha256 == load_model(tmp_path / "stage-0" / "staged.safetensors").weights_sha256
    )
    assert [failure.slide for failure in run.failures] == ["slide-0"]
    assert caplog.messages == [
        "slide-0 is not mined and is passed over: the disk is away",
        "nothing was mined in round 1: the model of the stage before is the run's",
    ]


def test_more_rounds_go_on_from_the_last(cohort, finished, tmp_path):
    shutil.copytree(finished.weights.parent, tmp_path / "run")
    run = train(cohort, tmp_path / "run", how(mining_rounds=2))
    assert run.mined[0] == finished.mined[0]
    assert len(run.mined) == 2
    first = load_model(finished.weights.parent / "stage-1" / "staged.safetensors").weights_sha256
    assert load_model(tmp_path / "run" / "stage-1" / "staged.safetensors").weights_sha256 == first
    assert load_model(run.weights).weights_sha256 != first


def test_a_finished_run_keeps_what_its_card_was_corrected_to(cohort, finished, tmp_path):
    run = shutil.copytree(finished.weights.parent, tmp_path / "run")
    final = run / finished.weights.name
    correct_card(final, {"data": "squares of ours", "licence": "MIT"})
    before = load_model(final).card
    train(cohort, run)
    assert load_model(final).card == before


def test_a_kill_between_the_weights_and_the_card_of_the_last_model_is_made_good(cohort, finished, tmp_path):
    """Its weights are those of another stage than its card says."""
    run = shutil.copytree(finished.weights.parent, tmp_path / "run")
    final = run / finished.weights.name
    shutil.copy(run / "stage-0" / final.name, final)
    assert load_model(train(cohort, run).weights).weights_sha256 == load_model(finished.weights).weights_sha256


def test_fewer_rounds_do_not_put_an_earlier_model_in_the_place_of_a_later(cohort, finished):
    before = finished.weights.read_bytes()
    with pytest.raises(TrainingError, match=r"expected mining rounds of at least 1, .*, got 0; .*stage-0"):
        train(cohort, finished.weights.parent, how(mining_rounds=0))
    assert finished.weights.read_bytes() == before


def test_shares_that_leave_no_room_are_refused_before_training(cohort, tmp_path):
    with pytest.raises(SettingsError, match="leave room for other normal patches"):
        train(cohort, tmp_path, how(mined_share=0.6))
    assert not (tmp_path / "stage-0").exists()


def test_a_cohort_without_validation_slides_is_refused(cohort, tmp_path):
    alone = Cohort(slides=cohort.of("train"), origin=cohort.origin, layout="file")
    with pytest.raises(CohortError, match="--validation-share"):
        train(alone, tmp_path)
    # Put right as the message says, the same command begins.
    assert not (tmp_path / "cohort.csv").exists()
