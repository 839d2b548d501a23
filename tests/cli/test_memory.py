"""A model that is too large for the machine ends in one line."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tfvae.cli import main
from tfvae.cli.memory import within_memory

resource = pytest.importorskip("resource")


def obtainable():
    """The bytes that the machine could give this process, as Linux tells."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    facts = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return facts["MemAvailable"] + facts["SwapFree"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems grant what there is")
def test_no_more_memory_is_granted_than_there_is():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with within_memory():
        # Nothing of these is touched: without a limit Linux would grant them.
        small = np.empty(2**28, np.uint8)
        with pytest.raises(MemoryError):
            np.empty(obtainable() + 2**30, np.uint8)
    assert len(small) == 2**28
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_too_much_memory_is_said_in_one_line(monkeypatch, capsys):
    def greedy(*_, **__):
        raise MemoryError("Unable to allocate 14.9 TiB for an array")

    monkeypatch.setattr(main, "_check_text", greedy)
    with pytest.raises(SystemExit) as ended:
        main.main(["train", "--config", "a.toml"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "tfvae: error: it takes more memory than there is: take fewer or smaller ones "
        "(Unable to allocate 14.9 TiB for an array)\n"
    )
