"""``tfvae compress`` and ``tfvae decompress``: files of the size of the ELBO."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tfvae.cli.measuring import named_by
from tfvae.cli.options import AsJson
from tfvae.cli.outputs import check_out, show
from tfvae.cli.start import open_model
from tfvae.errors import InputError
from tfvae.saving.config import DataOptions, whole

if TYPE_CHECKING:
    import numpy as np

    from tfvae.saving.events import Events
    from tfvae.saving.run import TrainedModel

_ModelOption = Annotated[
    Path,
    Parameter(help="A run directory of tfvae train, a model.keras file or a SavedModel."),
]
_Overwrite = Annotated[bool, Parameter(help="Replace what is at OUT.", negative=())]


def compress(
    data: Annotated[
        str,
        Parameter(
            name="IN",
            help="An .npy file, a folder of pictures, or other data as --dataset takes them: a "
            "file's events are taken all, and of a data set those of its test split.",
        ),
    ],
    out: Annotated[Path, Parameter(name="OUT", help="File to write.")],
    /,
    *,
    model: _ModelOption,
    limit: Annotated[int | None, whole("Take so many events, the first.", least=1)] = None,
    reading: DataOptions = DataOptions(),  # noqa: B008 - frozen
    overwrite: _Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compress events without loss, into as many bits as their negative ELBO.

    An .npy file comes back bit for bit. Of a folder of pictures the names and the pixels
    come back, as PNG files; other files and what pictures say of themselves are not kept.
    The model is needed to decompress, on the machine that compressed.
    """
    _check_free(out, overwrite)
    trained = open_model(model, codes=True)
    from tfvae.compression import compress_events
    from tfvae.compression.stack import entropy_coder
    from tfvae.evaluation import elbo
    from tfvae.saving.files import new_file

    entropy_coder()
    reading = named_by(data, reading)
    found = trained.events(reading, limit, whole=True)
    label = found.labels if trained.vae.num_classes is not None else None
    original, names = _original(trained, reading, found)
    done = compress_events(
        trained.vae,
        found.x,
        label,
        original=original,
        names=names,
        progress=sys.stderr.isatty(),
    )
    estimate = elbo(
        trained.vae,
        found.x if label is None else (found.x, label),
        progress=sys.stderr.isatty(),
    )
    with new_file(out) as partial:
        partial.write_bytes(done.data)
    elbo_bits = -estimate.elbo * done.events / math.log(2)
    size = len(done.data)
    before = _bytes_of(data, names)
    facts = {
        "out": str(out),
        "events": done.events,
        "bytes": size,
        "bits": done.bits,
        "bits_per_dimension": done.bits_per_dimension,
        "negative_elbo_bits": elbo_bits,
        "over_elbo": done.bits / elbo_bits - 1,
        "start_up_bits": done.start_up_bits,
        "header_bits": done.header_bits,
        "bytes_before": before,
        "ratio": None if before is None else before / size,
    }
    lines = [
        f"wrote {out}: {done.events:,} events in {size:,} bytes, "
        f"{done.bits_per_dimension:.4f} bits per dimension",
        f"negative ELBO {elbo_bits / 8:,.0f} bytes; the file is {facts['over_elbo']:+.2%} of that, "
        f"with {done.start_up_bits // 8:,} bytes of start-up and {done.header_bits // 8:,} of "
        "header",
    ]
    if before is not None:
        lines.append(f"{data}: {before:,} bytes, {before / size:.1f} times as much")
    show(facts, as_json, "\n".join(lines))


def decompress(
    compressed: Annotated[Path, Parameter(name="IN", help="What tfvae compress wrote.")],
    out: Annotated[
        Path,
        Parameter(
            name="OUT", help=".npy file to write, or the folder where a folder was compressed."
        ),
    ],
    /,
    *,
    model: _ModelOption,
    overwrite: _Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Bring back what was compressed, with the same model.

    A damaged file, another model, and a machine that computes the model otherwise end in one
    line, never in other events.
    """
    from tfvae.saving.files import new_file

    if not compressed.is_file():
        raise InputError(f"expected a file of tfvae compress; there is none at {compressed}")
    _check_free(out, overwrite)
    content = compressed.read_bytes()
    # A wrong file or a wrong OUT shows at once, not when TensorFlow has loaded.
    from tfvae.compression.container import read

    names = read(content)[0].names
    if names is None:
        check_out(out, overwrite, "OUT", endings=(".npy",))
    trained = open_model(model, codes=True)
    import numpy as np

    from tfvae.compression import decompress_events

    found = decompress_events(trained.vae, content, progress=sys.stderr.isatty())
    if found.names is None:
        with new_file(out) as partial, partial.open("wb") as file:
            np.save(file, found.x)
    else:
        from tfvae.compression.pictures import write_folder

        write_folder(out, found.x, found.names, replace=overwrite)
    facts = {
        "out": str(out),
        "shape": list(found.x.shape),
        "dtype": found.x.dtype.name,
        "pictures": None if found.names is None else len(found.names),
    }
    what = f"{found.x.dtype.name} {list(found.x.shape)}"
    if found.names is not None:
        what = f"{len(found.names):,} pictures"
    show(facts, as_json, f"wrote {out}: {what}")


def _check_free(out: Path, overwrite: bool) -> None:
    from tfvae.saving.files import refuse_existing

    if not overwrite:
        refuse_existing(out, "choose another OUT or give --overwrite")
    elif out.is_dir() and not out.is_symlink() and any(out.iterdir()):
        raise InputError(f"{out} is a directory that holds files: remove it first")


def _original(
    trained: "TrainedModel", reading: DataOptions, found: "Events"
) -> "tuple[np.ndarray | None, tuple[str, ...] | None]":
    """Return the array that a file holds, and the names of pictures; None where there are none.

    Raises:
        InputError: if pictures are none that the model can keep.
    """
    import numpy as np

    path = Path(reading.dataset or "")
    if reading.binarize not in (None, "none") or reading.dequantize:
        return None, None
    if path.suffix == ".npy" and path.is_file():
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.size != found.x.size:
            array = array[: len(found.x)]
        return (np.array(array), None) if array.size == found.x.size else (None, None)
    if path.is_dir() and found.names is not None:
        from tfvae.compression.pictures import pixels

        return pixels(path, found.names, trained.vae.event_shape), found.names
    return None, None


def _bytes_of(data: str, names: tuple[str, ...] | None) -> int | None:
    """Return how large the files were that were compressed, None where they are no files."""
    path = Path(data)
    if names is not None:
        return sum((path / name).stat().st_size for name in names)
    return path.stat().st_size if path.suffix == ".npy" and path.is_file() else None
