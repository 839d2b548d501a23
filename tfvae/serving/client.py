"""A client of TensorFlow Serving, over REST or gRPC, that needs no TensorFlow graph of its own.

Over REST it does not load TensorFlow at all, which takes seconds and a gigabyte of disk.

TensorFlow Serving listens for gRPC on port 8500 and for REST on 8501::

    model = tfvae.serving.client.Client("http://localhost:8501", "vae")
    model("sample", seed=[[1, 0], [1, 1]])["images"]  # "x" of a model of other events
"""

import base64
import contextlib
import dataclasses
import functools
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from tfvae.errors import InputError

_SCHEMES = ("http", "https", "grpc", "grpcs")
# The types whose names are not TensorFlow's in lower case.
_DTYPES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}
# Requests of many events are larger than gRPC's default of 4 MiB.
_MOST_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """An input or output of a signature.

    Attributes:
        dtype: name of its type, as NumPy has it; "string" of bytes.
        shape: −1 where the size is open; None where even the rank is.
    """

    dtype: str
    shape: tuple[int, ...] | None

    @classmethod
    def of(cls, dtype: str, shape: tuple[int, ...] | None) -> "TensorInfo":
        """Return the one of a type as TensorFlow names it, such as "DT_FLOAT"."""
        return cls(_DTYPES.get(dtype, dtype.removeprefix("DT_").lower()), shape)

    @property
    def numpy_dtype(self) -> np.dtype:
        """The type of its arrays; object for bytes."""
        if self.dtype == "bfloat16":
            import ml_dtypes  # which NumPy knows the type by

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(object if self.dtype == "string" else self.dtype)


@dataclasses.dataclass(frozen=True)
class Signature:
    """A signature of a model: its inputs and outputs by their names."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


class Client:
    """Calls the signatures of a model that a server has loaded.

    Args:
        address: ``http://HOST:PORT`` or ``https://`` for REST, ``grpc://HOST:PORT`` or ``grpcs://``
            for gRPC.
        model: its name there.
        version: which; by default the newest.
        timeout: seconds to wait for an answer.

    Raises:
        InputError: if the address is of another kind.
    """

    def __init__(
        self, address: str, model: str = "vae", *, version: int | None = None, timeout: float = 60.0
    ):
        scheme, separator, rest = address.partition("://")
        if not separator or scheme not in _SCHEMES or not rest.strip("/"):
            kinds = ", ".join(f"{scheme}://HOST:PORT" for scheme in _SCHEMES)
            raise InputError(f"an address is one of {kinds}; received {address!r}")
        self.address, self.model, self.version, self.timeout = address, model, version, timeout
        kind = _Grpc if scheme.startswith("grpc") else _Rest
        self._protocol: Any = kind(self)

    def __call__(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Call a signature.

        Args:
            signature: its name, such as ``"encode"``.
            **inputs: arrays with the batch `[B]` first, or what makes them; for strings bytes or
                text.

        Returns:
            The outputs by their names; of strings, an array of bytes objects.

        Raises:
            InputError: if there is no such signature, the inputs do not fit, or the server says
                that it cannot answer.
            OSError: if no server answers at the address.
        """
        signatures = self.signatures
        if signature not in signatures:
            raise InputError(
                f"{self.model} has no signature {signature!r}: expected one of "
                f"{', '.join(signatures)}"
            )
        specs = signatures[signature].inputs
        if set(inputs) != set(specs):
            raise InputError(
                f"{signature} takes {', '.join(specs)}; received {', '.join(inputs) or 'nothing'}"
            )
        arrays = {name: _array(name, value, specs[name]) for name, value in inputs.items()}
        return self._protocol.predict(signature, arrays)

    @functools.cached_property
    def signatures(self) -> dict[str, Signature]:
        """The signatures of the model as the server tells them."""
        known = self._protocol.signatures()
        # TensorFlow's own, such as __saved_model_init_op, are for nobody to call.
        return {name: one for name, one in known.items() if not name.startswith("__")}

    def close(self) -> None:
        """End the connection; so does the end of a ``with`` block."""
        self._protocol.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _array(name: str, value: Any, spec: TensorInfo) -> np.ndarray:
    """Return an input as an array of its type."""
    if spec.dtype == "string":
        return np.array(value, object)
    array = np.asarray(value)
    if array.dtype.kind == "f" and "float" not in spec.dtype:
        raise InputError(f"{name} is of {spec.dtype}; received {array.dtype}: convert it")
    return array.astype(spec.numpy_dtype)


