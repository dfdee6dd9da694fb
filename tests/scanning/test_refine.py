"""Refinement: the same as encoding every grid anew, whatever the ROIs, the region, the order and the views."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from scanning_fakes import TINY, ArraySlide, ArrayStore, encoder_of, scan, tiny_model

from napari_metastasis.errors import DeviceError, ModelError
from napari_metastasis.geometry import SYMMETRIES, HeatmapFrame, Point, Region, any_of_blocks
from napari_metastasis.models import ORDERS, Detector, Refiner, RefinerSpec, SpatialNetwork
from napari_metastasis.scanning import (
    FeatureStore,
    TorchEngine,
    Wanted,
    encode_views,
    plan_blocks,
    plan_scan,
)
from napari_metastasis.scanning.passes.refine import RefinePass
from napari_metastasis.settings import ScanSettings


def tiny_refiner(model: Detector, **changes) -> Refiner:
    """Return a refiner with weights of its own, whose answers differ from the encoder's."""
    values = {
        "name": "tiny-refiner", "encoder": "tiny", "encoder_sha256": model.weights_sha256,
        "encoder_features": TINY.head_channels[-1], "projected": 5, "hidden": 6, "grid": 4, "grid_step": 2,
        "window_step": 2, "order": "raster-four", "residual": True, "smoothing": 3,
        "dense_coefficient": 2,
    }  # fmt: skip
    spec = RefinerSpec(**(values | changes))
    torch.manual_seed(11)
    network = SpatialNetwork(spec).eval().requires_grad_(requires_grad=False)
    torch.nn.init.normal_(network.answer.weight, std=2.0)
    torch.nn.init.normal_(network.absent)
    return Refiner(spec=spec, network=network, weights_sha256="a" * 64, card={})


