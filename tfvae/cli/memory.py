"""A limit on memory, so that too large a model ends in an error and not by the system's hand."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

_KIB = 1024


@contextlib.contextmanager
def within_memory() -> Iterator[None]:
    """Refuse this process more memory than the machine has left, where that can be told.

    Linux grants any amount, and kills the process that uses it. With the limit TensorFlow's
    allocation fails instead, which is an exception. The limit is of what the process itself
    allocates (``RLIMIT_DATA``), so files that are mapped do not count. Nothing is done on other
    systems, and none where a GPU is, whose driver maps more than there is.
    """
    most = _obtainable()
    if most is None or Path("/dev/nvidiactl").exists():
        yield
        return
    import resource  # which Windows lacks, and `_obtainable` is None there

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in (most, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _obtainable() -> int | None:
    """Return the bytes that this process has and could get, or None where Linux does not tell."""
    try:
        machine = Path("/proc/meminfo").read_text(encoding="ascii")
        process = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
        own = _figure("VmData", process)
        left = _figure("MemAvailable", machine) + _figure("SwapFree", machine)
    except (OSError, LookupError):
        return None
    return own + int(min(left, _left_to_group()))


def _figure(name: str, text: str) -> int:
    """Return the bytes of a line such as ``VmData:  428 kB``."""
    found = re.search(rf"^{name}:\s*(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise LookupError(name)
    return int(found[1]) * _KIB


def _left_to_group(group: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes left to this container; inf where it has no limit of its own."""
    try:
        most = (group / "memory.max").read_text(encoding="ascii").strip()
        used = (group / "memory.current").read_text(encoding="ascii")
        files = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.M)
    except OSError:
        return float("inf")
    if not most.isdigit():
        return float("inf")
    # What is kept of files read is given up when memory is asked for.
    return max(0, int(most) - int(used) + (int(files[1]) if files else 0))
