"""A dense network written down as an OpenVINO graph.

The families have few kinds of layer, so that writing them is shorter than tracing. OpenVINO's own converter would
report its use over the network unless told otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from napari_metastasis.errors import DeviceError
from napari_metastasis.models import (
    MIDDLE_GRAY,
    DenseNetwork,
    Encoder,
    Residual,
    ScanningNetwork,
    SegmentingNetwork,
)
from napari_metastasis.models.nets.enlarge import FROM_PX, TO_PX, Enlarge
from napari_metastasis.models.nets.fcn import Upsampling

__all__ = ["convolution", "openvino_graph"]


def openvino_graph(network: ScanningNetwork) -> Any:
    """Return the ``openvino.Model`` of a dense network.

    Its input is uint8 of shape N x H x W x C, as images are read, its output float32 of shape N x h x w; an encoder has
    a second one, its features, N x F x h/α x w/α.

    Raises
    ------
    DeviceError
        If the network is none that scans densely, or holds a layer of another kind.
    """
    import openvino
    from openvino import opset13 as ops

    dense = network.network if isinstance(network, Encoder) else network
    if not isinstance(dense, DenseNetwork | SegmentingNetwork) or dense.layers is None:
        raise DeviceError(
            "expected a network of layers that follow each other and do not pad, got another; choose --engine torch"
        )
    # Open sides cost nothing on a processor, and let ROIs at an edge be as small as they are.
    images = ops.parameter([-1, -1, -1, _channels(dense.layers)], np.uint8, name="images")
    node = ops.transpose(ops.subtract(ops.convert(images, "f32"), np.float32(MIDDLE_GRAY)), [0, 3, 1, 2])
    *hidden, last = dense.layers
    for layer in hidden:
        node = _layer(ops, node, layer)
    logits = _layer(ops, node, last)
    if isinstance(dense, SegmentingNetwork):
        return openvino.Model([_segmented(ops, logits, dense)], [images], "segmenting")
    tumour = ops.gather(ops.softmax(logits, 1), ops.constant(dense.tumour_class, np.int64), ops.constant(1, np.int64))
    outputs = [tumour]
    if isinstance(network, Encoder):
        cell = [network.dense_coefficient] * 2
        pooled = ops.avg_pool(node, cell, [0, 0], [0, 0], cell, exclude_pad=True, rounding_type="floor")
        outputs.append(_layer(ops, pooled, network.layer))
    return openvino.Model(outputs, [images], "dense")


def _channels(layers: nn.Sequential) -> int:
    """Return how many channels an image has; enlarging, which may come first, leaves them as they are."""
    return next(layer.in_channels for layer in layers if isinstance(layer, nn.Conv2d))


def _segmented(ops: Any, logits: Any, network: SegmentingNetwork) -> Any:
    """Return probabilities, N x h x w, of logits of pixels."""
    weights = np.array([-network.scale, network.scale], np.float32).reshape(1, 2, 1, 1)
    log_odds = ops.add(
        ops.convolution(logits, ops.constant(weights), [1, 1], [0, 0], [0, 0], [1, 1]), np.float32(network.shift)
    )
    cell = [network.cell_px] * 2
    pooled = ops.avg_pool(ops.sigmoid(log_odds), cell, [0, 0], [0, 0], cell, exclude_pad=True, rounding_type="floor")
    return ops.squeeze(pooled, ops.constant([1], np.int64))


def _layer(ops: Any, node: Any, layer: nn.Module) -> Any:
    if isinstance(layer, nn.ReLU):
        return ops.relu(node)
    if isinstance(layer, nn.ReLU6):
        return ops.clamp(node, 0.0, 6.0)
    if isinstance(layer, Residual):
        return _residual(ops, node, layer)
    if isinstance(layer, Enlarge):
        return _enlarged(ops, node, layer)
    if isinstance(layer, nn.MaxPool2d):
        side, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
        pooled = ops.max_pool(node, [stride] * 2, [dilation] * 2, [0, 0], [0, 0], [side] * 2, rounding_type="floor")
        # The second output holds positions.
        return pooled.output(0)
    if isinstance(layer, nn.Conv2d) and layer.padding == (0, 0):
        return convolution(ops, node, layer)
    if isinstance(layer, Upsampling):
        return _upsampled(ops, node, layer)
    raise DeviceError(f"expected convolutions, rectifiers and poolings, got {layer}; choose --engine torch")


def convolution(ops: Any, node: Any, layer: nn.Conv2d) -> Any:
    """Return the node of a convolution, with its padding."""
    weight = layer.weight.detach().cpu().numpy()
    pads = list(layer.padding)
    steps = (list(layer.stride), pads, pads, list(layer.dilation))
    if layer.groups == 1:
        node = ops.convolution(node, ops.constant(weight), *steps)
    else:
        # Groups, channels out and in of each, and the kernel.
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])
        node = ops.group_convolution(node, ops.constant(grouped), *steps)
    if layer.bias is None:
        return node
    return ops.add(node, ops.constant(layer.bias.detach().cpu().numpy().reshape(1, -1, 1, 1)))


def _upsampled(ops: Any, node: Any, layer: Upsampling) -> Any:
    weight = layer.weight.detach().cpu().numpy()
    grouped, edge = weight.reshape(layer.groups, 1, *weight.shape[1:]), [layer.factor] * 2
    return ops.group_convolution_backprop_data(
        node, ops.constant(grouped), [layer.factor] * 2, pads_begin=edge, pads_end=edge, dilations=[1, 1]
    )


def _enlarged(ops: Any, node: Any, layer: Enlarge) -> Any:
    weight = layer.weight.cpu().numpy()
    # Every colour by itself: phases of one input channel, and the kernel.
    grouped = weight.reshape(layer.channels, -1, 1, *weight.shape[2:])
    phases = ops.group_convolution(node, ops.constant(grouped), [FROM_PX] * 2, [0, 0], [0, 0], [1, 1])
    return ops.depth_to_space(phases, "depth_first", TO_PX)


def _residual(ops: Any, node: Any, layer: Residual) -> Any:
    inner, crop = node, layer.crop_px
    for each in layer.layers:
        inner = _layer(ops, inner, each)
    if crop:
        start, stop, step, axes = ([crop] * 2, [-crop] * 2, [1, 1], [2, 3])
        node = ops.slice(node, *(ops.constant(each, np.int64) for each in (start, stop, step, axes)))
    return ops.add(inner, node)
