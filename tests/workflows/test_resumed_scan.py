"""A scan goes on with what lies there, in the precision that lies there, and says what its results lack."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from dark_model import dark_model
from scans import prepared_scan, scan_with

from napari_metastasis.errors import MetastasisWarning, ResolutionWarning, SlideWarning
from napari_metastasis.geometry import Region, Size
from napari_metastasis.scanning import choose_engine, read_header
from napari_metastasis.scanning.engines import choose as choice
from napari_metastasis.scanning.engines.tuning import Tuned
from napari_metastasis.settings import ScanSettings
from napari_metastasis.slides import Slide, open_slide, write_pyramid
from napari_metastasis.workflows.scan import earlier_result, heatmap_path

OPEN = ScanSettings(device="cpu", engine="torch", roi_px=160, tissue_only=False)
PART = Region(0, 0, 300, 300)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(6).integers(60, 240, (500, 700, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory, pixels):
    path = tmp_path_factory.mktemp("slides") / "going-on.tif"
    write_pyramid(path, pixels, mpp=0.972, size=Size(700, 500), compression="deflate")
    return path


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine on which bfloat16 is the fastest, and that remembers nothing; tells what it measured."""
    measured = []

    def tune(ways, *, build, windows, **_):
        measured.append(ways[0].precision)
        return Tuned(engine="torch", precision=ways[0].precision, roi_px=min(windows), mpx_per_s=1.0), build(ways[0])

    monkeypatch.setattr(choice, "tune", tune)
    monkeypatch.setattr(choice, "_torch_precisions", lambda _kind: ("bfloat16", "float32"))
    monkeypatch.setattr(choice, "default_cache_path", lambda: tmp_path / "cache" / "tuning.json")
    return measured


def run(slide, output, **changes):
    return scan_with(slide, dark_model(), output, **({"scan": OPEN} | changes))


def precision_of(folder) -> str:
    return read_header(heatmap_path(folder)).identity["precision"]


def test_without_anything_to_go_on_with_the_fastest_is_taken(slide, tmp_path):
    assert precision_of(run(slide, tmp_path / "out").output) == "bfloat16"


def test_a_scan_goes_on_in_its_precision(slide, tmp_path, machine):
    begun = run(slide, tmp_path / "out", scan=replace(OPEN, precision="float32"), region=PART)
    answered = ~np.isnan(begun.probabilities)
    assert 0 < answered.mean() < 1
    result = run(slide, tmp_path / "out")
    assert result.output == begun.output
    assert result.finished
    assert precision_of(result.output) == "float32"
    np.testing.assert_array_equal(result.probabilities[answered], begun.probabilities[answered])
    assert [path.name for path in result.output.glob("scan-*")] == []
    # The next time, too, and nothing was measured for what was settled.
    assert run(slide, tmp_path / "out").output == begun.output
    assert machine == []


def test_an_explicit_precision_is_obeyed(slide, tmp_path):
    begun = run(slide, tmp_path / "out", scan=replace(OPEN, precision="float32"), region=PART)
    other = run(slide, tmp_path / "out", scan=replace(OPEN, precision="bfloat16"), region=PART)
    assert other.output.parent == begun.output
    assert precision_of(other.output) == "bfloat16"
    # Of two to go on with, the one that was written last.
    assert run(slide, tmp_path / "out", region=Region(0, 0, 400, 400)).output == other.output
    run(slide, tmp_path / "out", scan=replace(OPEN, precision="float32"), region=Region(0, 0, 500, 400))
    assert run(slide, tmp_path / "out").output == begun.output


def test_a_scan_of_something_else_is_nothing_to_go_on_with(slide, tmp_path):
    run(slide, tmp_path / "out", scan=replace(OPEN, precision="float32", dense_coefficient=1), region=PART)
    (tmp_path / "out" / "scan-notes").mkdir()
    assert precision_of(run(slide, tmp_path / "out", region=PART).output) == "bfloat16"


def test_another_slide_of_one_size_with_the_same_margins_is_scanned_itself(slide, pixels, tmp_path, monkeypatch):
    """Earlier versions knew both by the same fingerprint, and gave one the result of the other."""
    path, other = tmp_path / "other.tif", pixels.copy()
    other[200:300, 300:400] = 255 - other[200:300, 300:400]
    write_pyramid(path, other, mpp=0.972, size=Size(700, 500), compression="deflate")
    monkeypatch.setattr(Slide, "earlier_fingerprint", "the same")
    first = run(slide, tmp_path / "out", region=PART)
    with open_slide(path) as exchanged:
        assert earlier_result(exchanged, tmp_path / "out") is None
        second = run(exchanged, tmp_path / "out", region=PART)
    assert second.output.parent == first.output
    assert second.mpx_per_s > 0


