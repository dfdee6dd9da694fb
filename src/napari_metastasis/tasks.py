"""The program's one list of tasks: what each is called, and where its parts lie."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["TASKS", "Task", "load"]


@dataclass(frozen=True, slots=True)
class Task:
    """Something that networks are trained to do.

    Attributes
    ----------
    name
        As cards say it.
    noun
        What does it, as the command line says it.
    training
        ``module:object`` of its :class:`~napari_metastasis.workflows.train.declaration.TrainingDeclaration`, loaded
        when it is asked for.
    """

    name: str
    noun: str
    training: str


TASKS: tuple[Task, ...] = (
    Task("detect", "detector", training="napari_metastasis.workflows.train.detector:DETECTOR"),
    Task("refine", "refiner", training="napari_metastasis.workflows.train.refiner:REFINER"),
)


def load(reference: str) -> Any:
    """Return the object that a task refers to as ``module:object``."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
