"""Crops of a retraining as lower layers encode them, and which of them a model answers wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from napari_metastasis.models import Detector
from napari_metastasis.models.tuning import LowerLayers, TunedNetwork, lower_sha256
from napari_metastasis.sampling.negative_feed import NegativeFeed
from napari_metastasis.sampling.places import PlaceCrops
from napari_metastasis.training.encoded import EncodedBatches, Encoding, encode_batches
from napari_metastasis.workflows.retrain.run_log import RunLog

__all__ = ["CropEncoder", "answered_wrongly"]


@dataclass(frozen=True, eq=False)
class CropEncoder:
    """Encodes crops into folders of a run.

    Attributes
    ----------
    detector, lower
        The model that the run begins with, and its lower layers.
    output, log
        The run folder.
    seed
        Of the order in which crops are learnt from.
    """

    detector: Detector
    lower: LowerLayers
    output: Path
    log: RunLog
    seed: int

    def encoded(
        self, what: str, folder: str, source: PlaceCrops | NegativeFeed, model: Detector, *, in_order: bool
    ) -> EncodedBatches:
        """Return crops as the lower layers of a model encode them.

        Parameters
        ----------
        what
            Names them to a person.
        folder
            Of the run folder; what lies there of the same crops is used again.
        source
            The crops.
        model
            Whose layers: by what is judged, those of a new model.
        in_order
            Whether batches are those of the source; else every crop comes once, in an order of each round's own.
        """
        is_old, crops = model is self.detector, source.crops if isinstance(source, NegativeFeed) else source
        with self.log.step(f"Encoding {what}", "crops") as progress:
            how = Encoding(
                folder=self.output / folder,
                crops=source.batches_per_epoch * source.batch_size,
                augment=None,
                identity={"lower": lower_sha256(model)},
                seed=None if in_order else self.seed,
                device="cpu",
                progress=progress,
                # What a new model is judged by is encoded after all was learnt: that is not to be lost.
                should_stop=self.log.should_stop if is_old else lambda: self.log.is_cancelled,
            )
            try:
                return encode_batches(self.lower if is_old else LowerLayers(model), source, source.batch_size, how)
            finally:
                if isinstance(crops, PlaceCrops):
                    crops.close()


@torch.no_grad()
def answered_wrongly(model: Detector, encoded: EncodedBatches) -> npt.NDArray[np.bool_]:
    """Return of which encoded crops a model answers more than half of the known cells wrongly, batch by batch.

    By the network's own answers, equal shares of both classes, as in learning.
    """
    network, found = TunedNetwork(model).eval(), []
    for number in range(encoded.batches_per_epoch):
        batch = encoded.batch(number)
        log_odds = network.log_odds(torch.from_numpy(batch.images).permute(0, 3, 1, 2).float()).numpy()
        known = batch.labels >= 0
        wrong = known & ((log_odds > 0) != (batch.labels == 1))
        found.append(2 * wrong.sum(axis=(1, 2)) > known.sum(axis=(1, 2)))
    return np.concatenate(found)
