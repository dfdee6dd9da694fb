"""From settings to an engine: what they leave open is measured, or was before."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs
import torch

from napari_metastasis import __version__
from napari_metastasis.errors import DeviceError, MissingDependencyError, SettingsError
from napari_metastasis.models import Detector, Encoder, Model, ScanningNetwork, Segmenter
from napari_metastasis.models.inputs import NetworkInput, input_of
from napari_metastasis.scanning.engines.base import (
    Engine,
    FloatArray,
    IdleEngine,
    UInt8Array,
    computes_bfloat16,
    resolve_devices,
)
from napari_metastasis.scanning.engines.onnxruntime import OnnxRuntimeEngine
from napari_metastasis.scanning.engines.openvino import OpenVinoEngine, has_openvino, openvino_precisions
from napari_metastasis.scanning.engines.torch import TorchEngine
from napari_metastasis.scanning.engines.tuning import ROI_PX, Candidate, Tuned, TuningCache, candidates, phantom, tune
from napari_metastasis.scanning.scanner import never
from napari_metastasis.settings import PUBLISHED_STAINS, ScanSettings, TuningSettings

__all__ = ["ChosenEngine", "choose_engine", "default_cache_path", "idle_engine", "settle_precision"]

_TUNING = TuningSettings()


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """An engine ready to run, and the ROI that suits it.

    Attributes
    ----------
    engine
        To be closed by whoever asked for it.
    roi_px
        Side of a read window, in model pixels.
    reader_sha256
        Weights of the model whose features it hands out; empty where it hands out none.
    """

    engine: Engine
    roi_px: int
    reader_sha256: str = ""

    def encodes_for(self, reader: Model | None) -> bool:
        """Return whether the engine hands out the features that a model reads; for ``None`` any engine does."""
        return reader is None or self.reader_sha256 == reader.weights_sha256


def default_cache_path() -> Path:
    """Return where measurements are remembered for this user and machine."""
    return Path(platformdirs.user_cache_dir("napari-metastasis", appauthor=False)) / "tuning.json"


def choose_engine(
    model: Detector | Segmenter,
    settings: ScanSettings,
    *,
    reader: Model | None = None,
    preferred_precision: str | None = None,
    tuning: TuningSettings = _TUNING,
    should_stop: Callable[[], bool] = never,
) -> ChosenEngine:
    """Return the engine for a scan; what the settings leave open is measured once and remembered.

    Parameters
    ----------
    model
        To run, at the settings' dense coefficient.
    settings
        ``device``, ``engine``, ``precision``, ``roi_px`` and ``dense_coefficient`` are used.
    reader
        A model that reads the network's features, which are then handed out with every answer, at hardly any cost;
        ``None`` for answers alone.
    preferred_precision
        The precision of a scan that goes on: taken where the settings leave it open and this machine computes it in
        hardware, even if another one is faster.
    tuning
        How it is measured.
    should_stop
        Asked now and then while it is measured.

    Raises
    ------
    SettingsError
        If the device is unknown, or the engine does not run there.
    DeviceError
        If this machine lacks the device, or the device the precision.
    MissingDependencyError
        If OpenVINO is asked for and not installed.
    ModelError
        If the model does not allow the dense coefficient.
    ScanCancelledError
        If ``should_stop`` said so.
    """
    settings, devices = _where(model, settings)
    stride_px = model.spec.dense_stride_px(settings.dense_coefficient)
    kind = devices[0].partition(":")[0]
    layer = None if reader is None else reader.feature_layer(model)
    encodes = "" if reader is None else reader.weights_sha256
    block = model.block_cells if reader is None else settings.dense_coefficient

    def build(way: Candidate) -> Engine:
        alpha = settings.dense_coefficient
        network: ScanningNetwork
        if layer is None:
            network = model.dense(alpha)
        else:
            assert isinstance(model, Detector)
            network = Encoder(model.encoding(alpha), layer, alpha)
        if way.engine == "openvino":
            return OpenVinoEngine(network, precision=way.precision)
        if way.engine == "onnxruntime":
            return OnnxRuntimeEngine(network, precision=way.precision)
        return TorchEngine(network, devices=devices, precision=way.precision)

    cache = TuningCache(default_cache_path())
    if settings.precision == "auto" and preferred_precision is not None:
        settings = _keeping(preferred_precision, model, settings, devices, cache)
    fixed = (settings.engine, settings.precision)
    if "auto" not in fixed and settings.roi_px:
        return ChosenEngine(build(Candidate(*fixed)), settings.roi_px, encodes)
    key = _key(model, settings, devices)
    tuned = cache.get(key)
    engine = _remembered(tuned, build)
    if tuned is None or engine is None:
        tuned, engine = tune(
            _ways(model, settings, devices),
            build=build,
            reference=_reference(model, settings, devices[0]),
            windows=_windows(settings, kind, model.spec.field_px, stride_px, block),
            settings=tuning,
            should_stop=should_stop,
            image_of=partial(_tissue_for, input_of(model.spec)),
        )
        cache.put(key, tuned)
    return ChosenEngine(engine, settings.roi_px or tuned.roi_px, encodes)


def _tissue_for(network_input: NetworkInput, side_px: int) -> UInt8Array:
    """Return an image of tissue as a network reads it."""
    return network_input.of_pixels(phantom(side_px)[0], PUBLISHED_STAINS)[None]


def settle_precision(
    model: Detector | Segmenter,
    settings: ScanSettings,
    *,
    preferred_precision: str | None = None,
    should_stop: Callable[[], bool] = never,
) -> str:
    """Return the precision of the engine that :func:`choose_engine` would return, to open a store with it.

    Nothing is built unless it has to be measured.

    Parameters
    ----------
    model, settings, preferred_precision, should_stop
        As there.

    Raises
    ------
    SettingsError, DeviceError, MissingDependencyError, ModelError, ScanCancelledError
        As there.
    """
    known = _known_precision(model, settings, preferred_precision)
    if known is not None:
        return known
    engine = choose_engine(model, settings, should_stop=should_stop).engine
    engine.close()
    return engine.precision


def idle_engine(
    model: Detector | Segmenter, settings: ScanSettings, *, preferred_precision: str | None = None
) -> ChosenEngine:
    """Return what stands for the engine of a network that answers nothing: nothing is built or measured.

    Parameters
    ----------
    model, settings
        As :func:`choose_engine` takes them.
    preferred_precision
        Its precision. Otherwise it is what was measured before, or what this machine tries first.

    Raises
    ------
    SettingsError
        If the device is unknown, or the engine does not run there.
    DeviceError
        If this machine lacks the device.
    """
    asked, devices = _where(model, settings)
    precision = preferred_precision or _known_precision(model, settings, None)
    if precision is None:
        precision = next((way.precision for way in _ways(model, asked, devices)), "float32")
    return ChosenEngine(
        IdleEngine(precision=precision, device=",".join(devices)), settings.roi_px or model.spec.field_px
    )


def _where(model: Detector | Segmenter, settings: ScanSettings) -> tuple[ScanSettings, tuple[str, ...]]:
    """Return the settings with the model's density, and the devices that they stand for."""
    settings = settings.at_density(model.spec.dense_coefficient)
    devices = resolve_devices(settings.device)
    if settings.engine not in ("auto", *model.engines):
        raise SettingsError(
            f"expected engine auto, {' or '.join(model.engines)} for {model.name}, got {settings.engine}; choose one "
            "of these"
        )
    of_processors = settings.engine if settings.engine != "auto" else " or ".join(model.engines)
    if "torch" not in (model.engines if settings.engine == "auto" else (settings.engine,)):
        if not devices[0].startswith("cpu") and settings.device != "auto":
            raise SettingsError(
                f"expected device cpu for engine {of_processors}, got {settings.device}; choose --device cpu"
            )
        devices = ("cpu",)
    return settings, devices


