"""One writer at a time in a directory, what killed ones leave, and links that are not followed."""

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import tfvae
from tfvae.saving.files import new_directory, new_file, refuse_links
from tfvae.saving.locks import locked

HOLD = """
import sys
from pathlib import Path
from tfvae.saving.locks import locked
with locked(Path(sys.argv[1])):
    print("begun", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(directory):
    """Hold a directory's lock in another process, until the block ends; it is given."""
    command = [sys.executable, "-c", HOLD, directory]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"begun\n"
        yield holder


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path):
    with (
        held(tmp_path) as holder,
        pytest.raises(tfvae.InputError, match=rf"in use by process {holder.pid} on \S+ since"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path), locked(tmp_path):  # of the same thread, once more
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert not list(tmp_path.iterdir())


def test_a_killed_holder_holds_nothing(tmp_path):
    with held(tmp_path) as holder:
        holder.kill()
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path):
        pass


def test_another_thread_is_refused(tmp_path):
    seen = []

    def other():
        with pytest.raises(tfvae.InputError, match="in use by process"), locked(tmp_path):
            pass
        seen.append(True)

    with locked(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == [True]


def test_leftovers_of_killed_writers_are_removed_and_those_of_others_kept(tmp_path):
    old = time.time() - 3600
    left = [tmp_path / ".model-abcd1234.keras", tmp_path / ".model-ABCD_234"]
    other = [tmp_path / name for name in (".model-abcd1234.png", "model-abcd1234.keras")]
    left[1].mkdir()
    (left[1] / "half").write_text("")
    for path in (left[0], *other):
        path.write_text("")
    young = tmp_path / ".model-young_12.keras"
    young.write_text("")
    for path in (*left, *other):
        os.utime(path, (old, old))
    with new_file(tmp_path / "model.keras") as partial, new_directory(tmp_path / "model") as folder:
        partial.write_text("one")
        os.utime(partial, (old, old))
        os.utime(folder, (old, old))
        with new_file(tmp_path / "model.keras") as again:
            again.write_text("two")
    assert (tmp_path / "model.keras").read_text() == "one"
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"model.keras", "model", young.name, *(path.name for path in other)}


def test_links_are_replaced_or_refused_never_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    precious = tmp_path / "mine" / "precious"
    precious.write_text("keep")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.keras").symlink_to(precious)
    with new_file(folder / "model.keras") as partial:
        partial.write_text("new")
    assert not (folder / "model.keras").is_symlink()
    (folder / "saved_model").mkdir()
    (folder / "saved_model" / "1").symlink_to(tmp_path / "mine")
    with pytest.raises(tfvae.InputError, match=r"saved_model/1 is a symbolic link"):
        refuse_links(folder, ("checkpoints", "saved_model"))
    with new_directory(folder / "saved_model" / "1", replace=True) as partial:
        (partial / "x").write_text("")
    assert not (folder / "saved_model" / "1").is_symlink()
    refuse_links(folder, ("checkpoints", "saved_model"))
    (folder / "checkpoints").symlink_to(tmp_path / "mine")
    with pytest.raises(tfvae.InputError, match=r"checkpoints is a symbolic link"):
        refuse_links(folder, ("checkpoints", "saved_model"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["precious"]
    assert precious.read_text() == "keep"


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """As a power cut would show it: the content first, then the name, then the folder's names."""
    order = []
    true_fsync, true_replace = os.fsync, os.replace

    def fsync(handle):
        order.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        true_fsync(handle)

    def replace(self, target):
        order.append(f"-> {target}")
        true_replace(self, target)
        return target

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr("pathlib.Path.replace", replace)
    monkeypatch.setattr("pathlib.Path.rename", replace)
    with new_file(tmp_path / "f") as partial:
        partial.write_text("x")
    assert order == [str(partial), f"-> {tmp_path / 'f'}", str(tmp_path)]
    order.clear()
    with new_directory(tmp_path / "d") as partial:
        (partial / "in").mkdir()
        (partial / "in" / "x").write_text("x")
    inside = [str(partial / "in" / "x"), str(partial / "in"), str(partial)]
    assert order == [*inside, f"-> {tmp_path / 'd'}", str(tmp_path)]


def test_errors_of_the_system_name_the_file(tmp_path):
    with pytest.raises(OSError, match="full") as info, new_file(tmp_path / "f.csv"):
        raise OSError(28, "full")
    assert info.value.filename == str(tmp_path / "f.csv")
