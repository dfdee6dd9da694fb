"""Small cohorts for the tests: outcomes by hand, reference and detections at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_metastasis.evaluation import LesionOutcome, SlideDetections, SlideOutcome


def outcome(
    *hits: float | None, false: Sequence[float] = (), itc: Sequence[float | None] = (), slide: str = "s"
) -> SlideOutcome:
    """A slide whose targets were hit with these probabilities (None: missed), with these false positives."""
    lesions = [LesionOutcome(is_target=True, size_class="micro", probability=hit) for hit in hits]
    lesions += [LesionOutcome(is_target=False, size_class="itc", probability=hit) for hit in itc]
    scores = [value for value in (*hits, *itc, *false) if value is not None]
    return SlideOutcome(
        slide=slide,
        score=max(scores, default=0.0),
        is_tumour=bool(lesions),
        lesions=tuple(lesions),
        false_positives=np.array(false, dtype=float),
    )


def random_outcomes(seed: int, slides: int = 9) -> list[SlideOutcome]:
    """Outcomes with misses, ties, ITC, normal slides and slides without detections."""
    rng = np.random.default_rng(seed)
    cohort = []
    for number in range(slides):
        targets = int(rng.integers(1, 5)) if number % 3 else 0
        hits = [None if rng.random() < 0.3 else round(rng.random(), 1) for _ in range(targets)]
        false = rng.random(int(rng.integers(0, 6))).round(1).tolist()
        cohort.append(outcome(*hits, false=false, itc=[0.9] if targets > 2 else [], slide=f"slide {number}"))
    return cohort


def detections(*rows: tuple[float, float, float], slide: str = "s") -> SlideDetections:
    """Detections from (probability, x, y)."""
    table = np.array(rows, dtype=float).reshape(-1, 3)
    return SlideDetections(slide=slide, probabilities=table[:, 0], points=table[:, 1:])
