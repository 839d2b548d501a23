"""ONNX files of a model's functions, made by tf2onnx and run by ONNX Runtime."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.serving.graph_function import Function

SUFFIX = ".onnx"
PACKAGES = {"tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"}  # module: distribution
EXTRA = "onnx"
# Largest difference from Keras, relative to the largest value of an output or to 1: sums of
# hundreds of float32 numbers in another order differ by some 1e-6.
TOLERANCE = 1e-4

_OPSET = 18
# A graph has one name for a tensor; the output of a reconstruction cannot be called as its input.
RENAMED = {"reconstruct": {"images": "reconstructions", "x": "reconstructions"}}


def convert(functions: Sequence[Function], directory: Path) -> dict[str, str]:
    """Write NAME.onnx for each function.

    Args:
        functions: what to convert.
        directory: where to write.

    Returns:
        The reason for each function that could not be converted.
    """
    left_out = {}
    for function in functions:
        try:
            model = _converted(function)
        except Exception as error:
            # Of a graph that it does not know tf2onnx raises errors of all kinds.
            left_out[function.name] = f"tf2onnx says: {_one_line(error)}"
            continue
        unknown = sorted(_unknown_operators(model.graph))
        if unknown:
            left_out[function.name] = f"ONNX has no operator for {', '.join(unknown)}"
            continue
        (directory / f"{function.name}{SUFFIX}").write_bytes(model.SerializeToString())
    return left_out


def run(file: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute the outputs of a file, by the names that they have in Keras."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    # An input that nothing is computed from is not in the file.
    fed = {one.name: inputs[one.name] for one in session.get_inputs()}
    renamed = RENAMED.get(file.stem, {})
    names = {new: old for old, new in renamed.items() if old in inputs}
    given = [one.name for one in session.get_outputs()]
    return {
        names.get(name, name): value
        for name, value in zip(given, session.run(None, fed), strict=True)
    }


def _converted(function: Function) -> Any:
    """Return the ONNX model of a function."""
    import tensorflow as tf
    import tf2onnx

    renamed = RENAMED.get(function.name, {})

    @tf.function(input_signature=function.inputs, autograph=False)
    def graph(*inputs: Any) -> dict[str, Any]:
        return {renamed.get(key, key): value for key, value in function.graph(*inputs).items()}

    with _quiet():
        model, _ = tf2onnx.convert.from_function(
            graph,
            function.inputs,
            opset=_OPSET,
            custom_op_handlers={
                "BroadcastArgs": (_broadcast_shapes, []),
                "Expm1": (_expm1, []),
                "Log1p": (_log1p, []),
                "SelectV2": (_where, []),
            },
        )
    # Some operators lose what is known of a shape, and the batch has a number for a name.
    specs: dict[str, Any] = {spec.name: spec for spec in function.inputs}
    specs |= graph.get_concrete_function().structured_outputs
    for value in [*model.graph.input, *model.graph.output]:
        sides = specs[value.name].shape
        shape = value.type.tensor_type.shape
        shape.ClearField("dim")
        for number, side in enumerate(sides):
            dimension = shape.dim.add()
            if number == 0:
                dimension.dim_param = "batch"
            elif side is not None:
                dimension.dim_value = side
    return model


def _unknown_operators(graph: Any) -> set[str]:
    """Return the operators that stayed TensorFlow's, those of loops included."""
    import onnx

    unknown = set()
    for node in graph.node:
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type):
            unknown.add(node.op_type)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                unknown |= _unknown_operators(attribute.g)
    return unknown


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep tf2onnx's own account of unknown operators off the screen."""
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    chosen = [one for one in loggers if one.name.startswith("tf2onnx")]
    levels = [one.level for one in chosen]
    try:
        for one in chosen:
            one.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for one, level in zip(chosen, levels, strict=True):
            one.setLevel(level)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# --- operators that tf2onnx does not know, or makes another of ------------------------------------
#
# Each takes the place of a node in tf2onnx's graph `context`.


def _expm1(context: Any, node: Any, name: str, _: Any) -> None:
    """``exp(x) − 1 = tanh(x/2) (exp(x) + 1)``, which keeps the digits of a small x."""
    build = _Builder(context, node)
    (x,) = node.input
    half = build("Tanh", build("Mul", x, build.number(0.5)))
    build.replace("Mul", half, build("Add", build("Exp", x), build.number(1.0)))


def _log1p(context: Any, node: Any, name: str, _: Any) -> None:
    """``log(1 + x) = x log(u)/(u − 1)`` with u the rounded 1 + x, and x where u is 1."""
    build = _Builder(context, node)
    (x,) = node.input
    one = build.number(1.0)
    u = build("Add", x, one)
    is_one = build("Equal", u, one, kind="bool")
    # Where u is 1 or infinite the quotient is no number, and is not taken.
    quotient = build("Div", build("Mul", x, build("Log", u)), build("Sub", u, one))
    finite = build("Where", build("IsInf", u, kind="bool"), u, quotient)
    build.replace("Where", is_one, x, finite)


def _where(context: Any, node: Any, name: str, _: Any) -> None:
    """One of two values. tf2onnx multiplies by 0 and 1, which gives NaN where the other is NaN."""
    _Builder(context, node).replace("Where", *node.input)


def _broadcast_shapes(context: Any, node: Any, name: str, _: Any) -> None:
    """The shape that two shapes broadcast to: of each pair of sides the one that is not 1."""
    build = _Builder(context, node)
    lengths = [context.get_shape(one) for one in node.input]
    if not all(shape is not None and len(shape) == 1 and shape[0] >= 0 for shape in lengths):
        return  # it stays, and is told as unknown
    longest = max(shape[0] for shape in lengths)

    def padded(shape: str, length: int) -> str:
        if length == longest:
            return shape
        return build("Concat", build.array(np.ones(longest - length, build.dtype)), shape, axis=0)

    a, b = (padded(shape, length) for shape, (length,) in zip(node.input, lengths, strict=True))
    build.replace("Where", build("Equal", a, build.number(1), kind="bool"), b, a)


class _Builder:
    """Makes nodes beside one, and at last in its place."""

    def __init__(self, context: Any, node: Any):
        from tf2onnx import utils

        self._context, self._node, self._utils = context, node, utils
        self._type = context.get_dtype(node.input[0])
        self.dtype = utils.map_onnx_to_numpy_type(self._type)

    def array(self, value: np.ndarray) -> str:
        """Return the name of a constant."""
        name = self._utils.make_name(self._node.name)
        return self._context.make_const(name, value).output[0]

    def number(self, value: float) -> str:
        """Return the name of a constant of the type of the node's input."""
        return self.array(np.array(value, self.dtype))

    def __call__(self, kind_of_node: str, *inputs: str, kind: str = "", **attributes: Any) -> str:
        """Make a node, and return the name of its output."""
        from onnx import TensorProto

        dtype = TensorProto.BOOL if kind == "bool" else self._type
        node = self._context.make_node(
            kind_of_node, list(inputs), attr=attributes, dtypes=[dtype], shapes=[None]
        )
        return node.output[0]

    def replace(self, kind_of_node: str, *inputs: str) -> None:
        """Put a node where the old one was."""
        old = self._node
        shapes, dtypes = old.output_shapes, old.output_dtypes
        self._context.remove_node(old.name)
        self._context.make_node(
            kind_of_node,
            list(inputs),
            name=old.name,
            outputs=old.output,
            shapes=shapes,
            dtypes=dtypes,
        )