def _known_precision(model: Detector | Segmenter, settings: ScanSettings, preferred: str | None) -> str | None:
    """Return the precision that a model runs in here; ``None`` where that has to be measured."""
    settings, devices = _where(model, settings)
    if settings.precision != "auto":
        return settings.precision
    if preferred in {way.precision for way in _ways(model, settings, devices)}:
        return preferred
    tuned = TuningCache(default_cache_path()).get(_key(model, settings, devices))
    return None if tuned is None else tuned.precision


def _keeping(
    precision: str, model: Detector | Segmenter, settings: ScanSettings, devices: tuple[str, ...], cache: TuningCache
) -> ScanSettings:
    """Return the settings with ``precision``, unless this machine lacks it, or would come to it by itself."""
    tuned = cache.get(_key(model, settings, devices))
    comes_anyway = tuned is not None and tuned.precision == precision
    known = {way.precision for way in _ways(model, settings, devices)}
    return settings if comes_anyway or precision not in known else replace(settings, precision=precision)


def _ways(model: Detector | Segmenter, settings: ScanSettings, devices: tuple[str, ...]) -> tuple[Candidate, ...]:
    kind = devices[0].partition(":")[0]
    installed = kind == "cpu" and settings.engine != "torch" and has_openvino()
    return candidates(
        engine=settings.engine,
        precision=settings.precision,
        device=kind,
        openvino_precisions=openvino_precisions() if installed else (),
        torch_precisions=_torch_precisions(kind),
        runs_on=model.engines,
    )


