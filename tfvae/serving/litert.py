"""LiteRT files (TensorFlow Lite's) of a model's functions, of built-in operators alone.

Run as a program it is the converter, in a process of its own: each conversion keeps memory that is
never given back.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.serving.graph_function import Function

SUFFIX = ".tflite"
PACKAGES = {"ai_edge_litert": "ai-edge-litert"}  # module: distribution
EXTRA = "litert"
# Largest differences from Keras, relative to the largest value of an output or to 1.
TOLERANCE = 1e-4
# Measured at 0.08 for the worst pixel, 0.03 for codes and 0.01 for the ELBO of one convolutional
# model of MNIST, trained for ten epochs; the bound is about three times that.
QUANTIZED_TOLERANCE = 0.25


def convert(
    functions: Sequence[Function], directory: Path, quantize: bool = False
) -> dict[str, str]:
    """Write NAME.tflite for each function.

    Args:
        functions: what to convert.
        directory: where to write.
        quantize: whether to store large weights in 8 bits; activations stay float32.

    Returns:
        The reason for each function that could not be converted.

    Raises:
        RuntimeError: if the converter itself fails.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="tfvae-") as scratch:
        source, answer = Path(scratch) / "saved_model", Path(scratch) / "left_out.json"
        module = tf.Module()
        module.functions = [function.graph for function in functions]
        module.weights = [
            variable for function in functions for variable in function.concrete().graph.variables
        ]
        tf.saved_model.save(
            module,
            str(source),
            signatures={function.name: function.concrete() for function in functions},
            options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
        _keep_softplus_finite(source / "saved_model.pb")
        job = {
            "source": str(source),
            "names": [function.name for function in functions],
            "directory": str(directory),
            "quantize": quantize,
            "answer": str(answer),
        }
        done = subprocess.run(
            [sys.executable, "-m", __name__, json.dumps(job)],
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "CUDA_VISIBLE_DEVICES": "",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
        )
        if done.returncode:
            last = " ".join(done.stderr.split()[-40:])
            raise RuntimeError(f"the LiteRT converter ended with {done.returncode}: {last}")
        left_out: dict[str, str] = json.loads(answer.read_text())
        return left_out


def run(file: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute the outputs of a file."""
    from ai_edge_litert.interpreter import Interpreter

    outputs: dict[str, np.ndarray] = Interpreter(str(file)).get_signature_runner()(**inputs)
    return outputs


def _keep_softplus_finite(file: Path) -> None:
    """Write each softplus of a SavedModel as ``max(x, 0) + log1p(exp(−|x|))``.

    LiteRT has none, and the converter makes ``log(exp(x) + 1)`` of it, infinite from x = 89 on.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel.FromString(file.read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        found = [node for node in function.node_def if node.op == "Softplus"]
        renamed = {f"{node.name}:activations:0": f"{node.name}/sum:z:0" for node in found}
        for node in found:
            function.node_def.extend(_finite_softplus(node))
            function.node_def.remove(node)
        for node in function.node_def:
            node.input[:] = [renamed.get(name, name) for name in node.input]
        for name, value in function.ret.items():
            function.ret[name] = renamed.get(value, value)
    file.write_bytes(model.SerializeToString())


def _finite_softplus(node: Any) -> list[Any]:
    """Return the nodes that take the place of one, of which NAME/sum is the last."""
    from tensorflow.core.framework.node_def_pb2 import NodeDef

    (x,), name = node.input, node.name
    return [
        NodeDef(name=f"{name}/{part}", op=op, input=inputs, attr={"T": node.attr["T"]})
        for part, op, inputs in (
            ("abs", "Abs", [x]),
            ("neg", "Neg", [f"{name}/abs:y:0"]),
            ("exp", "Exp", [f"{name}/neg:y:0"]),
            ("log1p", "Log1p", [f"{name}/exp:y:0"]),
            ("relu", "Relu", [x]),
            ("sum", "AddV2", [f"{name}/relu:activations:0", f"{name}/log1p:y:0"]),
        )
    ]


def _convert_saved_model(
    source: str, names: list[str], directory: str, quantize: bool, answer: str
) -> None:
    """Convert the signatures of a SavedModel, and write why some could not be."""
    import tensorflow as tf

    module, left_out = tf.saved_model.load(source), {}
    for name in names:
        # By its concrete functions, which makes constants of the weights. By its path they stay
        # variables that nothing in the file sets, and LiteRT computes with whatever is there.
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [module.signatures[name]], module
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        try:
            content = converter.convert()
        except Exception as error:
            # Of a graph that it does not know the converter raises errors of all kinds.
            left_out[name] = _reason(error)
            continue
        Path(directory, f"{name}{SUFFIX}").write_bytes(content)
    Path(answer).write_text(json.dumps(left_out))


def _reason(error: Exception) -> str:
    """Say in one line which operators are missing, or else what the converter said."""
    found = re.findall(r"(?:TF Select|Custom) ops: ([\w, ]+)", str(error))
    if found:
        return f"LiteRT has no built-in operator for {', '.join(found)}"
    return f"the LiteRT converter says: {' '.join(str(error).split())[:200]}"


def _main(job: dict[str, Any]) -> None:
    _convert_saved_model(**job)


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
