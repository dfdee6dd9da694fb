"""A slide by this program and by others, side by side: the same weights, the same stride, the same threads.

A ResNet under TIAToolbox's names, whose weights are random (the speed is the same), answers for patches of 96 px at
1 µm that lie side by side. Every program runs in a process of its own, one after the other, with its own tissue mask,
so that how many patches it looked at is told beside the seconds. Another program is left out where no Python of an
environment that holds it is given.

    python benchmarks/other_programs.py SLIDE --wsinfer-python ENV/bin/python --tiatoolbox-python ENV/bin/python \
        --lazyslide-python ENV/bin/python

WSInfer reads its list of models when it starts: without a network, ``~/.wsinfer-zoo/wsinfer-zoo-registry.json`` has to
hold ``{"models": {}}``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
import zarr

from napari_metastasis.models import GivenCard, build_network, export_wsinfer, import_model, load_model

PATCH_PX, MPP = 96, 1.0
_POLL_S = 0.02

_TIATOOLBOX = """
import sys, json, torch
from tiatoolbox.models import IOPatchPredictorConfig
from tiatoolbox.models.architecture.vanilla import CNNModel
from tiatoolbox.models.dataset.classification import predefined_preproc_func
from tiatoolbox.models.engine.patch_predictor import PatchPredictor
slide, weights, output, backbone, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
model = CNNModel(backbone, 2)
model.load_state_dict(torch.load(weights, weights_only=True))
model.preproc_func = predefined_preproc_func("pcam")
config = IOPatchPredictorConfig(
    patch_input_shape=[96, 96], stride_shape=[96, 96], input_resolutions=[{"resolution": 1.0, "units": "mpp"}]
)
found = PatchPredictor(model, batch_size=32, num_workers=0, verbose=False).run(
    [slide], patch_mode=False, ioconfig=config, device="cpu", save_dir=output, output_type="zarr", overwrite=True,
    return_probabilities=True,
)
import zarr
path = next(iter(found.values())) if isinstance(found, dict) else found
group = zarr.open(str(path), mode="r")
print("PATCHES", group["predictions"].shape[0])
"""

_LAZYSLIDE = """
import sys, numpy as np, torch, lazyslide
from wsidata import open_wsi
slide, weights, threads = sys.argv[1:]
torch.set_num_threads(int(threads))

class Network:
    columns = None
    def __init__(self):
        self.network = torch.jit.load(weights).eval()
    def to(self, device=None):
        self.network.to(device)
    def predict(self, image):
        return {"tumour": self.network(image).softmax(dim=1)[:, 1].numpy()}

