"""Networks that answer patch by patch as OpenVINO graphs: padded ones, and those of ONNX files.

A graph takes the patches themselves, as pixels; an engine cuts them out of images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from napari_metastasis.errors import DeviceError, first_line
from napari_metastasis.models import PatchwiseNetwork, ProgramNetwork, ProgramSpec
from napari_metastasis.models.nets.densenet import DenseNet
from napari_metastasis.models.nets.resnet import ResNet
from napari_metastasis.models.onnx_call import OnnxCall
from napari_metastasis.scanning.engines.openvino_graph import convolution

__all__ = ["patches_graph"]


def patches_graph(network: PatchwiseNetwork | ProgramNetwork) -> Any:
    """Return the ``openvino.Model`` of a network of patches.

    Its input is uint8 of shape N x P x P x 3, its output float32 of shape N; of a fully convolutional network the input
    is N x H x W x 3, the output N x h x w, at the network's own stride.

    Raises
    ------
    DeviceError
        If the network is none that is known here, or OpenVINO does not read it.
    """
    import openvino
    from openvino import opset13 as ops

    open_sides = isinstance(network, ProgramNetwork) and network.spec.fully_convolutional
    side = -1 if open_sides else network.patch_px
    images = ops.parameter([-1, side, side, 3], np.uint8, name="images")
    pixels = ops.transpose(ops.convert(images, "f32"), [0, 3, 1, 2])
    node = ops.divide(ops.subtract(pixels, _numbers(ops, network.mean)), _numbers(ops, network.std))
    if isinstance(network, PatchwiseNetwork):
        answers = ops.matmul(_encoded(ops, node, network.network), _numbers(ops, network.weight), False, True)
        probabilities = ops.softmax(ops.add(answers, _numbers(ops, network.bias)), 1)
        return openvino.Model([_channel(ops, probabilities, network.tumour_class)], [images], "patches")
    probability = _probability(ops, _body(openvino, node, network.network), network.spec)
    return openvino.Model([probability], [images], "program")


def _numbers(ops: Any, tensor: Tensor) -> Any:
    return ops.constant(tensor.detach().float().cpu().numpy())


def _channel(ops: Any, node: Any, number: int) -> Any:
    return ops.gather(node, ops.constant(number, np.int64), ops.constant(1, np.int64))


def _body(openvino: Any, node: Any, network: nn.Module) -> Any:
    """Return the answers of an ONNX file's network to ``node``."""
    if not isinstance(network, OnnxCall) or network.batch:
        raise DeviceError(
            "expected an ONNX network that takes any number of patches for engine openvino, got another; "
            "choose --engine auto"
        )
    try:
        body = openvino.Core().read_model(network.data)
    except RuntimeError as error:
        raise DeviceError(
            f"expected an ONNX network that OpenVINO reads, got {first_line(error)}; choose --engine onnxruntime"
        ) from error
    (parameter,) = body.get_parameters()
    parameter.output(0).replace(node.output(0))
    # A result's own input is what the network answers.
    return body.output(0).get_node().input_value(0)


def _probability(ops: Any, answers: Any, spec: ProgramSpec) -> Any:
    """Return the probability of tumour of a network's answers, as ``probability_of`` does in torch."""
    only = answers.get_partial_shape()[1]
    tumour = 0 if only.is_static and only.get_length() == 1 else spec.tumour_class
    if spec.activation == "softmax" and not spec.prior:
        answers = ops.softmax(answers, 1)
    of_tumour = _channel(ops, answers, tumour)
    if spec.activation == "sigmoid" or spec.prior:
        if spec.activation == "softmax":
            of_tumour = ops.subtract(of_tumour, _channel(ops, answers, 1 - tumour))
        elif spec.activation == "none":
            of_tumour = ops.log(ops.divide(of_tumour, ops.subtract(np.float32(1), of_tumour)))
        if spec.prior:
            scaled = ops.divide(of_tumour, np.float32(spec.temperature))
            of_tumour = ops.add(scaled, np.float32(spec.shift + spec.prior_log_odds))
        of_tumour = ops.sigmoid(of_tumour)
    if spec.fully_convolutional:
        return of_tumour
    return ops.reshape(of_tumour, ops.constant([-1], np.int64), special_zero=False)


def _encoded(ops: Any, node: Any, network: nn.Module) -> Any:
    """Return the features, N x C, of normalised patches."""
    if isinstance(network, ResNet):
        stages = [network.get_submodule(f"layer{k + 1}") for k in range(len(network.architecture.blocks))]
        for layer in (network.conv1, network.bn1, network.relu, network.maxpool, *stages):
            node = _layer(ops, node, layer)
    elif isinstance(network, DenseNet):
        node = _layer(ops, node, network.features)
        node = ops.relu(node) if network.architecture.rectified else node
    else:
        raise DeviceError(f"expected a ResNet or a DenseNet, got {type(network).__name__}; choose --engine torch")
    return ops.reduce_mean(node, ops.constant([2, 3], np.int64), keep_dims=False)


def _layer(ops: Any, node: Any, layer: nn.Module) -> Any:
    if isinstance(layer, nn.Conv2d):
        return convolution(ops, node, layer)
    if isinstance(layer, nn.BatchNorm2d):
        return _normalised(ops, node, layer)
    if isinstance(layer, nn.ReLU):
        return ops.relu(node)
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        return _pooled(ops, node, layer)
    if isinstance(layer, nn.Sequential):
        for each in layer:
            node = _layer(ops, node, each)
        return node
    parts = dict(layer.named_children())
    if "norm1" in parts:
        # A dense layer: what it makes stands behind what it was given.
        inner = node
        for each in parts.values():
            inner = _layer(ops, inner, each)
        return ops.concat([node, inner], 1)
    return _block(ops, node, parts)


def _block(ops: Any, node: Any, parts: dict[str, nn.Module]) -> Any:
    """Return a residual block of two convolutions or three."""
    shortcut = _layer(ops, node, parts["downsample"]) if "downsample" in parts else node
    numbers = [number for number in (1, 2, 3) if f"conv{number}" in parts]
    for number in numbers:
        node = _layer(ops, _layer(ops, node, parts[f"conv{number}"]), parts[f"bn{number}"])
        if number != numbers[-1]:
            node = ops.relu(node)
    return ops.relu(ops.add(node, shortcut))


def _normalised(ops: Any, node: Any, layer: nn.BatchNorm2d) -> Any:
    assert layer.running_var is not None
    assert layer.running_mean is not None
    scale = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()
    shift = layer.bias.double() - layer.running_mean.double() * scale
    # OpenVINO folds these into the convolution before them.
    scaled = ops.multiply(node, _numbers(ops, scale.view(1, -1, 1, 1)))
    return ops.add(scaled, _numbers(ops, shift.view(1, -1, 1, 1)))


def _pooled(ops: Any, node: Any, layer: nn.MaxPool2d | nn.AvgPool2d) -> Any:
    side, stride, pads = [layer.kernel_size] * 2, [layer.stride] * 2, [layer.padding] * 2
    if isinstance(layer, nn.AvgPool2d):
        return ops.avg_pool(node, stride, pads, pads, side, exclude_pad=True, rounding_type="floor")
    # The second output holds positions.
    return ops.max_pool(node, stride, [1, 1], pads, pads, side, rounding_type="floor").output(0)
