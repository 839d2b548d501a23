"""What a command loads, and what it does not."""

import os
import subprocess
import sys

import pytest

COMMAND = """
import sys
from tfvae.quiet import load_for_command
load_for_command()
import tfvae.saving.load
loaded = {"sklearn", "matplotlib", "pandas"} & set(sys.modules)
assert not loaded, loaded
import pandas, sklearn, matplotlib  # there all the same
"""


@pytest.mark.exhaustive
def test_a_command_that_reads_a_model_loads_no_package_that_it_has_no_use_of():
    done = subprocess.run(
        [sys.executable, "-c", COMMAND], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "code",
    [
        # A room below the models may be loaded first, and Keras knows the models then.
        "import tfvae.likelihoods, keras; assert 'tfvae>VAE' in keras.saving.get_custom_objects()",
        pytest.param(
            "import tfvae, keras; data = tfvae.datasets.load('digits'); "
            "next(iter(data.train.batches(3)))",
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_tensorflow_loads_without_a_word_whoever_loads_it(code):
    environment = {**os.environ}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; assert 'tensorflow' in sys.modules"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0
