"""The page's server: who may reach it, what they may ask for, and what they leave behind."""

import contextlib
import errno
import hmac
import os
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfvae.app.gate import Gate, is_loopback, protocol
from tfvae.datasets.image_files import MAX_BYTES
from tfvae.errors import InputError, missing_extra
from tfvae.saving.files import kept_open, remove_leftovers

PASSWORD_VARIABLE = "TFVAE_PASSWORD"
_LEAST_PASSWORD = 8
_PORTS = range(7860, 7960)
_THREAD = "page"
# Of each, Gradio keeps what its controls show.
_MOST_SESSIONS = 100
_SECONDS_BETWEEN_COMPLAINTS = 10.0
# What Gradio reads from the environment, of which nothing is left to chance.
_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


def gradio() -> Any:
    """Import gradio, with all that it reports to others switched off.

    Raises:
        InputError: if it is not installed.
    """
    os.environ.update(_SETTINGS)
    try:
        import gradio
    except ImportError as error:
        raise missing_extra("the page needs", "gradio", "app") from error
    return gradio


def read_password(file: Path | None) -> str | None:
    """Return the password that a file or else the environment variable TFVAE_PASSWORD holds.

    A command line would show it to every user of the machine.

    Raises:
        InputError: if it is too short, or the file cannot be read.
    """
    source = PASSWORD_VARIABLE if file is None else str(file)
    try:
        text = os.environ.get(PASSWORD_VARIABLE) if file is None else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise InputError(f"cannot read the password from {file}: {reason}") from error
    if text is None:
        return None
    password = text.rstrip("\r\n")
    if len(password) < _LEAST_PASSWORD:
        raise InputError(
            f"the password in {source} has {len(password)} characters; expected "
            f"{_LEAST_PASSWORD} or more"
        )
    return password


def check_access(host: str, password: str | None) -> None:
    """Refuse to be reached by others without a password.

    Raises:
        InputError: if `host` is not a loopback address and there is no password.
    """
    if password is None and not is_loopback(host):
        raise InputError(
            f"{host} is reached from other machines, which needs a password: write it to a file "
            f"for --password-file, or to {PASSWORD_VARIABLE}; or leave out --host"
        )


@contextlib.contextmanager
def serving(
    make_page: Callable[[], Any],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    password: str | None = None,
) -> Iterator[str]:
    """Serve a page in a thread of its own while the block runs.

    Uploads lie in a folder of their own, which is gone afterwards.

    Args:
        make_page: makes the `gradio.Blocks`.
        host: the address to listen on.
        port: the port; by default the first free one from 7860, or any other free one.
        password: what a visitor must give; None for no login, on a loopback address only.

    Yields:
        The page's URL.

    Raises:
        InputError: if gradio is not installed, the address cannot be had, or a password is needed.
    """
    check_access(host, password)
    gr = gradio()
    import fastapi
    import uvicorn

    with _listening(host, port) as listener, _UPLOADS():
        app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.add_middleware(
            Gate,
            loopback=is_loopback(host),
            has_password=password is not None,
            uploads=Path(os.environ["GRADIO_TEMP_DIR"]),
        )
        with _MAKING:
            page = make_page()
            page.state_session_capacity = _MOST_SESSIONS
            gr.mount_gradio_app(
                app,
                page,
                path="/",
                server_name=host,
                server_port=listener.getsockname()[1],
                auth=None if password is None else _login(password),
                auth_message="Any user name will do.",
                allowed_paths=[],
                max_file_size=MAX_BYTES,
                show_error=False,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                theme=gr.themes.Default(primary_hue="blue"),
            )
            # Of a page that is mounted, not launched, Gradio would take the path of any file of
            # this machine for an upload.
            page.has_launched = page.is_running = True
        # Its log would tell of pages that were open when the server ended.
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1, http=protocol())
        )
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name=_THREAD, daemon=True
        )
        with _one_line_complaints():
            thread.start()
            try:
                while not server.started:
                    if not thread.is_alive():
                        raise RuntimeError("the page's server did not start")
                    time.sleep(0.01)
                yield _url(host, listener)
            finally:
                server.should_exit = True
                thread.join(timeout=10)


@contextlib.contextmanager
def _one_line_complaints() -> Iterator[None]:
    """Let what the server's thread writes to standard error be one line, not a traceback each.

    Gradio prints one for each request that does not fit, whoever sends it.
    """
    before = sys.stderr
    sys.stderr = _Complaints(before)
    try:
        yield
    finally:
        sys.stderr = before


class _Complaints:
    """Standard error, of which the server's thread gets one line at a time, and few of them."""

    def __init__(self, stream: Any):
        self._stream = stream
        self._next = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or tell the last line of a traceback."""
        if threading.current_thread().name != _THREAD:
            return self._stream.write(text)
        # The line of a traceback that names the error is the one that is not indented.
        named = re.match(r"[\w.]+(?:Error|Exception|Warning)\b", text)
        if named and time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_COMPLAINTS
            line = " ".join(text.split())[:200]
            self._stream.write(f"tfvae: a request could not be answered ({line})\n")
        return len(text)


def _login(password: str) -> Callable[[str, str], bool]:
    return lambda user, given: hmac.compare_digest(given.encode(), password.encode())


@contextlib.contextmanager
def _listening(host: str, port: int | None) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The last resort is whatever the system gives.
    for candidate in (*_PORTS, 0) if port is None else (port,):
        try:
            listener = socket.create_server((host, candidate), family=family)
        except (OSError, OverflowError) as error:
            if port is None and getattr(error, "errno", None) == errno.EADDRINUSE:
                continue
            reason = getattr(error, "strerror", None) or error
            advice = "another --host" if port is None else "another --port, or none for a free one"
            raise InputError(
                f"cannot listen on {host}, port {candidate}: {reason}: choose {advice}"
            ) from error
        with listener:
            yield listener
        return


class _UploadFolder:
    """A folder for what is uploaded, until the last server of this process ends.

    Gradio finds its name in the environment, which servers in one process share.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers = 0
        self._open = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._servers == 0:
                self._make()
            self._servers += 1
        try:
            yield
        finally:
            with self._lock:
                self._servers -= 1
                if self._servers == 0:
                    self._open.close()

    def _make(self) -> None:
        # Those of servers that were killed.
        remove_leftovers(Path(tempfile.gettempdir()), "tfvae-uploads-", "")
        folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="tfvae-uploads-"))
        self._open.enter_context(kept_open(Path(folder)))
        places = {"GRADIO_TEMP_DIR": folder, "GRADIO_EXAMPLES_CACHE": str(Path(folder) / "cache")}
        for name, place in places.items():
            self._open.callback(_set_variable, name, os.environ.get(name))
            os.environ[name] = place


_UPLOADS = _UploadFolder()
# Gradio notes in a place of its own which page components go to: one page at a time.
_MAKING = threading.Lock()


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _url(host: str, listener: socket.socket) -> str:
    everywhere = host in ("0.0.0.0", "::")
    name = socket.gethostname() if everywhere else f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/"
