"""Retrain a model on what was corrected in results, within a budget of time, and judge what came out."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import shapely

from napari_metastasis.errors import ModelError, ScanCancelledError, in_one_line
from napari_metastasis.models import Detector, check_name, correct_card, list_models, load_detector, weights_of
from napari_metastasis.models.replay import REPLAY_SUFFIX, Replay, read_replay, write_replay
from napari_metastasis.models.tuning import LowerLayers, lower_sha256
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.sampling.places import Place, PlaceCrops
from napari_metastasis.settings import AugmentSettings, CorrectionSettings, TuneTrainSettings
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.training.callbacks import Watch
from napari_metastasis.training.encoded import EncodedBatches, Encoding, encode_batches
from napari_metastasis.training.lightning_setup import LAST
from napari_metastasis.training.tasks.tune import TuneTask
from napari_metastasis.training.train import TrainingRun, train
from napari_metastasis.workflows.retrain.corrected import Corrected, Parted, gather, part
from napari_metastasis.workflows.retrain.pace import Plan, measure_pace, read_plan, settle_plan, write_plan
from napari_metastasis.workflows.retrain.run_log import ProgressBar, RunLog
from napari_metastasis.workflows.retrain.runs import RunJob, next_name, note_job, runs_folder
from napari_metastasis.workflows.retrain.verdict import Verdict, judge

__all__ = ["Retrained", "Retraining", "learnt_by", "replay_beside", "retrain", "retraining_folder"]

_PLAN, _PLACES, _VERDICT = "plan.json", "held-out.csv", "verdict.json"
#: No augmentation: crops lie elsewhere in their place each, and colours are the slides' own.
_AS_THEY_ARE = AugmentSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """What is to be retrained, and how.

    Attributes
    ----------
    results
        Result folders with corrections.
    model
        Name or path of the detector to begin with.
    name
        Of the new model; by default the old one's next version.
    output
        Run folder; by default one of the user's own, named after the model and what it learns from.
    budget_s
        Seconds that it may take.
    settings, corrections
        How it learns, and from what.
    """

    results: tuple[Path, ...]
    model: str | Path
    name: str = ""
    output: Path | None = None
    budget_s: float = 300.0
    settings: TuneTrainSettings = field(default_factory=TuneTrainSettings)
    corrections: CorrectionSettings = field(default_factory=CorrectionSettings)


@dataclass(frozen=True, slots=True, eq=False)
class Retrained:
    """What came out.

    Attributes
    ----------
    weights
        Of the new model, in its run folder.
    verdict
        Whether it is better.
    corrected, parted
        What it learnt from, and what it was judged by.
    notes
        What a person has to know, a line each.
    """

    weights: Path
    verdict: Verdict
    corrected: Corrected
    parted: Parted
    notes: tuple[str, ...]


def retraining_folder(name: str, identity: str) -> Path:
    """Return the run folder of a retraining among the user's own."""
    return runs_folder() / f"{name}-{identity[:8]}"


def retrain(job: Retraining, *, show: ProgressBar, should_stop: Callable[[], bool]) -> Retrained:
    """Retrain a model; a run that was killed goes on when it is begun again.

    Its folder gets what :func:`~napari_metastasis.training.train.train` writes, ``progress.jsonl``, ``held-out.csv``
    and ``verdict.json``. A file ``stop`` there ends it, and so does ``should_stop``: the model is what was learnt until
    then.

    Parameters
    ----------
    job
        What, and how.
    show
        Shows each step.
    should_stop
        Whether to end.

    Raises
    ------
    ModelError
        If the model cannot be retrained.
    TrainingError
        If nothing was corrected, or the folder holds another run.
    ScanCancelledError
        If it was ended before it had learnt anything; the same call goes on.
    StorageError
        If the folder cannot be written.
    """
    deadline = time.monotonic() + job.budget_s
    detector = load_detector(job.model)
    lower = LowerLayers(detector)
    corrected = gather(job.results, detector.spec)
    parted = part(corrected, detector.spec, job.corrections, seed=job.settings.seed, learnt=learnt_by(detector.card))
    replay, notes = replay_beside(job.model, detector)
    name = job.name or next_name(detector.name)
    check_name(name)
    identity = _identity(job, detector, corrected, replay)
    output = job.output or retraining_folder(name, identity)
    _check_free(name, output)
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    log = RunLog(output, show, should_stop, deadline)
    try:
        note_job(output, _noted(job, name))
        run = _Run(job, detector, lower, corrected, parted, replay, name, output, log, identity)
        weights = run.learn()
        if replay is not None:
            write_replay(weights.with_suffix(REPLAY_SUFFIX), replay)
        if log.is_cancelled:
            # Half learnt: what can go on is the checkpoint.
            with storage_errors(weights):
                for suffix in (".safetensors", ".json", REPLAY_SUFFIX):
                    weights.with_suffix(suffix).unlink(missing_ok=True)
            raise ScanCancelledError("the retraining was cancelled")
        verdict = run.judged(weights)
        log.tell(ended=weights.name, sentence=verdict.sentence)
    except (Exception, KeyboardInterrupt) as error:
        log.tell(failed=in_one_line(error) if isinstance(error, Exception) else "stopped")
        raise
    finally:
        log.close()
    return Retrained(weights, verdict, corrected, parted, (*corrected.left_out, *notes, *run.notes()))


