"""How a model stands other laboratories: the same patches in the colours of five centres, and paler.

Run with ``python benchmarks/colours.py DATA [--model NAME] [--views 1] [--json]``. DATA holds ``pcam_valid.zip`` and
``centre_colours/``. Each line is the area under the curve on the same patches, whose optical density was given a
centre's mean and spread over tissue, channel by channel, or was multiplied; the interval is a bootstrap's. The seed
draws the patches that the patches' own mean and spread are measured on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.patches import PatchSource, open_patches
from napari_metastasis.evaluation import evaluate_patches
from napari_metastasis.models import load_detector
from napari_metastasis.settings import DEFAULT_MODEL, PatchScoringSettings

_Pixels = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]
#: Mean optical density from which a pixel counts as tissue.
TISSUE = 0.15
#: Patches that their own mean and spread are measured on.
MEASURED = 300
DENSITIES = (0.4, 0.7)


def density(pixels: _Pixels) -> _Floats:
    """Return the optical density (natural logarithm) of each channel."""
    return -np.log(np.maximum(pixels, 1).astype(np.float32) / 255)


def pixels_of(densities: _Floats) -> _Pixels:
    """Return the pixels of optical densities, which are not negative."""
    return np.clip(np.rint(255 * np.exp(-np.maximum(densities, 0))), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Colours:
    """Mean and spread of the optical density of tissue, of red, green and blue."""

    mean: _Floats
    spread: _Floats

    @classmethod
    def of(cls, pixels: _Pixels) -> Colours:
        """Return those of pixels, (…, 3)."""
        values = density(pixels).reshape(-1, 3)
        tissue = values[values.mean(axis=1) > TISSUE]
        return cls(tissue.mean(axis=0), tissue.std(axis=0))


@dataclass(frozen=True)
class RecolouredPatches:
    """Patches in other colours: a :class:`~napari_metastasis.cohorts.patches.PatchSource`."""

    source: PatchSource
    recolour: Callable[[_Pixels], _Pixels]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Return the class of every patch, which no colour changes."""
        return self.source.labels

    @property
    def names(self) -> tuple[str, ...]:
        """Return what each patch is called."""
        return self.source.names

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> _Pixels:
        """Return patch ``index``, recoloured."""
        return self.recolour(self.source.read(index))


def colour_shifts(source: PatchSource, centres: Path, seed: int) -> dict[str, Callable[[_Pixels], _Pixels]]:
    """Return every shift by its name."""
    drawn = np.random.default_rng(seed).choice(len(source), min(MEASURED, len(source)), replace=False)
    own = Colours.of(np.stack([source.read(int(k)) for k in drawn]))

    def as_centre(target: Colours) -> Callable[[_Pixels], _Pixels]:
        return lambda patch: pixels_of((density(patch) - own.mean) / own.spread * target.spread + target.mean)

    def multiplied(factor: float) -> Callable[[_Pixels], _Pixels]:
        return lambda patch: pixels_of(density(patch) * np.float32(factor))

    shifts: dict[str, Callable[[_Pixels], _Pixels]] = {"as they are": lambda patch: patch}
    names = sorted({path.name.partition("_")[0] for path in centres.glob("center*_*.png")})
    for name in names:
        images = [np.asarray(imagecodecs.imread(path))[..., :3] for path in sorted(centres.glob(f"{name}_*.png"))]
        flat = np.concatenate([image.reshape(-1, 3) for image in images])
        shifts[f"colours of {name.replace('center', 'centre ')}"] = as_centre(Colours.of(flat))
    return shifts | {f"{factor:g} of their density": multiplied(factor) for factor in DENSITIES}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--views", type=int, default=1, choices=(1, 8))
    parser.add_argument("--seed", type=int, default=2016)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = load_detector(arguments.model)
    source = open_patches(arguments.data / "pcam_valid.zip")
    figures = {}
    for name, recolour in colour_shifts(source, arguments.data / "centre_colours", arguments.seed).items():
        report = evaluate_patches(
            model, RecolouredPatches(source, recolour), PatchScoringSettings(), views=arguments.views, device="cpu"
        )
        figures[name] = [round(value, 4) for value in (report.auc.value, *report.auc.ci95)]
        if not arguments.json:
            value, low, high = figures[name]
            print(f"| {name} | {value:.4f} | {low:.4f}–{high:.4f} |", flush=True)
    if arguments.json:
        print(json.dumps({"model": model.spec.name, "weights_sha256": model.weights_sha256, **figures}))


if __name__ == "__main__":
    main()
