"""What normalising stains does to a detector: patches and regions as they are, by their mean density, and by Macenko.

Run with ``python benchmarks/stains.py DATA [--model NAME] [--centres 1 4] [--every N] [--json]``. DATA holds
``pcam_valid.zip``, ``pcam_train.zip``, ``regions/`` and ``centre_colours/``. Each line is the area under the curve: of
the patches, as they are and in the colours of other centres (``colours.py``), and of the pixels of the regions. A
region has its own dyes; patches have those of the set, the middle of what single ones tell, or what all pixels together
tell (pooled). What is refused, because two dyes cannot be told, is left as it is, and counted. Macenko's target is the
published one, or that of PatchCamelyon's training patches. ``--every 3`` measures on every third patch.

Intervals of 95 % are over patches and over regions. The networks that ship have learnt from the regions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accuracy import region_pixels
from changed_patches import ChangedPatches
from colours import recoloured
from torch import Tensor, nn

from napari_metastasis.cli.memory import keep_freed_memory
from napari_metastasis.cohorts.patches import PatchSource, open_patches, patch_set_stains
from napari_metastasis.errors import StainError
from napari_metastasis.evaluation import cell_report, count_cells, evaluate_patches
from napari_metastasis.models import Detector, load_detector
from napari_metastasis.scanning import choose_engine
from napari_metastasis.scanning.engines.base import Engine
from napari_metastasis.settings import DEFAULT_MODEL, PatchScoringSettings, ScanSettings
from napari_metastasis.slides.stains import (
    TARGET,
    StainMatrix,
    mean_density,
    middle_stain_matrix,
    pooled_stain_matrix,
    stain_picture,
    stain_tables,
)

MPP, SEED, RESAMPLES = 0.7, 2016, 2000
#: Patches that a set's stains are told by.
SAMPLED = 128
_Pixels = npt.NDArray[np.uint8]
#: What is measured, how, the area with its interval, and how many pictures were refused.
_Row = tuple[str, str, list[float], int]
#: From pixels to what a network sees in their place.
_Change = Callable[[_Pixels], _Pixels]
#: From pictures of one kind, (pixels, 3) each, to what is done to every one.
_Way = Callable[[Sequence[_Pixels]], _Change]


def as_it_is(pictures: Sequence[_Pixels]) -> _Change:
    """Return a change that changes nothing."""
    del pictures
    return lambda image: image


def by_density(target: tuple[float, ...]) -> _Way:
    """Return what brings pictures' mean density to a target."""

    def change_of(pictures: Sequence[_Pixels]) -> _Change:
        own = mean_density(np.concatenate(pictures))
        if own is None:
            raise StainError("expected something stained, got glass")
        tables = stain_tables(tuple(own), target)
        return lambda image: np.stack([tables[k][image[..., k]] for k in range(3)], axis=-1)

    return change_of


def by_macenko(target: StainMatrix, *, pooled: bool = False) -> _Way:
    """Return what brings pictures' dyes to a target's."""

    def change_of(pictures: Sequence[_Pixels]) -> _Change:
        own = (
            pooled_stain_matrix(np.concatenate(pictures), remedy="")
            if pooled
            else middle_stain_matrix(pictures, remedy="")
        )
        return lambda image: stain_picture(image, own, "normalised", target=target)

    return change_of


@dataclass
class EachByItself:
    """Changes every picture by its own stains; what is refused stays as it is.

    Attributes
    ----------
    change_of
        From a picture's pixels to its change.
    refused
        How many were.
    """

    change_of: _Way
    refused: int = 0

    def __call__(self, image: _Pixels) -> _Pixels:
        """Return a picture, changed."""
        try:
            return self.change_of([image.reshape(-1, 3)])(image)
        except StainError:
            self.refused += 1
            return image


