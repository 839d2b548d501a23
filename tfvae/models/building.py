"""What a model checks of its networks and of Keras as it is built."""

from collections.abc import Sequence
from typing import Any

import keras

from tfvae.errors import InputError
from tfvae.typing import Shape


def check_keras() -> None:
    """Check that Keras is set up as the library needs it.

    Raises:
        InputError: if it is not.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "tfvae needs Keras on TensorFlow; received backend "
            f"{keras.backend.backend()!r}: set KERAS_BACKEND=tensorflow"
        )
    if keras.config.image_data_format() != "channels_last":
        raise InputError(
            "tfvae takes the channels on the last axis, and Keras is set to channels_first: call "
            "keras.config.set_image_data_format('channels_last')"
        )


def check_network(role: str, network: Any) -> None:
    """Check that a network is one of Keras 3.

    Raises:
        InputError: if it is none.
    """
    if isinstance(network, keras.layers.Layer):
        return
    module = type(network).__module__
    if module.split(".")[0] == "tf_keras":
        raise InputError(
            f"the {role} must be a keras.Model of Keras 3; received one of tf_keras, which is "
            "Keras 2: build it with import keras"
        )
    raise InputError(f"the {role} must be a keras.Model; received {network!r}")


def run_symbolically(
    role: str, network: keras.Model, input_shape: Shape, num_classes: int | None
) -> Any:
    """Return a network's symbolic output, or say in one line why it does not take the input.

    Args:
        role: what to call it in a message, "encoder" or "decoder".
        network: from events or z, and labels of a conditional model, to features.
        input_shape: of one event, or one z.
        num_classes: of the labels, None without.

    Raises:
        InputError: if it does not take such input, or puts out a dictionary.
    """
    shapes = [input_shape] if num_classes is None else [input_shape, (num_classes,)]
    expected = " and ".join(map(_batched, shapes))
    known = getattr(network, "input_shape", None) if network.built else None
    if isinstance(known, (tuple, list)):
        taken = known if isinstance(known, list) else [known]
        if len(taken) != len(shapes) or not all(map(_admits, taken, shapes)):
            raise InputError(
                f"the {role} takes {' and '.join(_batched(shape[1:]) for shape in taken)}, "
                f"but must take {expected}"
            )
    inputs = [keras.Input(shape) for shape in shapes]
    try:
        output = network(inputs if len(inputs) > 1 else inputs[0])
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the {role} must take input of shape {expected}; it said: {reason}"
        ) from error
    if isinstance(output, dict):
        raise InputError(
            f"the {role} must put out a tensor, or a list of tensors; received a dictionary of "
            f"{', '.join(map(repr, output))}: let it return [output['NAME'], ...]"
        )
    return output


def _admits(known: Sequence[int | None], shape: Shape) -> bool:
    """Whether a network that takes `known`, with its batch and open sides, takes `shape`."""
    return len(known) == len(shape) + 1 and all(
        side in (None, expected) for side, expected in zip(known[1:], shape, strict=True)
    )


def _batched(shape: Sequence[int | None]) -> str:
    return f"[batch, {', '.join(map(str, shape))}]"


def last_layer(decoder: Any) -> keras.layers.Layer | None:
    """Return the layer that makes a decoder's values, None where it cannot be told."""
    if not isinstance(decoder, keras.Sequential) and not hasattr(decoder, "outputs"):
        return None
    shape_only = (
        keras.layers.Reshape,
        keras.layers.Flatten,
        keras.layers.Cropping1D,
        keras.layers.Cropping2D,
        keras.layers.Cropping3D,
    )
    for layer in reversed(decoder.layers):
        if not isinstance(layer, shape_only):
            return layer
    return None


def first_layer(encoder: Any) -> keras.layers.Layer | None:
    """Return the layer that takes an encoder's events, None where it cannot be told.

    It is a dense layer or a convolution with a bias, behind nothing but inputs, changes of shape
    and what makes a channel of a label, which has no bias.
    """
    passed = (
        keras.layers.InputLayer,
        keras.layers.Flatten,
        keras.layers.Reshape,
        keras.layers.Concatenate,
    )
    known = (
        keras.layers.Dense,
        keras.layers.Conv1D,
        keras.layers.Conv2D,
        keras.layers.Conv3D,
    )
    for layer in getattr(encoder, "layers", ()):
        if isinstance(layer, known) and layer.bias is not None:
            return layer
        if not isinstance(layer, (*passed, keras.layers.Dense)):
            return None
    return None


def last_activation(decoder: Any) -> Any:
    """Return the activation of a decoder's output, None where it cannot be told."""
    return getattr(last_layer(decoder), "activation", None)
