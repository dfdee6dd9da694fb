"""The tasks of the program: the one list that a new task is added to.

A task is one kind of card, one network, one pass of a scan, one training. Everything else — zoo, stores, runner,
command line, panel — works through this list and names no task. A task's parts are named as ``module:object`` and
imported on demand, so that the command line starts without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from napari_metastasis.errors import ModelError, brief
from napari_metastasis.settings import MitosisSettings, PassSettings, RefineSettings, SegmentSettings

__all__ = ["DETECT", "TASKS", "Task", "find_task", "pass_tasks", "resolve"]

_ROOT = "napari_metastasis"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task.

    Attributes
    ----------
    name
        As it stands on cards and in results: "detect".
    noun
        What its models are called: "detector".
    command
        Of the command that trains them: ``train detector``; the noun where it is empty.
    model
        Subclass of :class:`~napari_metastasis.models.Model`.
    scan_pass
        Subclass of :class:`~napari_metastasis.scanning.Pass`; empty for the scan itself.
    writes
        Name of the map that the pass writes; empty for the scan itself.
    settings
        The options of that pass; ``None`` for the scan itself.
    title
        Heading of these options.
    training
        The :class:`~napari_metastasis.workflows.train.declaration.TrainingDeclaration` that its command is made from;
        empty where nothing is trained.
    taught_by
        Labels of the corrections that its models are retrained on; none where they are not retrained.
    """

    name: str
    noun: str
    command: str = ""
    model: str
    scan_pass: str = ""
    writes: str = ""
    settings: type[PassSettings] | None = None
    title: str = ""
    training: str = ""
    taught_by: tuple[str, ...] = ()

    @property
    def scans(self) -> bool:
        """Return whether it is the scan itself: its models are chosen by name, and compared.

        Of those of a pass, the newest that fits is taken.
        """
        return self.settings is None

    @property
    def trained_as(self) -> str:
        """Return the name of the command that trains its models."""
        return self.command or self.noun

    @property
    def model_option(self) -> str:
        """Return the option that names its model."""
        return f"--{self.noun.replace(' ', '-')}"


def resolve(reference: str) -> Any:
    """Return the object that ``module:object`` names."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


#: The task that every scan begins with.
DETECT = "detect"

#: In the order in which a scan makes their passes: each may read what those before it wrote.
TASKS: tuple[Task, ...] = (
    Task(
        name=DETECT,
        noun="detector",
        model=f"{_ROOT}.models.detector:Detector",
        training=f"{_ROOT}.workflows.train.detector:DETECTOR",
        taught_by=("tumour", "normal"),
    ),
    Task(
        name="refine",
        noun="refiner",
        model=f"{_ROOT}.models.refiner:Refiner",
        scan_pass=f"{_ROOT}.scanning.passes.refine:RefinePass",
        writes="refined",
        settings=RefineSettings,
        title="Refinement",
        training=f"{_ROOT}.workflows.train.refiner:REFINER",
    ),
    Task(
        name="segment",
        noun="segmenter",
        model=f"{_ROOT}.models.segmenter:Segmenter",
        scan_pass=f"{_ROOT}.scanning.passes.segment:SegmentPass",
        writes="segmented",
        settings=SegmentSettings,
        title="Segmentation",
        training=f"{_ROOT}.workflows.train.segmenter:SEGMENTER",
    ),
    Task(
        name="mitosis",
        noun="mitosis model",
        command="mitosis",
        model=f"{_ROOT}.models.mitosis:MitosisModel",
        scan_pass=f"{_ROOT}.scanning.passes.mitosis:MitosisPass",
        writes="mitoses",
        settings=MitosisSettings,
        title="Mitoses",
        training=f"{_ROOT}.workflows.train.mitosis:MITOSIS",
        taught_by=("mitosis", "not-mitosis"),
    ),
)


def find_task(name: str) -> Task:
    """Return a task by its name.

    Raises
    ------
    ModelError
        If there is none.
    """
    for task in TASKS:
        if task.name == name:
            return task
    raise ModelError(
        f"expected a model for one of the tasks {', '.join(task.name for task in TASKS)}, got one for {brief(name)}; "
        "update the program"
    )


def pass_tasks() -> tuple[Task, ...]:
    """Return the tasks whose pass follows the scan, in their order."""
    return tuple(task for task in TASKS if task.settings is not None)
