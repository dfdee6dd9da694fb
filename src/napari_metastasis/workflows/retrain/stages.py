"""The stages of a retraining: the last layers learn, then perhaps all of them, and what came out is judged."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from napari_metastasis.models import Detector, correct_card, load_detector
from napari_metastasis.models.replay import REPLAY_SUFFIX, Replay, write_replay
from napari_metastasis.models.tuning import LowerLayers, lower_sha256
from napari_metastasis.sampling.batches import BalancedPatches, BatchSource
from napari_metastasis.sampling.negative_feed import NegativeFeed
from napari_metastasis.sampling.places import Place, PlaceCrops
from napari_metastasis.settings import AugmentSettings
from napari_metastasis.storage import atomic_text, atomic_write, storage_errors
from napari_metastasis.training.callbacks import Watch
from napari_metastasis.training.encoded import EncodedBatches
from napari_metastasis.training.lightning_setup import LAST
from napari_metastasis.training.tasks.tune import TuneTask
from napari_metastasis.training.tasks.whole import WholeTask
from napari_metastasis.training.train import TrainingRun, train
from napari_metastasis.workflows.retrain.corrected import Corrected, Parted
from napari_metastasis.workflows.retrain.earlier import EARLIER_REPLAY, encoded_by, remembered
from napari_metastasis.workflows.retrain.encoded_crops import CropEncoder, answered_wrongly
from napari_metastasis.workflows.retrain.job import Retraining, data_text, said_of
from napari_metastasis.workflows.retrain.pace import Plan, measure_pace, read_plan, settle_plan, write_plan
from napari_metastasis.workflows.retrain.run_log import RunLog
from napari_metastasis.workflows.retrain.verdict import Encoded, Verdict, judge

__all__ = ["Stages"]

_PLAN, _PLACES, _VERDICT = "plan.json", "held-out.csv", "verdict.json"
#: Folders of the trainings that follow each other, where there is more than one.
_TUNED, _WHOLE = "last-layers", "all-layers"
#: That of crops to be judged by, as the first model encodes them.
_HELD_OUT = "encoded-held-out"
#: No augmentation: crops lie elsewhere in their place each, and colours are the slides' own.
_AS_THEY_ARE = AugmentSettings()


@dataclass(frozen=True, eq=False)
class Stages:
    """A retraining with all that its stages share.

    Attributes
    ----------
    job
        What was asked for.
    detector, lower
        What it begins with, and its lower layers.
    corrected, parted
        What was corrected, and what of it is held out.
    replay, patches
        What is not to be forgotten: encoded, and as images, with which all layers learn.
    name
        Of the new model.
    output, log
        The run folder.
    identity
        Hash of what decides what is learnt.
    """

    job: Retraining
    detector: Detector
    lower: LowerLayers
    corrected: Corrected
    parted: Parted
    replay: Replay | None
    patches: BalancedPatches | None
    name: str
    output: Path
    log: RunLog
    identity: str

    def notes(self) -> list[str]:
        """Return what the time did not allow, a line each."""
        lines, lacking = [], len(self.parted.training) - len(self._learnt)
        if lacking:
            lines.append(
                f"the time did not allow {lacking} of {len(self.parted.training)} places to be learnt: take more of it"
            )
        if self.patches is not None and not self.plan.whole_steps:
            lines.append("the time did not allow all layers to learn: only the last ones did; take more of it")
        return lines

    def learn(self) -> Path:
        """Return the weights of the new model, with what it is not to forget beside them."""
        if not self.plan.whole_steps:
            weights = self._tuned(self.output)
        else:
            weights = self._tuned(self.output / _TUNED)
            if not self.log.is_late():
                weights = self._whole(load_detector(weights))
            weights = self._put(weights)
        if self.log.is_cancelled:
            # Half learnt: what can go on is the checkpoint.
            for folder in (self.output, self.output / _TUNED, self.output / _WHOLE):
                with storage_errors(folder):
                    for suffix in (".safetensors", ".json"):
                        (folder / f"{self.name}{suffix}").unlink(missing_ok=True)
        elif self.replay is not None and not self._changed_below(weights):
            write_replay(weights.with_suffix(REPLAY_SUFFIX), self.replay)
        return weights

    def judged(self, weights: Path) -> Verdict:
        """Compare the new model with the old one, and write down what came out."""
        new = load_detector(weights)
        verdict = judge(
            *self._both(new),
            () if self._held_out is None else self._held_out.order,
            self.parted.held_out,
            seed=self.job.settings.seed,
        )
        verdict.write_table(self.output / _PLACES, [one.name for one in self.corrected.slides])
        with atomic_text(self.output / _VERDICT) as stream:
            json.dump(verdict.to_json(), stream, indent=2)
        correct_card(weights, {"retrained": {**new.card["retrained"], "verdict": verdict.to_json()}})
        return verdict

    def _both(self, new: Detector) -> tuple[Encoded, Encoded]:
        """Return the old and the new model, each with what they are judged by as its own lower layers encode it."""
        crops, replay = self._judged_by(self.detector), self.replay
        if lower_sha256(new) == lower_sha256(self.detector):
            return Encoded(self.detector, crops, replay), Encoded(new, crops, replay)
        old = Encoded(self.detector, crops, self._remembered(self.detector, self.output / EARLIER_REPLAY))
        beside = (self.output / self.name).with_suffix(REPLAY_SUFFIX)
        return old, Encoded(new, self._judged_by(new), self._remembered(new, beside))

    def _remembered(self, model: Detector, path: Path) -> Replay:
        assert self.patches is not None
        return encoded_by(model, self.patches, remembered(self.patches, self.replay), path, self.log)

    def _changed_below(self, weights: Path) -> bool:
        return self.plan.whole_steps > 0 and lower_sha256(load_detector(weights)) != lower_sha256(self.detector)

    def _put(self, made: Path) -> Path:
        """Return the weights of the run, which are those of one of its stages."""
        weights = self.output / made.name
        # The card last: without it there is no model.
        for suffix in (".safetensors", ".json"):
            with atomic_write(weights.with_suffix(suffix)) as file:
                file.write(made.with_suffix(suffix).read_bytes())
        return weights

    def _tuned(self, folder: Path) -> Path:
        """Let the last layers learn, from what the lower ones make of crops."""
        training = self._training
        task = TuneTask(
            spec=replace(self.detector.spec, name=self.name),
            detector=self.detector,
            corrections=self.job.corrections,
            replay=self.replay if self.job.corrections.replay_weight else None,
            said=self._said(),
        )

        def encode(source: BatchSource, *, vary: bool) -> BatchSource:
            assert isinstance(source, PlaceCrops)
            if not vary:
                # Of what is held out; where nothing is, of a few that are learnt from.
                return self._encoder.encoded("places to judge by", _HELD_OUT, source, self.detector, in_order=True)
            if not self.job.corrections.feeds:
                return self._encoder.encoded("corrected places", "encoded", source, self.detector, in_order=False)
            fed = self._fed(self.detector, source.batch_size, source.batches_per_epoch)
            return self._encoder.encoded("hard places", "encoded-fed", fed, self.detector, in_order=False)

        with ExitStack() as bars:
            return train(
                task,
                self._run(folder, "Learning", bars, 0),
                training=training,
                validation=self._measured_on(training),
                settings=replace(self.job.settings, epochs=self.plan.epochs, workers=0),
                augment=_AS_THEY_ARE,
                encode=encode,
            )

    def _whole(self, tuned: Detector) -> Path:
        """Let all layers learn, from the crops themselves."""
        assert self.patches is not None
        how, settings = self.job.whole, self.job.settings
        # An epoch is stored, so that it is no longer than all crops are.
        steps = min(self.plan.whole_steps, -(-self._training.count // how.whole_crops))
        training = replace(self._training, count=steps * how.whole_crops, batch_size=how.whole_crops)
        said = self._said()
        task = WholeTask(
            spec=replace(self.detector.spec, name=self.name),
            detector=tuned,
            corrections=self.job.corrections,
            replay=None,
            said={**said, "retrained": {**said["retrained"], "whole": {**how.told(), "steps": self.plan.whole_steps}}},
            before=self.detector,
            earlier=self.patches,
        )
        measured_on = self._measured_on(training)
        fed = self._fed(tuned, how.whole_crops, steps) if self.job.corrections.feeds else None
        with ExitStack() as bars:
            return train(
                task,
                self._run(self.output / _WHOLE, "Learning with all layers", bars, self.plan.epochs),
                training=fed or training,
                validation=replace(measured_on, count=min(measured_on.count, how.whole_crops)),
                settings=replace(
                    settings,
                    epochs=max(1, self.plan.whole_steps // steps),
                    batch_size=how.whole_crops,
                    learning_rate=how.whole_rate * settings.learning_rate,
                    workers=0,
                ),
                augment=_AS_THEY_ARE,
            )

    def _run(self, folder: Path, title: str, bars: ExitStack, epochs: int) -> TrainingRun:
        """Return a training that is shown as a step of this run, whose epochs come after so many others."""
        shown: list[Callable[[int, int], None]] = []

        def on_step(done: int, total: int) -> None:
            # Begun here: the bars of encoding come first.
            if not shown:
                shown.append(bars.enter_context(self.log.step(title, "steps")))
            shown[0](done, total)

        def on_epoch(epoch: int, figures: Mapping[str, float]) -> None:
            self.log.tell(epoch=epochs + epoch, **{name: round(value, 5) for name, value in figures.items()})

        watch = Watch(on_step, on_epoch, self.log.is_late)
        licence = str(self.detector.card.get("licence", ""))
        return TrainingRun(folder, data_text(self._learnt, self.detector), licence, progress=False, watch=watch)

    def _crops(self, places: tuple[Place, ...], count: int, batch_size: int) -> PlaceCrops:
        return PlaceCrops(
            slides=self.corrected.only(places),
            places=places,
            spec=self.detector.spec,
            cells=self.job.corrections.cells,
            count=count,
            batch_size=batch_size,
            seed=self.job.settings.seed,
        )

    def _measured_on(self, training: PlaceCrops) -> PlaceCrops:
        """Return what each epoch is measured on: a few crops of all where nothing is held out. It decides nothing."""
        return self._held_out or replace(training, count=min(training.count, training.batch_size), batch_size=1)

    @cached_property
    def _held_out(self) -> PlaceCrops | None:
        """Return crops of what is held out, one in a batch; ``None`` where nothing is."""
        places = self.parted.held_out
        return self._crops(places, self.plan.held_out_crops, 1) if places else None

    @cached_property
    def _learnt(self) -> tuple[Place, ...]:
        """Return the places that the time allows to be learnt."""
        return tuple(self.parted.training[number] for number in sorted(set(self._training.order)))

    @cached_property
    def _training(self) -> PlaceCrops:
        """Return crops of what is learnt from."""
        return self._crops(self.parted.training, self.plan.crops, self.job.settings.batch_size)

    def _judged_by(self, model: Detector) -> EncodedBatches | None:
        """Return the crops of what is held out, as a model's own lower layers encode them."""
        if self._held_out is None:
            return None
        folder = _HELD_OUT if model is self.detector else f"{_HELD_OUT}-anew"
        return self._encoder.encoded("places to judge by", folder, self._held_out, model, in_order=True)

    def _fed(self, model: Detector, batch_size: int, batches: int) -> NegativeFeed:
        """Return what is fed of the crops: those that a model, whose lower layers are the first's, answers wrongly."""
        how, crops = self.job.corrections, self._training
        encoded = self._encoder.encoded("corrected places", "encoded", crops, self.detector, in_order=True)
        return NegativeFeed(
            crops=replace(crops, batch_size=1),
            wrong=answered_wrongly(model, encoded)[: crops.count],
            rest_share=how.fed_share,
            noise=how.fed_noise,
            batch_size=batch_size,
            batches_per_epoch=batches,
            seed=self.job.settings.seed,
        )

    @cached_property
    def _encoder(self) -> CropEncoder:
        return CropEncoder(self.detector, self.lower, self.output, self.log, self.job.settings.seed)

    @cached_property
    def plan(self) -> Plan:
        """Return how much the time allows: as it was settled when the run began, unless that was of something else."""
        path, job, output = self.output / _PLAN, self.job, self.output
        found, begun = read_plan(path), any((folder / LAST).exists() for folder in (output, output / _TUNED))
        if found is not None and (found.identity == self.identity or begun):
            return found
        whole = None if self.patches is None else job.whole
        with self.log.step("Measuring this computer", "crops") as progress:
            probe = self._crops(self.parted.training, job.settings.batch_size, min(job.settings.batch_size, 4))
            pace = measure_pace(self.detector, self.lower, probe, self.replay, job.settings, job.corrections, whole)
            progress(1, 1)
        plan = settle_plan(
            pace,
            self.log.deadline - time.monotonic(),
            places=len(self.parted.training),
            held_out=len(self.parted.held_out),
            settings=job.settings,
            corrections=job.corrections,
            identity=self.identity,
            whole=whole,
            remembered=0 if self.patches is None else remembered(self.patches, self.replay),
        )
        write_plan(path, plan)
        return plan

    def _said(self) -> dict[str, Any]:
        replayed = 0 if self.replay is None else len(self.replay)
        return said_of(self.job, self.detector, self.corrected, self.parted, self._learnt, replayed)
