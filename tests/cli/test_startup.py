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


@pytest.mark.exhaustive
def test_tensorflow_loads_without_a_word_where_keras_comes_later():
    code = (
        "import tfvae, keras; data = tfvae.datasets.load('digits'); "
        "next(iter(data.train.batches(3)))"
    )
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
