"""Training begins with VGG16's convolutions from a file or a server, and with nothing that does not fit."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import socket
import threading

import pytest
import torch
from safetensors.torch import save_file

from napari_metastasis.errors import UnknownModelError, WeightsError
from napari_metastasis.models import build_network, load_model
from napari_metastasis.models import initial as initial_module
from napari_metastasis.models.fetch import PublishedWeights, fetch_weights
from napari_metastasis.models.initial import VGG16_IMAGENET, InitialWeights, begin_with, load_initial


@pytest.fixture(scope="module")
def vgg16():
    """Weights under torchvision's names: the convolutions, and dense layers that have no place here."""
    generator = torch.Generator().manual_seed(0)
    own = build_network("scannet-vgg16").state_dict()
    state = {
        name: torch.randn(tensor.shape, generator=generator)
        for name, tensor in own.items()
        if name.startswith("features.")
    }
    return {**state, "classifier.0.weight": torch.zeros(4, 4), "classifier.0.bias": torch.zeros(4)}


@pytest.fixture(scope="module")
def served(vgg16, tmp_path_factory):
    """A local server with the weights, and how often it was asked."""
    folder = tmp_path_factory.mktemp("server")
    torch.save(vgg16, folder / "vgg16.pth")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(folder), **kwargs)

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    digest = hashlib.sha256((folder / "vgg16.pth").read_bytes()).hexdigest()
    yield PublishedWeights(f"http://127.0.0.1:{server.server_port}/vgg16.pth", digest), asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_vgg16_from_a_file(vgg16, tmp_path, suffix):
    path = tmp_path / f"vgg16{suffix}"
    if suffix == ".pth":
        torch.save(vgg16, path)
    else:
        save_file(vgg16, path)
    network = build_network("scannet-vgg16")
    head = network.head[0].weight.clone()
    initial = load_initial(path)
    begin_with(network, initial)
    for name, tensor in vgg16.items():
        if name.startswith("features."):
            assert torch.equal(network.state_dict()[name], tensor)
    assert torch.equal(network.head[0].weight, head)
    assert initial.mean == pytest.approx((0.485, 0.456, 0.406))


def test_vgg16_is_fetched_once(served, tmp_path, monkeypatch):
    published, asked = served
    monkeypatch.setattr(initial_module, "_PUBLISHED", {VGG16_IMAGENET: published})
    monkeypatch.setattr(initial_module, "weights_folder", lambda: tmp_path / "kept")
    steps = []
    first = load_initial(VGG16_IMAGENET, progress=lambda done, total: steps.append((done, total)))
    again = load_initial(VGG16_IMAGENET)
    assert len(asked) == 1
    assert first.sha256 == again.sha256
    assert steps[-1][0] == steps[-1][1] > 0


def test_other_bytes_are_thrown_away(served, tmp_path):
    published = dataclasses.replace(served[0], sha256="00000000")
    with pytest.raises(WeightsError, match=r"expected weights with SHA-256 00000000…"):
        fetch_weights(published, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_copy_is_fetched_again(served, tmp_path):
    published, asked = served
    (tmp_path / published.file_name).write_bytes(b"cut short")
    before = len(asked)
    path = fetch_weights(published, folder=tmp_path)
    assert len(asked) == before + 1
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(published.sha256)


def test_without_a_network_the_remedy_is_named(tmp_path):
    nobody = PublishedWeights("http://127.0.0.1:9/vgg16.pth", "397923af" * 8)
    with pytest.raises(WeightsError, match="give the file's path instead") as raised:
        fetch_weights(nobody, folder=tmp_path)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_breaks_is_no_disk_that_fails(tmp_path):
    """A server that promises more than it sends, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ncut short")

    thread = threading.Thread(target=answer)
    thread.start()
    published = PublishedWeights(f"http://127.0.0.1:{listener.getsockname()[1]}/vgg16.pth", "397923af" * 8)
    with pytest.raises(WeightsError) as raised:
        fetch_weights(published, folder=tmp_path)
    thread.join()
    listener.close()
    assert "disk" not in str(raised.value)
    assert "give the file's path instead" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_that_is_no_tensor_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "run"), "w"))

    path = tmp_path / "trap.pth"
    torch.save({"features.0.weight": Trap()}, path)
    with pytest.raises(WeightsError, match="expected a file of tensors"):
        load_initial(path)
    assert not (tmp_path / "run").exists()


def test_a_file_of_other_weights_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"blocks.0.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"torchvision's names.*got blocks\.0\.weight"):
        load_initial(path)


def test_weights_of_another_network_are_refused(vgg16, tmp_path):
    path = tmp_path / "vgg16.pth"
    torch.save(vgg16, path)
    with pytest.raises(WeightsError, match="choose another initial model or architecture"):
        begin_with(build_network("scannet-small"), load_initial(path))
    part = InitialWeights("part", "0" * 64, {"features.0.weight": vgg16["features.0.weight"]})
    with pytest.raises(WeightsError, match=r"got none for features\."):
        begin_with(build_network("scannet-vgg16"), part)


def test_an_earlier_model_begins_whole():
    model = load_model("scannet-pcam")
    network = build_network(model.spec.architecture)
    begin_with(network, load_initial("scannet-pcam"))
    assert all(torch.equal(network.state_dict()[name], t) for name, t in model.network.state_dict().items())


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UnknownModelError, match=r"scannet-pcam.*vgg16-imagenet"):
        load_initial("no-such-model")