def _torch_precisions(kind: str) -> tuple[str, ...]:
    """Return the formats that torch computes in hardware, for one kind of device."""
    if kind == "cuda":
        # float16 before bfloat16: the same speed on every card that has both, and eight times the digits. Should a
        # network overflow it, its answers are not those of float32, and it is refused.
        return ("float16", "float32")
    if kind == "mps":
        return ("float16", "float32")
    return ("bfloat16", "float32") if computes_bfloat16(kind) else ("float32",)


def _windows(settings: ScanSettings, kind: str, field_px: int, stride_px: int, block: int) -> dict[int, int]:
    """Return side of the window -> side of the square that it answers for, snapped to whole blocks of cells."""
    # A side that was asked for may be far larger than what is needed to tell engines apart.
    sides = (min(settings.roi_px, max(ROI_PX[kind])),) if settings.roi_px else ROI_PX[kind]
    cells = sorted({max(block, ((side - field_px) // stride_px + 1) // block * block) for side in sides})
    return {field_px + (each - 1) * stride_px: each * stride_px for each in cells}


def _reference(model: Detector | Segmenter, settings: ScanSettings, device: str) -> Callable[[UInt8Array], FloatArray]:
    """Return the float32 answers that a reduced precision is compared with."""

    def answers(image: UInt8Array) -> FloatArray:
        engine = TorchEngine(model.dense(settings.dense_coefficient), devices=(device,), precision="float32")
        try:
            return engine.run(image)
        finally:
            engine.close()

    return answers


def _remembered(tuned: Tuned | None, build: Callable[[Candidate], Engine]) -> Engine | None:
    """Return the engine that was measured before; ``None`` where there is none or it no longer runs."""
    if tuned is None:
        return None
    try:
        return build(Candidate(tuned.engine, tuned.precision))
    except (DeviceError, MissingDependencyError):
        return None


def _key(model: Detector | Segmenter, settings: ScanSettings, devices: tuple[str, ...]) -> str:
    """Return a name for everything that a measurement depends on."""
    conditions = {
        "machine": [platform.node(), platform.machine(), platform.processor(), os.cpu_count()],
        "devices": [torch.cuda.get_device_name(each) if each.startswith("cuda") else each for each in devices],
        "versions": [__version__, torch.__version__, _version("openvino")],
        # The weights, because a precision that is accurate enough for some is not for others.
        "model": [model.spec.architecture, model.weights_sha256, settings.dense_coefficient],
        # They say how steeply answers change with what the network computes.
        "calibration": [model.spec.temperature, model.spec.shift, model.spec.prior],
        "asked": [settings.engine, settings.precision, settings.roi_px],
    }
    return hashlib.sha256(json.dumps(conditions).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
