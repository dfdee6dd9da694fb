"""A toy task: its card, its network and its pass over the scan's own map, and the one entry that makes it known."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from napari_metastasis import tasks
from napari_metastasis.models import Model
from napari_metastasis.scanning import PROBABILITY, FollowingPass, MapKind
from napari_metastasis.settings import PassSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ToySettings(PassSettings):
    SWITCH: ClassVar[str] = "toy"
    SHARE: ClassVar[str] = "toy_share"
    toy: bool = setting(False, "Average every answer with its neighbours.")
    toy_share: float = setting(1.0, "Share of the averaged map.", minimum=0.0, maximum=1.0)


@dataclass(frozen=True)
class ToySpec:
    name: str
    task: ClassVar[str] = "toy"

    def to_json(self):
        return {"name": self.name}


class ToyModel(Model):
    @classmethod
    def blank(cls, values, _):
        return ToySpec(**values), torch.nn.Conv2d(1, 1, 3, bias=False)


@dataclass
class ToyPass(FollowingPass):
    writes, reads = MapKind(name="averaged", title="Averaged probability", stem="averaged"), PROBABILITY.name
    reach_cells = 1
    model: ToyModel

    @classmethod
    def of(cls, model, _):
        return cls(model)

    @property
    def decides(self):
        return {"toy_sha256": self.model.weights_sha256}

    def answer(self, values):
        return self.model.network(torch.from_numpy(np.nan_to_num(values))[None, None])[0, 0].detach().numpy()


TOY = tasks.Task(
    name="toy", noun="averager", title="Toy", writes="averaged", settings=ToySettings,
    model="toy_pass:ToyModel", scan_pass="toy_pass:ToyPass",
)  # fmt: skip