def test_a_scan_that_an_earlier_version_began_goes_on(slide, tmp_path, monkeypatch):
    with monkeypatch.context() as then:
        then.setattr(Slide, "fingerprint", slide.earlier_fingerprint)
        begun = run(slide, tmp_path / "out", region=PART)
    result = run(slide, tmp_path / "out")
    assert result.output == begun.output
    assert read_header(heatmap_path(result.output)).identity["slide"] == slide.earlier_fingerprint
    assert earlier_result(slide, tmp_path / "out").folder == begun.output


def test_a_precision_that_this_machine_would_only_imitate_is_not_taken(slide, tmp_path, monkeypatch):
    begun = run(slide, tmp_path / "out", scan=replace(OPEN, precision="bfloat16"), region=PART)
    monkeypatch.setattr(choice, "_torch_precisions", lambda _kind: ("float32",))
    result = run(slide, tmp_path / "out", region=PART)
    assert precision_of(result.output) == "float32"
    assert result.output.parent == begun.output


def test_an_engine_of_another_precision_is_left_alone(slide, tmp_path):
    run(slide, tmp_path / "out", scan=replace(OPEN, precision="float32"), region=PART)
    ready = choose_engine(dark_model(), OPEN)
    assert ready.engine.precision == "bfloat16"
    options = {"scan": OPEN, "chosen": ready}
    with prepared_scan(slide, dark_model(), tmp_path / "out", **options) as prepared:
        assert prepared.chosen.engine.precision == "float32"
    with prepared_scan(slide, dark_model(), tmp_path / "new", **options) as prepared:
        assert prepared.chosen.engine is ready.engine
        assert len(list(prepared.run())) == len(prepared.plan.rois)  # it was not closed with the other scan
    ready.engine.close()


def test_what_is_remembered_is_not_measured_again_to_keep_it(slide, tmp_path, machine):
    settings = replace(OPEN, roi_px=0)
    run(slide, tmp_path / "out", scan=settings, region=PART)
    assert machine == ["bfloat16"]
    run(slide, tmp_path / "out", scan=settings)
    assert machine == ["bfloat16"]
    (tmp_path / "cache" / "tuning.json").unlink()
    run(slide, tmp_path / "out", scan=settings)
    assert machine == ["bfloat16", "bfloat16"]


def test_a_slide_coarser_than_the_model_is_said_to_be(pixels, tmp_path):
    path = tmp_path / "coarse.tif"
    write_pyramid(path, pixels[:200, :200], mpp=1.944, size=Size(200, 200), compression="deflate")
    with open_slide(path) as coarse:
        with pytest.warns(ResolutionWarning, match=r"at most 0.972 µm.*got 1.944: it is enlarged 2 times") as told:
            result = run(coarse, tmp_path / "out", scan=replace(OPEN, precision="float32"))
        assert len(told) == 1
    (scan,) = json.loads((result.output / "run.json").read_text(encoding="utf-8"))["scans"]
    assert scan["notes"] == [str(told[0].message)]


def test_what_a_slide_does_not_say_rightly_stands_in_its_result(pixels, tmp_path):
    """A fourth sample that is no transparency."""
    path, part = tmp_path / "odd.tif", np.ascontiguousarray(pixels[:256, :256])
    options = {"photometric": "rgb", "tile": (64, 64), "metadata": None, "resolution": (1e4, 1e4), "resolutionunit": 3}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(np.dstack([part, part[..., 0] * 0]), extrasamples=["unspecified"], **options)
    with open_slide(path, 0.972) as odd:
        with pytest.warns(SlideWarning, match="a fourth one") as told:
            result = run(odd, tmp_path / "out", scan=replace(OPEN, precision="float32"))
        assert [str(one.message) for one in told] == list(odd.notes)
    (scan,) = json.loads((result.output / "run.json").read_text(encoding="utf-8"))["scans"]
    assert scan["notes"] == list(odd.notes)


@pytest.mark.parametrize("mpp", [0.25, 0.972, 0.99])
def test_a_slide_fine_enough_is_not_remarked_on(pixels, tmp_path, mpp):
    path = tmp_path / "fine.tif"
    write_pyramid(path, pixels[:200, :200], mpp=mpp, size=Size(200, 200), compression="deflate")
    with open_slide(path) as fine, warnings.catch_warnings():
        warnings.simplefilter("error", MetastasisWarning)
        result = run(fine, tmp_path / "out", scan=replace(OPEN, precision="float32"))
    assert json.loads((result.output / "run.json").read_text(encoding="utf-8"))["scans"][0]["notes"] == []
