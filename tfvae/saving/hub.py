"""Models on hubs that speak the interface of huggingface.co: ``hf://OWNER/NAME``.

A model is read from there as from a directory: nothing of it is run, only files of known names are
taken, and no more of them than `MOST_BYTES`. HF_ENDPOINT names another hub, and HF_TOKEN who asks.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfvae.errors import InputError, missing_extra

# Of all files of a model together, and how many a repository may list.
MOST_BYTES = 2**31
_MOST_FILES = 10_000
# As a string, and as a path that has lost one slash.
_ADDRESS = re.compile(
    r"hf:/{1,2}([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,200}))?"
)
# What a model is read from, the first of these that is whole; and what says more of it.
_MODEL = (("model.keras",), ("saved_model.pb", "assets.extra/keras.json"))
_VARIABLES = re.compile(r"variables/variables\.(index|data-\d{5}-of-\d{5})")
_BESIDE = ("README.md", "card.json", "schema.json")


def is_address(path: Any) -> bool:
    """Whether a path is one of a hub, as ``hf://OWNER/NAME``."""
    return re.match("hf:/", str(path)) is not None


def download(address: str | Path) -> Path:
    """Fetch a model, unless it has been, and return the directory that it lies in.

    Args:
        address: ``hf://OWNER/NAME``, or with a branch, tag or commit ``hf://OWNER/NAME@REVISION``.

    Raises:
        InputError: if there is none, it is too large, or the hub cannot be reached and nothing was
            fetched before.
    """
    name, revision = parts_of(address)
    hub = library()
    with one_line_errors(name, hub):
        try:
            return _fetched(hub, name, revision)
        except (InputError, hub.errors.HfHubHTTPError):
            raise
        except Exception as error:
            # No answer, in the words of whichever library asked.
            for file in ("model.keras", "saved_model.pb"):
                found = hub.try_to_load_from_cache(name, file, revision=revision)
                if isinstance(found, str):
                    return Path(found).parent
            raise InputError(
                f"hf://{name} has not been fetched before, and {endpoint_of(hub)} does not "
                f"answer: {_line(error)}"
            ) from error


def _fetched(hub: Any, name: str, revision: str | None) -> Path:
    endpoint = endpoint_of(hub)
    api = hub.HfApi(endpoint=endpoint)
    facts = api.model_info(name, revision=revision, files_metadata=True, timeout=30)
    sizes = {one.rfilename: one.size for one in (facts.siblings or [])[:_MOST_FILES]}
    wanted = _wanted(name, sizes)
    unknown = [one for one in wanted if not isinstance(sizes[one], int)]
    total = sum(sizes[one] for one in wanted if one not in unknown)
    if unknown or total > MOST_BYTES:
        size = f"{total:,} bytes" if not unknown else "an unknown number of bytes"
        raise InputError(f"hf://{name} has {size}; at most {MOST_BYTES:,} are fetched")
    folders = set()
    for one in wanted:
        place = Path(
            hub.hf_hub_download(
                name, one, revision=revision, endpoint=endpoint, library_name="tfvae"
            )
        )
        if place.stat().st_size != sizes[one]:
            raise InputError(
                f"hf://{name}: {one} has {place.stat().st_size:,} bytes, and {sizes[one]:,} were "
                "announced"
            )
        folders.add(place.parents[one.count("/")])
    if len(folders) > 1:
        raise InputError(f"hf://{name} was changed while it was fetched: fetch it again")
    return folders.pop()


def _wanted(name: str, sizes: dict[str, Any]) -> list[str]:
    """Return the files to fetch, of those that there are.

    Raises:
        InputError: if there is no model among them.
    """
    for needed in _MODEL:
        if all(one in sizes for one in needed):
            variables = [one for one in sizes if _VARIABLES.fullmatch(one)]
            more = variables if needed[0] == "saved_model.pb" else []
            return [*needed, *more, *(one for one in _BESIDE if one in sizes)]
    raise InputError(
        f"hf://{name} holds no model of tfvae: neither model.keras nor a SavedModel of its"
    )


def parts_of(address: str | Path) -> tuple[str, str | None]:
    """Return OWNER/NAME and the revision of an address, None where it has none.

    Raises:
        InputError: if it is no address.
    """
    found = _ADDRESS.fullmatch(str(address))
    if found is None:
        raise InputError(f"expected hf://OWNER/NAME, or with @REVISION; received {address}")
    return found[1], found[2]


def library() -> Any:
    """Return `huggingface_hub`, with what it reports to others and its bars switched off.

    Raises:
        InputError: if it is not installed.
    """
    # Its reports of how it is used to its makers.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise missing_extra("models of a hub need", "huggingface_hub", "hub") from error
    huggingface_hub.utils.disable_progress_bars()
    return huggingface_hub


def endpoint_of(hub: Any) -> str:
    """Return the address of the hub itself."""
    return (os.environ.get("HF_ENDPOINT") or hub.constants.ENDPOINT).rstrip("/")


@contextlib.contextmanager
def one_line_errors(name: str, hub: Any) -> Iterator[None]:
    """Say in one line what a hub does not do."""
    try:
        yield
    except InputError:
        raise
    except hub.errors.RevisionNotFoundError as error:
        raise InputError(f"hf://{name} has no such revision") from error
    except hub.errors.GatedRepoError as error:
        raise InputError(
            f"hf://{name} asks for its terms to be accepted first, in a browser"
        ) from error
    except hub.errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status == 404 or (
            status == 401 and isinstance(error, hub.errors.RepositoryNotFoundError)
        ):
            raise InputError(
                f"there is no hf://{name} that this token may see: look at the name, and log in by "
                "hf auth login or HF_TOKEN if it is private"
            ) from error
        if status in (401, 403):
            raise InputError(
                f"the hub refuses hf://{name} ({status}): log in by hf auth login, or set HF_TOKEN "
                "to a token that may do this"
            ) from error
        raise InputError(f"hf://{name}: {_line(error)}") from error
    except Exception as error:
        raise InputError(f"hf://{name}: {_line(error)}") from error


def _line(error: Exception) -> str:
    """Return an error's message in one line, without what may be a token."""
    text = " ".join(str(error).split())
    token = os.environ.get("HF_TOKEN")
    if token:
        text = text.replace(token, "...")
    return re.sub(r"hf_\w{8,}|(?<=Bearer )\S+", "...", text)[:300]
