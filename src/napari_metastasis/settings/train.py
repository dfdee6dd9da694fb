"""How models are trained, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_metastasis.settings._core import SettingsGroup, setting
from napari_metastasis.settings.slides import INPUT_HELP, INPUTS

__all__ = ["AugmentSettings", "NetworkSettings", "PatchSettings", "TrainSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings(SettingsGroup):
    """How a patch classifier is trained."""

    epochs: int = setting(14, "Passes over the training patches.", minimum=1, maximum=1000)
    batch_size: int = setting(
        128,
        "Patches, crops of a refiner or tiles of a segmenter in one optimiser step, on each device.",
        minimum=2,
        maximum=8192,
    )
    learning_rate: float = setting(4e-3, "Peak of the one-cycle schedule.", minimum=1e-6, maximum=1.0)
    weight_decay: float = setting(
        0.05, "Weight decay; AdamW's is decoupled from the gradient.", minimum=0.0, maximum=1.0
    )
    label_smoothing: float = setting(
        0.02, "Share of the label spread over both classes; keeps probabilities honest.", minimum=0.0, maximum=0.5
    )
    ema_decay: float = setting(
        0.998,
        "Decay per step of the exponential average of the weights; the average is stored as the model.",
        minimum=0.0,
        maximum=0.99999,
    )
    tie_orientations: bool = setting(
        True,
        "Train one filter for the eight orientations of tissue, in the scannet networks: fewer weights, so that fewer "
        "patches teach more.",
    )
    patience: int = setting(
        0,
        "Epochs without a better validation AUC, or mean IoU of a segmenter, after which training stops and keeps the "
        "best; 0 trains to the end.",
        minimum=0,
        maximum=1000,
    )
    seed: int = setting(2016, "Seed of every random choice.", minimum=0, maximum=2**31 - 1)
    device: str = setting("auto", "Where training runs: auto, cpu, cuda, cuda:n or mps.")
    precision: str = setting(
        "auto",
        "Number format of training; auto takes bfloat16 where the hardware multiplies it faster.",
        choices=("auto", "float32", "bfloat16"),
    )
    devices: int = setting(1, "GPUs that share the run, counted from the device.", minimum=1, maximum=64)
    workers: int = setting(
        1, "Processes that read patches ahead of the device; 0 reads them between steps.", minimum=0, maximum=64
    )
    prefetch: int = setting(
        4, "Batches that each of these processes keeps ready; bounds memory.", minimum=1, maximum=64
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings(SettingsGroup):
    """Which network is trained, and what its patches are."""

    architecture: str = setting(
        "scannet-small",
        "Network to train: efficientnet-lite0, efficientnet-lite0-enlarged (by four thirds), the same with -4x4 (an "
        "answer gathers 4 x 4 cells, not 8 x 8), scannet-compact, scannet-small, scannet-vgg16 of Lin et al. 2019, or "
        "covnet-64 and covnet-256 of Pearce 2017, for tiles of so many pixels.",
    )
    input: str = setting("rgb", INPUT_HELP, choices=INPUTS)
    mpp: float = setting(
        0.972, "Resolution of the patches: PatchCamelyon's, a 10x lens.", unit="µm/px", minimum=0.01, maximum=100.0
    )
    initial: str = setting(
        "",
        "Weights that training begins with: a model, the last.ckpt of another run, a file of ImageNet's VGG16 or "
        "EfficientNet-lite weights, vgg16-imagenet, or efficientnet-lite0-imagenet; random ones by default.",
    )
    margin_share: float = setting(
        0.25,
        "Share of steps in which patches lie in margins, those of slides in their own surroundings, others mirrored; "
        "else they lie beside each other. Of networks that see further than a patch.",
        minimum=0.0,
        maximum=1.0,
    )
    margin_cells: int = setting(
        2,
        "Margin of these patches, and of those that are measured, in the network's native cells.",
        unit="cells",
        minimum=0,
        maximum=64,
    )
    gap_cells: int = setting(
        1,
        "Gray between patches that lie beside each other, in native cells: what is near says nothing.",
        unit="cells",
        minimum=0,
        maximum=64,
    )
    stochastic_depth: float = setting(
        0.1,
        "Share of steps in which the last residual block is left out, less often those before it (Huang et al. 2016).",
        minimum=0.0,
        maximum=0.9,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSettings(SettingsGroup):
    """Labelled patches that a model is trained and measured on, alone or together with slides."""

    patches: list[Path] | None = setting(
        None,
        "Labelled patches: a folder or zip with class folders 0 and 1, or PCam's HDF5. Give it again for more.",
    )
    soft_labels: Path | None = setting(
        None,
        "CSV of the columns patch and probability: targets of these patches instead of their class, from readers who "
        "disagree, or distilled from a larger network.",
    )
    patches_share: float = setting(
        0.5, "Share of labelled patches in a batch where there are slides as well.", minimum=0.01, maximum=0.99
    )
    validation: Path | None = setting(
        None,
        "Patches from other slides, on which every epoch is measured; the cohort's validation slides by default.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings(SettingsGroup):
    """How strongly patches are varied (Lin et al. 2019, II-A)."""

    affine_share: float = setting(
        0.5,
        "Share of patches that are turned by any angle and scaled; the others keep their pixels.",
        minimum=0.0,
        maximum=1.0,
    )
    magnification_min: float = setting(
        0.8,
        "Smallest magnification: the disagreement of scanners and of unstated pixel sizes.",
        minimum=0.25,
        maximum=1.0,
    )
    magnification_max: float = setting(1.25, "Largest magnification.", minimum=1.0, maximum=4.0)
    stain: float = setting(0.35, "Largest relative change of the amount of each stain.", minimum=0.0, maximum=2.0)
    hue: float = setting(
        0.06,
        "Largest change of each entry of the colour mixing in optical density: hue and saturation of the dyes.",
        minimum=0.0,
        maximum=1.0,
    )
    background: float = setting(
        0.05,
        "Largest shift in absorbance (natural logarithm) of each of red, green and blue: the white balance.",
        minimum=0.0,
        maximum=1.0,
    )
    exposure: float = setting(
        0.3,
        "Largest shift in absorbance (natural logarithm) of all three: the lamp, 1.35 times brighter or darker.",
        minimum=0.0,
        maximum=1.0,
    )
    density_share: float = setting(
        0.0,
        "Share of patches whose stains are made paler or darker as a whole: another thickness, another laboratory.",
        minimum=0.0,
        maximum=1.0,
        added=True,
    )
    density_min: float = setting(0.3, "Smallest factor of their optical density.", minimum=0.01, maximum=1.0)
    density_max: float = setting(1.3, "Largest factor of their optical density.", minimum=1.0, maximum=10.0)
    channel_gain: float = setting(
        0.0,
        "Largest change (natural logarithm) of the optical density of each of red, green and blue, in half of the "
        "patches: dyes and scanners of other laboratories.",
        minimum=0.0,
        maximum=2.0,
        added=True,
    )
    gray_share: float = setting(
        0.1,
        "Share of patches whose colours are drawn towards gray, so that the network learns structure.",
        minimum=0.0,
        maximum=1.0,
    )
    blur_share: float = setting(0.25, "Share of patches out of focus.", minimum=0.0, maximum=1.0)
    blur_sigma_px: float = setting(2.0, "Largest standard deviation of the blur.", unit="px", minimum=0.3, maximum=3.0)
    noise_share: float = setting(0.2, "Share of patches with sensor noise.", minimum=0.0, maximum=1.0)
    noise: float = setting(0.03, "Largest standard deviation of the noise; 1 is white.", minimum=0.0, maximum=1.0)
    mixup: float = setting(
        0.0,
        "Parameter of the beta distribution of shares in which every patch of half of the batches is blended with "
        "another, and its label with the other's (Zhang et al. 2018); 0 for none.",
        minimum=0.0,
        maximum=8.0,
        added=True,
    )
    jitter_brightness: float = setting(0.0, "Largest relative change of brightness.", minimum=0.0, maximum=1.0)
    jitter_contrast: float = setting(0.0, "Largest relative change of contrast.", minimum=0.0, maximum=1.0)
    jitter_saturation: float = setting(0.0, "Largest relative change of saturation.", minimum=0.0, maximum=1.0)
    jitter_hue: float = setting(0.0, "Largest turn of the hue; 1 is the whole circle.", minimum=0.0, maximum=0.5)
