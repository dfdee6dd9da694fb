"""How a model learns from corrections."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.settings._core import SettingsGroup, other_defaults, setting
from napari_metastasis.settings.train import TrainSettings

__all__ = ["TUNE_OPTIONS", "CorrectionSettings", "TuneTrainSettings", "WholeSettings"]

#: Settings of learning that a retraining is asked for; the others go with how it is done.
TUNE_OPTIONS = ("steps", "batch_size", "learning_rate", "weight_decay", "ema_decay", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionSettings(SettingsGroup):
    """Which corrections a model learns from, and which it is judged by."""

    held_out_share: float = setting(
        0.25,
        "Share of the corrected places that the new model does not see, and is judged by; 0 judges by none.",
        minimum=0.0,
        maximum=0.75,
    )
    held_out_by: str = setting(
        "auto",
        "What is held out: whole slides, or places that no crop of the others shows; auto takes slides where at least "
        "eight were corrected.",
        choices=("auto", "slide", "place"),
    )
    cells: int = setting(
        5, "Native cells along a side of a crop of a corrected place.", unit="cells", minimum=1, maximum=64
    )
    crops_per_place: int = setting(
        4, "Crops of each corrected place, unless the time is short.", minimum=1, maximum=1024
    )
    replay_weight: float = setting(
        8.0,
        "Weight of the model's earlier answers, to patches that it has learnt from, beside that of corrections: it is "
        "not to forget these; 0 lets it. Of a model of mitoses, to tissue of the slides with synthetic ones.",
        minimum=0.0,
        maximum=100.0,
    )
    replayed_patches: int = setting(64, "Such patches in each step.", minimum=2, maximum=4096)
    mining: str = setting(
        "none",
        "What is made of crops that the model answers wrongly: none learns from all alike; weights lets each weigh by "
        "how wrong the model is there; negative-feed learns from these alone and some of the others, turned and with "
        "noise. Rejected findings are hard negatives by themselves.",
        choices=("none", "weights", "negative-feed"),
    )
    hard: float = setting(
        0.5, "With weights: the share of a crop's weight that follows how wrong the model is.", minimum=0.0, maximum=1.0
    )
    fed_share: float = setting(
        0.5,
        "With negative-feed: the share of crops that the model answers rightly which are learnt from as well.",
        minimum=0.0,
        maximum=1.0,
    )
    fed_noise: float = setting(
        0.03, "With negative-feed: standard deviation of the noise; 1 is white.", minimum=0.0, maximum=1.0
    )

    @property
    def hard_share(self) -> float:
        """Return the share of a crop's weight that follows how wrong a model is there."""
        return self.hard if self.mining == "weights" else 0.0

    @property
    def feeds(self) -> bool:
        """Return whether crops that are answered wrongly are fed."""
        return self.mining == "negative-feed"


@other_defaults(batch_size=20, learning_rate=1e-3, weight_decay=0.01, label_smoothing=0.0, ema_decay=0.5)
class TuneTrainSettings(TrainSettings):
    """How the upper layers of a detector are trained on corrections."""

    steps: int = setting(
        32,
        "Steps of learning, unless the time is short; twice as many as all crops fill where that is more. Few "
        "corrections are learnt by heart in more.",
        minimum=1,
        maximum=100_000,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeSettings(SettingsGroup):
    """How all layers of a detector learn, where images that it learnt from before are there and time is left."""

    whole_steps: int = setting(
        24,
        "Steps in which all layers learn, after the last ones have, where the time allows as many as eight; 0 leaves "
        "the lower layers as they are.",
        minimum=0,
        maximum=100_000,
    )
    whole_rate: float = setting(
        0.3, "Peak learning rate of these steps, as a share of that before.", minimum=0.001, maximum=10.0
    )
    whole_crops: int = setting(8, "Crops of corrected places in each of them.", minimum=1, maximum=1024)
    whole_patches: int = setting(
        16, "Earlier patches in each of them, which are to be answered as before.", minimum=2, maximum=1024
    )
    whole_replay: float = setting(
        2.0,
        "Weight of these answers beside that of corrections: with less, a model learns more of the corrections and "
        "forgets more.",
        minimum=0.0,
        maximum=100.0,
    )
