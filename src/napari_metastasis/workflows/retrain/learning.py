"""Let a model learn what was corrected: its last layers first, then perhaps all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from napari_metastasis.models import Detector, load_detector
from napari_metastasis.models.replay import REPLAY_SUFFIX, write_replay
from napari_metastasis.models.tuning import lower_sha256
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.sampling.negative_feed import NegativeFeed
from napari_metastasis.sampling.places import PlaceCrops
from napari_metastasis.settings import AugmentSettings
from napari_metastasis.storage import atomic_write, storage_errors
from napari_metastasis.training.callbacks import Watch
from napari_metastasis.training.tasks.tune import TuneTask
from napari_metastasis.training.tasks.whole import WholeTask
from napari_metastasis.training.train import TrainingRun, train
from napari_metastasis.workflows.retrain.encoded_crops import answered_wrongly
from napari_metastasis.workflows.retrain.job import data_text
from napari_metastasis.workflows.retrain.prepared import HELD_OUT, TUNED, WHOLE, Prepared

__all__ = ["learn"]

#: No augmentation: crops lie elsewhere in their place each, and colours are the slides' own.
_AS_THEY_ARE = AugmentSettings()


def learn(run: Prepared) -> Path:
    """Return the weights of the new model, with what it is not to forget beside them."""
    if not run.plan.whole_steps:
        weights = _tuned(run, run.output)
    else:
        weights = _tuned(run, run.output / TUNED)
        if not run.log.is_late():
            weights = _whole(run, load_detector(weights))
        weights = _put(run, weights)
    if run.log.is_cancelled:
        # Half learnt: what can go on is the checkpoint.
        for folder in (run.output, run.output / TUNED, run.output / WHOLE):
            with storage_errors(folder):
                for suffix in (".safetensors", ".json"):
                    (folder / f"{run.name}{suffix}").unlink(missing_ok=True)
    elif run.replay is not None and not _changed_below(run, weights):
        write_replay(weights.with_suffix(REPLAY_SUFFIX), run.replay)
    return weights


def _changed_below(run: Prepared, weights: Path) -> bool:
    return run.plan.whole_steps > 0 and lower_sha256(load_detector(weights)) != lower_sha256(run.detector)


def _put(run: Prepared, made: Path) -> Path:
    """Return the weights of the run, which are those of one of its stages."""
    weights = run.output / made.name
    # The card last: without it there is no model.
    for suffix in (".safetensors", ".json"):
        with atomic_write(weights.with_suffix(suffix)) as file:
            file.write(made.with_suffix(suffix).read_bytes())
    return weights


def _tuned(run: Prepared, folder: Path) -> Path:
    """Let the last layers learn, from what the lower ones make of crops."""
    training = run.training
    task = TuneTask(
        spec=replace(run.detector.spec, name=run.name),
        detector=run.detector,
        corrections=run.job.corrections,
        replay=run.replay if run.job.corrections.replay_weight else None,
        said=run.said(),
    )

    def encode(source: BatchSource, *, vary: bool) -> BatchSource:
        assert isinstance(source, PlaceCrops)
        if not vary:
            # Of what is held out; where nothing is, of a few that are learnt from.
            return run.encoder.encoded("places to judge by", HELD_OUT, source, run.detector, in_order=True)
        if not run.job.corrections.feeds:
            return run.encoder.encoded("corrected places", "encoded", source, run.detector, in_order=False)
        fed = _fed(run, run.detector, source.batch_size, source.batches_per_epoch)
        return run.encoder.encoded("hard places", "encoded-fed", fed, run.detector, in_order=False)

    with ExitStack() as bars:
        return train(
            task,
            _run(run, folder, "Learning", bars, 0),
            training=training,
            validation=_measured_on(run, training),
            settings=replace(run.job.settings, epochs=run.plan.epochs, workers=0),
            augment=_AS_THEY_ARE,
            encode=encode,
        )


def _whole(run: Prepared, tuned: Detector) -> Path:
    """Let all layers learn, from the crops themselves."""
    assert run.patches is not None
    how, settings = run.job.whole, run.job.settings
    # An epoch is stored, so that it is no longer than all crops are.
    epochs = -(-run.plan.whole_steps * how.whole_crops // run.training.count)
    steps = run.plan.whole_steps // epochs
    training = replace(run.training, count=steps * how.whole_crops, batch_size=how.whole_crops)
    said = run.said()
    task = WholeTask(
        spec=replace(run.detector.spec, name=run.name),
        detector=tuned,
        corrections=replace(run.job.corrections, replay_weight=how.whole_replay),
        replay=None,
        said={**said, "retrained": {**said["retrained"], "whole": {**how.told(), "steps": epochs * steps}}},
        before=run.detector,
        earlier=run.patches,
    )
    measured_on = _measured_on(run, training)
    fed = _fed(run, tuned, how.whole_crops, steps) if run.job.corrections.feeds else None
    with ExitStack() as bars:
        return train(
            task,
            _run(run, run.output / WHOLE, "Learning with all layers", bars, run.plan.epochs),
            training=fed or training,
            validation=replace(measured_on, count=min(measured_on.count, how.whole_crops)),
            settings=replace(
                settings,
                epochs=epochs,
                batch_size=how.whole_crops,
                learning_rate=how.whole_rate * settings.learning_rate,
                workers=0,
            ),
            augment=_AS_THEY_ARE,
        )


def _run(run: Prepared, folder: Path, title: str, bars: ExitStack, epochs: int) -> TrainingRun:
    """Return a training that is shown as a step of this run, whose epochs come after so many others."""
    shown: list[Callable[[int, int], None]] = []

    def on_step(done: int, total: int) -> None:
        # Begun here: the bars of encoding come first.
        if not shown:
            shown.append(bars.enter_context(run.log.step(title, "steps")))
        shown[0](done, total)

    def on_epoch(epoch: int, figures: Mapping[str, float]) -> None:
        run.log.tell(epoch=epochs + epoch, **{name: round(value, 5) for name, value in figures.items()})

    watch = Watch(on_step, on_epoch, run.log.is_late)
    licence = str(run.detector.card.get("licence", ""))
    return TrainingRun(folder, data_text(run.learnt, run.detector), licence, progress=False, watch=watch)


def _measured_on(run: Prepared, training: PlaceCrops) -> PlaceCrops:
    """Return what each epoch is measured on: a few crops of all where nothing is held out. It decides nothing."""
    return run.held_out or replace(training, count=min(training.count, training.batch_size), batch_size=1)


def _fed(run: Prepared, model: Detector, batch_size: int, batches: int) -> NegativeFeed:
    """Return what is fed of the crops: those that a model, whose lower layers are the first's, answers wrongly."""
    how, crops = run.job.corrections, run.training
    encoded = run.encoder.encoded("corrected places", "encoded", crops, run.detector, in_order=True)
    return NegativeFeed(
        crops=replace(crops, batch_size=1),
        wrong=answered_wrongly(model, encoded)[: crops.count],
        rest_share=how.fed_share,
        noise=how.fed_noise,
        batch_size=batch_size,
        batches_per_epoch=batches,
        seed=run.job.settings.seed,
    )
