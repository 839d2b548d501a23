# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # 8. Serving
#
# A trained model is of use when other programs can ask it something. This notebook takes a small
# VAE out of the program that trained it: into a SavedModel that needs TensorFlow alone, into the
# form and the requests of TensorFlow Serving, and into ONNX. Then it gives the model a job, to tell
# images of its own kind from strangers, and looks hard at how far that job can be trusted.
#
# ## Learning goals
#
# - Export a model, read what lies in the directory, and call it where this library is not
#   installed.
# - Write the two requests that TensorFlow Serving answers, REST and gRPC, and read the answers.
# - See why a served model takes seeds or noise as inputs: what comes out is then a function of what
#   goes in.
# - Calibrate an alarm on the score $-\mathrm{ELBO}$ so that it has a known rate of false alarms,
#   and measure on real strangers how many it catches.
# - Know where it fails: an image of another kind can be *more* probable than any the model was
#   trained on.
#
# By default this runs on the 8 x 8 digits that come with scikit-learn, and the strangers are
# patches of photographs. The environment variable `TFVAE_MNIST` may name a folder of MNIST's four
# IDX files, or be `mnist` to download them; with `TFVAE_FASHION_MNIST`, a folder of the files of
# Fashion-MNIST, the strangers are its shoes and shirts.

# %%
import base64
import io
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import keras
import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score, roc_curve
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2 as metadata_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc

import tfvae

workplace = tempfile.TemporaryDirectory()
folder = Path(workplace.name)

# %% [markdown]
# ## 1. A model and its strangers
#
# Every pixel is cut at one half, so that an image is a vector of zeros and ones and a Bernoulli
# gives it a probability, $p(x) = \int p(x|z)\,p(z)\,dz$. The `grey` images are the same ones before
# the cut, with all their bits: they are what a camera or a scanner would send.

# %%
tf.get_logger().setLevel("ERROR")  # or it tells where each export lies
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # or it tells of each connection's end
source = os.environ.get("TFVAE_MNIST", "digits")
sizes = {"validation": 0.2, "test": 0.2}
data = tfvae.datasets.load(source, binarize="threshold", **sizes)
grey = tfvae.datasets.load(source, **sizes)


def as_bytes(images):
    """Return values in [0, 1] as bytes; halves go down, as they do where pixels are cut."""
    return np.ceil(255 * images - 0.5).astype(np.uint8)


height, width, _ = data.image_shape
kind = Path(data.name).name  # of a folder's path, its last part
print(f"{kind}: {data.image_shape}, {len(data.train)} training images, ", end="")
print(f"{len(data.validation)} for validation, {len(data.test)} for the test")

# %% [markdown]
# The strangers come from a real set that the model never sees. Where it has to be made, patches as
# large as the digits are cut at random from the two photographs that scikit-learn brings.

# %%
fashion = os.environ.get("TFVAE_FASHION_MNIST")
if fashion and data.image_shape == (28, 28, 1):
    strange_source, strange_name = fashion, "Fashion-MNIST"
else:
    rng = np.random.default_rng(0)
    photographs = [np.round(photo.mean(axis=-1)) for photo in load_sample_images().images]
    patches = []
    for number in range(1800):
        photo = photographs[number % 2]
        top, left = rng.integers(0, np.subtract(photo.shape, (height, width)))
        patches.append(photo[top : top + height, left : left + width])
    np.save(folder / "patches.npy", np.array(patches, np.uint8))
    strange_source, strange_name = folder / "patches.npy", "patches of photographs"

strangers = tfvae.datasets.load(strange_source, binarize="threshold", **sizes)
x, _ = data.test.arrays()
strange, _ = strangers.test.arrays()

figure, axes = plt.subplots(2, 1, figsize=(8, 2.2), layout="constrained")
for axis, images, title in zip(axes, (x, strange), (kind, strange_name), strict=True):
    axis.imshow(
        np.pad(images[:16, ..., 0], [(0, 0), (1, 1), (1, 1)], constant_values=0.5)
        .transpose(1, 0, 2)
        .reshape(height + 2, -1),
        cmap="gray",
        vmin=0,
        vmax=1,
    )
    axis.set_title(title)
    axis.set_axis_off()
plt.show()

# %% [markdown]
# A small dense model will do. It trains for a moment; the ELBO of images that it has not seen says
# that it has learned.

# %% tags=["parameters"] capped="epochs = 3"
epochs = 8 if len(data.train) > 10_000 else 100

# %%
vae = tfvae.VAE.for_images(
    data.image_shape, latent_dim=8, network="dense", likelihood="bernoulli", seed=0
)
vae.compile(keras.optimizers.Adam(1e-3))
train, validation = data.train.batches(128, shuffle=True), data.validation.batches(256)
untrained = vae.evaluate(validation, verbose=0, return_dict=True)["elbo"]
vae.fit(train, epochs=epochs, verbose=0)
trained = vae.evaluate(validation, verbose=0, return_dict=True)["elbo"]
print(f"validation ELBO: {untrained:.1f} nats before, {trained:.1f} after {epochs} epochs")
assert trained > untrained

