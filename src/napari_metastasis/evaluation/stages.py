"""How well patients are staged: CAMELYON17's quadratic weighted kappa, and which stages are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.cohorts.stages import StageTable, node_of
from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation.resampling import Estimate, Resamples, estimate
from napari_metastasis.lesions import STAGES, VERDICTS

__all__ = ["Agreement", "StageReport", "agreement", "quadratic_kappa", "score_stages"]

_Name = TypeVar("_Name", bound=str)


def quadratic_kappa(
    truth: NDArray[np.intp], predicted: NDArray[np.intp], counts: NDArray[np.integer], *, classes: int
) -> NDArray[np.float64]:
    """Return Cohen's kappa with quadratic weights (Cohen 1968), of several resamples at once.

    κ = 1 - Σ w O / Σ w E, where O counts how often class i was taken for j, E how often it would be by chance alone,
    and w = (i - j)².

    Parameters
    ----------
    truth, predicted
        (n,) classes of each sample, from 0.
    counts
        (resamples, n): how often each sample was drawn.
    classes
        How many classes there are; those that no sample has count as steps between the others.

    Returns
    -------
    (resamples,), NaN where all are of one class.
    """
    one_hot = np.eye(classes)
    observed = counts @ (truth - predicted).astype(np.float64) ** 2
    steps = np.subtract.outer(np.arange(classes), np.arange(classes)).astype(np.float64) ** 2
    expected = np.einsum("ra,ab,rb->r", counts @ one_hot[truth], steps, counts @ one_hot[predicted])
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa = 1 - observed * counts.sum(axis=1) / expected
    return np.where(expected > 0, kappa, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How far one list of ordered classes agrees with another.

    Attributes
    ----------
    names
        The classes, the best first.
    kappa, accuracy
        Quadratic weighted kappa, and the share that agrees; each with its interval over patients.
    confusion
        (classes, classes) counts: true class by row, predicted one by column.
    """

    names: tuple[str, ...]
    kappa: Estimate
    accuracy: Estimate
    confusion: NDArray[np.int64]

    @property
    def n(self) -> int:
        """Return how many samples there are."""
        return int(self.confusion.sum())


def agreement(
    truth: Sequence[_Name],
    predicted: Sequence[_Name],
    names: Sequence[_Name],
    *,
    patients: Sequence[str],
    resamples: int,
    seed: int,
) -> Agreement:
    """Return how far predictions agree with the truth, with intervals over patients.

    Parameters
    ----------
    truth, predicted
        The class of each sample.
    names
        All classes, the best first.
    patients
        Whose each sample is: a patient is redrawn with all of them.
    resamples, seed
        How many resamples are drawn, and from what seed.
    """
    order = {name: number for number, name in enumerate(names)}
    true, said = (np.array([order[one] for one in each], dtype=np.intp) for each in (truth, predicted))

    units, whose = np.unique(list(patients), return_inverse=True)

    def measure(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        counts = drawn[:, whose]
        kappa = quadratic_kappa(true, said, counts, classes=len(names))
        return np.column_stack((kappa, counts @ (true == said) / counts.sum(axis=1)))

    how = Resamples(groups=np.zeros(len(units), dtype=np.intp), number=resamples, seed=seed)
    kappa, accuracy = estimate(measure, how, width=max(len(true), len(names)))
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (true, said), 1)
    return Agreement(tuple(names), kappa, accuracy, confusion)


@dataclass(frozen=True, slots=True, eq=False)
class StageReport:
    """How well patients were staged.

    Attributes
    ----------
    patients
        Over the patients that both tables stage.
    slides
        Over the slides that both tables speak of; ``None`` where there is none.
    missing, missing_slides
        Patients and slides of the truth that were not predicted: they count in no figure.
    unknown
        Patients that were predicted, and of which the truth says nothing.
    """

    patients: Agreement
    slides: Agreement | None
    missing: tuple[str, ...]
    missing_slides: tuple[str, ...]
    unknown: tuple[str, ...]

    def figures(self) -> dict[str, Estimate]:
        """Return the figures by their names in a table."""
        figures = {"quadratic kappa": self.patients.kappa, "stages that agree": self.patients.accuracy}
        if self.slides is not None:
            figures |= {"slides' quadratic kappa": self.slides.kappa, "slides that agree": self.slides.accuracy}
        return figures

    def to_json(self) -> dict[str, Any]:
        """Return plain values; figures that are not defined are left out."""
        found: dict[str, Any] = {
            **self.patients.kappa.to_json("quadratic_kappa"),
            **self.patients.accuracy.to_json("accuracy"),
            "n": self.patients.n,
            "stages": list(self.patients.names),
            "confusion": self.patients.confusion.tolist(),
        }
        if self.slides is not None:
            found |= {
                **self.slides.kappa.to_json("slide_quadratic_kappa"),
                **self.slides.accuracy.to_json("slide_accuracy"),
                "slides": self.slides.n,
                "verdicts": list(self.slides.names),
                "slide_confusion": self.slides.confusion.tolist(),
            }
        return {
            **found,
            "missing": list(self.missing),
            "missing_slides": list(self.missing_slides),
            "unknown": list(self.unknown),
        }


def score_stages(predicted: StageTable, truth: StageTable, *, resamples: int, seed: int) -> StageReport:
    """Return how well patients were staged, and what was said of their slides.

    Parameters
    ----------
    predicted, truth
        Tables of stages; names are compared without regard to capitals.
    resamples, seed
        Of the intervals, for which patients are redrawn, with their slides.

    Raises
    ------
    EvaluationError
        If a table stages no patient, or no patient is in both.
    """
    said, true = _folded(predicted.patients), _folded(truth.patients)
    for name, table in (("what is to be evaluated", said), ("the truth", true)):
        if not table:
            raise EvaluationError(
                "expected stages of patients, such as patient_004.zip,pN1, in both tables, got slides alone in "
                f"{name}; 'stage --output' writes the stages that follow from slides"
            )
    both = [name for name in true if name in said]
    if not both:
        raise EvaluationError(
            f"expected patients that both tables stage, got {len(said)} of other names than the {len(true)} of the "
            "truth; name them alike, such as patient_004.zip"
        )
    stages = [said[name] for name in both]
    how = {"resamples": resamples, "seed": seed}
    patients = agreement([true[name] for name in both], stages, STAGES, patients=both, **how)
    said_slides, true_slides = _folded(predicted.slides), _folded(truth.slides)
    shared = [name for name in true_slides if name in said_slides]
    slides = None
    if shared:
        found = [said_slides[name] for name in shared]
        owners = [(node_of(name) or (name, ""))[0] for name in shared]
        slides = agreement([true_slides[name] for name in shared], found, VERDICTS, patients=owners, **how)
    return StageReport(
        patients=patients,
        slides=slides,
        missing=tuple(name for name in true if name not in said),
        # Where nothing is said of slides at all, none of them is missing.
        missing_slides=tuple(name for name in true_slides if name not in said_slides) if said_slides else (),
        unknown=tuple(name for name in said if name not in true),
    )


def _folded(table: Mapping[str, _Name]) -> dict[str, _Name]:
    return {name.casefold(): said for name, said in table.items()}
