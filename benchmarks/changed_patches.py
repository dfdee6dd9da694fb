"""Patches that are changed one by one, and how well a model tells them apart under each change."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_metastasis.cli.memory import keep_freed_memory
from napari_metastasis.cohorts.patches import PatchSource
from napari_metastasis.evaluation import evaluate_patches
from napari_metastasis.models import load_detector
from napari_metastasis.settings import DEFAULT_MODEL, PatchScoringSettings

__all__ = ["ChangedPatches", "add_options", "say_areas"]

_Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ChangedPatches:
    """Patches under a change: a :class:`~napari_metastasis.cohorts.patches.PatchSource`.

    Attributes
    ----------
    source
        The patches as they are.
    change
        From a patch, uint8 (rows, columns, 3), and its number to what is shown in its place.
    """

    source: PatchSource
    change: Callable[[_Image, int], _Image]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Return the class of every patch: no change touches it."""
        return self.source.labels

    @property
    def names(self) -> tuple[str, ...]:
        """Return what each patch is called."""
        return self.source.names

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> _Image:
        """Return patch ``index``, changed."""
        return self.change(self.source.read(index), index)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every such benchmark takes."""
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--views", type=int, default=1, choices=(1, 8))
    parser.add_argument("--seed", type=int, default=2016)
    parser.add_argument("--json", action="store_true")


def say_areas(changed: Mapping[str, PatchSource], arguments: argparse.Namespace) -> None:
    """Print the area under the curve under every change, with its interval, line by line or as one JSON object."""
    keep_freed_memory()
    model = load_detector(arguments.model)
    figures = {}
    for name, source in changed.items():
        report = evaluate_patches(model, source, PatchScoringSettings(), views=arguments.views, device="cpu")
        figures[name] = [round(value, 4) for value in (report.auc.value, *report.auc.ci95)]
        if not arguments.json:
            value, low, high = figures[name]
            print(f"| {name} | {value:.4f} | {low:.4f}–{high:.4f} |", flush=True)
    if arguments.json:
        print(json.dumps({"model": model.spec.name, "weights_sha256": model.weights_sha256, **figures}))