wsi = open_wsi(slide)
lazyslide.pp.find_tissues(wsi)
lazyslide.pp.tile_tissues(wsi, 96, mpp=1.0)
lazyslide.tl.tile_prediction(
    wsi, Network(), transform=lambda tile: torch.from_numpy(np.array(tile)).permute(2, 0, 1).float() / 255,
    batch_size=32, num_workers=0, device="cpu", amp=False, pbar=False,
)
print("PATCHES", len(wsi.shapes["tiles"]))
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What a process took.

    Attributes
    ----------
    seconds, processor_seconds
        From its start to its end, and what it and its children took of the processors.
    peak_mb
        Most memory that it and its children held at once, resident, sampled.
    said
        On standard output.
    """

    seconds: float
    processor_seconds: float
    peak_mb: float
    said: str


def _watched(command: Sequence[object], threads: int, **environment: str) -> Run:
    """Run a command with so many threads; its memory is looked at fifty times a second."""
    bounded = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    begun, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [*map(str, command)], stdout=out, stderr=err, env={**os.environ, **bounded, **environment}
        )
        watched = psutil.Process(process.pid)
        watched.cpu_affinity(sorted(os.sched_getaffinity(0))[:threads])
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            peak = max(peak, _resident(watched))
            time.sleep(_POLL_S)
        seconds, taken = time.perf_counter() - begun, ended[2].ru_utime + ended[2].ru_stime
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(err.read()[-2000:])
        return Run(seconds, taken, peak / 1e6, out.read())


def _resident(process: psutil.Process) -> int:
    found = 0
    try:
        for each in (process, *process.children(recursive=True)):
            found += each.memory_info().rss
    except psutil.Error:
        pass
    return found


def _said_patches(run: Run) -> int:
    return int(next(line for line in run.said.splitlines() if line.startswith("PATCHES")).split()[1])


class Work:
    """A folder with the model in every program's form.

    Parameters
    ----------
    folder
        New files are written there.
    architecture
        A ResNet's.
    """

    def __init__(self, folder: Path, architecture: str) -> None:
        self.folder, self.architecture = folder, architecture
        torch.manual_seed(0)
        network = build_network(architecture).eval()
        self.states = folder / f"{architecture}-pcam.pth"
        places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
        renamed = {}
        for name, tensor in network.state_dict().items():
            first, _, rest = name.partition(".")
            renamed[f"feat_extract.{places[first]}.{rest}" if first in places else f"classifier.{rest}"] = tensor
        torch.save(renamed, self.states)
        os.environ["XDG_DATA_HOME"] = str(folder / "data")
        self.model = import_model(self.states, given=GivenCard(stride_px=PATCH_PX)).path
        assert load_model(self.model).spec.mpp == MPP
        self.exported = folder / "wsinfer"
        export_wsinfer(self.model, self.exported)


def _ours(work: Work, arguments: argparse.Namespace, name: str, *options: str) -> tuple[Run, int]:
    output = work.folder / name
    run = _watched(
        [
            *(sys.executable, "-m", "napari_metastasis", "scan", arguments.slide, "--model", work.model),
            *("--output", output, "--json", *options),
        ],
        arguments.threads,
        XDG_CACHE_HOME=str(work.folder / "cache"),
    )
    (heatmap,) = output.rglob("heatmap.ome.zarr")
    cells = zarr.open_group(str(heatmap), mode="r")["0"][:]
    return run, int((cells == cells).sum())


def _wsinfer(work: Work, arguments: argparse.Namespace) -> tuple[Run, int]:
    slides, results = work.folder / "slides", work.folder / "wsinfer-results"
    slides.mkdir(exist_ok=True)
    (slides / arguments.slide.name).symlink_to(arguments.slide.resolve())
    run = _watched(
        [
            *(arguments.wsinfer_python, "-m", "wsinfer", "run", "-i", slides, "-o", results, "-n", "1"),
            *("-c", work.exported / "config.json", "-p", work.exported / "torchscript_model.pt"),
        ],
        arguments.threads,
        HF_HUB_OFFLINE="1",
    )
    (table,) = (results / "model-outputs-csv").glob("*.csv")
    with table.open(encoding="utf-8") as rows:
        return run, len(list(csv.DictReader(rows)))


def _tiatoolbox(work: Work, arguments: argparse.Namespace) -> tuple[Run, int]:
    output = work.folder / "tiatoolbox"
    run = _watched(
        [
            *(arguments.tiatoolbox_python, "-c", _TIATOOLBOX, arguments.slide, work.states, output),
            *(work.architecture, arguments.threads),
        ],
        arguments.threads,
    )
    return run, _said_patches(run)


def _lazyslide(work: Work, arguments: argparse.Namespace) -> tuple[Run, int]:
    run = _watched(
        [
            *(arguments.lazyslide_python, "-c", _LAZYSLIDE, arguments.slide),
            *(work.exported / "torchscript_model.pt", arguments.threads),
        ],
        arguments.threads,
    )
    return run, _said_patches(run)


def _programs(arguments: argparse.Namespace, work: Work) -> dict[str, Callable[[], tuple[Run, int]]]:
    found: dict[str, Callable[[], tuple[Run, int]]] = {
        "this program, first scan": lambda: _ours(work, arguments, "first"),
        "this program": lambda: _ours(work, arguments, "again"),
        "this program, float32": lambda: _ours(work, arguments, "float32", "--precision", "float32"),
    }
    if arguments.wsinfer_python:
        found["WSInfer"] = lambda: _wsinfer(work, arguments)
    if arguments.tiatoolbox_python:
        found["TIAToolbox"] = lambda: _tiatoolbox(work, arguments)
    if arguments.lazyslide_python:
        found["LazySlide"] = lambda: _lazyslide(work, arguments)
    return found


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--architecture", default="resnet50")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wsinfer-python", type=Path)
    parser.add_argument("--tiatoolbox-python", type=Path)
    parser.add_argument("--lazyslide-python", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.slide = arguments.slide.resolve()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Path(folder), arguments.architecture)
        for name, program in _programs(arguments, work).items():
            try:
                run, patches = program()
            except RuntimeError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            rows.append(
                {
                    "program": name,
                    "seconds": round(run.seconds, 1),
                    "processor_seconds": round(run.processor_seconds, 1),
                    "patches": patches,
                    "patches_per_s": round(patches / run.seconds, 1),
                    "peak_mb": round(run.peak_mb),
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr)
    if arguments.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"| {' | '.join(map(str, row.values()))} |")


if __name__ == "__main__":
    main()