@dataclass(frozen=True, eq=False)
class _Run:
    """A retraining with all that its steps share."""

    job: Retraining
    detector: Detector
    lower: LowerLayers
    corrected: Corrected
    parted: Parted
    replay: Replay | None
    name: str
    output: Path
    log: RunLog
    identity: str

    def notes(self) -> list[str]:
        """Return what the time did not allow, a line each."""
        lacking = len(self.parted.training) - len(self._learnt)
        if not lacking:
            return []
        return [f"the time did not allow {lacking} of {len(self.parted.training)} places to be learnt: take more of it"]

    def learn(self) -> Path:
        """Return the weights of the new model."""
        settings = replace(self.job.settings, epochs=self.plan.epochs, workers=0)
        training = self._training
        task = TuneTask(
            spec=replace(self.detector.spec, name=self.name),
            detector=self.detector,
            corrections=self.job.corrections,
            replay=self.replay if self.job.corrections.replay_weight else None,
            said=self._said(),
        )

        def encode(source: BatchSource, *, vary: bool) -> BatchSource:
            return self._encoded(source, vary=vary)

        with ExitStack() as bars:
            shown: list[Callable[[int, int], None]] = []

            def on_step(done: int, total: int) -> None:
                # Begun here: the bars of encoding come first.
                if not shown:
                    shown.append(bars.enter_context(self.log.step("Learning", "steps")))
                shown[0](done, total)

            watch = Watch(on_step, self._tell_epoch, self.log.is_late)
            run = TrainingRun(self.output, self._data(), self._licence(), progress=False, watch=watch)
            return train(
                task, run, training=training, validation=self._measured_on(training), settings=settings,
                augment=_AS_THEY_ARE, encode=encode,
            )  # fmt: skip

    def judged(self, weights: Path) -> Verdict:
        """Compare the new model with the old one, and write down what came out."""
        held_out = self._held_out
        encoded = None if held_out is None else self._encoded(held_out, vary=False)
        order = () if held_out is None else held_out.order
        new = load_detector(weights)
        verdict = judge(
            self.detector, new, encoded, order, self.parted.held_out, self.replay, seed=self.job.settings.seed
        )
        verdict.write_table(self.output / _PLACES, [one.name for one in self.corrected.slides])
        with atomic_text(self.output / _VERDICT) as stream:
            json.dump(verdict.to_json(), stream, indent=2)
        correct_card(weights, {"retrained": {**new.card["retrained"], "verdict": verdict.to_json()}})
        return verdict

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

    def _encoded(self, source: BatchSource, *, vary: bool) -> EncodedBatches:
        assert isinstance(source, PlaceCrops)
        with self.log.step("Encoding corrected places" if vary else "Encoding places to judge by", "crops") as progress:
            how = Encoding(
                folder=self.output / ("encoded" if vary else "encoded-held-out"),
                crops=source.batches_per_epoch * source.batch_size,
                augment=None,
                identity={"lower": lower_sha256(self.detector)},
                seed=self.job.settings.seed if vary else None,
                device="cpu",
                progress=progress,
                should_stop=self.log.should_stop,
            )
            try:
                return encode_batches(self.lower, source, source.batch_size, how)
            finally:
                source.close()

    def _tell_epoch(self, epoch: int, figures: Any) -> None:
        self.log.tell(epoch=epoch, **{name: round(value, 5) for name, value in figures.items()})

    @cached_property
    def plan(self) -> Plan:
        """Return how much the time allows: as it was settled when the run began, unless that was of something else."""
        path, job = self.output / _PLAN, self.job
        found = read_plan(path)
        if found is not None and (found.identity == self.identity or (self.output / LAST).exists()):
            return found
        with self.log.step("Measuring this computer", "crops") as progress:
            probe = self._crops(self.parted.training, job.settings.batch_size, min(job.settings.batch_size, 4))
            pace = measure_pace(self.detector, self.lower, probe, self.replay, job.settings, job.corrections)
            progress(1, 1)
        plan = settle_plan(
            pace,
            self.log.deadline - time.monotonic(),
            places=len(self.parted.training),
            held_out=len(self.parted.held_out),
            settings=job.settings,
            corrections=job.corrections,
            identity=self.identity,
        )
        write_plan(path, plan)
        return plan

    def _data(self) -> str:
        places = self._learnt
        tumour = sum(one.label for one in places)
        before = str(self.detector.card.get("data", "not stated"))
        slides = len({one.slide for one in places})
        return (
            f"Corrections of {len(places)} places ({tumour} tumour, {len(places) - tumour} normal) on {slides} "
            f"slide{'s' * (slides != 1)}. Before that, {self.detector.name}: {before}"
        )

    def _licence(self) -> str:
        return str(self.detector.card.get("licence", ""))

    def _said(self) -> dict[str, Any]:
        """Return what the card says besides what training says."""
        card, corrected = self.detector.card, self.corrected
        parent = {"name": self.detector.name, "weights_sha256": self.detector.weights_sha256}
        before = card.get("parents")
        learnt = {one.key for one in self._learnt}
        return {
            "parents": [parent, *(before if isinstance(before, list) else [])],
            "retrained": {
                "slides": [
                    {"name": one.name, "fingerprint": known}
                    for one, known in zip(corrected.slides, corrected.fingerprints, strict=True)
                ],
                "places": len(learnt),
                "learnt": sorted(learnt | learnt_by(card)),
                "held_out": len(self.parted.held_out),
                "held_out_by": self.parted.by,
                "replayed": 0 if self.replay is None else len(self.replay),
                "corrections": self.job.corrections.told(),
            },
        }


