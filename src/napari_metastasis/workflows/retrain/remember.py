"""Encode a few of the patches that a model was trained on, so that retraining does not forget them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from napari_metastasis.cohorts.patches import PatchSource
from napari_metastasis.errors import TrainingError
from napari_metastasis.models import Detector
from napari_metastasis.models.replay import Replay
from napari_metastasis.models.tuning import LowerLayers, lower_sha256

__all__ = ["encode_replay"]

_BATCH = 8


def encode_replay(
    detector: Detector,
    patches: PatchSource,
    *,
    count: int,
    source: str,
    seed: int,
    progress: Callable[[int, int], None],
) -> Replay:
    """Return some patches, half of them of each class, as the lower layers of a detector encode them.

    A detector that sees further than a patch is given every second one mirrored at its edges, so that something alike
    lies around it, and the others in gray, which says nothing: it is trained on both.

    Parameters
    ----------
    detector
        The model.
    patches
        That it was trained on, or others like them.
    count
        How many.
    source
        What they were cut from, in words.
    seed
        Of which ones.
    progress
        Called with (done, total).

    Raises
    ------
    TrainingError
        If there are fewer patches, they are of one class, or of another size than the detector's.
    """
    spec, lower = detector.spec, LowerLayers(detector)
    generator = np.random.default_rng(seed)
    of_class = [np.flatnonzero(patches.labels == label) for label in (0, 1)]
    half = count // 2
    if min(map(len, of_class)) < half:
        raise TrainingError(
            f"expected {half} patches of each class, got {len(of_class[0])} normal and {len(of_class[1])} tumour; "
            "give more, or ask for fewer"
        )
    # One of each class in turn, so that both are mirrored alike often.
    pairs = [np.sort(generator.choice(numbers, half, replace=False)) for numbers in of_class]
    chosen = np.stack(pairs, axis=1).reshape(-1)
    margin = (spec.field_px - spec.patch_px) // 2
    margins = (margin, spec.field_px - spec.patch_px - margin)
    gray = np.rint(255 * np.array(spec.mean)).astype(np.uint8)
    encoded = []
    for first in range(0, len(chosen), _BATCH):
        images = [patches.read(number) for number in chosen[first : first + _BATCH].tolist()]
        if any(image.shape[:2] != (spec.patch_px, spec.patch_px) for image in images):
            raise TrainingError(
                f"expected patches of {spec.patch_px} x {spec.patch_px} px, got others; cut them to size"
            )
        # A margin wider than the patch is mirrored again and again.
        around = [np.pad(image, (margins, margins, (0, 0)), mode="reflect") for image in images]
        inner = slice(margin, margin + spec.patch_px)
        for row, (image, padded) in enumerate(zip(images, around, strict=True)):
            if (first + row) // 2 % 2:
                padded[:] = gray
                padded[inner, inner] = image
        features = lower(torch.from_numpy(np.stack(around)).permute(0, 3, 1, 2).float())
        encoded.append(features.permute(0, 3, 1, 2).numpy())
        progress(first + len(images), len(chosen))
    labels = patches.labels[chosen].astype(np.int64)
    return Replay.of(np.concatenate(encoded), labels, lower_sha256(detector), source)