class SlowRefinement:
    """Cuts out every patch and encodes it by itself; goes through every grid that a cell belongs to."""

    def __init__(self, model: Detector, refiner: Refiner, slide: ArraySlide, alpha: int, view: int = 0) -> None:
        self.model, self.refiner, self.slide, self.alpha, self.view = model, refiner, slide, alpha, view
        self.native = slide.heatmap_frame(model, 1)
        self.dense = slide.heatmap_frame(model, alpha)
        self._known: dict[tuple[int, int], np.ndarray] = {}

    def features(self, row: int, column: int) -> np.ndarray:
        """Return log-odds and projected features of one native cell: the mean over its dense patches."""
        if (row, column) not in self._known:
            self._known[row, column] = self._encoded(row, column)
        return self._known[row, column]

    def _encoded(self, row: int, column: int) -> np.ndarray:
        side = self.model.spec.patch_px
        found = []
        for dy, dx in itertools.product(range(self.alpha), repeat=2):
            x = (column * self.alpha + dx) * self.dense.stride_px - self.dense.padding_px
            y = (row * self.alpha + dy) * self.dense.stride_px - self.dense.padding_px
            pixels = SYMMETRIES[self.view].apply(self.slide.read(self.dense.model, Region(x, y, side, side)))
            image = torch.from_numpy(((pixels / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None].astype(np.float32))
            with torch.no_grad():
                hidden = self.model.network.encode(image).flatten(1)
                logits = self.model.network(image)[:, :, 0, 0]
                found.append(self.refiner.network.project(logits[:, 1] - logits[:, 0], hidden)[0].numpy())
        return np.mean(found, axis=0)

    def refined(self, row: int, column: int, present: np.ndarray) -> float:
        """Return the mean over every grid that a native cell belongs to."""
        spec = self.refiner.spec
        step, grid, move = spec.grid_step, spec.grid, spec.window_step
        answers = []
        starts = [
            [p + move * step * n for p in range(step) for n in range(-grid, max(present.shape))] for _ in range(2)
        ]
        for y0, x0 in itertools.product(*starts):
            rows, columns = ([start + step * k for k in range(grid)] for start in (y0, x0))
            if row not in rows or column not in columns:
                continue
            values = np.full((grid, grid, spec.features), np.nan, np.float32)
            for (i, y), (j, x) in itertools.product(enumerate(rows), enumerate(columns)):
                if 0 <= y < present.shape[0] and 0 <= x < present.shape[1] and present[y, x]:
                    values[i, j] = self.features(y, x)
            # Seen as the whole slide would be, turned.
            seen = torch.from_numpy(SYMMETRIES[self.view].apply(values)[None])
            with torch.no_grad():
                odds = SYMMETRIES[self.view].undo(self.refiner.network(seen)[0].numpy())
            answers.append(1 / (1 + np.exp(-odds[rows.index(row), columns.index(column)])))
        assert len(answers) == (grid // move) ** 2
        return float(np.mean(answers))


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (109, 131, 3), dtype=np.uint8)


@pytest.fixture
def model() -> Detector:
    return tiny_model()


def refined_map(
    tmp_path, model, refiner, slide, *, alpha=2, tissue=None, roi_px=4096, views=1, wanted=None, focus=None, name="f"
):
    """Scan and refine in memory of a store; return the refined map and the plan."""
    frame, native = slide.heatmap_frame(model, alpha), slide.heatmap_frame(model, 1)
    engine = TorchEngine(encoder_of(refiner, model, alpha), devices=("cpu",), precision="float32")
    store = FeatureStore.open_or_create(
        tmp_path / f"{name}.zarr", cells=native.cells, views=views, features=refiner.spec.features, identity={}
    )
    plan = plan_scan(
        frame, Wanted(cells=Region.of(frame.cells), tissue=tissue, focus=focus), roi_px=roi_px, block=alpha
    )
    settings = ScanSettings(dense_coefficient=alpha, augment_views=views)
    answers = ArrayStore(frame)
    list(scan(slide, engine, plan, answers, settings, features=store))
    shows = None if tissue is None else any_of_blocks(tissue, alpha)
    made_by = RefinePass(refiner)
    asked = Region.of(native.cells) if wanted is None else wanted
    work = plan_blocks(native, Wanted(cells=asked, tissue=shows, focus=focus), made_by.shape)
    found = np.full(native.cells.shape, np.nan, np.float32)
    for block in work.blocks:
        around, expected = work.waits_for(block)
        assert store.covers(around, expected)
        part = made_by.answer(store.read(work.around(block)))
        inside = block.intersection(Region.of(native.cells))
        found[inside.slices] = part[: inside.height, : inside.width]
    found[~work.needed] = np.nan
    return found, work, answers


@pytest.mark.parametrize("alpha", [1, 2, 4])
@pytest.mark.parametrize("order", ORDERS)
def test_encoding_once_gives_what_encoding_every_grid_anew_gives(tmp_path, model, picture, alpha, order):
    slide = ArraySlide(picture)
    as_in_the_paper = {"residual": False, "smoothing": 1, "projected": 0} if order == "raster" else {}
    refiner = tiny_refiner(model, order=order, **as_in_the_paper)
    native = slide.heatmap_frame(model, 1)
    tissue = np.random.default_rng(2).random(slide.heatmap_frame(model, alpha).cells.shape) < 0.8
    present = any_of_blocks(tissue, alpha)
    found, _, _ = refined_map(tmp_path, model, refiner, slide, alpha=alpha, tissue=tissue)
    slow = SlowRefinement(model, refiner, slide, alpha)
    rows, columns = native.cells.shape
    places = [(0, 0), (rows - 1, columns - 1), (0, columns - 1), (rows // 2, columns // 2), (3, 5), (7, 2)]
    for row, column in places:
        if present[row, column]:
            # Features are kept in float16; see the next test for the digits that are not theirs.
            assert found[row, column] == pytest.approx(slow.refined(row, column, present), abs=4e-3)
        else:
            assert np.isnan(found[row, column])


def test_to_five_digits_where_features_are_not_rounded(model, picture):
    slide, refiner = ArraySlide(picture), tiny_refiner(model)
    slow = SlowRefinement(model, refiner, slide, 2)
    native = slide.heatmap_frame(model, 1)
    present = np.ones(native.cells.shape, bool)
    engine = TorchEngine(encoder_of(refiner, model, 2), devices=("cpu",), precision="float32")
    frame = slide.heatmap_frame(model, 2)
    # The whole map in one window, whose last column of blocks reaches past the map.
    whole = Region(0, 0, *(2 * -(-side // 2) for side in (frame.cells.width, frame.cells.height)))
    _, features = encode_views(engine, slide.read(frame.model, frame.read_window(whole)), 1)
    for row, column in [(0, 0), (4, 6), (9, 3)]:
        np.testing.assert_allclose(features[0, row, column], slow.features(row, column), atol=1e-5)
    spec = refiner.spec
    block = Region(0, 0, 3 * spec.span_cells, 3 * spec.span_cells)
    halo = spec.halo_cells
    around = np.full((1, block.height + 2 * halo, block.width + 2 * halo, spec.features), np.nan, np.float32)
    rows, columns = native.cells.shape
    around[:, halo : halo + rows, halo : halo + columns] = features[:, : block.height + halo, : block.width + halo]
    found = RefinePass(refiner).answer(around)
    for row, column in [(0, 0), (4, 6), (9, 3), (rows - 1, columns - 1)]:
        assert found[row, column] == pytest.approx(slow.refined(row, column, present), abs=1e-5)


def test_eight_views_are_eight_turned_slides(tmp_path, model, picture):
    slide, refiner = ArraySlide(picture[:70, :90]), tiny_refiner(model, order="raster", window_step=4, grid=4)
    found, _, _ = refined_map(tmp_path, model, refiner, slide, views=8)
    present = np.ones(found.shape, bool)
    for row, column in [(0, 0), (4, 6), (7, 3)]:
        answers = [SlowRefinement(model, refiner, slide, 2, view).refined(row, column, present) for view in range(8)]
        assert found[row, column] == pytest.approx(np.mean(answers), abs=4e-3)


def test_the_map_does_not_depend_on_pieces_or_order(tmp_path, model):
    slide = ArraySlide(np.random.default_rng(5).integers(0, 255, (560, 610, 3), dtype=np.uint8))
    refiner = tiny_refiner(model)
    tissue = np.random.default_rng(2).random(slide.heatmap_frame(model).cells.shape) < 0.9
    tissue[20:60, 30:70] = False
    reference = None
    for number, (roi_px, focus) in enumerate([(4096, None), (64, Point(0, 0)), (158, Point(500, 100)), (333, None)]):
        found, _, answers = refined_map(
            tmp_path, model, refiner, slide, tissue=tissue, roi_px=roi_px, focus=focus, name=str(number)
        )
        assert (answers.writes == tissue).all(), "no cell is answered twice"
        np.testing.assert_array_equal(np.isnan(found), ~any_of_blocks(tissue, 2))
        reference = found if reference is None else reference
        # The features' last digit in float16 may turn over; it is a thousandth of a probability here.
        np.testing.assert_allclose(found, reference, atol=4e-3)


def test_a_region_is_refined_as_in_the_whole_slide(tmp_path, model):
    slide = ArraySlide(np.random.default_rng(6).integers(0, 255, (700, 640, 3), dtype=np.uint8))
    refiner = tiny_refiner(model)
    whole, _, _ = refined_map(tmp_path, model, refiner, slide, name="whole")
    wanted = Region(33, 29, 20, 18)
    part, work, _ = refined_map(tmp_path, model, refiner, slide, wanted=wanted, name="part")
    outside = np.ones(whole.shape, bool)
    outside[wanted.slices] = False
    assert np.isnan(part[outside]).all()
    np.testing.assert_array_equal(part[wanted.slices], whole[wanted.slices])
    # Nothing beyond the refiner's reach is waited for.
    near = np.zeros(whole.shape, bool)
    near[wanted.grown(refiner.spec.reach_cells).intersection(Region.of(work.frame.cells)).slices] = True
    np.testing.assert_array_equal(work.expected, near)


def test_every_patch_is_encoded_once(tmp_path, model, picture):
    slide = ArraySlide(picture)
    refined_map(tmp_path, model, tiny_refiner(model), slide, roi_px=64)
    native = slide.heatmap_frame(model, 1)
    answered = np.zeros((2 * native.cells.height, 2 * native.cells.width), int)
    frame = slide.heatmap_frame(model, 2)
    for window in slide.reads:
        x, y = ((start + frame.padding_px) // frame.stride_px for start in (window.x, window.y))
        columns, rows = ((side - frame.patch_px) // frame.stride_px + 1 for side in (window.width, window.height))
        answered[y : y + rows, x : x + columns] += 1
    assert (answered == 1).all()


def test_windows_that_do_not_fit_are_split_in_whole_blocks(tmp_path, model, picture):
    slide, refiner = ArraySlide(picture), tiny_refiner(model)
    expected, _, _ = refined_map(tmp_path, model, refiner, slide, name="fits")
    frame = slide.heatmap_frame(model, 4)
    plan = plan_scan(frame, Wanted(cells=Region.of(frame.cells)), roi_px=64, block=4)
    for roi in plan.rois:
        for half in roi.halves(frame):
            assert half.write.x % 4 == half.write.y % 4 == 0
            assert (half.read.width - frame.patch_px) // frame.stride_px + 1 == -(-half.write.width // 4) * 4
    assert np.isfinite(expected).all()


def test_the_disc_is_refined_where_it_lies(tmp_path):
    """A refiner that repeats its encoder draws a disc where the slide has one, to half a cell."""
    from dark_model import dark_model

    model = dark_model()
    for alpha in (1, 2):
        if model.spec.stride_px % alpha:
            continue
        yy, xx = np.mgrid[:220, :260]
        disc = (xx - 150.5) ** 2 + (yy - 90.5) ** 2 < 40**2
        slide = ArraySlide(np.where(disc[..., None], 20, 240).astype(np.uint8).repeat(3, axis=2))
        features = model.network.architecture.feature_channels
        refiner = tiny_refiner(model, encoder_features=features, projected=0)
        network = SpatialNetwork(refiner.spec).eval().requires_grad_(requires_grad=False)
        refiner = replace(refiner, network=network)
        found, work, _ = refined_map(tmp_path, model, refiner, slide, alpha=alpha, name=f"disc {alpha}")
        rows, columns = np.nonzero(found > 0.5)
        middle = work.frame.cell_center(columns.mean(), rows.mean())
        half = work.frame.stride_px / 2
        assert abs(middle.x - 151) < half
        assert abs(middle.y - 91) < half


def test_features_are_asked_of_encoders_alone(model):
    engine = TorchEngine(model.dense(2), devices=("cpu",), precision="float32")
    with pytest.raises(ModelError, match="an encoder on engine torch"):
        engine.encode(np.zeros((1, 64, 64, 3), np.uint8))


def test_openvino_hands_out_the_same_features(model, picture):
    pytest.importorskip("openvino")
    from napari_metastasis.scanning import OpenVinoEngine

    refiner = tiny_refiner(model)
    image = picture[None, :94, :94]
    for alpha in (1, 2, 4):
        network = encoder_of(refiner, model, alpha)
        expected = TorchEngine(network, devices=("cpu",), precision="float32").encode(image)
        with closing(OpenVinoEngine(network, precision="float32")) as engine:
            for one, other in zip(engine.encode(image), expected, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-4)
            np.testing.assert_allclose(engine.run(image), expected[0], atol=1e-4)
        with closing(OpenVinoEngine(model.dense(alpha), precision="float32")) as plain, pytest.raises(ModelError):
            plain.encode(image)


def test_a_padded_network_that_hands_out_features_is_no_graph(model):
    pytest.importorskip("openvino")
    from napari_metastasis.models import Encoder, ModelSpec, build_network, feature_layer
    from napari_metastasis.scanning import OpenVinoEngine

    spec = ModelSpec(name="r", architecture="resnet34", mpp=0.25, patch_px=256, stride_px=64)
    padded = replace(model, spec=spec, network=build_network("resnet34").eval())
    encoder = Encoder(padded.encoding(1), feature_layer(padded.classifier, 1, None), 1)
    with pytest.raises(DeviceError, match="choose --engine torch"):
        OpenVinoEngine(encoder, precision="float32")


def test_frames_of_native_cells_are_those_of_coefficient_one(model, picture):
    slide = ArraySlide(picture)
    native, dense = slide.heatmap_frame(model, 1), slide.heatmap_frame(model, 4)
    for row, column in [(0, 0), (3, 7)]:
        centers = [dense.cell_center(4 * column + dx, 4 * row + dy) for dx in range(4) for dy in range(4)]
        mean = Point(np.mean([c.x for c in centers]), np.mean([c.y for c in centers]))
        assert isinstance(native, HeatmapFrame)
        assert mean.distance(native.cell_center(column, row)) < 1e-9
