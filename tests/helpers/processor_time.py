"""The processor time of each test, its processes' included: wall time says more of the machine."""

import contextlib
import ctypes
import json
import os
import resource
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def _living(process):
    """Return the seconds of the processes below one, and of those that they have waited for."""
    seconds = 0.0
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            for child in children.read_text().split():
                stat = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                seconds += sum(map(int, stat[11:15])) / _TICK + _living(child)
        except OSError:
            continue  # It has ended meanwhile.
    return seconds


def spent():
    """Return the processor seconds of this process and of those that it has started."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime + _living("self")


def resident():
    """Return the memory that this process holds, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def give_back():
    """Give the memory that was freed back to the system, where the C library can."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def note(file, name, before, started):
    """Append a line to a file: the test, its seconds of processor and by the clock, the memory."""
    line = {
        "test": name,
        "processor": round(spent() - before, 3),
        "wall": round(time.monotonic() - started, 3),
        "megabytes": round(resident()),
        "worker": os.environ.get("PYTEST_XDIST_WORKER", "main"),
    }
    with Path(file).open("a") as out:
        out.write(json.dumps(line) + "\n")


def table(file, count=10):
    """Return a summary of such a file: the sum, the slowest tests and files, the memory."""
    lines = [json.loads(line) for line in Path(file).read_text().splitlines()]
    files = {}
    for line in lines:
        name = line["test"].partition("::")[0]
        files[name] = files.get(name, 0) + line["processor"]
    memory = {}
    for line in lines:
        memory[line["worker"]] = max(memory.get(line["worker"], 0), line["megabytes"])
    tests = sorted(lines, key=lambda line: -line["processor"])[:count]
    slow = sorted(files.items(), key=lambda item: -item[1])[:count]
    return "\n".join(
        [
            f"{len(lines)} tests, {sum(line['processor'] for line in lines):.0f} s of processor",
            *(f"{worker}: {peak} MB" for worker, peak in sorted(memory.items())),
            *(f"{line['processor']:8.1f} s  {line['test']}" for line in tests),
            *(f"{seconds:8.1f} s  {name}" for name, seconds in slow),
        ]
    )
