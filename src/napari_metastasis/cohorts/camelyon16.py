"""What is known of the annotations of public slides."""

from __future__ import annotations

__all__ = ["CAMELYON16_FLAWED", "CAMELYON16_NOT_EXHAUSTIVE"]

#: Slides of CAMELYON16 whose tumour is not all outlined, by the organisers' own notes on the data: most show two
#: sections of one tissue, of which one is outlined; of 079 and 092 a blurred region is not. Nothing on them is known to
#: be normal.
CAMELYON16_NOT_EXHAUSTIVE = frozenset(
    f"tumor_{number:03d}"
    for number in (10, 15, 18, 20, 25, 29, 33, 34, 44, 46, 51, 54, 55, 56, 67, 79, 85, 92, 95, 110)
)
#: Slides of CAMELYON16 that the organisers withdrew or do not score, and why.
CAMELYON16_FLAWED = {
    "normal_086": "it holds tumour, and was renamed to tumor_111",
    "test_049": "it shows the same tissue as another slide",
    "test_114": "its tumour is not exhaustively annotated",
}
