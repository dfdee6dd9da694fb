"""Models are fetched by their names, from a server of the tests' own: what it sends is checked, and it may fail."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import save

from napari_metastasis.errors import ModelError, WeightsError
from napari_metastasis.models import build_network, import_model, load_detector, zoo

NAME = "someone/lymphnodes-resnet18.pcam"
CONFIG = {
    "spec_version": "1.0",
    "architecture": "resnet18",
    "num_classes": 2,
    "patch_size_pixels": 96,
    "spacing_um_px": 1.0,
    "class_names": ["Other", "Metastasis"],
    "transform": [{"name": "Resize", "arguments": {"size": 96}}, {"name": "ToTensor"}],
}


class Hub:
    """A hub with one model, whose answers tests may change."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.files = {
            "config.json": json.dumps(CONFIG).encode(),
            "model.safetensors": save(build_network("resnet18").state_dict()),
            "README.md": b"much",
        }
        self.sha256 = hashlib.sha256(self.files["model.safetensors"]).hexdigest()
        self.asked: list[str] = []
        self.cut = 0

    def listed(self) -> bytes:
        large = {"oid": self.sha256, "size": 1}
        entries = [
            {"path": name, "oid": hashlib.sha1(data).hexdigest(), **({"lfs": large} if len(data) > 1 << 20 else {})}
            for name, data in self.files.items()
        ]
        return json.dumps(entries).encode()

    def answer(self, path: str) -> bytes | None:
        self.asked.append(path)
        if path == f"/api/models/{NAME}/tree/main":
            return self.listed()
        before, _, file = path.rpartition("/resolve/main/")
        return self.files.get(file) if before == f"/{NAME}" else None


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    monkeypatch.setattr(zoo, "own_models_folder", lambda: tmp_path / "own")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    held = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = held.answer(self.path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            # A server that vanishes in the middle.
            self.wfile.write((data or b"")[: -held.cut if "safetensors" in self.path and held.cut else None])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    yield held
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_is_fetched_once_by_its_name(hub):
    model = load_detector(import_model(NAME).name)
    assert model.name == "lymphnodes-resnet18.pcam"
    assert model.card["data"].endswith(NAME)
    assert model.card["imported_sha256"] == hub.sha256
    assert not any("README" in path for path in hub.asked)
    import_model(NAME, name="again")
    assert sum("safetensors" in path for path in hub.asked) == 1


def test_what_is_not_what_the_hub_states_is_refused(hub, tmp_path):
    hub.sha256 = "0" * 64
    with pytest.raises(WeightsError, match=r"expected weights with SHA-256 0000") as caught:
        import_model(NAME)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "own").exists()


def test_a_connection_that_breaks_leaves_nothing(hub, tmp_path):
    hub.cut = 100
    with pytest.raises(WeightsError, match=r"got .* from http://127.*; try again, or fetch"):
        import_model(NAME)
    assert not (tmp_path / "own").exists()
    hub.cut = 0
    assert import_model(NAME).name == "lymphnodes-resnet18.pcam"


def test_unknown_names_and_other_models_are_told(hub, monkeypatch):
    with pytest.raises(ModelError, match=r"expected a model called someone/else that anyone may read on http://127"):
        import_model("someone/else")
    hub.files = {"README.md": b"nothing"}
    with pytest.raises(ModelError, match=r"expected config.json or .* in someone/lymph.*, got README.md"):
        import_model(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        WeightsError, match=r"expected an answer from http://127.0.0.1:9/.*, or fetch .* give its folder"
    ):
        import_model(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(WeightsError, match="expected HF_ENDPOINT to begin with https://, got file:///etc"):
        import_model(NAME)
