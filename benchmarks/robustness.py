"""How steady a model is under changes of stain, light, focus, compression and scale.

Run with ``python benchmarks/robustness.py PATCHES [--model NAME] [--json]``. Every line is the area under the
curve on the same patches, changed by one seeded shift; the interval is a bootstrap's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from changed_patches import add_options, say_areas
from shifts import SHIFTS, shifted_patches

from napari_metastasis.cohorts.patches import open_patches


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patches", type=Path)
    add_options(parser)
    arguments = parser.parse_args()
    source = open_patches(arguments.patches)
    say_areas({name: shifted_patches(source, name, arguments.seed) for name in SHIFTS}, arguments)


if __name__ == "__main__":
    main()
