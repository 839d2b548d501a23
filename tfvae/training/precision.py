"""Which type of numbers the networks compute in, chosen by the device."""

from pathlib import Path

import tensorflow as tf


def best_precision() -> str:
    """Return the Keras policy that trains fastest on this machine's devices at the same ELBO.

    ``mixed_bfloat16`` where the device multiplies bfloat16 numbers itself: NVIDIA GPUs of compute
    capability 8.0 and more, and processors with AVX512-BF16 or AMX, whose oneDNN kernels TensorFlow
    takes; ``mixed_float16`` on GPUs of capability 7.0 to 7.5; else ``float32``.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "mixed_bfloat16" if _multiplies_bfloat16() else "float32"
    capability = min(
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in gpus
    )
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"


def _multiplies_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
