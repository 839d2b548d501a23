"""Zip and tar archives of picture files, read without unpacking them to the disk."""

import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from tfvae.datasets.folders import Files, pictures_source, sort_files
from tfvae.datasets.options import PictureOptions
from tfvae.datasets.pictures import is_picture
from tfvae.datasets.source import Size, Source
from tfvae.datasets.text import first_line
from tfvae.errors import InputError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

# A packed tar is read from its beginning to its end alone, so its pictures are held in memory.
_MOST_BYTES = 2**30
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError, EOFError, RuntimeError)


def archive_of_pictures(path: Path, size: Size | None, options: PictureOptions) -> Source:
    """Return the source of an archive of picture files, laid out as a folder may be.

    Raises:
        InputError: if it cannot be read, or as `image_folder` does.
    """
    try:
        files = _zip(path) if path.suffix.lower() == ".zip" else _tar(path)
    except _DAMAGE as error:
        raise InputError(f"{path} is not a readable archive: {first_line(error)}") from error
    return pictures_source(files, size, options)


def _zip(path: Path) -> Files:
    archive = zipfile.ZipFile(path)
    entries = {_clean(entry.filename): entry for entry in archive.infolist() if not entry.is_dir()}
    read = _reading(path, lambda name: archive.read(entries[name]))
    return sort_files(str(path), list(entries), read)


def _clean(name: str) -> str:
    """Return a name within an archive as all programs but some write it."""
    return name.replace("\\", "/").removeprefix("./").lstrip("/")


def _tar(path: Path) -> Files:
    with tarfile.open(path) as archive:
        found = list(archive)
        members = {_clean(member.name): member for member in found if member.isreg()}
        if _is_plain(path):
            return _plain_tar(path, found, members)
        held: dict[str, bytes] = {}
        total = 0
        # In their order in the file, so that it is unpacked once.
        for name, member in members.items():
            if is_picture(name):
                total += member.size
                if total > _MOST_BYTES:
                    raise InputError(
                        f"{path}: expected at most 1 GiB of pictures in a packed tar; unpack it, "
                        "or pack it as zip"
                    )
                content = archive.extractfile(member)
                held[name] = content.read() if content else b""
    return sort_files(str(path), list(members), held.__getitem__)


def _plain_tar(
    path: Path, found: list[tarfile.TarInfo], members: dict[str, tarfile.TarInfo]
) -> Files:
    """Return the files of a tar that is not packed, each read from its place."""
    file, lock = path.open("rb"), threading.Lock()

    def read_at(start: int, length: int) -> bytes:
        with lock:
            file.seek(start)
            return file.read(length)

    def read(name: str) -> bytes:
        return read_at(members[name].offset_data, members[name].size)

    # tarfile takes the end of a file that is cut, or a damaged header, for the archive's own end,
    # which is a block of zeros.
    block = tarfile.BLOCKSIZE
    sizes = [member.size if member.isreg() else 0 for member in found]
    ends = [m.offset_data + -(-size // block) * block for m, size in zip(found, sizes, strict=True)]
    if read_at(max(ends, default=0), block) != bytes(block):
        raise InputError(f"{path} is not a readable archive: it is cut or damaged")
    return sort_files(str(path), list(members), _reading(path, read))


def _is_plain(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:"):
            return True
    except tarfile.ReadError:
        return False


def _reading(path: Path, read: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """Return a reader of an archive's files whose errors name the file."""

    def content(name: str) -> bytes:
        try:
            return read(name)
        except (*_DAMAGE, NotImplementedError) as error:
            raise InputError(
                f"{path}: {name} is not a readable image: {first_line(error)}"
            ) from error

    return content
