"""What a command loads, and what it does not."""

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
