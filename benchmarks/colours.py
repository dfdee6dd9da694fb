"""How a model stands other laboratories: the same patches in the colours of five centres, and paler.

Run with ``python benchmarks/colours.py DATA [--model NAME] [--views 1] [--json]``. DATA holds ``pcam_valid.zip`` and
``centre_colours/``. Each line is the area under the curve on the same patches, whose optical density was given a
centre's mean and spread over tissue, channel by channel, or was multiplied; the interval is a bootstrap's. The seed
draws the patches that the patches' own mean and spread are measured on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
from changed_patches import ChangedPatches, add_options, say_areas

from napari_metastasis.cohorts.patches import PatchSource, open_patches
from napari_metastasis.slides.stains import STAINED, optical_density

_Pixels = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float64]
#: Patches that their own mean and spread are measured on.
MEASURED = 300
DENSITIES = (0.4, 0.7)


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
        values = optical_density(pixels).reshape(-1, 3)
        tissue = values[values.mean(axis=1) > STAINED]
        return cls(tissue.mean(axis=0), tissue.std(axis=0))


def recoloured(source: PatchSource, centres: Path, seed: int) -> dict[str, ChangedPatches]:
    """Return the patches under every change of colour, by its name."""
    drawn = np.random.default_rng(seed).choice(len(source), min(MEASURED, len(source)), replace=False)
    own = Colours.of(np.stack([source.read(int(k)) for k in drawn]))

    def as_centre(target: Colours) -> ChangedPatches:
        return ChangedPatches(
            source,
            lambda patch, _: pixels_of((optical_density(patch) - own.mean) / own.spread * target.spread + target.mean),
        )

    def multiplied(factor: float) -> ChangedPatches:
        return ChangedPatches(source, lambda patch, _: pixels_of(optical_density(patch) * factor))

    changed = {"as they are": ChangedPatches(source, lambda patch, _: patch)}
    names = sorted({path.name.partition("_")[0] for path in centres.glob("center*_*.png")})
    for name in names:
        images = [np.asarray(imagecodecs.imread(path))[..., :3] for path in sorted(centres.glob(f"{name}_*.png"))]
        flat = np.concatenate([image.reshape(-1, 3) for image in images])
        changed[f"colours of {name.replace('center', 'centre ')}"] = as_centre(Colours.of(flat))
    return changed | {f"{factor:g} of their density": multiplied(factor) for factor in DENSITIES}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    add_options(parser)
    arguments = parser.parse_args()
    source = open_patches(arguments.data / "pcam_valid.zip")
    say_areas(recoloured(source, arguments.data / "centre_colours", arguments.seed), arguments)


if __name__ == "__main__":
    main()
