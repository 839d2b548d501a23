"""What the library says of its arguments, in the words of the command line."""

import re

# The arguments of the library that are options of the commands.
_OPTIONS = (
    "background",
    "binarize",
    "dataset",
    "dequantize",
    "folder_labels",
    "image_size",
    "kind",
    "label",
    "likelihood",
    "manual_dir",
    "missing",
    "skip_damaged",
    "unseen",
    "value_range",
)
_VALUE = r"""(?P<value>'[^']*'|\([^()]*\)|True|False|[A-Z]+|[\w.]+)"""
_ARGUMENT = re.compile(rf"\b(?P<name>{'|'.join(_OPTIONS)})={_VALUE}")
_COLUMN = re.compile(r"\bcolumns=\{(?P<name>'[^']*'): '(?P<kind>\w+)'\}")


def as_options(message: str) -> str:
    """Return a message with arguments of the library as options.

    ``value_range=(0, 4095)`` becomes ``--value-range 0,4095``, ``missing=True`` ``--missing``,
    ``folder_labels=False`` ``--no-folder-labels``, ``columns={'zip': 'text'}``
    ``--column zip=text``.
    """
    message = _COLUMN.sub(_column, message)
    message = _ARGUMENT.sub(_option, message)
    message = message.replace("make it with num_classes=...", "train it with --conditional")
    # A file's values are scaled as it is read.
    for said, option in (
        (
            "scale the values, for bytes x / 255.0",
            "scale the values, bytes by --value-range 0,255",
        ),
        ("give fit x / 255.0", "give --value-range 0,255"),
        ("give fit (x - x.mean(0)) / x.std(0)", "standardise those of the file"),
    ):
        message = message.replace(said, option)
    return message


def _option(found: re.Match[str]) -> str:
    name, value = "--" + found["name"].replace("_", "-"), found["value"]
    if value in ("True", "False"):
        return name if value == "True" else f"--no-{name[2:]}"
    return f"{name} {value.strip('()').replace(', ', ',')}".replace("'", "")


def _column(found: re.Match[str]) -> str:
    entry = f"{found['name'][1:-1]}={found['kind']}"
    return f"--column '{entry}'" if " " in entry else f"--column {entry}"
