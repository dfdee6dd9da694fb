"""Size classes: where they end, and what they are called."""

from __future__ import annotations

from typing import get_args

import pytest

from napari_metastasis.annotations import TUMOUR_GROUPS
from napari_metastasis.lesions import SIZE_CLASSES, SizeClass, count_text, size_class


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0.05, "itc"), (0.2, "itc"), (0.2001, "micro"), (2.0, "micro"), (2.0001, "macro"), (12.0, "macro")],
)
def test_size_classes_end_where_ajcc_says(length, expected):
    assert size_class(length) == expected


def test_every_class_has_its_names_and_colours_the_smallest_first():
    assert tuple(SIZE_CLASSES) == get_args(SizeClass)
    for attribute in ("label", "short", "color"):
        assert len({getattr(style, attribute) for style in SIZE_CLASSES.values()}) == len(SIZE_CLASSES)


def test_lesions_that_come_back_from_qupath_mean_tumour():
    assert all(style.label.casefold() in TUMOUR_GROUPS for style in SIZE_CLASSES.values())


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ([], ""),
        (["micro"], "1 micro-metastasis"),
        (
            ["itc", "macro", "micro", "itc", "micro"],
            "1 macro-metastasis, 2 micro-metastases, 2 clusters of isolated tumour cells",
        ),
        (["itc"], "1 cluster of isolated tumour cells"),
    ],
)
def test_lesions_are_counted_in_words(classes, text):
    assert count_text(classes) == text
