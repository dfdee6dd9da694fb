"""Score a model on labelled patches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.cohorts.patches import PatchSource, patch_set_stains
from napari_metastasis.errors import PatchDatasetError
from napari_metastasis.evaluation.classification import (
    BinaryReport,
    binary_report,
    calibration_error,
    sensitivity_at,
)
from napari_metastasis.evaluation.resampling import Estimate, Resamples, estimate
from napari_metastasis.geometry import SYMMETRIES
from napari_metastasis.settings import PatchScoringSettings

if TYPE_CHECKING:
    # Detections are scored without torch, which takes seconds to load.
    from torch import Tensor, nn

    from napari_metastasis.models import Detector, ModelSpec

__all__ = ["FALSE_POSITIVE_RATES", "PatchReport", "evaluate_patches", "patch_probabilities"]

#: Shares of normal patches, at which sensitivity is reported: nearly all of a slide is normal.
FALSE_POSITIVE_RATES = (0.01, 0.002)
#: Within these the share of tumour among patches is a prior.
_PRIORS = (0.01, 0.99)
#: Side of the images that patches lie in, in gray: larger ones do not answer faster, and take gigabytes.
_MOSAIC_PX = 1000


@dataclass(frozen=True, slots=True)
class PatchReport:
    """How well a model tells tumour patches from normal ones.

    Attributes
    ----------
    auc, accuracy, classes, calibration_error
        Over all patches.
    sensitivity
        Share of tumour patches found where so many of the normal ones are: see :data:`FALSE_POSITIVE_RATES`.
    n
        How many patches.
    """

    auc: Estimate
    accuracy: Estimate
    classes: BinaryReport
    calibration_error: Estimate
    sensitivity: tuple[Estimate, ...]
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values: each figure under its name, its interval under ``<name>_ci95``."""
        return (
            self.classes.to_json()
            | self.auc.to_json("auc")
            | self.accuracy.to_json("accuracy")
            | self.calibration_error.to_json("calibration_error")
            | self._sensitivity_json()
            | {"n": self.n}
        )

    def _sensitivity_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for rate, one in zip(FALSE_POSITIVE_RATES, self.sensitivity, strict=True):
            values |= one.to_json(f"sensitivity_at_fpr_{rate:g}")
        return values


def patch_probabilities(
    model: Detector,
    source: PatchSource,
    *,
    batch_size: int,
    views: int,
    device: str,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Return the tumour probability (n,) of every patch.

    Where an answer depends on more than its patch, the patch lies in gray: what is not known says nothing. A network
    that needs their dyes is given those of the set: a patch tells too little of its own.

    Parameters
    ----------
    model
        Any patch classifier.
    source
        Patches of the model's own size.
    batch_size
        Patches that run through the network together.
    views
        1, or 8 to average over the symmetries of the square.
    device
        Where the network runs.
    progress
        Called with (done, total) after every batch.

    Raises
    ------
    PatchDatasetError
        If a patch has another size.
    StainError
        If the network needs dyes, and those of half of the patches cannot be told.
    """
    import torch

    from napari_metastasis.models.inputs import input_of

    side = model.spec.patch_px
    network = model.dense(1).to(device)
    network_input = input_of(model.spec)
    stains = patch_set_stains(source).numbers if network_input.needs_stains else ()
    answers = []
    for start in range(0, len(source), batch_size):
        patches = [source.read(k) for k in range(start, min(start + batch_size, len(source)))]
        for k, patch in enumerate(patches, start):
            if patch.shape != (side, side, 3):
                raise PatchDatasetError(
                    f"expected patches of {side} x {side} px for {model.spec.name}, "
                    f"got {patch.shape[1]} x {patch.shape[0]} (number {k}); cut them to size"
                )
        patches = [network_input.of_pixels(patch, stains) for patch in patches]
        answers.append(_mean_over_views(network, patches, views, device, model.spec))
        if progress is not None:
            progress(start + len(patches), len(source))
    probabilities: NDArray[np.float32] = torch.cat(answers).numpy()
    return probabilities


def _mean_over_views(
    network: nn.Module, patches: list[NDArray[np.uint8]], views: int, device: str, spec: ModelSpec
) -> Tensor:
    """Return the probability (n,) of every patch, averaged over the first symmetries of the square."""
    import torch

    answers = []
    with torch.inference_mode():
        for view in SYMMETRIES[:views]:
            batch = torch.from_numpy(np.stack([view.apply(patch) for patch in patches])).permute(0, 3, 1, 2)
            answers.append(_answers(network, batch.float().to(device), spec))
        return torch.stack(answers).mean(dim=0).cpu()


def _answers(network: nn.Module, patches: Tensor, spec: ModelSpec) -> Tensor:
    """Return the probability (n,) of patches, N x 3 x P x P in 0..255.

    Where it depends on more, they lie in images, so far apart that none sees another; between them is the colour that
    is normalised to 0.
    """
    import torch

    side = spec.patch_px
    if spec.field_px == side:
        answered: Tensor = network(patches).flatten()
        return answered
    before = (spec.field_px - side) // 2
    apart = -(-(spec.field_px - before) // spec.stride_px) * spec.stride_px
    together = max(1, _MOSAIC_PX // apart) ** 2
    return torch.cat([_in_gray(network, some, spec, before, apart) for some in torch.split(patches, together)])


def _in_gray(network: nn.Module, patches: Tensor, spec: ModelSpec, before: int, apart: int) -> Tensor:
    """Return the probability (n,) of patches laid ``apart`` px from each other, behind ``before`` px of gray."""
    import torch

    count, side = len(patches), spec.patch_px
    columns = math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    gray = 255 * torch.tensor(spec.mean, device=patches.device).view(-1, 1, 1)
    image = gray.repeat(1, (rows - 1) * apart + spec.field_px, (columns - 1) * apart + spec.field_px)
    for number, patch in enumerate(patches):
        y, x = (before + place * apart for place in divmod(number, columns))
        image[:, y : y + side, x : x + side] = patch
    step = apart // spec.stride_px
    answered: Tensor = network(image[None])[0, ::step, ::step].flatten()
    return answered[:count]


def evaluate_patches(
    model: Detector,
    source: PatchSource,
    settings: PatchScoringSettings,
    *,
    views: int,
    device: str,
    progress: Callable[[int, int], None] | None = None,
) -> PatchReport:
    """Return how well a model tells the patches' classes apart; see :func:`patch_probabilities` for the parameters.

    A calibrated model is asked for probabilities at the patches' own share of tumour: that of slides is far smaller.
    """
    if model.spec.prior:
        model = model.with_prior(float(np.clip((source.labels == 1).mean(), *_PRIORS)))
    scores = patch_probabilities(
        model, source, batch_size=settings.batch_size, views=views, device=device, progress=progress
    )
    is_tumour, probabilities = source.labels == 1, scores.astype(np.float64)
    right = ((scores >= settings.threshold) == is_tumour).astype(np.float64)[:, None]
    # Classes are redrawn apart, so that no resample lacks one.
    resamples = Resamples(source.labels, number=settings.resamples, seed=settings.seed)
    classes = binary_report(is_tumour, probabilities, threshold=settings.threshold, resamples=resamples)
    accuracy = estimate(lambda counts: (counts @ right) / len(right), resamples, width=len(right))
    return PatchReport(
        auc=classes.auc,
        accuracy=accuracy[0],
        classes=classes,
        calibration_error=calibration_error(is_tumour, probabilities, resamples=resamples),
        sensitivity=sensitivity_at(is_tumour, probabilities, FALSE_POSITIVE_RATES, resamples),
        n=len(scores),
    )
