"""Everything that is to be known of this package on a GPU, in one command of a few minutes.

    python benchmarks/gpu.py [--smallest] [--mnist FOLDER]

Needs nothing but the package: without MNIST it draws images. It checks that the device computes
what the processor does, trains beside the recipes in turns, and prints the table with card, memory
and share of the roofline. Where there is no GPU it measures the processor, and says so.
"""

import json
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import comparison
import cyclopts
import roofline
from cyclopts import Parameter
from machine import machine
from turns import Process, say

HERE = Path(__file__).parent
# Of a log-probability of hundreds of nats; products on a GPU may round their inputs to TF32.
TOLERANCE = {"float32": 2e-2, "mixed_bfloat16": 1e-1}


def images(folder: Path, count: int) -> Path:
    """Draw images of blobs, as many as asked for, into a file."""
    import numpy as np

    random = np.random.default_rng(0)
    place = np.linspace(-1, 1, 28, dtype=np.float32)
    centre = random.uniform(-0.6, 0.6, (count, 2, 1)).astype(np.float32)
    width = random.uniform(0.1, 0.5, (count, 1)).astype(np.float32)
    rows, columns = (np.exp(-(((place - centre[:, axis]) / width) ** 2)) for axis in range(2))
    file = folder / "images.npy"
    np.save(file, (255 * rows[:, :, None] * columns[:, None, :])[..., None].astype(np.uint8))
    return file


def differences() -> dict[str, float]:
    """Compare the device with the processor: the ELBO of a model's first steps in each precision.

    The same weights, events and noise, in a process of its own.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    import tfvae

    x = (np.random.default_rng(0).random((64, 28, 28, 1)) < 0.2).astype("float32")
    found = {}
    for precision in TOLERANCE:
        keras.config.set_dtype_policy(precision)
        vae = tfvae.VAE.for_images((28, 28, 1), seed=0)
        elbos = []
        for device in ("CPU:0", "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"):
            with tf.device(device):
                copy = tfvae.VAE.for_images((28, 28, 1), seed=0)
                copy.set_weights(vae.get_weights())
                copy.compile("adam")
                copy.fit(x, batch_size=32, shuffle=False, verbose=0)
                elbos.append(copy.elbo(x, seed=1).elbo.numpy())
        found[precision] = float(np.abs(elbos[1] - elbos[0]).max() / np.abs(elbos[0]).max())
    return found


def memory() -> float:
    """Give the most of a GPU's memory that training in batches of 128 takes, in MB; 0 without."""
    import numpy as np
    import tensorflow as tf

    import tfvae

    vae = tfvae.VAE.for_images((28, 28, 1), seed=0)
    vae.compile("adam")
    vae.fit(np.zeros((512, 28, 28, 1), "float32"), batch_size=128, verbose=0)
    if not tf.config.list_physical_devices("GPU"):
        return 0.0
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20


def _ask(*arguments: str) -> Any:
    with closing(Process([sys.executable, *arguments])) as process:
        return process.answer()


def main(
    *,
    smallest: Annotated[bool, Parameter(help="Only show that it works.", negative=())] = False,
    mnist: Annotated[str | None, Parameter(help="Folder of MNIST's IDX files.")] = None,
    part: Annotated[str | None, Parameter(show=False)] = None,
    out: Annotated[Path | None, Parameter(help="JSON file to write.")] = None,
) -> None:
    """Measure this machine's GPU."""
    if part is not None:
        say({"differences": differences, "memory": memory}[part]())
        return
    count, rounds, seconds = (512, 1, 0.0) if smallest else (12_800, 5, 0.3)
    precisions = ("float32",) if smallest else ("float32", "mixed_bfloat16")
    found: dict[str, Any] = {"machine": machine()}
    print(f"On {found['machine']}:\n", flush=True)
    if " x " not in found["machine"]:
        print("There is no GPU: these are figures of the processor.\n", flush=True)
    found["differences"] = _ask(__file__, "--part", "differences")
    wrong = [name for name, far in found["differences"].items() if far > TOLERANCE[name]]
    for name, far in found["differences"].items():
        print(f"- ELBO after two steps, {name}: {far:.1e} from the processor's", flush=True)
    found["memory"] = _ask(__file__, "--part", "memory")
    print(f"- memory in training: {found['memory']:,.0f} MB\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data = mnist or str(images(Path(folder), count))
        found["speed"] = comparison.speed(data, None, count, rounds)
    print(comparison.speed_table(found["speed"]), "\n", flush=True)
    found["roofline"] = {
        precision: _ask(str(HERE / "roofline.py"), "default", precision, str(seconds))
        for precision in precisions
    }
    print(roofline.table(found["roofline"]))
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n")
    if wrong:
        sys.exit(f"the device does not compute what the processor does in {', '.join(wrong)}")


if __name__ == "__main__":
    cyclopts.run(main)
