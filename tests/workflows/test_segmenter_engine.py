"""What a segmentation runs: its own network alone, in one number format, on pixels as its own training saw them."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from dark_model import dark_model, dark_segmenter
from scans import scan_with

from napari_metastasis.errors import MetastasisWarning, ModelError, ResolutionWarning, StainWarning
from napari_metastasis.geometry import Region, Size
from napari_metastasis.models import Detector
from napari_metastasis.scanning import MapStore, read_header
from napari_metastasis.scanning.engines import choose as choice
from napari_metastasis.scanning.engines.tuning import Tuned
from napari_metastasis.settings import ScanSettings, SegmentSettings
from napari_metastasis.slides import open_slide, tissue_mask, write_pyramid
from napari_metastasis.slides.stains import mean_density, tissue_pixels
from napari_metastasis.workflows.scan import earlier_result, heatmap_path

OPEN = ScanSettings(device="cpu", engine="torch", roi_px=400, dense_coefficient=1, tissue_only=False)
PART = Region(0, 0, 200, 200)
SIDE = 520


def write_tissue(path, *, mpp, factor=1.0):
    """Write a slide of one tissue, stained by a factor as densely."""
    amounts = np.zeros((SIDE, SIDE, 1))
    amounts[60:460, 60:460] = np.random.default_rng(5).uniform(0.6, 1.2, (400, 400, 1))
    amounts[180:300, 180:300] *= 2
    pixels = np.rint(250 * np.exp(-factor * amounts * np.array([0.6, 1.0, 0.4]))).astype(np.uint8)
    write_pyramid(path, pixels, mpp=mpp, size=Size(SIDE, SIDE), compression="deflate")
    return path


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory):
    return write_tissue(tmp_path_factory.mktemp("slides") / "tissue.tif", mpp=0.972)


class Machine:
    """One that finds the first of its precisions the fastest, and remembers; tells what it measured and ran."""

    def __init__(self, monkeypatch, folder):
        self.patch, self.folder, self.measured, self.ran = monkeypatch, folder, [], []
        monkeypatch.setattr(choice, "tune", self.tune)
        engine = choice.TorchEngine
        monkeypatch.setattr(
            choice, "TorchEngine",
            lambda *a, precision, **k: (self.ran.append(precision), engine(*a, precision=precision, **k))[1],
        )  # fmt: skip
        self.become("bfloat16", "float32")

    def become(self, *precisions, name="first"):
        self.fastest = precisions[0]
        self.patch.setattr(choice, "_torch_precisions", lambda _kind: precisions)
        self.patch.setattr(choice, "default_cache_path", lambda: self.folder / name / "tuning.json")

    def tune(self, ways, *, build, windows, **_):
        way = next((one for one in ways if one.precision == self.fastest), ways[0])
        self.measured.append(way.precision)
        return Tuned(engine="torch", precision=way.precision, roi_px=max(windows), mpx_per_s=1.0), build(way)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path / "machines")


def run(slide, output, **changes):
    how = {"scan": OPEN, "segmenter": dark_segmenter(), "segment": SegmentSettings(segment=True), "detects": False}
    return scan_with(slide, changes.pop("model", dark_model()), output, **(how | changes))


def segmentations(folder):
    return sorted(path.name for path in folder.glob("segmentation*.ome.zarr"))


def precision_of(folder, name="segmentation.ome.zarr"):
    return read_header(folder / name).identity["precision"]


def test_the_detector_is_neither_built_nor_measured(slide, tmp_path, machine, monkeypatch):
    def fail(*_):
        raise AssertionError("the detector was built")

    monkeypatch.setattr(Detector, "dense", fail)
    result = run(slide, tmp_path / "out")
    assert result.finished
    assert result.read.name == "segmented"
    assert machine.measured == ["bfloat16"], "of the segmenter"
    record = json.loads((result.output / "run.json").read_text())
    assert record["scans"][-1]["engine"] == "none"
    assert record["passes"][0]["identity"]["precision"] == "bfloat16"


def test_a_scan_goes_on_beside_a_segmentation_in_the_precision_that_is_measured_for_it(slide, tmp_path, machine):
    alone = run(slide, tmp_path / "out")
    assert precision_of(alone.output, "heatmap.ome.zarr") == "bfloat16"
    # Nothing was answered in it, and elsewhere float32 is faster.
    machine.become("float32", "bfloat16", name="second")
    machine.measured.clear()
    machine.ran.clear()
    both = run(slide, tmp_path / "out", detects=True)
    assert both.output == alone.output
    assert precision_of(both.output, "heatmap.ome.zarr") == "float32"
    assert (machine.measured, set(machine.ran)) == (["float32"], {"float32"}), "of the detector alone"
    assert segmentations(both.output) == ["segmentation.ome.zarr"]
    assert [one.kind.name for one in earlier_result(slide, both.output).maps] == ["probability", "segmented"]
    # Once there are answers, they stay in their precision, and segmenting again finds all as it was.
    machine.become("bfloat16", "float32")
    again = run(slide, tmp_path / "out", detects=True)
    assert again.output == both.output
    assert read_header(heatmap_path(again.output)).identity["precision"] == "float32"
    assert run(slide, tmp_path / "out").work_px == 0


def test_a_segmentation_goes_on_in_its_precision(slide, tmp_path, machine):
    begun = run(slide, tmp_path / "out", region=PART)
    machine.become("float32", "bfloat16", name="second")
    machine.measured.clear()
    result = run(slide, tmp_path / "out")
    assert result.finished
    assert result.output == begun.output
    assert segmentations(result.output) == ["segmentation.ome.zarr"]
    assert precision_of(result.output) == "bfloat16"
    assert machine.measured == [], "there is nothing to choose"


def test_where_it_cannot_another_map_is_begun_and_nothing_is_mixed(slide, tmp_path, machine):
    begun = run(slide, tmp_path / "out", region=PART)
    with MapStore.open(begun.output / "segmentation.ome.zarr") as store:
        before = store.values()
    machine.become("float32", name="second")
    machine.ran.clear()
    result = run(slide, tmp_path / "out")
    assert result.finished
    assert result.output == begun.output
    first, second = sorted(segmentations(result.output), key=len)
    assert [precision_of(result.output, name) for name in (first, second)] == ["bfloat16", "float32"]
    assert set(machine.ran) == {"float32"}
    with MapStore.open(result.output / first) as store:
        np.testing.assert_array_equal(store.values(), before)
    assert json.loads((result.output / "run.json").read_text())["passes"][0]["file"] == second


@pytest.mark.usefixtures("machine")
def test_a_precision_that_is_asked_for_is_obeyed(slide, tmp_path):
    run(slide, tmp_path / "out", region=PART)
    asked = run(slide, tmp_path / "out", scan=replace(OPEN, precision="float32"), region=PART)
    assert sorted(precision_of(asked.output, name) for name in segmentations(asked.output)) == ["bfloat16", "float32"]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("mpp", "detects", "said"),
    [(1.5, True, ["dark"]), (1.5, False, []), (3.0, True, ["dark", "dark-outlines"]), (3.0, False, ["dark-outlines"])],
)
def test_what_is_coarser_than_a_model_that_looks_is_said_of_that_alone(tmp_path, mpp, detects, said):
    path = write_tissue(tmp_path / "coarse.tif", mpp=mpp)
    with open_slide(path) as coarse, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", MetastasisWarning)
        result = run(coarse, tmp_path / "out", detects=detects, region=Region(0, 0, 60, 60))
    notes = [str(one.message) for one in told if issubclass(one.category, ResolutionWarning)]
    assert [note.partition(", got")[0].rpartition(" ")[2] for note in notes] == said
    (scan,) = json.loads((result.output / "run.json").read_text(encoding="utf-8"))["scans"]
    assert [note for note in scan["notes"] if "enlarged" in note] == notes


@pytest.mark.parametrize(
    ("detects", "advice"), [(True, "scan without --segment"), (False, "name its file with --segmenter")]
)
def test_without_a_segmenter_the_advice_fits_the_command(slide, tmp_path, detects, advice):
    with pytest.raises(ModelError, match=f"expected a segmenter for dark, got none; train one, or {advice}$"):
        run(slide, tmp_path / "out", segmenter=None, detects=detects)


@pytest.fixture(scope="module")
def trained(slide_path):
    """A segmenter that was trained on the slide's stain, and the detector on one a third as dense."""
    with open_slide(slide_path) as slide:
        density = mean_density(tissue_pixels(slide, slide.frame(1.944), tissue_mask(slide)))
    segmenter, model = dark_segmenter(), dark_model()
    return (
        replace(segmenter, spec=replace(segmenter.spec, stain_density=tuple(density.tolist()))),
        replace(model, spec=replace(model.spec, stain_density=tuple((density / 3).tolist()))),
    )


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("detects", [True, False])
def test_a_pale_slide_is_segmented_at_the_density_of_its_own_models(slide, trained, tmp_path, detects):
    segmenter, model = trained
    how = {"segmenter": segmenter, "model": model, "detects": detects}
    path = write_tissue(tmp_path / "pale.tif", mpp=0.972, factor=1 / 3)
    with open_slide(path) as pale:
        # The detector has nothing to say of it: it is as pale as its training.
        with pytest.warns(StainWarning, match=r"0\.3\d? times as dense") as told:
            before = run(pale, tmp_path / "pale", **how)
        assert len([one for one in told if one.category is StainWarning]) == 1
        after = run(pale, tmp_path / "pale", scan=replace(OPEN, stain="normalise"), **how)
        assert [one.kind.name for one in earlier_result(pale, tmp_path / "pale").maps] == ["probability", "segmented"]
    assert after.output != before.output
    with warnings.catch_warnings():
        # Of a detector that looks at the dense slide, there is something to say.
        warnings.simplefilter("ignore" if detects else "error", StainWarning)
        dense = run(slide, tmp_path / "dense", **how)
    wanted, seen, normalised = (np.nan_to_num(one.probabilities) for one in (dense, before, after))
    assert np.abs(normalised - wanted).mean() < 0.1 * np.abs(seen - wanted).mean()
    record = json.loads((after.output / "run.json").read_text())
    assert record["passes"][0]["stain"]["normalised"] is True
    assert record["stain"]["reference"] == list((model if detects else segmenter).spec.stain_density)


def test_a_segmenter_of_unknown_stain_cannot_be_normalised_to(slide, trained, tmp_path):
    with pytest.raises(ModelError, match="got dark-outlines; scan with --stain as-is"):
        run(slide, tmp_path / "out", model=trained[1], scan=replace(OPEN, stain="normalise"))
