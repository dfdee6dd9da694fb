"""The shipped model of mitoses finds them on slides that it never saw, and little else."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import mitoses
import numpy as np
import pytest

from napari_metastasis.cohorts.point_crops import open_point_crops
from napari_metastasis.models import load_model
from napari_metastasis.models.segmenter import SegmentingNetwork


@pytest.mark.shared
def test_it_finds_figures_of_slides_that_were_held_out(shared_data: Path) -> None:
    model = load_model("mitosis-lite", "mitosis")
    assert "Not a medical device" in model.card["warning"]
    assert model.card["licence"].startswith("Research use only")
    crops = open_point_crops(shared_data / "mitosis" / "mitoses.zip", shared_data / "mitosis" / "mitoses.csv", mpp=0.25)
    spec, network = model.spec, SegmentingNetwork(model.network.eval(), model.spec)
    # A few slides are enough to see whether weights, normalisation and threshold go together.
    pieces = mitoses.shown(
        crops, mitoses.parts_of(crops)["test"][:6], shrink=2, margin_px=spec.built.field_px // 2, empty_share=0.5,
        seed=mitoses.MIXED[0],
    )  # fmt: skip
    found, seen = mitoses.outcomes([pieces], partial(mitoses.answered, network, spec.cell_px), 7.5)
    hits, false, misses = np.sum([one.counts_at(spec.threshold) for one in found], axis=0)
    assert 2 * hits / (2 * hits + false + misses) > 0.6
    assert false / sum(one.mm2 for one in seen) < 60
