"""What a process pays before it works: imports beyond TensorFlow's, a first step, a command."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from comparison import HERE, IN_TENSORFLOW, OURS
from turns import Process

MODEL = HERE.parent / "saved_models" / "digits"
# Commands, each with a model that has been trained.
COMMANDS = {
    "tfvae --help": ["--help"],
    "tfvae sample MODEL --n 16": ["sample", str(MODEL), "--n", "16", "--out", "samples.png"],
    "tfvae evaluate MODEL --limit 100": ["evaluate", str(MODEL), "--limit", "100"],
}

IMPORTS = """
import json, sys, time
begun = time.perf_counter()
import tensorflow, keras
theirs = time.perf_counter()
from tfvae import VAE, datasets, training
ours = time.perf_counter()
loaded = "tensorflow_probability" in sys.modules
print(json.dumps([theirs - begun, ours - theirs, loaded]))
"""


def measure(rounds: int) -> dict[str, Any]:
    """Measure fresh processes in turns."""
    import numpy as np

    imports, loads = [], False
    first: dict[str, list[float]] = {name: [] for name in (*IN_TENSORFLOW, *OURS)}
    commands: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npy"
        bits = np.random.default_rng(0).random((200, 28, 28, 1)) < 0.2
        np.save(file, bits.astype(np.uint8) * np.uint8(255))
        for number in range(rounds):
            done = subprocess.run(
                [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
            )
            theirs, ours, loaded = json.loads(done.stdout)
            imports.append((theirs, ours))
            loads |= loaded
            for name, seconds in first.items():
                begun = time.perf_counter()
                # 128 images are one step.
                command = [sys.executable, str(HERE / "recipes.py"), name, str(file), "128", "1"]
                with closing(Process(command)) as process:
                    process.ask()
                    seconds.append(time.perf_counter() - begun)
            # What a command writes is not there before.
            place = Path(folder) / str(number)
            place.mkdir()
            for name, arguments in COMMANDS.items():
                begun = time.perf_counter()
                command = [str(Path(sys.executable).parent / "tfvae"), *arguments]
                subprocess.run(command, capture_output=True, check=True, cwd=place)
                commands[name].append(time.perf_counter() - begun)
            both = {**first, **commands}
            shown = {name: round(seconds[-1], 1) for name, seconds in both.items()}
            print(f"round {number + 1}: import {imports[-1]}, seconds {shown}", file=sys.stderr)
    return {
        "import": statistics.median(theirs for theirs, _ in imports),
        "tfvae": statistics.median(ours for _, ours in imports),
        "share": statistics.median(ours / theirs for theirs, ours in imports),
        "loads_tfp": loads,
        "first_step": {name: statistics.median(seconds) for name, seconds in first.items()},
        "commands": {name: statistics.median(seconds) for name, seconds in commands.items()},
    }


def table(found: dict[str, Any]) -> str:
    """Give the seconds as Markdown."""
    tfp = "loaded with it" if found["loads_tfp"] else "loaded when first needed"
    lines = [
        "| starting a process | seconds |",
        "| --- | ---: |",
        f"| import of TensorFlow and Keras | {found['import']:.2f} |",
        f"| and of tfvae after it (TensorFlow Probability {tfp}) | "
        f"{found['tfvae']:.2f}, {found['share']:.1%} more |",
    ]
    lines += [
        f"| from start to the end of the first step, {name} | {seconds:.1f} |"
        for name, seconds in found["first_step"].items()
    ]
    # Measured before there were commands among them, results have none.
    commands = found.get("commands", {})
    lines += [f"| `{name}`, all of it | {seconds:.1f} |" for name, seconds in commands.items()]
    return "\n".join(lines)
