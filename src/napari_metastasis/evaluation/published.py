"""What was published for CAMELYON16's test set, to stand beside one's own figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from napari_metastasis.cohorts.camelyon16 import CAMELYON16_FLAWED

__all__ = ["TABLE_III", "TABLE_III_SOURCE", "PublishedRow", "is_camelyon16_test"]

#: The numbers of the test set's slides, both those left out included.
_LAST_TEST_SLIDE = 130


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One method's figures, as stated."""

    method: str
    froc_score: float
    auc: float


TABLE_III_SOURCE = "Lin et al. 2019, Fast ScanNet, IEEE Transactions on Medical Imaging, Table III"

#: In the order of the paper.
TABLE_III = (
    PublishedRow("Human performance", 0.7325, 0.9660),
    PublishedRow("Fast ScanNet-16", 0.8533, 0.9875),
    PublishedRow("HMS and MIT", 0.8074, 0.9935),
    PublishedRow("HMS, Gordon Center, MGH", 0.7600, 0.9763),
    PublishedRow("Radboud Uni. (DIAG)", 0.5748, 0.7786),
    PublishedRow("EXB Research co.", 0.5111, 0.9156),
    PublishedRow("Middle East Tech. Uni.", 0.3889, 0.8642),
    PublishedRow("University of Toronto", 0.3822, 0.8149),
    PublishedRow("DeepCare Inc", 0.2439, 0.8833),
    PublishedRow("NLP LOGIX co. USA", 0.3859, 0.8298),
    PublishedRow("ScanNet-32 (without hard-negative mining)", 0.7030, 0.9415),
    PublishedRow("ScanNet-32", 0.8133, 0.9669),
)


def is_camelyon16_test(slides: Iterable[str]) -> bool:
    """Return whether these are the slides of CAMELYON16's test set, all of them and no others.

    Slides that are not scored may be among them or not.
    """
    names = {name.casefold() for name in slides}
    complete = {f"test_{number:03d}" for number in range(1, _LAST_TEST_SLIDE + 1)}
    return complete - set(CAMELYON16_FLAWED) <= names <= complete
