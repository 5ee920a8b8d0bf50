"""Convert a TFLite network to ONNX, wrap it in steps before and after, and write it in a canonical form.

The canonical form is the same to the byte in every run: tensors are renamed in the order in which the graph needs
them. Weights are stored as fp16, which is what the originals hold, so nothing is lost.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import tf2onnx
from mediapipe_wheel import WHEEL, sha256
from numpy.typing import NDArray
from onnx import compose, helper, numpy_helper, parser

# IR version 8 is the oldest that has opset 17, so that old runtimes load the result.
HEADER = '<ir_version: 8, opset_import: ["" : 17]>'


def convert(source: Path) -> onnx.ModelProto:
    """Convert TFLite to ONNX, opset 17, with tf2onnx."""
    model, _ = tf2onnx.convert.from_tflite(str(source), opset=17)
    model.ir_version = 8
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 17))
    return model


def parse(text: str, **constants: NDArray[np.float32]) -> onnx.ModelProto:
    """Parse a graph in ONNX's text form; `constants` are those that are too long for the text."""
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    return model


def wrap(
    core: onnx.ModelProto, head: onnx.ModelProto, tail: onnx.ModelProto, outputs: dict[str, str]
) -> onnx.ModelProto:
    """Connect head -> core -> tail; `outputs` maps outputs of the core to inputs of the tail."""
    head, tail = compose.add_prefix(head, "head/"), compose.add_prefix(tail, "tail/")
    joined = compose.merge_models(head, core, [("head/rgb", core.graph.input[0].name)])
    io_map = [(a, f"tail/{b}") for a, b in outputs.items()]
    return compose.merge_models(joined, tail, io_map, outputs=[o.name for o in tail.graph.output])


def canonicalise(model: onnx.ModelProto, name: str, origin: str) -> onnx.ModelProto:
    """The same network with fp16 storage, canonical names and order, and without nodes that no output needs."""
    graph = model.graph
    producer = {o: node for node in graph.node for o in node.output}
    weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    public_names = {v.name: v.name.rpartition("/")[2] for v in [*graph.input, *graph.output]}
    names = {"": ""} | {v.name: public_names[v.name] for v in graph.input}
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []

    def store(value: NDArray[np.generic]) -> str:
        label = f"w{len(stored)}"
        if value.dtype != np.float32 or value.size < 16:
            stored.append(numpy_helper.from_array(value, label))
            return label
        stored.append(numpy_helper.from_array(value.astype(np.float16), f"{label}h"))
        nodes.append(helper.make_node("Cast", [f"{label}h"], [label], to=onnx.TensorProto.FLOAT))
        return label

    def visit(tensor: str) -> str:
        if tensor in names:
            return names[tensor]
        if tensor in weights:
            names[tensor] = store(weights[tensor])
            return names[tensor]
        node = producer[tensor]
        inputs = [visit(i) for i in node.input]
        names.update((o, public_names.get(o, f"t{len(names)}_{i}")) for i, o in enumerate(node.output))
        nodes.append(helper.make_node(node.op_type, inputs, [names[o] for o in node.output]))
        nodes[-1].attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        return names[tensor]

    for value in graph.output:
        visit(value.name)
    for value in [*graph.input, *graph.output]:
        value.name = public_names[value.name]
    canonical = helper.make_model(
        helper.make_graph(nodes, name, graph.input, graph.output, stored),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="dancedist",
    )
    helper.set_model_props(canonical, {"licence": "Apache-2.0", "origin": f"{WHEEL}, {origin}"})
    onnx.checker.check_model(canonical, full_check=True)
    return canonical


def write(model: onnx.ModelProto, target: Path) -> None:
    """Write a model; print the size and checksum for NOTICE.md and dancedist/weights/catalogue.py."""
    target.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{target.name}: {target.stat().st_size} bytes, sha256 {sha256(target)}")