@dataclass(frozen=True)
class EveryNth:
    """Every n-th patch of a source, which is one itself."""

    source: PatchSource
    step: int

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Return their classes."""
        return self.source.labels[:: self.step]

    @property
    def names(self) -> tuple[str, ...]:
        """Return what they are called."""
        return self.source.names[:: self.step]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> _Pixels:
        """Return one of them."""
        return self.source.read(index * self.step)


class _OnEngine(nn.Module):
    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, image: Tensor) -> Tensor:
        raw = image.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous().numpy()
        return torch.from_numpy(self.engine.run(raw))


@dataclass(frozen=True, slots=True)
class EngineDetector(Detector):
    """A detector whose dense network is run by the fastest engine here, as in a scan: in its precision."""

    engines: dict[int, _OnEngine] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Detector) -> EngineDetector:
        """Return a detector that answers as in a scan."""
        return cls(model.spec, model.network, model.weights_sha256, model.card)

    def dense(self, dense_coefficient: int) -> nn.Module:
        """Return its network on the engine, which is chosen once."""
        if dense_coefficient not in self.engines:
            plain = Detector(self.spec, self.network, self.weights_sha256, self.card)
            chosen = choose_engine(plain, ScanSettings(dense_coefficient=dense_coefficient, device="cpu"))
            self.engines[dense_coefficient] = _OnEngine(chosen.engine)
        return self.engines[dense_coefficient]


def sampled(source: PatchSource) -> list[_Pixels]:
    """Return the pixels of patches spread over a set."""
    return [source.read(int(k)).reshape(-1, 3) for k in np.linspace(0, len(source) - 1, SAMPLED)]


def patch_areas(
    model: Detector, sources: dict[str, PatchSource], ways: dict[str, _Way], more: dict[str, _Way]
) -> Iterator[_Row]:
    """Yield what is measured of patches, of the first set in more ways."""
    fast = EngineDetector.of(model)

    def measured(source: PatchSource) -> list[float]:
        auc = evaluate_patches(fast, source, PatchScoringSettings(batch_size=64), views=1, device="cpu").auc
        return [round(value, 4) for value in (auc.value, *auc.ci95)]

    for number, (name, source) in enumerate(sources.items()):
        pictures = sampled(source)
        for way, change_of in ({**ways, **more} if number == 0 else ways).items():
            change = change_of(pictures)
            yield f"patches, {name}", way, measured(ChangedPatches(source, lambda patch, _, c=change: c(patch))), 0
    # How a patch's own dyes do, of the first set alone.
    own = EachByItself(by_macenko(TARGET))
    name, source = next(iter(sources.items()))
    area = measured(ChangedPatches(source, lambda patch, _: own(patch)))
    yield f"patches, {name}", "Macenko, each patch's own dyes, published target", area, own.refused


def region_areas(model: Detector, regions: Path, ways: dict[str, _Way]) -> Iterator[_Row]:
    """Yield the same of the pixels of regions, each changed by its own stains."""
    for way, change_of in ways.items():
        change = EachByItself(change_of)
        truth, answers = region_pixels(model, regions, mpp=MPP, views=1, change=change)
        counts = [count_cells(each, mask, cell_um=MPP) for each, mask in zip(answers, truth, strict=True)]
        auc = cell_report(counts, threshold=0.5, prior=0, number=RESAMPLES, seed=SEED).auc
        yield "regions", way, [round(value, 4) for value in (auc.value, auc.low, auc.high)], change.refused


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--centres", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--every", type=int, default=1, help="measure on every so many-th patch")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    keep_freed_memory()
    data, model = arguments.data, load_detector(arguments.model)
    trained = patch_set_stains(open_patches(data / "pcam_train.zip"))
    ways: dict[str, _Way] = {"as it is": as_it_is}
    if model.spec.stain_density:
        ways["mean density"] = by_density(model.spec.stain_density)
    ways["Macenko, published target"] = by_macenko(TARGET)
    to_trained = {"Macenko, the training patches' target": by_macenko(trained)}
    pooled = {"Macenko, published target, pooled dyes": by_macenko(TARGET, pooled=True)}
    every = recoloured(open_patches(data / "pcam_valid.zip"), data / "centre_colours", SEED)
    wanted = ["as they are", *(f"colours of centre {number}" for number in arguments.centres)]
    sources: dict[str, PatchSource] = {name: EveryNth(every[name], arguments.every) for name in wanted}
    figures = []
    for rows in (
        region_areas(model, data / "regions", {**ways, **to_trained}),
        patch_areas(model, sources, ways, {**to_trained, **pooled}),
    ):
        for what, way, area, refused in rows:
            figures.append({"what": what, "way": way, "auc": area, "refused": refused})
            if not arguments.json:
                value, low, high = area
                print(f"| {what} | {way} | {value:.3f} ({low:.3f}–{high:.3f}) | {refused} |", flush=True)
    if arguments.json:
        print(json.dumps({"model": model.spec.name, "weights_sha256": model.weights_sha256, "figures": figures}))


if __name__ == "__main__":
    main()
