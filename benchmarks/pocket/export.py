"""Write the network as one small ONNX file: weights as float16, sums in float32."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from net import PocketNet
from torch import nn
from whiten import Layout

from tllboost.files import whole_file

__all__ = ["LAYOUT_LENGTH", "write_onnx"]

LAYOUT_LENGTH = 0.8
"""Of the layout vector, where that of the thing has length 1."""


class _Graph:
    """Nodes and weights of a network that is written down step by step."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self.helper, self.numpy_helper = helper, numpy_helper
        self.nodes: list[object] = []
        self.weights: list[object] = []

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node of one output and return the output's name."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(
            self.helper.make_node(kind, list(inputs), [name], **attributes)
        )
        return name

    def weight(self, tensor: torch.Tensor, *, half: bool = True) -> str:
        """Add a tensor, stored as float16, and return its name as float32."""
        values = tensor.detach().numpy().astype(np.float16 if half else np.float32)
        name = f"weight_{len(self.weights)}"
        self.weights.append(self.numpy_helper.from_array(values, name))
        return self.add("Cast", name, to=1) if half else name

    def layer(self, block: nn.Sequential, pixels: str) -> str:
        """Add a convolution with its batch norm folded in, and its ReLU if any."""
        convolution, norm = block[0], block[1]
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        kernel = convolution.weight * factor[:, None, None, None]
        bias = norm.bias - norm.running_mean * factor
        out = self.add(
            "Conv",
            pixels,
            self.weight(kernel),
            self.weight(bias, half=False),
            kernel_shape=[3, 3],
            strides=list(convolution.stride),
            pads=[1, 1, 1, 1],
        )
        return self.add("Relu", out) if len(block) == 3 else out

    def vector(self, rows: str, weight: torch.Tensor, bias: torch.Tensor) -> str:
        """Add a linear map and the scaling of what it gives to length 1."""
        out = self.add(
            "Gemm", rows, self.weight(weight.T), self.weight(bias, half=False)
        )
        return self.add("LpNormalization", out, p=2)


def write_onnx(net: PocketNet, layout: Layout, file: Path, *, size: int) -> str:
    """Write a network and return the file's sha256.

    It gives two vectors, concatenated: that of the same thing seen again, at length 1,
    and that of the layout, at ``LAYOUT_LENGTH``. The head that learned from pairs of
    looks shaped the maps that the latter is made of, and is left out.

    Parameters
    ----------
    layout : (Tensor, Tensor)
        As `whiten.whitening` returns it.
    size : int
        Side of the input.
    """
    from onnx import TensorProto, checker

    net = net.eval()
    graph = _Graph()
    helper = graph.helper
    maps = "pixels"
    for block in net.body:
        if isinstance(block, nn.Sequential):
            maps = graph.layer(block, maps)
        else:
            inner = graph.layer(block.second, graph.layer(block.first, maps))
            maps = graph.add("Relu", graph.add("Add", maps, inner))
    norm = net.instance_norm
    factor = 1 / torch.sqrt(norm.running_var + norm.eps)
    linear = net.instance.weight * factor[:, None], -norm.running_mean * factor
    instance = graph.vector(_pooled(graph, maps), *linear)
    looks = graph.vector(_parts(graph, maps, size), *layout)
    length = graph.weight(torch.tensor(LAYOUT_LENGTH), half=False)
    vectors = graph.add("Concat", instance, graph.add("Mul", looks, length), axis=1)
    n_dims = net.instance.out_features + len(layout[1])
    graph.nodes.append(helper.make_node("Identity", [vectors], ["output"]))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "pocket",
            [
                helper.make_tensor_value_info(
                    "pixels", TensorProto.FLOAT, ["n", 3, size, size]
                )
            ],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", n_dims])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="tllboost benchmarks/pocket",
    )
    checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    with whole_file(file) as stream:
        stream.write(content)
    return hashlib.sha256(content).hexdigest()


def _pooled(graph: _Graph, maps: str) -> str:
    """Add the mean of each channel and the fourth root of its mean fourth power."""
    floor = graph.weight(torch.tensor(1e-3), half=False)
    squares = graph.add("Max", maps, floor)
    for _ in range(2):
        squares = graph.add("Mul", squares, squares)
    peaks = graph.add("GlobalAveragePool", squares)
    for _ in range(2):
        peaks = graph.add("Sqrt", peaks)
    mean = graph.add("GlobalAveragePool", maps)
    return graph.add("Flatten", graph.add("Concat", mean, peaks, axis=1))


def _parts(graph: _Graph, maps: str, size: int) -> str:
    """Add the means of nine overlapping parts, side by side, as `whiten.parts` does."""
    side = size // 16 // 2
    shape = {"kernel_shape": [side, side], "strides": [side // 2, side // 2]}
    return graph.add("Flatten", graph.add("AveragePool", maps, **shape))
