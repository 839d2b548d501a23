"""Trained models in other runtimes: ONNX Runtime and LiteRT (TensorFlow Lite).

Random operations do not go into either: what draws takes its noise as an input.
"""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tfvae.errors import missing_extra
from tfvae.models.vae import VAE
from tfvae.saving.files import new_directory, refuse_existing
from tfvae.serving import litert, onnx
from tfvae.serving.functions import functions_of, in_float32
from tfvae.serving.graph_function import Function


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: the directory.
        functions: their names; each is a file NAME.onnx or NAME.tflite.
        left_out: the functions that are not there, and why.
        differences: for each function and output, the largest difference from Keras on a small
            batch, relative to the output's largest value or to 1.
        bytes: size of all files.
    """

    path: Path
    functions: tuple[str, ...]
    left_out: dict[str, str]
    differences: dict[str, dict[str, float]]
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        return {
            "out": str(self.path),
            "functions": list(self.functions),
            "left_out": self.left_out,
            "differences": self.differences,
            "bytes": self.bytes,
        }


def export_onnx(vae: VAE, path: str | Path, *, replace: bool = False) -> Exported:
    """Write the functions of a model as ONNX files, for ONNX Runtime and others.

    The files are ``reconstruct.onnx``, ``encode.onnx``, ``decode.onnx``, ``sample.onnx`` and
    ``elbo.onnx``, in float32, for batches of any size; inputs and outputs are those of
    `tfvae.serving.functions.functions_of`, but the output of ``reconstruct.onnx`` is called
    ``reconstructions``. What the model or the converter cannot give is left out. Each file is run
    once and compared with Keras before anything appears.

    Args:
        vae: a built `VAE`; one in half precision is exported in float32.
        path: the directory to make; it appears complete or not at all.
        replace: whether a directory that is there may be replaced.

    Returns:
        What has been written.

    Raises:
        InputError: if something is at `path`, the model has not been built, or tf2onnx or
            onnxruntime is not installed.
        RuntimeError: if a file computes something else than Keras, or no function could be
            converted.
    """
    return _export(vae, path, replace, onnx, onnx.convert, onnx.TOLERANCE)


def export_litert(
    vae: VAE, path: str | Path, *, quantize: bool = False, replace: bool = False
) -> Exported:
    """Write the functions of a model as LiteRT files, of built-in operators alone.

    The files are ``reconstruct.tflite``, ``encode.tflite``, ``decode.tflite``, ``sample.tflite``
    and ``elbo.tflite``, with one signature each, for batches of any size; inputs and outputs are
    those of `tfvae.serving.functions.functions_of`, in float32. What the model or the converter
    cannot give is left out. Each file is run once and compared with Keras before anything appears.

    Args:
        vae: a built `VAE`; one in half precision is exported in float32.
        path: the directory to make; it appears complete or not at all.
        quantize: whether to store the larger weights as 8-bit numbers (dynamic-range
            quantisation), a quarter of the size, at a loss that `Exported.differences` tells.
        replace: whether a directory that is there may be replaced.

    Returns:
        What has been written.

    Raises:
        InputError: if something is at `path`, the model has not been built, or ai-edge-litert is
            not installed.
        RuntimeError: if a file computes something else than Keras, or no function could be
            converted.
    """

    def convert(functions: list[Function], directory: Path) -> dict[str, str]:
        return litert.convert(functions, directory, quantize)

    tolerance = litert.QUANTIZED_TOLERANCE if quantize else litert.TOLERANCE
    return _export(vae, path, replace, litert, convert, tolerance)


def _export(
    vae: VAE,
    path: str | Path,
    replace: bool,
    runtime: ModuleType,
    convert: Callable[[list[Function], Path], dict[str, str]],
    tolerance: float,
) -> Exported:
    missing = [
        name for module, name in runtime.PACKAGES.items() if not importlib.util.find_spec(module)
    ]
    if missing:
        raise missing_extra("this export needs", " and ".join(missing), runtime.EXTRA)
    path = Path(path)
    if not replace:
        refuse_existing(path, "choose another name or remove it first")
    functions, left_out = functions_of(in_float32(vae))
    with new_directory(path, replace=replace) as partial:
        left_out |= convert(functions, partial)
        differences = {}
        for function in functions:
            file = partial / f"{function.name}{runtime.SUFFIX}"
            if function.name in left_out:
                continue
            try:
                received = runtime.run(file, function.example)
            except Exception as error:
                # Runtimes raise errors of many kinds at a file that they cannot run.
                left_out[function.name] = f"it does not run: {' '.join(str(error).split())[:200]}"
                file.unlink()
                continue
            differences[function.name] = _compared(function, received, file.name, tolerance)
        if not differences:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise RuntimeError(f"no function of the model could be converted: {reasons}")
        size = sum(file.stat().st_size for file in partial.iterdir())
    return Exported(path, tuple(differences), left_out, differences, size)


def _compared(
    function: Function, received: dict[str, np.ndarray], file: str, tolerance: float
) -> dict[str, float]:
    """Return the largest difference from Keras of each output.

    Raises:
        RuntimeError: if one is above the tolerance.
    """
    expected = function(**function.example)
    found = {name: difference(received[name], value) for name, value in expected.items()}
    for name, value in found.items():
        if not value <= tolerance:  # NaN is not
            raise RuntimeError(
                f"{name} of {file} differs from Keras by {value:.2g} of its largest value, "
                f"more than {tolerance:g}: nothing was written"
            )
    return found


def difference(received: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of two arrays, relative to the larger of 1 and `expected`."""
    scale = max(1.0, float(np.abs(expected).max()))
    return float(np.abs(np.asarray(received) - expected).max()) / scale