class _Rest:
    """TensorFlow Serving's REST interface, with requests in columns."""

    def __init__(self, client: Client):
        self._client = client
        self._url = f"{client.address.rstrip('/')}/v1/models/{quote(client.model, safe='')}"
        if client.version is not None:
            self._url += f"/versions/{int(client.version)}"

    def signatures(self) -> dict[str, Signature]:
        found = _field(self._ask("/metadata")["metadata"]["signature_def"], "signature_def")
        return {
            name: Signature(*(_infos_of_json(one.get(key, {})) for key in ("inputs", "outputs")))
            for name, one in found.items()
        }

    def close(self) -> None:
        """Nothing is open between two requests."""

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        body = {
            "signature_name": signature,
            "inputs": {name: _to_json(array) for name, array in inputs.items()},
        }
        found = self._ask(":predict", body)["outputs"]
        specs = self._client.signatures[signature].outputs
        if len(specs) == 1:
            # Of one output the interface leaves out the name.
            found = dict.fromkeys(specs, found)
        return {name: _from_json(value, specs[name]) for name, value in found.items()}

    def _ask(self, what: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + what, data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self._client.timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["error"]
            raise _refusal(self._client, text) from None


class _Grpc:
    """TensorFlow Serving's PredictionService."""

    def __init__(self, client: Client):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        scheme, _, target = client.address.partition("://")
        options = [
            ("grpc.max_send_message_length", _MOST_BYTES),
            ("grpc.max_receive_message_length", _MOST_BYTES),
        ]
        if scheme == "grpcs":
            channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
        else:
            channel = grpc.insecure_channel(target, options)
        self._client, self._channel = client, channel
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def signatures(self) -> dict[str, Signature]:
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest()
        self._name(request.model_spec)
        request.metadata_field.append("signature_def")
        answer = self._call(self._stub.GetModelMetadata, request)
        known = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(known)
        return {
            name: Signature(_infos_of_protocol(one.inputs), _infos_of_protocol(one.outputs))
            for name, one in known.signature_def.items()
        }

    def close(self) -> None:
        self._channel.close()

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        self._name(request.model_spec)
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        answer = self._call(self._stub.Predict, request)
        return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}

    def _name(self, spec: Any) -> None:
        spec.name = self._client.model
        if self._client.version is not None:
            spec.version.value = self._client.version

    def _call(self, method: Any, request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self._client.timeout)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise ConnectionError(
                    f"no server answers at {self._client.address}: {error.details()}"
                ) from None
            raise _refusal(self._client, error.details()) from None


def _infos_of_json(tensors: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """Return what a REST server tells of the inputs or outputs of a signature."""
    found = {}
    for name, one in tensors.items():
        shape = _field(one, "tensor_shape") or {}
        sizes = tuple(int(side["size"]) for side in shape.get("dim", ()))
        unknown = _field(shape, "unknown_rank")
        found[name] = TensorInfo.of(one.get("dtype", "DT_INVALID"), None if unknown else sizes)
    return found


def _field(message: Mapping[str, Any], name: str) -> Any:
    """Return a field of a message in JSON, which may be named in either of two ways there."""
    first, *others = name.split("_")
    return message.get(name, message.get(first + "".join(map(str.capitalize, others))))


def _infos_of_protocol(tensors: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """Return what a gRPC server tells of the inputs or outputs of a signature."""
    from tensorflow.core.framework import types_pb2

    found = {}
    for name, one in tensors.items():
        shape = one.tensor_shape
        sizes = None if shape.unknown_rank else tuple(side.size for side in shape.dim)
        found[name] = TensorInfo.of(types_pb2.DataType.Name(one.dtype), sizes)
    return found


def _refusal(client: Client, text: Any) -> InputError:
    reason = " ".join(str(text).split())[:300]
    return InputError(f"the server of {client.model} at {client.address} says: {reason}")


def _to_json(array: np.ndarray) -> Any:
    if array.dtype != object:
        return array.tolist()
    found = (one.encode() if isinstance(one, str) else one for one in array.reshape(-1))
    texts = [base64.b64encode(one).decode() for one in found]
    return [{"b64": text} for text in texts]


def _from_json(value: Any, spec: TensorInfo) -> np.ndarray:
    if spec.dtype == "string":
        # A server writes base64 where a name ends in _bytes, and text elsewhere.
        texts = (
            base64.b64decode(one["b64"]) if isinstance(one, dict) else one.encode() for one in value
        )
        return np.array(list(texts), object)
    return np.array(value, spec.numpy_dtype)