# %% [markdown]
# ## 2. Export
#
# An export holds functions, not a Python object: each *signature* is a TensorFlow graph with named
# inputs and outputs. A service that is sent files has to know what the training did to its images;
# that is the `Preprocessing`. And the alarm of section 6 needs a threshold; `calibrate` finds the
# score that a given share of the validation images exceeds. Both go into the model's *card*.

# %%
rate = 0.05
anomaly = tfvae.serving.calibration.calibrate(vae, validation, rate=rate)
card = tfvae.saving.card.Card(
    data={"name": kind, "images": {"train": len(data.train)}},
    preprocessing=tfvae.datasets.preprocessing.Preprocessing.like(data.validation),
    metrics={"validation ELBO": trained},
    anomaly=anomaly,
)
served = folder / "digits"
vae.export(served / "1", card=card, num_samples=20)
for file in sorted((served / "1").rglob("*")):
    if file.is_file():
        print(f"{file.stat().st_size:>9,} bytes  {file.relative_to(folder)}")

# %% [markdown]
# `saved_model.pb` holds the graphs, `variables/` the weights. `card.json` and `README.md` tell a
# reader what the model is. `assets.extra/` is for others: the requests by which a server warms up,
# and the configuration from which `tfvae.load` makes the whole `VAE` again. The card repeats what
# we gave, and adds what it can find out itself.

# %%
facts = json.loads((served / "1" / "card.json").read_text())
for section in ("data", "model", "preprocessing", "metrics", "anomaly"):
    print(f"{section}: {facts[section]}")
assert facts["anomaly"]["threshold"] == anomaly.threshold
again = tfvae.load(served / "1")
np.testing.assert_array_equal(again.sample(4, seed=1), vae.sample(4, seed=1))

# %% [markdown]
# The signatures, from the SavedModel itself. Each input and each output has the batch, `None`,
# first: a server may put the requests of several callers into one batch. Those that end in `_uint8`
# take images of bytes, those in `_png` take PNG and JPEG files.

# %%
model = tf.saved_model.load(str(served / "1"))
for name in sorted(model.signatures):
    one = model.signatures[name]
    inputs = one.structured_input_signature[1]
    sides = [
        ", ".join(f"{key} {list(spec.shape)}" for key, spec in part.items())
        for part in (inputs, one.structured_outputs)
    ]
    print(f"{name:20} {sides[0]:42} -> {sides[1]}")
    assert all(spec.shape[0] is None for spec in inputs.values())

# %% [markdown]
# ## 3. Without the library
#
# Another process imports TensorFlow and nothing else, loads the directory and calls it. It writes
# what comes out into files, and prints whether the library has been loaded. Keras, in this process,
# gives the same numbers, but for rounding: 32-bit sums are taken in another order.

# %%
program = """
import sys
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
images = tf.io.parse_tensor(tf.io.read_file("images"), tf.float32)
seeds = tf.constant([[1, 0], [1, 1], [1, 2], [1, 3]])
outputs = {
    "code": model.signatures["encode"](images=images)["loc"],
    "reconstruction": model.signatures["reconstruct"](images=images)["images"],
    "sample": model.signatures["sample"](seed=seeds)["images"],
    "elbo": model.signatures["elbo"](images=images, seed=seeds)["elbo"],
}
for name, value in outputs.items():
    tf.io.write_file(name, tf.io.serialize_tensor(value))
others = [name for name in ("tfvae", "tensorflow_probability") if name in sys.modules]
print("TensorFlow", tf.__version__, "and of ours:", others)
"""
few = tf.constant(x[:4])
tf.io.write_file(str(folder / "images"), tf.io.serialize_tensor(few))
done = subprocess.run(
    [sys.executable, "-c", program, str(served / "1")],
    cwd=folder,
    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    capture_output=True,
    text=True,
    check=True,
)
print(done.stdout)
assert done.stdout.endswith("of ours: []\n")

# %%
seeds = np.array([[1, 0], [1, 1], [1, 2], [1, 3]], np.int32)
in_keras = {
    "code": vae.encode(few).mean(),
    "reconstruction": vae.reconstruct(few),
    "sample": vae.sample(4, seed=seeds),
    "elbo": vae.elbo(few, seed=seeds).elbo,
}
for name, value in in_keras.items():
    found = tf.io.parse_tensor(tf.io.read_file(str(folder / name)), tf.float32)
    difference = np.abs(found - value).max()
    print(f"{name:14} {value.shape!s:16} largest difference {difference:.1e}")
    # Sums of some hundreds of 32-bit numbers; the ELBO is a sum of many terms.
    np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-4)

# %% [markdown]
# ## 4. Seeds
#
# A function that draws at random gives another answer each time, and nobody can check it. So
# `sample` takes a seed for each image, a pair of whole numbers, and is a function like the others:
# equal seeds give equal pictures, in whatever batch they come.

