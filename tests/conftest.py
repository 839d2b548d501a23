import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path

# Before TensorFlow is imported: its start-up messages would drown a failure's text.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The processes that -n starts read it: with fewer heaps less freed memory is kept.
os.environ.setdefault("MALLOC_ARENA_MAX", "2")
# Where several processes share the cores, threads of NumPy and scikit-learn wait for each other: a
# t-SNE took more than four times the processor time of one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# TensorFlow is imported below, where tests run: the process that -n starts others from needs none.
import numpy as np
import processor_time
import pytest
import sampling

# Notebooks are read through jsonschema, which would compile a grammar of addresses in each worker,
# for a second and more. It does without where there is none, and no notebook has an address that it
# would check.
sys.modules.setdefault("rfc3987_syntax", None)

# Tracing makes millions of objects: to look through them all, time and again, would take a tenth of
# the suite. A graph is a circle of references, though, and stays until they are looked through:
# `pytest_runtest_teardown` does so where the process has grown.
gc.set_threshold(200_000, 20, 50)
GROWTH = 150  # in megabytes
MEMORY = pytest.StashKey()

# Started in the background, this process ignores Ctrl-C, and those that it starts would too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--times", metavar="FILE", help="append each test's processor time here")


def pytest_terminal_summary(terminalreporter, config):
    file = config.getoption("times")
    if file and Path(file).exists():
        terminalreporter.section("processor time")
        terminalreporter.write_line(processor_time.table(file))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    file = item.config.getoption("times")
    if not file:
        return (yield)
    before, started = processor_time.spent(), time.monotonic()
    done = yield
    processor_time.note(file, item.nodeid, before, started)
    return done


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    sampling.mark(items)


def pytest_collection_finish():
    import graph_memory

    # What TensorFlow and the tests' modules have made by now stays: it is looked through no more.
    graph_memory.remember()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item, nextitem):
    done = yield
    memory = item.config.stash.setdefault(MEMORY, {"left": processor_time.resident()})
    ends = nextitem is None or nextitem.path != item.path
    if ends:
        import graph_memory
        import keras

        graph_memory.forget()
        keras.utils.clear_session(free_memory=False)
    if processor_time.resident() > memory["left"] + GROWTH:
        gc.collect()
        processor_time.give_back()
        memory["left"] = processor_time.resident()
    return done


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Each test starts from the same global seed and precision, and leaves no layers behind."""
    import keras
    from keras.src.backend.common import global_state
    from tensorflow.python.framework import config

    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    if config.is_op_determinism_enabled():
        # A command that trains asks for it, and Keras then compiles nothing by XLA.
        config.disable_op_determinism()
        keras.utils.clear_session(free_memory=False)
    # That would have TensorFlow prepare again, in each test, the functions that a file's tests
    # share; names and policies are all that is to be forgotten.
    global_state.GLOBAL_STATE_TRACKER = threading.local()
    global_state.GLOBAL_SETTINGS_TRACKER = threading.local()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def test_data():
    """The folder of real MNIST that TFVAE_TEST_DATA names."""
    folder = os.environ.get("TFVAE_TEST_DATA")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("set TFVAE_TEST_DATA to a folder that holds mnist/ with its four IDX files")
    return Path(folder)
