import os
import stat

import pytest

from tfvae.errors import InputError
from tfvae.saving.files import new_directory, new_file, refuse_existing


def test_a_new_file_appears_whole_and_replaces_whole(tmp_path):
    path = tmp_path / "deep" / "picture.png"
    with new_file(path) as partial:
        assert partial.suffix == ".png"
        partial.write_text("first")
        assert not path.exists()
    with new_file(path) as partial:
        partial.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert [one.name for one in path.parent.iterdir()] == ["picture.png"]


def test_an_error_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")
    with pytest.raises(RuntimeError), new_file(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["model.keras"]


def test_an_error_while_filling_leaves_no_directory(tmp_path):
    with pytest.raises(RuntimeError), new_directory(tmp_path / "export") as partial:
        (partial / "half").write_text("")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_new_directory_refuses_what_exists_and_leaves_it(tmp_path):
    path = tmp_path / "export"
    path.mkdir()
    (path / "mine").write_text("keep")
    with pytest.raises(InputError, match=r"nothing is yet; .*export exists"), new_directory(path):
        pass
    assert (path / "mine").read_text() == "keep"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists: go away"):
        refuse_existing(dangling, "go away")


def test_permissions_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o022)
    try:
        with new_directory(tmp_path / "d") as partial:
            (partial / "x").write_text("")
        with new_file(tmp_path / "f.txt") as partial:
            partial.write_text("")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "f.txt").stat().st_mode) == 0o644