# %%
sample = model.signatures["sample"]
first = sample(seed=tf.constant(seeds))["images"].numpy()
second = sample(seed=tf.constant(seeds))["images"].numpy()
alone = sample(seed=tf.constant(seeds[2:3]))["images"].numpy()
others = sample(seed=tf.constant(seeds + np.array([[1, 0]], np.int32)))["images"].numpy()
np.testing.assert_array_equal(first, second)
np.testing.assert_allclose(first[2:3], alone, atol=1e-6)  # sums in another order
assert np.abs(first - others).max(axis=(1, 2, 3)).min() > 1e-3
names = ["seeds (1, 0) to (1, 3)", "the same again", "seeds (2, 0) to (2, 3)"]
tfvae.plotting.image_rows([first, second, others], names)

# %% [markdown]
# The first two rows are the same picture for picture, the third is new. What is shown is the mean
# of $p(x|z)$, a probability for each pixel, at a $z$ drawn from the prior.
#
# ## 5. Requests
#
# ### Files
#
# `anomaly_score_png` takes the bytes of a file as they are. Decoding, resizing, scaling and the cut
# at one half happen in the graph, so that a caller cannot do them in another way than the training
# did. The score of a file is that of its image.

# %%
pixels = as_bytes(grey.test.arrays(limit=4)[0])


def png(image):
    """Return bytes `[H, W, 1]` as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "PNG")
    return file.getvalue()


files = [png(image) for image in pixels]
print(f"a file of {len(files[0])} bytes, that begins with {files[0][:8]}")
of_files = model.signatures["anomaly_score_png"](image_bytes=tf.constant(files))["score"]
of_images = model.signatures["anomaly_score"](images=few)["score"]
print("scores, nats:", of_files.numpy().round(2))
np.testing.assert_allclose(of_files, of_images, rtol=1e-5)

# %% [markdown]
# Pictures come back as PNG files too. Bytes that are no picture are refused before anything decodes
# them.

# %%
answer = model.signatures["reconstruct_png"](image_bytes=tf.constant(files))["image_bytes"]
pictures = [np.asarray(Image.open(io.BytesIO(one)))[..., None] / 255 for one in answer.numpy()]
np.testing.assert_allclose(pictures, vae.reconstruct(few), atol=0.5 / 255 + 1e-5)
try:
    model.signatures["encode_png"](image_bytes=tf.constant([b"no picture"]))
    refused = None
except tf.errors.InvalidArgumentError as error:
    refused = error.message
print("refused:", next(line for line in refused.splitlines() if "expected" in line))
tfvae.plotting.reconstructions(pixels / 255, pictures)

# %% [markdown]
# ### REST
#
# TensorFlow Serving watches a directory of versions, `digits/1`, `digits/2` and so on, and serves
# the newest. In a shell, with Docker,
#
# ```sh
# docker run -p 8500:8500 -p 8501:8501 -v "$PWD/digits:/models/digits" -e MODEL_NAME=digits \
#   tensorflow/serving
# ```
#
# listens for REST on port 8501 and for gRPC on port 8500. A REST request is JSON: the signature's
# name, and the inputs as nested lists. To see what a server does we need none: `rest_server` below
# reads the body of a request, calls the signature and answers in the same format. (Where there is
# one output only, its name is left out.)


# %%
def rest_server(body):
    """Answer the body of a request to /v1/models/digits:predict, both JSON."""
    body = json.loads(body)
    signature = model.signatures[body["signature_name"]]
    specs = signature.structured_input_signature[1]
    inputs = {}
    for name, value in body["inputs"].items():
        dtype = specs[name].dtype
        is_bytes = dtype == tf.string  # which come in base64
        inputs[name] = tf.constant(
            [base64.b64decode(one["b64"]) for one in value] if is_bytes else value, dtype
        )
    outputs = {name: value.numpy().tolist() for name, value in signature(**inputs).items()}
    return json.dumps({"outputs": outputs if len(outputs) > 1 else outputs.popitem()[1]})


body = json.dumps({"signature_name": "sample", "inputs": {"seed": [[1, 0], [1, 1]]}})
print("POST http://localhost:8501/v1/models/digits:predict")
print(body)
answer = rest_server(body)
print("\nthe answer:", answer[:75], "...")
images = np.array(json.loads(answer)["outputs"])
print("parsed:", images.shape)
np.testing.assert_allclose(images, first[:2], atol=1e-6)

# %% [markdown]
# ### gRPC
#
# gRPC sends messages of fixed types in binary. `tensorflow-serving-api` brings the official ones:
# a `PredictRequest` has the same two parts, and arrays are `TensorProto`.

# %%
request = predict_pb2.PredictRequest()
request.model_spec.name = "digits"
request.model_spec.signature_name = "sample"
request.inputs["seed"].CopyFrom(tf.make_tensor_proto(seeds[:2]))
print(request)
print(f"{len(request.SerializeToString())} bytes; the same in JSON: {len(body)}")


class Server(prediction_service_pb2_grpc.PredictionServiceServicer):
    """As much of TensorFlow Serving's gRPC service as a client needs."""

    def Predict(self, request, context):  # noqa: N802
        inputs = {key: tf.constant(tf.make_ndarray(one)) for key, one in request.inputs.items()}
        answer = predict_pb2.PredictResponse()
        for key, value in model.signatures[request.model_spec.signature_name](**inputs).items():
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
        return answer

    def GetModelMetadata(self, request, context):  # noqa: N802
        definitions = metadata_pb2.SignatureDefMap()
        saved = saved_model_pb2.SavedModel.FromString(
            (served / "1" / "saved_model.pb").read_bytes()
        )
        for name, one in saved.meta_graphs[0].signature_def.items():
            definitions.signature_def[name].CopyFrom(one)
        answer = metadata_pb2.GetModelMetadataResponse()
        answer.metadata["signature_def"].Pack(definitions)
        return answer


