"""Let a model of mitoses learn from points that people corrected, and judge what came out.

Crops around confirmed, added and rejected points, as training lays them side by side; around what a model found and
nobody spoke of, nothing is known. Few steps, at a small rate, with the lower layers at rest, and beside other tissue
that is to be answered as before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from napari_metastasis.cohorts.point_slides import SlideCrops, numbered_crops
from napari_metastasis.models import InitialWeights, MitosisModel, correct_card, load_model
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.sampling.places import Place
from napari_metastasis.sampling.point_batches import PointBatches
from napari_metastasis.sampling.point_mosaics import PointMosaics
from napari_metastasis.settings import (
    MitosisAugmentSettings,
    MitosisMapSettings,
    MitosisTrainSettings,
    PieceSettings,
    PointScoringSettings,
)
from napari_metastasis.slides import open_slide
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.training.callbacks import Watch
from napari_metastasis.training.train import TrainingRun, train
from napari_metastasis.workflows.retrain.comparing import place_figures
from napari_metastasis.workflows.retrain.corrected import Corrected, Parted, reach_um
from napari_metastasis.workflows.retrain.held_tissue import HeldBatches, held_tissue
from napari_metastasis.workflows.retrain.job import Retraining, data_text, said_of
from napari_metastasis.workflows.retrain.mitosis_task import RetrainedTask
from napari_metastasis.workflows.retrain.run_log import RunLog
from napari_metastasis.workflows.retrain.runs import VERDICT
from napari_metastasis.workflows.retrain.verdict import PlaceAnswer, Verdict

__all__ = ["PointRun"]

#: What places of label 0 and 1 are called.
_NOUNS = ("no mitosis", "mitosis")
_PLACES = "held-out.csv"
#: Steps after which the model is measured and stored.
_STEPS_AN_EPOCH = 8
#: Crops beside each other, along a side, at least: one alone is nearly all edge.
_LEAST_CELLS = 2
#: Before a logarithm.
_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class PointRun:
    """A retraining of a model of mitoses that may begin.

    Attributes
    ----------
    job, model
        What was asked for, and what it begins with.
    corrected, parted
        What was corrected, and what of it is held out.
    name
        Of the new model.
    output, log
        The run folder.
    """

    job: Retraining
    model: MitosisModel
    corrected: Corrected
    parted: Parted
    name: str
    output: Path
    log: RunLog

    def learn(self) -> Path:
        """Return the weights of the new model."""
        settings = self._settings
        # Of what is held out; where nothing is, of what is learnt. It decides nothing.
        measured_on = self.parted.held_out or self.parted.training
        with (
            closing(self._crops(self.parted.training)) as pictures,
            closing(self._crops(measured_on)) as others,
        ):
            learnt = self._batches(self.parted.training, pictures, seed=settings.seed)
            measured = self._batches(measured_on, others, seed=settings.seed + 1)
            measured = replace(measured, batches_per_epoch=len(measured.mosaics))
            if self._holds:
                with self._held(settings.seed + 2) as held:
                    weights = self._trained(settings, HeldBatches(learnt, held), measured)
            else:
                weights = self._trained(settings, learnt, measured)
        if self.log.is_cancelled:
            # Half learnt: what can go on is the checkpoint.
            with storage_errors(self.output):
                for suffix in (".safetensors", ".json"):
                    weights.with_suffix(suffix).unlink(missing_ok=True)
        return weights

    def _trained(self, settings: MitosisTrainSettings, learnt: BatchSource, measured: PointBatches) -> Path:
        task = RetrainedTask(
            spec=replace(self.model.spec, name=self.name),
            initial=InitialWeights.of(self.model),
            pieces=self._pieces,
            pretrained=True,
            said=said_of(self.job, self.model, self.corrected, self.parted, self.parted.training, 0),
            held_weight=self.job.corrections.replay_weight,
        )
        shown: list[Callable[[int, int], None]] = []
        with ExitStack() as bars:

            def on_step(done: int, total: int) -> None:
                if not shown:
                    shown.append(bars.enter_context(self.log.step("Learning", "steps")))
                shown[0](done, total)

            def on_epoch(epoch: int, figures: Mapping[str, float]) -> None:
                self.log.tell(epoch=epoch, **{name: round(value, 5) for name, value in figures.items()})

            licence = str(self.model.card.get("licence", ""))
            text = data_text(self.parted.training, self.model, _NOUNS)
            watch = Watch(on_step, on_epoch, self.log.is_late)
            return train(
                task,
                TrainingRun(self.output, text, licence, progress=False, watch=watch),
                training=learnt,
                validation=measured,
                settings=settings,
                augment=MitosisAugmentSettings(),
            )

    @property
    def _holds(self) -> bool:
        """Return whether some tissue is to be answered as before."""
        return self.job.corrections.replay_weight > 0

    @property
    def _settings(self) -> MitosisTrainSettings:
        asked = self.job.settings
        return MitosisTrainSettings(
            batch_size=1,
            epochs=max(1, math.ceil(asked.steps / _STEPS_AN_EPOCH)),
            learning_rate=asked.learning_rate,
            weight_decay=asked.weight_decay,
            ema_decay=asked.ema_decay,
            seed=asked.seed,
            workers=0,
        )

    @cached_property
    def _pieces(self) -> PieceSettings:
        usual = PieceSettings()
        if self._holds:
            # Tissue without a mitosis is among what is to be answered as before.
            usual = replace(usual, empty_share=0.0)
        fitting = math.ceil(math.sqrt(len(self.parted.training)))
        return replace(usual, crops_a_side=min(usual.crops_a_side, max(_LEAST_CELLS, fitting)))

    @property
    def _side_px(self) -> int:
        return 2 * max(1, round(self._pieces.crop_um / self.model.spec.mpp / 2))

    def _corners(self, places: tuple[Place, ...], side_px: int) -> npt.NDArray[np.int64]:
        """Return the corner of a square around each place, (n, 2) of (x, y) in the model's pixels."""
        return np.rint(self._middles(places) - side_px / 2).astype(np.int64)

    def _crops(self, places: tuple[Place, ...], side_px: int = 0) -> SlideCrops:
        """Return squares around places, of so many of the model's pixels along a side, or as training shows them."""
        side_px = side_px or self._side_px
        corners = zip(places, self._corners(places, side_px).tolist(), strict=True)
        at = tuple((one.slide, x, y) for one, (x, y) in corners)
        return SlideCrops(self.corrected.slides, at, self.model.spec.mpp, side_px)

    def _batches(self, places: tuple[Place, ...], pictures: SlideCrops, *, seed: int) -> PointBatches:
        """Return mosaics of crops around places, in which the confirmed and added ones of their slide are points.

        Where a mitosis was found of which nobody spoke, nothing is known.
        """
        pieces, mpp, side_px = self._pieces, self.model.spec.mpp, self._side_px
        mitoses = [one for one in self.corrected.places if one.label]
        at, of = self._middles(tuple(mitoses)), np.array([one.slide for one in mitoses], np.int64)
        points = [at[of == number] for number in range(len(self.corrected))]
        mosaics = PointMosaics(
            numbered_crops(pictures, points, self._pending),
            np.arange(len(places)),
            1,
            pieces.crops_a_side,
            0,
            max(0, math.ceil(side_px / 2 - max(1.0, pieces.edge_um / mpp))),
            MitosisMapSettings(),
            seed,
            pieces.empty_share,
            pieces.clear_um,
        )
        return PointBatches(mosaics, 1, _STEPS_AN_EPOCH)

    @contextmanager
    def _held(self, seed: int) -> Iterator[PointBatches]:
        """Yield mosaics that are to be answered as before, as large as those to learn from."""
        spoken_of = []
        for number, pending in enumerate(self._pending):
            own = self._middles(tuple(one for one in self.corrected.places if one.slide == number))
            spoken_of.append(np.concatenate([own, pending]))
        with held_tissue(
            self.corrected.slides,
            spoken_of,
            mpp=self.model.spec.mpp,
            side_px=self._side_px,
            pieces=self._pieces,
            seed=seed,
        ) as mosaics:
            yield PointBatches(mosaics, 1, _STEPS_AN_EPOCH)

    def _middles(self, places: tuple[Place, ...]) -> npt.NDArray[np.float64]:
        """Return where places lie, (n, 2) of (x, y), in the model's pixels on their slides."""
        scales = np.array([self._scales[one.slide] for one in places], np.float64)
        middles = [(one.area_px.centroid.x, one.area_px.centroid.y) for one in places]
        return np.asarray(np.array(middles, np.float64).reshape(-1, 2) / scales[:, None], np.float64)

    @property
    def _pending(self) -> list[npt.NDArray[np.float64]]:
        """Return what was found on each slide and nobody spoke of, (n, 2) of (x, y) in the model's pixels."""
        return [xy / scale for xy, scale in zip(self.corrected.pending, self._scales, strict=True)]

    @cached_property
    def _scales(self) -> tuple[float, ...]:
        """Return the level-0 pixels along one of the model's, of each slide as it is read."""
        scales = []
        for one in self.corrected.slides:
            with open_slide(one.path, one.mpp, swap_red_blue=one.swap_red_blue) as slide:
                scales.append(slide.frame(self.model.spec.mpp).scale)
        return tuple(scales)

    def judged(self, weights: Path) -> Verdict:
        """Compare the new model with the old one on what was held out, and write down what came out."""
        new = load_model(weights)
        assert isinstance(new, MitosisModel)
        places = self.parted.held_out
        with self.log.step("Judging", "models") as progress:
            both = []
            for done, one in enumerate((self.model, new), 1):
                both.append(self._highest(one, places))
                progress(done, 2)
        pairs = zip(places, both[0].tolist(), both[1].tolist(), strict=True)
        answers = tuple(_answer(one, old, now, self.model.spec.threshold) for one, old, now in pairs)
        figures = place_figures(answers, self.model.spec.threshold, self.job.settings.seed)
        verdict = Verdict(answers, figures, None, _NOUNS)
        verdict.write_table(self.output / _PLACES, [one.name for one in self.corrected.slides])
        with atomic_text(self.output / VERDICT) as stream:
            json.dump(verdict.to_json(), stream, indent=2)
        correct_card(weights, {"retrained": {**new.card["retrained"], "verdict": verdict.to_json()}})
        return verdict

    def _highest(self, model: MitosisModel, places: tuple[Place, ...]) -> npt.NDArray[np.float64]:
        """Return the highest probability that a model finds within the matching radius of each place."""
        spec, radius_um = model.spec, PointScoringSettings().radius_um
        block, field_px = spec.built.block_px, spec.built.field_px
        answered = block * math.ceil(2 * (radius_um / spec.mpp + spec.cell_px) / block)
        side = field_px + answered
        within = self._middles(places) - self._corners(places, side)
        network, found = model.dense(1), []
        centers = (np.arange(answered // spec.cell_px) + 0.5) * spec.cell_px + field_px // 2
        with closing(self._crops(places, side)) as crops, torch.no_grad():
            for number, middle in enumerate(within):
                image = torch.from_numpy(crops.read(number).astype(np.float32)).permute(2, 0, 1)[None]
                answers = network(image)[0].numpy()
                away = np.hypot(centers[:, None] - middle[1], centers[None] - middle[0]) * spec.mpp
                found.append(float(answers[away <= radius_um].max()))
        return np.array(found, np.float64)

    def notes(self) -> list[str]:
        """Return why nothing is judged, and what nothing keeps the model from, a line each."""
        lines = []
        if self.job.corrections.held_out_share and not self.parted.held_out:
            apart = f"farther than {reach_um(self.model.spec, self.job.corrections) / 1000:.2f} mm from the others"
            lines.append(
                "no point was held out, so that nothing says whether the new model is better: that takes four points "
                f"of a class, some of them {'on other slides' if self.parted.by == 'slide' else apart}; correct more"
            )
        if not self._holds:
            lines.append(
                "nothing keeps the model from forgetting what it knew: look at slides that it found right before"
            )
        return lines


def _answer(place: Place, old: float, new: float, threshold: float) -> PlaceAnswer:
    losses = [-math.log(max(_LEAST, one if place.label else 1 - one)) for one in (old, new)]
    right = [int((one >= threshold) == bool(place.label)) for one in (old, new)]
    return PlaceAnswer(
        place=place,
        old=old,
        new=new,
        old_loss=losses[0],
        new_loss=losses[1],
        old_highest=old,
        new_highest=new,
        old_right=right[0],
        new_right=right[1],
        cells=1,
    )