def learnt_by(card: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys of the corrections that a model, or one that it was made from, has learnt, by its card."""
    told = card.get("retrained")
    keys = told.get("learnt") if isinstance(told, dict) else None
    return frozenset(key for key in keys if isinstance(key, str)) if isinstance(keys, list) else frozenset()


def _check_free(name: str, output: Path) -> None:
    """Refuse a name that a model has, unless it is this run's own, which was finished before."""
    if any(one.name == name for one in list_models()) and not (output / f"{name}.safetensors").exists():
        raise ModelError(f"expected a name that no model has, got {name!r}; take another --name")


def replay_beside(model: str | Path, detector: Detector) -> tuple[Replay | None, list[str]]:
    """Return what the model is not to forget, and what has to be said where nothing is known of it."""
    replay = read_replay(weights_of(model).with_suffix(REPLAY_SUFFIX))
    if replay is None:
        return None, [f"{detector.name} has no earlier patches beside its weights: nothing keeps it from forgetting"]
    if replay.lower_sha256 != lower_sha256(detector):
        return None, [f"the earlier patches beside {detector.name} were encoded by another model, and are not replayed"]
    return replay, []


def _noted(job: Retraining, name: str) -> RunJob:
    """Return what is noted of a run: whoever goes on with it may stand in another folder."""
    model = weights_of(job.model).absolute() if Path(job.model).suffix == ".safetensors" else job.model
    return RunJob(tuple(one.absolute() for one in job.results), str(model), name, job.budget_s, time.time())


def _identity(job: Retraining, detector: Detector, corrected: Corrected, replay: Replay | None) -> str:
    """Return a hash of what decides what a model learns."""
    told = {
        "model": detector.weights_sha256,
        "slides": list(corrected.fingerprints),
        "places": [
            (one.key, one.slide, one.label, hashlib.sha256(shapely.to_wkb(one.area_px)).hexdigest())
            for one in corrected.places
        ],
        "ignored": [[hashlib.sha256(shapely.to_wkb(one)).hexdigest() for one in own] for own in corrected.ignored],
        "replay": None if replay is None else replay.sha256,
        "settings": job.settings.told(),
        "corrections": job.corrections.told(),
        "budget_s": job.budget_s,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