response = Server().Predict(request, None)
images = tf.make_ndarray(response.outputs["images"])
print("the answer:", images.shape, "as over REST")
np.testing.assert_allclose(images, first[:2], atol=1e-6)

# %% [markdown]
# The library has a client for both, which writes these messages, and asks the server which inputs
# it wants: `Client("http://HOST:8501", "digits")` speaks REST, `Client("grpc://HOST:8500",
# "digits")` gRPC. Here it speaks to the service above, on a port of this machine.

# %%
server = grpc.server(ThreadPoolExecutor(1))
prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Server(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with tfvae.serving.client.Client(f"grpc://127.0.0.1:{port}", "digits") as client:
    found = client("sample", seed=seeds)["images"]
    code = client("encode_png", image_bytes=files)["loc"]
server.stop(None).wait()
np.testing.assert_allclose(found, first, atol=1e-6)
np.testing.assert_allclose(code, vae.code(few), atol=1e-5)
print(
    f"from {client.address.rpartition(':')[0]}: {found.shape} images, {code.shape} codes of files"
)

# %% [markdown]
# The export itself holds requests of this kind, one for each signature. A server plays them through
# before it takes any from outside, so that the first caller does not wait for what happens once.

# %%
warm_up = served / "1" / "assets.extra" / "tf_serving_warmup_requests"
played = [
    prediction_log_pb2.PredictionLog.FromString(record).predict_log.request.model_spec
    for record in tf.data.TFRecordDataset(str(warm_up)).as_numpy_iterator()
]
print(len(played), "requests, the first for", played[0].signature_name)
assert {one.signature_name for one in played} == set(model.signatures) - {"serving_default"}

# %% [markdown]
# ### The next version
#
# The model goes on training, and its second version appears beside the first. It is written beside
# its place and then renamed, so that a server sees the whole of it or nothing. Callers that name a
# version still reach the old one.

# %%
vae.fit(train, epochs=1, verbose=0)
vae.export(served / "2")
print("versions:", sorted(one.name for one in served.iterdir()))
newest = tfvae.load(served)
np.testing.assert_array_equal(newest.code(few), vae.code(few))
assert np.abs(newest.code(few) - again.code(few)).max() > 1e-4

# %% [markdown]
# This one has no card, so that it takes no bytes and knows no threshold. For the rest of the
# notebook the model is that of version 1.

# %%
vae = again
plain = tf.saved_model.load(str(served / "2"))
print("signatures of version 2:", ", ".join(sorted(plain.signatures)))
assert not [name for name in plain.signatures if name.endswith(("_png", "_uint8"))]

# %% [markdown]
# ## 6. ONNX
#
# Other programs want other formats. ONNX has no random operation that takes a seed, so that here
# *noise* is the input, $\varepsilon \sim N(0, I)$, and a draw is $z = \mu + \sigma\varepsilon$.
# `sample.onnx` decodes $z = \varepsilon$, as the prior is standard normal; `elbo.onnx` draws from
# the posterior and gives
#
# $$\log p(x|\mu + \sigma\varepsilon) - \tfrac12\sum_i (\mu_i^2 + \sigma_i^2 - 1 -
# \log\sigma_i^2). \tag{8.1}$$
#
# Each file is compared with Keras before anything is written; we compare again, with other noise
# and with the formula written out.

# %%
exported = tfvae.serving.runtimes.export_onnx(vae, folder / "onnx")
print("files:", ", ".join(exported.functions))
noise = np.random.default_rng(1).normal(size=(4, vae.latent_dim)).astype(np.float32)


def onnx(name, **inputs):
    """Run a file, and return its first output."""
    session = onnxruntime.InferenceSession(folder / "onnx" / f"{name}.onnx")
    return session.run(None, inputs)[0]


loc, scale = vae.encode(few).mean(), vae.encode(few).stddev()
log_likelihood = vae.decode(loc + scale * noise).log_prob(few)
kl = 0.5 * tf.reduce_sum(loc**2 + scale**2 - 1 - tf.math.log(scale**2), axis=-1)
pairs = {
    "sample": (onnx("sample", noise=noise), vae.decode(noise).mean()),
    "encode": (onnx("encode", images=few.numpy()), loc),
    "reconstruct": (onnx("reconstruct", images=few.numpy()), vae.reconstruct(few)),
    "elbo": (onnx("elbo", images=few.numpy(), noise=noise), log_likelihood - kl),  # (8.1)
}
for name, (found, expected) in pairs.items():
    print(f"{name:12} largest difference {np.abs(found - expected).max():.1e}")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # 32-bit sums, as above

# %% [markdown]
# ## 7. Anomaly scores
#
# Is this image of the kind that the model was trained on? An improbable image may not be. The
# probability itself is an integral, and the ELBO is below its logarithm, so the score is
#
# $$s(x) = -\frac1S\sum_{s=1}^S \log p(x|z_s) + \mathrm{KL}(q(z|x)\,\|\,p(z)), \qquad
# z_s \sim q(z|x), \tag{8.2}$$
#
# which is high where the model finds an image improbable. The server takes few draws, always of the
# same noise, so that equal images have equal scores. The cell checks one score against the ELBO of
# many other draws: they differ by no more than their Monte Carlo errors allow.

# %%
scorer = model.signatures["anomaly_score"]
many, draws = 400, 8  # the signature's draws are eight
one = tf.repeat(few[:1], many, axis=0)
fresh = tf.stack([tf.range(many), tf.fill([many], 3)], axis=1)
each = -model.signatures["elbo"](images=one, seed=fresh)["elbo"].numpy()
score = float(scorer(images=few[:1])["score"][0])
error = each.std(ddof=1) * np.sqrt(1 / draws + 1 / many)
print(f"the score {score:.2f}; -ELBO of {many} draws {each.mean():.2f}, error {error:.2f} nats")
assert abs(score - each.mean()) < 5 * error  # (8.2)


def scores(images, scorer=scorer):
    """Return the score of each image, nats."""
    parts = [images[first : first + 500] for first in range(0, len(images), 500)]
    return np.concatenate([scorer(images=tf.constant(one))["score"] for one in parts])


own, other = scores(x), scores(strange)

# %% [markdown]
# ### The threshold
#
# How high is unusual? The threshold $t$ is the score that a share $\alpha$ of the validation images
# exceeds. The test images are of the same kind and were in no way looked at, so that they exceed it
# with probability $\alpha$ as well: an alarm has a false-positive rate that is known beforehand.
# Both shares scatter as binomials do, and their difference has the standard error
#
# $$\sqrt{\alpha(1-\alpha)\,(1/N_\mathrm{test} + 1/N_\mathrm{validation})}. \tag{8.3}$$

# %%
threshold = anomaly.threshold
checked = np.mean(scores(data.validation.arrays()[0]) > threshold)
false_positives, caught = np.mean(own > threshold), np.mean(other > threshold)
error = np.sqrt(rate * (1 - rate) * (1 / len(own) + 1 / anomaly.events))
print(f"threshold {threshold:.1f} nats: above it {checked:.1%} of the validation images,")
print(f"{false_positives:.2%} of the test images (calibrated: {rate:.0%}, error {error:.2%}),")
print(f"and {caught:.1%} of the images of {strange_name}")
assert abs(checked - rate) <= 2 / anomaly.events
assert abs(false_positives - rate) < 4 * error  # (8.3)

# %%
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
bins = np.linspace(min(own.min(), other.min()), np.quantile(other, 0.98), 60)
for values, label in ((own, "test images"), (other, strange_name)):
    axes.hist(np.minimum(values, bins[-1]), bins, density=True, alpha=0.6, label=label)
axes.axvline(threshold, color="k", ls="--", label=f"threshold: {rate:.0%} false alarms")
axes.set(xlabel="score $-$ELBO, nats (the last bar: and above)", ylabel="density")
axes.set_title("Scores of the model's own kind, and of strangers")
axes.legend()
plt.show()

# %% [markdown]
# ### ROC and AUROC
#
# Another threshold trades false alarms for strangers caught: all of the trades are the ROC curve.
# The area under it needs no threshold. It is the probability that a stranger scores higher than an
# image of the own kind, $P(s(x_\mathrm{out}) > s(x_\mathrm{in}))$: the cell computes it both ways.
#
# Its error comes from the bootstrap: draw as many images of each set with replacement, compute the
# area anew, again and again, and take the standard deviation. There is a limit to compare it with.
# Pair the images of the two sets up at random. Each pair is the throw of a coin that shows heads
# with probability $A$, and the throws are independent, so that the mean of the pairs has the
# variance
#
# $$\frac{A(1-A)}{\min(N_\mathrm{in}, N_\mathrm{out})}. \tag{8.4}$$
#
# The area is the average over all ways to pair them up. The standard deviation of an average is at
# most that of its parts, so that the error is at most the root of (8.4).


# %%
def auroc(own, other):
    """Return the area under the ROC curve."""
    return roc_auc_score(np.repeat([0, 1], [len(own), len(other)]), np.concatenate([own, other]))


def bootstrap(statistic, *samples, repeats=200, seed=0):
    """Return a statistic's values on samples drawn with replacement."""
    rng = np.random.default_rng(seed)
    rows = [[rng.integers(0, len(one), len(one)) for one in samples] for _ in range(repeats)]
    return np.array(
        [statistic(*(one[r] for one, r in zip(samples, some, strict=True))) for some in rows]
    )


some_own, some_other = own[:2000], other[:2000]
area = auroc(some_own, some_other)
error = bootstrap(auroc, some_own, some_other).std(ddof=1)
in_pairs = np.mean(some_other[:, None] > some_own) + 0.5 * np.mean(some_other[:, None] == some_own)
np.testing.assert_allclose(area, in_pairs, rtol=1e-9)
print(f"AUROC {area:.4f} ± {error:.4f} (bootstrap)")
limit = np.sqrt(area * (1 - area) / min(len(some_own), len(some_other)))
print(f"the root of (8.4) is {limit:.4f}")
# (8.4), with room for the bootstrap's own error, which is 5 % with 200 repeats.
assert error <= 1.25 * limit + 1e-12

# %%
figure, axes = plt.subplots(figsize=(4, 4), layout="constrained")
false_alarms, hits, _ = roc_curve(
    np.repeat([0, 1], [len(own), len(other)]), np.concatenate([own, other])
)
axes.plot(false_alarms, hits, label=f"AUROC {area:.3f} ± {error:.3f}")
axes.plot([0, 1], [0, 1], color="0.6", ls=":", label="chance")
axes.plot(false_positives, caught, "ko", label="the threshold")
axes.set(xlabel="false alarms, share of test images", ylabel="strangers caught, share")
axes.set_title("ROC curve of the score")
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# ### The ELBO or log p(x)?
#
# The ELBO is too low by $\mathrm{KL}(q(z|x)\,\|\,p(z|x))$, which differs from image to image:
# a stranger is often encoded badly, and its score is the higher for that. Importance sampling,
# $\log\frac1K\sum_k p(x, z_k)/q(z_k|x)$, comes closer to $\log p(x)$, at the price of $K$
# decodes an image. The signature `log_prob` gives it to callers; here the library's own function,
# with more draws.

# %% tags=["parameters"] capped="count, draws = 100, 20"
count, draws = 500, 200

# %%
estimates = [
    tfvae.evaluation.log_prob(
        vae, tf.data.Dataset.from_tensor_slices(images[:count]).batch(250), num_samples=draws
    )
    for images in (x, strange)
]
both = [  # of each image -ELBO and -log p(x), [N, 2]
    np.stack([found[: one.events], -one.log_probs], axis=1)
    for found, one in zip((own, other), estimates, strict=True)
]
for name, values in zip(("own kind", "strangers"), both, strict=True):
    gap = values[:, 0] - values[:, 1]
    error = gap.std(ddof=1) / np.sqrt(len(gap))
    print(f"{name}: -ELBO is above -log p(x) by {gap.mean():.2f} ± {error:.2f} nats")
    assert gap.mean() > 0  # -ELBO bounds the other from above


def areas(own, other):
    """Return the AUROC of either score, and their difference."""
    found = [auroc(own[:, column], other[:, column]) for column in range(2)]
    return [*found, found[0] - found[1]]


values, errors = areas(*both), bootstrap(areas, *both).std(axis=0, ddof=1)
for name, value, error in zip(
    ("of -ELBO", "of -log p(x)", "less the other"), values, errors, strict=True
):
    print(f"AUROC {name:12} {value:8.4f} ± {error:.4f}")
of_elbo, of_log_prob = np.mean(both[0] > threshold, axis=0)
print(f"own kind above the threshold: {of_elbo:.1%} by -ELBO, {of_log_prob:.1%} by -log p(x)")

# %% [markdown]
# The gap of the strangers is the larger one: where no image of the training was, nothing has taught
# the encoder. So the looser bound is no worse at telling them apart, and it is the cheaper. But a
# threshold belongs to its score: $-\log p(x)$ lies lower, and with the threshold of the other
# score it has another rate of false alarms. The bootstrap draws the same images for both scores, so
# that the error of their difference is that of a comparison in pairs.
#
# ## 8. Where it fails
#
# Nothing so far promises that a stranger is improbable. A density may well be highest where no
# image of the training lies: in high dimensions the mode of a distribution is not typical of it.
# Nalisnick et al. (2019) found that models of one set of images give another set the *higher*
# likelihood. It is easy to see the same here: we turn the task around. A second model learns the
# strangers, in all 256 grey levels, whose probabilities come from a discretised logistic; then the
# digits are the strangers.

# %% tags=["parameters"] capped="epochs = 2"
epochs = 3 if len(strangers.train) > 10_000 else 40

# %%
reverse = tfvae.datasets.load(strange_source, **sizes)
model_of_strangers = tfvae.VAE.for_images(
    data.image_shape, latent_dim=8, network="dense", likelihood="discretized_logistic", seed=0
)
model_of_strangers.compile(keras.optimizers.Adam(1e-3))
model_of_strangers.fit(reverse.train.batches(128, shuffle=True), epochs=epochs, verbose=0)


def reverse_scores(images, batch=250):
    """Return the score of each image under the second model, nats."""
    return np.concatenate(
        [
            -model_of_strangers.elbo(images[first : first + batch], num_samples=8, seed=(0, 7)).elbo
            for first in range(0, len(images), batch)
        ]
    )


at_home, _ = reverse.test.arrays(limit=1000)
digits = as_bytes(grey.test.arrays(limit=1000)[0]) / np.float32(255)
black = np.zeros((1, *data.image_shape), np.float32)
home, away, blank = (reverse_scores(images) for images in (at_home, digits, black))
alarm = np.quantile(home, 1 - rate)
area, error = auroc(home, away), bootstrap(auroc, home, away).std(ddof=1)
print(f"a model of {strange_name}: AUROC of the digits {area:.4f} ± {error:.4f};")
print(f"a threshold with {rate:.0%} false alarms catches {np.mean(away > alarm):.1%} of them,")
print(f"and a black image is more probable than {np.mean(home > blank[0]):.1%} of its own kind")
assert blank[0] < np.median(home)

# %%
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
bins = np.linspace(min(home.min(), away.min(), blank[0]), max(home.max(), away.max()), 60)
for values, label in ((home, f"its own kind, {strange_name}"), (away, "the digits")):
    axes.hist(values, bins, density=True, alpha=0.6, label=label)
axes.axvline(alarm, color="k", ls="--", label=f"threshold: {rate:.0%} false alarms")
axes.axvline(blank[0], color="C3", label="a black image")
axes.set(xlabel="score $-$ELBO, nats", ylabel="density")
axes.set_title("The other way round")
axes.legend()
plt.show()

# %% [markdown]
# Look where the digits lie, and the black image. An AUROC below one half means that the strangers
# are on the whole *more* probable than the model's own kind; one above it may still leave almost
# all of them under the threshold. The scores differ first of all by how much there is to explain:
# texture costs nats in every pixel, whatever the model has learned, and a smooth or empty image
# costs next to none. In section 7 the score was right, since plain patches and fragments of
# photographs are unlike any digit, and a model of digits finds them improbable. That was a matter
# of these two kinds of images, and no property of the score.
#
# The most and the least probable images of its own kind: how much is there in each to explain?

# %%
order = np.argsort(home)
rows = [at_home[order[:10]], at_home[order[-10:]]]
tfvae.plotting.image_rows(rows, ["most probable", "least probable"])

# %% [markdown]
# So a likelihood is no detector of strangers by itself. What to do depends on what strangers there
# are, and starts with measuring them, as above. An alarm on *both* sides of the usual scores (the
# last exercise) catches black images; a ratio of two models' likelihoods cancels what background
# and texture cost (Ren et al. 2019), and so does subtracting the length of the compressed file
# (Serrà et al. 2020).
#
# ## Exercises
#
# ### Exercise 1: a line between two images
#
# The signature `interpolate` takes `start`, `end` and a `weight` for each of its images. Ask the
# served model for the two ends and the middle of the line from `few[0]` to `few[1]`. `answer_1` is
# the array of the three pictures.

# %%
# Your answer to exercise 1.
answer_1 = None


# %%
def check_1(answer):
    ends = model.signatures["reconstruct"](images=few[:2])["images"]
    np.testing.assert_allclose(np.asarray(answer)[[0, 2]], ends, atol=1e-5)
    assert np.abs(answer[1] - answer[0]).max() > 1e-3, "the middle is another picture"
    return "right"


print("exercise 1:", "no answer yet" if answer_1 is None else check_1(answer_1))

# %% [markdown]
# <details><summary>Solution</summary>
#
# A batch of three: the same start and the same end three times, and the weights 0, one half and 1.
# The line is drawn between the codes, not between pixels, so that at its ends stand the
# reconstructions and not the images themselves.
#
# ```python
# start, end = tf.repeat(few[:1], 3, axis=0), tf.repeat(few[1:2], 3, axis=0)
# line = model.signatures["interpolate"](start=start, end=end, weight=tf.constant([0.0, 0.5, 1.0]))
# answer_1 = line["images"].numpy()
# assert check_1(answer_1) == "right"
# ```
# </details>
#
# ### Exercise 2: a file over REST
#
# JSON holds no bytes: a file is sent as `{"b64": ...}`. Write the body of a request that scores the
# first of `files`, and send it to `rest_server`. `answer_2` is what comes back, parsed: a
# dictionary.

# %%
# Your answer to exercise 2.
answer_2 = None


# %%
def check_2(answer):
    outputs = answer["outputs"]
    assert set(outputs) == {"score", "threshold", "is_anomaly"}
    np.testing.assert_allclose(outputs["score"], own[:1], rtol=1e-5)
    assert outputs["is_anomaly"] == [bool(own[0] > threshold)]
    return "right"


print("exercise 2:", "no answer yet" if answer_2 is None else check_2(answer_2))

# %% [markdown]
# <details><summary>Solution</summary>
#
# Base64 writes three bytes as four letters, so that a file grows by a third on its way. The answer
# has three parts: the score, the threshold it is compared with, and whether it lies above.
#
# ```python
# text = base64.b64encode(files[0]).decode()
# body = json.dumps(
#     {"signature_name": "anomaly_score_png", "inputs": {"image_bytes": [{"b64": text}]}}
# )
# answer_2 = json.loads(rest_server(body))
# assert check_2(answer_2) == "right"
# ```
# </details>
#
# ### Exercise 3: fewer or more alarms
#
# Calibrate for a false-positive rate of 10 % and for one of 20 %, on the validation images.
# `answer_3` is the pair of thresholds. Should they be higher or lower than the one of 5 %?

# %%
# Your answer to exercise 3.
answer_3 = None


# %%
def check_3(answer):
    held_out = len(data.validation)
    for share, limit in zip((0.1, 0.2), answer, strict=True):
        found = np.mean(own > limit)
        spread = np.sqrt(share * (1 - share) * (1 / len(own) + 1 / held_out))  # (8.3)
        assert abs(found - share) < 4 * spread, "not the rate on the test images"
    return "right"


print("exercise 3:", "no answer yet" if answer_3 is None else check_3(answer_3))

# %% [markdown]
# <details><summary>Solution</summary>
#
# Lower: the more alarms there may be, the lower is the score that raises one. A threshold is a
# quantile of the scores of the validation images, and with (8.3) it can be tested on the test
# images.
#
# ```python
# held_out = scores(data.validation.arrays()[0])
# answer_3 = [np.quantile(held_out, 1 - share) for share in (0.1, 0.2)]
# print([f"{np.mean(own > limit):.1%}" for limit in answer_3])
# assert check_3(answer_3) == "right" and threshold > answer_3[0] > answer_3[1]
# ```
# </details>
#
# ### Exercise 4: too probable to be true
#
# Build an alarm on both sides for the second model: half of the rate above the upper quantile of
# the scores `home`, half below the lower one. Does it catch the black image, and how many of the
# digits? `answer_4` is the pair of the lower and the upper limit.

# %%
# Your answer to exercise 4.
answer_4 = None


# %%
def check_4(answer):
    low, high = answer
    assert low < np.median(home) < high
    flagged = np.mean((home < low) | (home > high))
    assert abs(flagged - rate) <= 2 / len(home), "not the rate it was made for"
    return "right"


print("exercise 4:", "no answer yet" if answer_4 is None else check_4(answer_4))

# %% [markdown]
# <details><summary>Solution</summary>
#
# The limits are two quantiles. The printed shares are those of the model's own kind, of the digits
# and of the black image. An alarm on both sides catches what is too simple as well as what is too
# complicated, but of strangers that are about as complicated as its own kind it still knows
# nothing.
#
# ```python
# low, high = np.quantile(home, [rate / 2, 1 - rate / 2])
# both_sides = [(values < low) | (values > high) for values in (home, away, blank)]
# print([f"{flags.mean():.1%}" for flags in both_sides])
# answer_4 = low, high
# assert check_4(answer_4) == "right"
# ```
# </details>

# %%
workplace.cleanup()
print("the exported files are removed:", not folder.exists())

# %% [markdown]
# ## References
#
# - D. P. Kingma, M. Welling, *Auto-Encoding Variational Bayes*, 2014,
#   [arXiv:1312.6114](https://arxiv.org/abs/1312.6114).
# - Y. Burda, R. Grosse, R. Salakhutdinov, *Importance Weighted Autoencoders*, 2016,
#   [arXiv:1509.00519](https://arxiv.org/abs/1509.00519), equation 8: the estimate of log p(x).
# - E. Nalisnick et al., *Do Deep Generative Models Know What They Don't Know?*, 2019,
#   [arXiv:1810.09136](https://arxiv.org/abs/1810.09136).
# - J. Ren et al., *Likelihood Ratios for Out-of-Distribution Detection*, 2019,
#   [arXiv:1906.02845](https://arxiv.org/abs/1906.02845).
# - J. Serrà et al., *Input Complexity and Out-of-distribution Detection with Likelihood-based
#   Generative Models*, 2020, [arXiv:1909.11480](https://arxiv.org/abs/1909.11480).
# - H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, 2017,
#   [arXiv:1708.07747](https://arxiv.org/abs/1708.07747).
# - TensorFlow Serving: [REST](https://www.tensorflow.org/tfx/serving/api_rest),
#   [warm-up](https://www.tensorflow.org/tfx/serving/saved_model_warmup).
#
# In this repository: the export ([export.py](../tfvae/serving/export.py)), its signatures
# ([signatures.py](../tfvae/serving/signatures.py)), the client
# ([client.py](../tfvae/serving/client.py)), the threshold
# ([calibration.py](../tfvae/serving/calibration.py)), ONNX
# ([onnx.py](../tfvae/serving/onnx.py)), and a client in C
# ([client.c](../docs/serving/client.c)).
