"""TensorFlow Serving's two interfaces before one SavedModel, with its own messages.

The server itself is no Python package. This stands in for it as far as the formats of requests and
answers go: https://www.tensorflow.org/tfx/serving/api_rest and prediction_service.proto.
"""

import base64
import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

NAME = "vae"


class Served:
    """A SavedModel, called as a server calls it."""

    def __init__(self, path, signatures=None):
        self.signatures = signatures or tf.saved_model.load(str(path)).signatures
        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
        self.definitions = get_model_metadata_pb2.SignatureDefMap()
        for name, one in saved.meta_graphs[0].signature_def.items():
            self.definitions.signature_def[name].CopyFrom(one)

    def run(self, name, inputs):
        return {key: one.numpy() for key, one in self.signatures[name](**inputs).items()}


class _Rest(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != f"/v1/models/{NAME}/metadata":
            self._answer(404, {"error": f"Servable not found: {self.path}"})
            return
        found = json_format.MessageToDict(self.server.served.definitions)
        self._answer(200, {"metadata": {"signature_def": found}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != f"/v1/models/{NAME}:predict":
            self._answer(404, {"error": f"Servable not found: {self.path}"})
            return
        served, name = self.server.served, body["signature_name"]
        specs = served.definitions.signature_def[name].inputs
        try:
            outputs = served.run(
                name,
                {
                    key: tf.constant(self._decoded(value), tf.dtypes.as_dtype(specs[key].dtype))
                    for key, value in body["inputs"].items()
                },
            )
        except tf.errors.OpError as error:
            self._answer(400, {"error": error.message})
            return
        found = {key: self._encoded(key, value) for key, value in outputs.items()}
        self._answer(200, {"outputs": found if len(found) > 1 else next(iter(found.values()))})

    @staticmethod
    def _encoded(key, value):
        """Write bytes, which a name in _bytes tells, by their base64, and text as it is."""
        if value.dtype != object:
            return value.tolist()
        if key.endswith("_bytes"):
            return [{"b64": base64.b64encode(one).decode()} for one in value]
        return [one.decode() for one in value]

    @staticmethod
    def _decoded(value):
        if value and isinstance(value[0], dict):
            return [base64.b64decode(one["b64"]) for one in value]
        return value

    def _answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class _Grpc(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, served):
        self._served = served

    def Predict(self, request, context):  # noqa: N802
        if request.model_spec.name != NAME:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")
        inputs = {key: tf.constant(tf.make_ndarray(one)) for key, one in request.inputs.items()}
        try:
            outputs = self._served.run(request.model_spec.signature_name, inputs)
        except tf.errors.OpError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        answer = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return answer

    def GetModelMetadata(self, request, context):  # noqa: N802
        if request.model_spec.name != NAME:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.metadata["signature_def"].Pack(self._served.definitions)
        return answer


@contextlib.contextmanager
def model_server(path, signatures=None):
    """Serve a SavedModel, loaded or not, on loopback; give the addresses for REST and gRPC."""
    served = Served(path, signatures)
    rest = ThreadingHTTPServer(("127.0.0.1", 0), _Rest)
    rest.served = served
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    size = ("grpc.max_receive_message_length", 2**30), ("grpc.max_send_message_length", 2**30)
    server = grpc.server(ThreadPoolExecutor(2), options=size)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Grpc(served), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{rest.server_port}", f"grpc://127.0.0.1:{port}"
    finally:
        rest.shutdown()
        rest.server_close()
        server.stop(None)
