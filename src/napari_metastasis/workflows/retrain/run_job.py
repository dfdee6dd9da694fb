"""What a run was begun with, as its folder has it: whoever goes on with it needs nothing else."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_metastasis.settings import TUNE_OPTIONS, CorrectionSettings, TuneTrainSettings, WholeSettings, changes

__all__ = ["RunJob"]


@dataclass(frozen=True, slots=True)
class RunJob:
    """What a run learns from, and how long it may.

    Attributes
    ----------
    results
        Result folders with corrections.
    model
        Name or path of the detector that it begins with.
    name
        Of the new one.
    budget_s
        Seconds.
    begun
        When it was begun last, in seconds since 1970.
    patches
        Images that the model learnt from before; ``None`` where they are not at hand.
    settings, corrections, whole
        How it learns, from what, and how all of its layers do.
    """

    results: tuple[Path, ...]
    model: str
    name: str
    budget_s: float
    begun: float
    patches: Path | None = None
    settings: TuneTrainSettings = field(default_factory=TuneTrainSettings)
    corrections: CorrectionSettings = field(default_factory=CorrectionSettings)
    whole: WholeSettings = field(default_factory=WholeSettings)

    def command(self, folder: Path) -> tuple[str, ...]:
        """Return the command line that makes the run, or goes on with it; what comes out is not kept by its name."""
        asked = {name: value for name, value in changes(self.settings).items() if name in TUNE_OPTIONS}
        changed = {**asked, **changes(self.corrections), **changes(self.whole)}
        if self.patches is not None:
            changed["patches"] = self.patches
        options = (part for name, value in changed.items() for part in (f"--{name.replace('_', '-')}", str(value)))
        return (
            sys.executable, "-m", "napari_metastasis", "retrain", *map(str, self.results), "--model", self.model,
            "--name", self.name, "--budget", f"{self.budget_s:g}s", "--output", str(folder), "--no-keep", "--json",
            *options,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "results": list(map(str, self.results)),
            "model": self.model,
            "name": self.name,
            "budget_s": self.budget_s,
            "begun": self.begun,
            "patches": None if self.patches is None else str(self.patches),
            "settings": changes(self.settings),
            "corrections": changes(self.corrections),
            "whole": changes(self.whole),
        }

    @classmethod
    def from_json(cls, told: Any) -> RunJob:
        """Return what :meth:`to_json` wrote; a file of an earlier version names no settings, which are the defaults.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is anything else.
        """
        results = tuple(Path(str(one)) for one in told["results"])
        patches = told.get("patches")
        return cls(
            results=results,
            model=str(told["model"]),
            name=str(told["name"]),
            budget_s=float(told["budget_s"]),
            begun=float(told["begun"]),
            patches=None if patches is None else Path(str(patches)),
            settings=TuneTrainSettings(**told.get("settings", {})),
            corrections=CorrectionSettings(**told.get("corrections", {})),
            whole=WholeSettings(**told.get("whole", {})),
        )
