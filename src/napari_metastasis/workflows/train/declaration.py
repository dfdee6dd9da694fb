"""What a form or the command line has to know of a task to train it. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_metastasis.errors import SettingsError
from napari_metastasis.settings import (
    AugmentSettings,
    ClusterSettings,
    CohortSettings,
    MiningSettings,
    PatchSettings,
    SamplingSettings,
    TrainSettings,
)

if TYPE_CHECKING:
    from napari_metastasis.sampling.batches import BatchSource
    from napari_metastasis.training.tasks.base import TrainingTask

__all__ = [
    "AUGMENTATION",
    "CLUSTER",
    "CROPS",
    "MINING",
    "PATCHES",
    "SLIDES",
    "TRAINING",
    "Chosen",
    "OptionGroup",
    "TrainingDeclaration",
]


@dataclass(frozen=True, slots=True)
class OptionGroup:
    """Settings that a person may choose.

    Attributes
    ----------
    name
        What they are called in :class:`Chosen`.
    group
        The settings dataclass.
    panel
        Heading that they stand under.
    flags
        How single settings are written, where that differs from their names.
    leave_out
        Settings that mean nothing to the task; they keep their defaults.
    """

    name: str
    group: type
    panel: str | None = None
    flags: Mapping[str, str] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()


#: The groups that every task needs: their names stay, another task may have another dataclass and leave settings out.
TRAINING = OptionGroup("settings", TrainSettings, "Training")
AUGMENTATION = OptionGroup("augment", AugmentSettings, "Augmentation")
SLIDES = (OptionGroup("sampling", SamplingSettings, "Slides"), OptionGroup("splits", CohortSettings, "Slides"))
MINING = OptionGroup("mining", MiningSettings, "Hard negatives")
#: Of tasks whose training slides are scanned: who scans them. Training has workers of its own.
CLUSTER = OptionGroup(
    "cluster",
    ClusterSettings,
    "Hard negatives",
    flags={one.name: f"--scan-{one.name.replace('_', '-')}" for one in fields(ClusterSettings)},
)
#: Name of the group of tasks that are trained on crops around points.
CROPS = "crops"
#: Of tasks that are trained on labelled patches as well.
PATCHES = OptionGroup("patches", PatchSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a person chose for a training.

    Attributes
    ----------
    output
        Run folder.
    cohort
        Slides with annotations; ``None`` where there are patches alone.
    name
        Of what is to come out.
    description, licence
        For the model card; empty where nothing was said.
    groups
        Settings by the names of their groups.
    given
        Settings that were chosen, if only with their defaults: ``<group>_<setting>`` to how it is written.
    fetching
        Shows how far weights are fetched, in bytes.
    """

    output: Path
    cohort: Path | None
    name: str
    description: str
    licence: str
    groups: Mapping[str, Any]
    given: Mapping[str, str]
    fetching: Callable[[], AbstractContextManager[Callable[[int, int], None]]]

    @property
    def settings(self) -> TrainSettings:
        """Return how to train."""
        found: TrainSettings = self.groups[TRAINING.name]
        return found

    @property
    def patches(self) -> PatchSettings:
        """Return the labelled patches; none for tasks that take none."""
        found: PatchSettings = self.groups.get(PATCHES.name, PatchSettings())
        return found

    @property
    def labelled_in_batch(self) -> int:
        """Return how many patches of a batch come from labelled patches: all where there are no slides."""
        size = self.settings.batch_size
        return size if self.cohort is None else max(1, round(size * self.patches.patches_share))

    def data(self) -> str:
        """Return what the data are: the description, or else their names."""
        crops: Path | None = getattr(self.groups.get(CROPS), "crops", None)
        named = (crops, self.cohort, *(self.patches.patches or ()), self.patches.soft_labels, self.patches.validation)
        return self.description or f"Trained on {', '.join(path.name for path in named if path is not None)}"

    def check(self) -> None:
        """Refuse data of which a part is missing.

        Raises
        ------
        SettingsError
            Naming what is missing.
        """
        patches, size = self.patches, self.settings.batch_size
        if self.cohort is None and not patches.patches:
            raise SettingsError("expected --cohort or --patches, got neither; give slides, patches, or both")
        if patches.soft_labels is not None and not patches.patches:
            raise SettingsError("expected --patches beside --soft-labels, got none; give the patches that it names")
        if self.cohort is None and patches.validation is None:
            raise SettingsError("expected --validation beside --patches, got none; give patches from other slides")
        if self.cohort is not None and patches.patches and self.labelled_in_batch >= size:
            raise SettingsError(
                f"expected --patches-share to leave room for slides, got {self.labelled_in_batch} of {size} patches; "
                "lower it, or raise the batch size"
            )

    def refuse(self, ignored: tuple[str, ...], what: str) -> None:
        """Refuse settings that were chosen but that ``what`` ignores, by the beginnings of their names.

        Raises
        ------
        SettingsError
            If one of them was chosen.
        """
        for name, written in self.given.items():
            if name.startswith(ignored):
                raise SettingsError(f"expected options that {what} makes use of, got {written}; leave it out")


def _nothing(chosen: Chosen) -> None:
    del chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingDeclaration:
    """How a task is trained, as far as a person chooses.

    Attributes
    ----------
    help
        What training it does, and what comes out.
    prefix
        What its models are called, before the run folder's name.
    make
        Returns what is trained; it may load torch.
    check
        Refuses, with a :class:`~napari_metastasis.errors.SettingsError`, what makes no sense together.
    batches
        Returns what is trained and validated on, of a task that reads slides and crops in its own way; ``None`` for
        patches of a cohort's slides, and labelled ones.
    groups
        All that may be chosen.
    former
        Name that the command had in earlier versions.
    """

    help: str
    prefix: str
    make: Callable[[Chosen], TrainingTask[Any]]
    check: Callable[[Chosen], None] = _nothing
    batches: Callable[[Chosen, TrainingTask[Any]], tuple[BatchSource, BatchSource]] | None = None
    groups: tuple[OptionGroup, ...] = (TRAINING, AUGMENTATION, *SLIDES, MINING, PATCHES)
    former: str = ""

    @property
    def needs_slides(self) -> bool:
        """Return whether it is trained on slides alone, and not on labelled patches or crops as well."""
        return PATCHES not in self.groups and self.batches is None
