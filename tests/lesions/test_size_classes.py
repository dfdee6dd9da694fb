"""Size classes: where they end, and what they are called."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from napari_metastasis.annotations import TUMOUR_GROUPS
from napari_metastasis.lesions import SIZE_CLASSES, SizeClass, count_text, size_class
from napari_metastasis.lesions.size_classes import estimated_nuclei
from napari_metastasis.settings import DetectionSettings


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0.05, "itc"), (0.2, "itc"), (0.2001, "micro"), (2.0, "micro"), (2.0001, "macro"), (12.0, "macro")],
)
def test_size_classes_end_where_ajcc_says(length, expected):
    assert size_class(length) == expected


@pytest.mark.parametrize(
    ("length", "nuclei", "expected"),
    [
        (0.15, 5000, "itc"),
        (0.5, 199, "itc"),
        (0.5, 200, "micro"),
        (0.5, None, "micro"),
        (2.0, 199, "itc"),
        (2.1, 150, "macro"),
    ],
)
def test_fewer_than_two_hundred_cells_are_isolated_however_they_lie(length, nuclei, expected):
    assert size_class(length, nuclei) == expected


def test_nuclei_are_estimated_from_the_area_unless_that_is_switched_off():
    assert estimated_nuclei(0.025, 8000) == 200
    assert estimated_nuclei(0.025, 0) is None
    # A disc over 0.2 mm is never one of fewer than 200 cells.
    assert estimated_nuclei(np.pi * 0.1**2, DetectionSettings().nuclei_per_mm2) > 200


def test_every_class_has_its_names_and_colours_the_smallest_first():
    assert tuple(SIZE_CLASSES) == get_args(SizeClass)
    for attribute in ("label", "short", "rgb", "color"):
        assert len({getattr(style, attribute) for style in SIZE_CLASSES.values()}) == len(SIZE_CLASSES)


#: How each kind of colour blindness sees linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}
#: What the colours lie on: pink stroma, pale stroma, lymphoid tissue, tumour, glass, napari's dark and light tables.
GROUNDS = [
    (226, 160, 196), (240, 205, 222), (110, 70, 150), (150, 95, 165), (246, 245, 246), (38, 41, 48), (239, 235, 233),
]  # fmt: skip


def seen(rgb, eyes):
    """Return a colour, 0 to 255, as an eye sees it, in CIELAB."""
    share = np.asarray(rgb) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ EYES[eyes].T, 0, 1)
    return rgb2lab(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("eyes", EYES)
def test_class_colours_are_told_apart_by_every_eye_on_every_ground(eyes):
    colors = [seen(style.rgb, eyes) for style in SIZE_CLASSES.values()]
    grounds = [seen(ground, eyes) for ground in GROUNDS]
    assert min(deltaE_ciede2000(one, other) for one, other in combinations(colors, 2)) >= 22
    assert min(deltaE_ciede2000(color, ground) for color in colors for ground in grounds) >= 15
    # In black and white, too: the larger, the darker.
    lightness = [color[0] for color in colors]
    assert np.all(np.diff(lightness) <= -15)


def test_a_colour_is_written_as_files_and_qt_read_it():
    assert [style.color for style in SIZE_CLASSES.values()] == ["#bbee00", "#00aa77", "#aa2211"]


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
