"""How slides are scanned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from napari_metastasis.settings._core import SettingsGroup, setting

__all__ = ["DEFAULT_MODEL", "ScanSettings", "TuningSettings"]

#: The shipped model that every command takes by default.
DEFAULT_MODEL = "metastasis-lite"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings(SettingsGroup):
    """How a slide is scanned."""

    dense_coefficient: int = setting(
        0,
        "How much denser than the network's own stride the answers lie (α of Lin et al. 2019); 0 takes what the "
        "model's card says.",
        choices=(0, 1, 2, 4, 8, 16, 32),
    )
    augment_views: int = setting(
        1,
        "Views averaged for each answer: 8 takes every right-angle rotation and its mirror image, at 8 times the cost.",
        choices=(1, 8),
    )
    prior: float = setting(
        0.0,
        "Share of tumour in the tissue of the slides, for which answers are probabilities; 0 takes what the model was "
        "calibrated to.",
        minimum=0.0,
        maximum=0.99,
    )
    stain: str = setting(
        "auto",
        "Whether tissue is seen as it is, made as dense in red, green and blue as what the model was trained on "
        "(normalise), or given the dyes of that, or of a published reference, in place of its own (macenko); auto sees "
        "it as it is.",
        choices=("auto", "as-is", "normalise", "macenko"),
    )
    tissue_only: bool = setting(True, "Skip glass; switch off where the tissue mask is wrong.")
    device: str = setting("auto", "Where the network runs: auto, cpu, cuda, cuda:n or mps.")
    precision: str = setting(
        "auto",
        "Number format of the network; auto measures once which is fastest and accurate enough on this machine.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    engine: str = setting(
        "auto",
        "Program that runs the network; auto measures once which is faster on this machine. ONNX models of others are "
        "run by onnxruntime or openvino, all others by torch or openvino.",
        choices=("auto", "torch", "openvino", "onnxruntime"),
    )
    roi_px: int = setting(
        0,
        "Side of one piece of the scan in model pixels, 0 for a measured one; bounds memory and changes no answer.",
        unit="px",
        minimum=0,
        maximum=16384,
    )
    threads: int = setting(
        0,
        "Threads that read and decode ahead of the network, 0 for automatic: two, or up to eight for a GPU.",
        minimum=0,
        maximum=64,
    )
    queue_rois: int = setting(
        4, "Pieces that may wait between reading and the network; bounds memory.", minimum=1, maximum=64
    )

    def at_density(self, own: int) -> Self:
        """Return settings with a model's own dense coefficient, where none was asked for."""
        return self if self.dense_coefficient else replace(self, dense_coefficient=own)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningSettings(SettingsGroup):
    """How the fastest engine and precision of a machine are measured."""

    tolerance: float = setting(
        0.02,
        "A reduced precision is taken only where no probability moves by more than this.",
        minimum=0.0,
        maximum=1.0,
    )
    budget_seconds: float = setting(
        5.0, "Measuring stops after this long; the results so far decide.", unit="s", minimum=0.0, maximum=600.0
    )
