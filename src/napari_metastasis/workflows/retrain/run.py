"""Retrain a model on what was corrected in results, within a budget of time, and judge what came out."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch

from napari_metastasis.errors import ScanCancelledError, StorageError, in_one_line
from napari_metastasis.models import Detector, load_detector, weights_of
from napari_metastasis.models.replay import REPLAY_SUFFIX, Replay, read_replay, write_replay
from napari_metastasis.models.tuning import LowerLayers, TunedNetwork, lower_sha256
from napari_metastasis.plain_json import read_json
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.sampling.places import Place, PlaceCrops
from napari_metastasis.settings import AugmentSettings, CorrectionSettings, TuneTrainSettings
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.training.callbacks import Watch
from napari_metastasis.training.encoded import EncodedBatches, Encoding
from napari_metastasis.training.tasks.tune import TuneTask
from napari_metastasis.training.train import TrainingRun, train
from napari_metastasis.workflows.retrain.corrected import Corrected, Parted, gather, part
from napari_metastasis.workflows.retrain.run_log import ProgressBar, RunLog
from napari_metastasis.workflows.retrain.runs import RunJob, next_name, note_job, runs_folder
from napari_metastasis.workflows.retrain.verdict import Verdict, judge

__all__ = ["Retrained", "Retraining", "retrain", "retraining_folder"]

_PLAN, _PLACES, _VERDICT = "plan.json", "held-out.csv", "verdict.json"
#: Crops of a place that was held out.
_JUDGED_CROPS = 4
#: Each crop is learnt from so often, where the time allows.
_LEAST_EPOCHS = 2
#: Of what is left of the budget: for encoding, and for learning once all is encoded.
_ENCODING_SHARE, _LEARNING_SHARE = 0.3, 0.85
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


@dataclass(frozen=True, slots=True)
class _Plan:
    """How much is done in the time: settled once, so that a run that was killed goes on as it began."""

    crops: int
    epochs: int


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
    parted = part(corrected, detector.spec, job.corrections, seed=job.settings.seed)
    replay, notes = _replay_of(job, detector)
    name = job.name or next_name(detector.name)
    output = job.output or retraining_folder(name, _identity(job, detector, corrected))
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    log = RunLog(output, show, should_stop, deadline)
    try:
        note_job(output, _noted(job, name))
        run = _Run(job, detector, lower, corrected, parted, replay, name, output, log)
        weights = run.learn()
        if replay is not None:
            write_replay(weights.with_suffix(REPLAY_SUFFIX), replay)
        if log.is_cancelled:
            raise ScanCancelledError("the retraining was cancelled")
        verdict = run.judged(weights)
        log.tell(ended=weights.name, sentence=verdict.sentence)
    except (Exception, KeyboardInterrupt) as error:
        log.tell(failed=in_one_line(error) if isinstance(error, Exception) else "stopped")
        raise
    finally:
        log.close()
    return Retrained(weights, verdict, corrected, parted, (*corrected.left_out, *notes))


@dataclass(frozen=True, slots=True, eq=False)
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

    def learn(self) -> Path:
        """Return the weights of the new model."""
        plan = self._plan()
        settings = replace(self.job.settings, epochs=plan.epochs, workers=0)
        training = self._crops(self.parted.training, plan.crops, settings.batch_size)
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
        held_out = self._held_out()
        encoded = None if held_out is None else self._encoded(held_out, vary=False)
        order = () if held_out is None else held_out.order
        new = load_detector(weights)
        verdict = judge(
            self.detector, new, encoded, order, self.parted.held_out, self.replay, seed=self.job.settings.seed
        )
        verdict.write_table(self.output / _PLACES, [one.name for one in self.corrected.slides])
        with atomic_text(self.output / _VERDICT) as stream:
            json.dump(verdict.to_json(), stream, indent=2)
        from napari_metastasis.models import correct_card

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
        return self._held_out() or replace(training, count=min(training.count, training.batch_size), batch_size=1)

    def _held_out(self) -> PlaceCrops | None:
        """Return crops of what is held out, one in a batch; ``None`` where nothing is."""
        places = self.parted.held_out
        return self._crops(places, _JUDGED_CROPS * len(places), 1) if places else None

    def _encoded(self, source: BatchSource, *, vary: bool) -> EncodedBatches:
        assert isinstance(source, PlaceCrops)
        from napari_metastasis.training.encoded import encode_batches

        with self.log.step("Encoding corrected places" if vary else "Encoding places held out", "crops") as progress:
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

    def _plan(self) -> _Plan:
        """Return how many crops and epochs the time allows, as they were settled when the run began."""
        path = self.output / _PLAN
        if path.exists():
            try:
                found = read_json(path)
                return _Plan(int(found["crops"]), int(found["epochs"]))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise StorageError(
                    f"expected the plan of a run, got {in_one_line(error)} in {path}; choose another --output"
                ) from error
        settings, wanted = self.job.settings, self.job.corrections
        size, places = settings.batch_size, self.parted.training
        with self.log.step("Measuring this computer", "crops") as progress:
            probe = self._crops(places, size, min(size, 4))
            seconds, step_s = self._measured(probe)
            probe.close()
            progress(1, 1)
        left = self.log.deadline - time.monotonic()
        judged = _JUDGED_CROPS * len(self.parted.held_out)
        most = int(_ENCODING_SHARE * left / seconds) - judged
        crops = max(size, min(wanted.crops_per_place * len(places), most))
        steps = -(-crops // size)
        learning = _LEARNING_SHARE * (left - seconds * (steps * size + judged))
        epochs = max(1, min(max(_LEAST_EPOCHS, round(settings.steps / steps)), int(learning / (step_s * steps))))
        plan = _Plan(crops, epochs)
        with atomic_text(path) as stream:
            json.dump(asdict(plan), stream)
        return plan

    def _measured(self, probe: PlaceCrops) -> tuple[float, float]:
        """Return the seconds that a crop takes to be encoded, and those of a step of learning."""
        begun = time.monotonic()
        batch = probe.batch(0)
        images = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float()
        features = self.lower(images).permute(0, 3, 1, 2)
        encoding = (time.monotonic() - begun) / len(images)
        network, how = TunedNetwork(self.detector).train(), self.job.corrections
        learning = _step_seconds(network, features) * self.job.settings.batch_size
        if self.replay is not None and how.replay_weight:
            some = self.replay.images(np.arange(min(len(self.replay), 4 * len(images))))
            learning += _step_seconds(network, some) * how.replayed_patches
        return encoding, learning

    def _data(self) -> str:
        places = self.parted.training
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
        return {
            "parents": [parent, *card.get("parents", [])],
            "retrained": {
                "slides": [
                    {"name": one.name, "fingerprint": known}
                    for one, known in zip(corrected.slides, corrected.fingerprints, strict=True)
                ],
                "places": len(self.parted.training),
                "held_out": len(self.parted.held_out),
                "held_out_by": self.parted.by,
                "replayed": 0 if self.replay is None else len(self.replay),
                "corrections": self.job.corrections.told(),
            },
        }


def _step_seconds(network: TunedNetwork, features: torch.Tensor) -> float:
    """Return the seconds that a step of learning takes for each image."""
    network(features).sum().backward()
    # The first step takes longer: memory is asked for.
    begun = time.monotonic()
    network(features).sum().backward()
    return (time.monotonic() - begun) / len(features)


def _replay_of(job: Retraining, detector: Detector) -> tuple[Replay | None, list[str]]:
    """Return what the model is not to forget, and what has to be said where nothing is known of it."""
    replay = read_replay(weights_of(job.model).with_suffix(REPLAY_SUFFIX))
    if replay is None:
        return None, [f"{detector.name} has no earlier patches beside its weights: nothing keeps it from forgetting"]
    if replay.lower_sha256 != lower_sha256(detector):
        return None, [f"the earlier patches beside {detector.name} were encoded by another model, and are not replayed"]
    return replay, []


def _noted(job: Retraining, name: str) -> RunJob:
    """Return what is noted of a run: whoever goes on with it may stand in another folder."""
    model = weights_of(job.model).absolute() if Path(job.model).suffix == ".safetensors" else job.model
    return RunJob(tuple(one.absolute() for one in job.results), str(model), name, job.budget_s, time.time())


def _identity(job: Retraining, detector: Detector, corrected: Corrected) -> str:
    """Return a hash of what decides what a model learns."""
    told = {
        "model": detector.weights_sha256,
        "slides": list(corrected.fingerprints),
        "places": [
            (one.key, one.slide, one.label, hashlib.sha256(shapely.to_wkb(one.area_px)).hexdigest())
            for one in corrected.places
        ],
        "settings": job.settings.told(),
        "corrections": job.corrections.told(),
        "budget_s": job.budget_s,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
