"""The command line. It loads TensorFlow only when a command runs."""

import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cyclopts
from cyclopts import App
from cyclopts.config import Toml

from tfvae import __version__
from tfvae.cli import compressing, exporting, filling, looking, measuring, reading, training
from tfvae.cli.memory import within_memory
from tfvae.cli.wording import as_options
from tfvae.errors import DivergenceError, InputError, WorkerError

app = App(
    name="tfvae",
    help="Variational autoencoders: train on images, series, volumes, vectors and tables, look at "
    "the model, export it.",
    version=__version__,
    # Markdown would take as long to load as all the rest.
    help_format="plaintext",
)
for _command in (
    reading.data,
    training.train,
    measuring.evaluate,
    measuring.score,
    looking.sample,
    looking.reconstruct,
    looking.interpolate,
    looking.traverse,
    looking.explore,
    filling.impute,
    exporting.encode,
    exporting.export,
    exporting.push,
    compressing.compress,
    compressing.decompress,
):
    app.command(_command)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake in what was given ends with one line and status 2."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        _let_warnings_be_lines()
        with within_memory():
            _run(tokens)


def _run(tokens: list[str]) -> None:
    # Of a call before this one in the same process.
    app.config = ()
    try:
        command, bound, *_ = app.parse_args(tokens, exit_on_error=False, print_error=False)
        config = bound.arguments.get("config")
        if config is not None:
            _check_text(config)
            app.config = (Toml(config, must_exist=True, use_commands_as_keys=False),)
            command, bound, *_ = app.parse_args(tokens, exit_on_error=False, print_error=False)
        command(*bound.args, **bound.kwargs)
    except cyclopts.CycloptsError as error:
        _fail(f"{error} (see tfvae {' '.join(tokens[:1])} --help)")
    except InputError as error:
        _fail(as_options(str(error)))
    except (DivergenceError, WorkerError) as error:
        _fail(error, status=1)
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        _fail(f"cannot use{place}: {error.strerror or error}: choose another place")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        # TensorFlow puts the node before it, in braces.
        reason = re.sub(r"^\{\{.*?\}\} ", "", str(error).partition("\n")[0])
        _fail(f"it takes more memory than there is: take fewer or smaller ones ({reason})")


def _check_text(config: Path) -> None:
    """Refuse what is no file of text, for which the reader of TOML has no message."""
    if config.is_dir():
        raise InputError(f"--config is a TOML file; received the directory {config}")
    try:
        if config.exists():
            config.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"--config is a TOML file; {config} is no text in UTF-8") from None


def _is_out_of_memory(error: Exception) -> bool:
    # TensorFlow's error, which is there to be asked for once TensorFlow is.
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"


def _let_warnings_be_lines() -> None:
    """Let what the library warns of be a line, without the place in its code."""
    show = warnings.showwarning

    def line(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, UserWarning):
            print(f"tfvae: warning: {as_options(str(message))}", file=sys.stderr)
        else:
            show(message, category, *rest, **named)

    warnings.showwarning = line


def _fail(message: object, status: int = 2) -> None:
    print(f"tfvae: error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
