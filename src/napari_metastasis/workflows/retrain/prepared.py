"""What the stages of a retraining share: what is learnt and judged by, how much of it, and where it lies."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from napari_metastasis.models import Detector
from napari_metastasis.models.replay import Replay
from napari_metastasis.models.tuning import LowerLayers
from napari_metastasis.sampling.batches import BalancedPatches
from napari_metastasis.sampling.places import Place, PlaceCrops
from napari_metastasis.training.lightning_setup import LAST
from napari_metastasis.workflows.retrain.corrected import Corrected, Parted, reach_um
from napari_metastasis.workflows.retrain.earlier import remembered
from napari_metastasis.workflows.retrain.encoded_crops import CropEncoder
from napari_metastasis.workflows.retrain.job import Retraining, said_of
from napari_metastasis.workflows.retrain.pace import Plan, measure_pace, read_plan, settle_plan, write_plan
from napari_metastasis.workflows.retrain.run_log import RunLog

__all__ = ["HELD_OUT", "TUNED", "WHOLE", "Prepared"]

_PLAN = "plan.json"
#: Folders of the trainings that follow each other, where there is more than one.
TUNED, WHOLE = "last-layers", "all-layers"
#: Folder of crops to be judged by, as the first model encodes them.
HELD_OUT = "encoded-held-out"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A retraining that may begin.

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

    @cached_property
    def plan(self) -> Plan:
        """Return how much the time allows: as it was settled when the run began, unless that was of something else."""
        path, job, output = self.output / _PLAN, self.job, self.output
        found, begun = read_plan(path), any((folder / LAST).exists() for folder in (output, output / TUNED))
        if found is not None and (found.identity == self.identity or begun):
            return found
        whole = None if self.patches is None else job.whole
        with self.log.step("Measuring this computer", "crops") as progress:
            probe = self.crops(self.parted.training, job.settings.batch_size, min(job.settings.batch_size, 4))
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

    @cached_property
    def training(self) -> PlaceCrops:
        """Return crops of what is learnt from."""
        return self.crops(self.parted.training, self.plan.crops, self.job.settings.batch_size)

    @cached_property
    def learnt(self) -> tuple[Place, ...]:
        """Return the places that the time allows to be learnt."""
        return tuple(self.parted.training[number] for number in sorted(set(self.training.order)))

    @cached_property
    def held_out(self) -> PlaceCrops | None:
        """Return crops of what is held out, one in a batch; ``None`` where nothing is."""
        places = self.parted.held_out
        return self.crops(places, self.plan.held_out_crops, 1) if places else None

    @cached_property
    def encoder(self) -> CropEncoder:
        """Return what encodes crops into the run folder."""
        return CropEncoder(self.detector, self.lower, self.output, self.log, self.job.settings.seed)

    def crops(self, places: tuple[Place, ...], count: int, batch_size: int) -> PlaceCrops:
        """Return so many crops of places."""
        return PlaceCrops(
            slides=self.corrected.only(places),
            places=places,
            spec=self.detector.spec,
            cells=self.job.corrections.cells,
            count=count,
            batch_size=batch_size,
            seed=self.job.settings.seed,
        )

    def said(self) -> dict[str, Any]:
        """Return what the card of what comes out says, besides what training says."""
        replayed = 0 if self.replay is None else len(self.replay)
        return said_of(self.job, self.detector, self.corrected, self.parted, self.learnt, replayed)

    def notes(self) -> list[str]:
        """Return what was not learnt, and why, and why nothing is judged, a line each."""
        lines, lacking = [], len(self.parted.training) - len(self.learnt)
        how = self.job.corrections
        if how.held_out_share and not self.parted.held_out:
            apart = f"farther than {reach_um(self.detector.spec, how) / 1000:.1f} mm from the others"
            lines.append(
                "no place was held out, so that nothing says whether the new model is better: that takes four places "
                f"of a class, some of them {'on other slides' if self.parted.by == 'slide' else apart}; correct more"
            )
        if lacking:
            lines.append(
                f"the time did not allow {lacking} of {len(self.parted.training)} places to be learnt: take more of it"
            )
        if self.job.patches is None:
            lines.append(
                "the lower layers stayed as they are: they learn only beside --patches that the model learnt from"
            )
        elif self.patches is not None and not (self.output / WHOLE / f"{self.name}.safetensors").exists():
            lines.append("the time did not allow all layers to learn: only the last ones did; take more of it")
        return lines
