"""What the machine is that a benchmark ran on, in words."""

import os
import platform
import re
import subprocess
from pathlib import Path


def machine() -> str:
    """Give the device that trains, with its memory, and the processor."""
    import tensorflow as tf

    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    name = re.search(r"model name\s*:\s*(.*)", text)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = [
        f"{cores} core{'' if cores == 1 else 's'} of {name[1] if name else platform.processor()}"
    ]
    if "avx512_bf16" in text:
        words.append("AVX512-BF16")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, check=False)
        details = tf.config.experimental.get_device_details(gpus[0])
        card = done.stdout.splitlines()[0] if done.stdout else details.get("device_name", "a GPU")
        words.insert(0, f"{len(gpus)} x {card}")
    return f"{', '.join(words)}; TensorFlow {tf.__version__}"
