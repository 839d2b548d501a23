"""Who gets through to the page, with what, and how often."""

import asyncio
import collections
import contextlib
import functools
import ipaddress
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tfvae.datasets.image_files import MAX_BYTES

# What the page itself asks for. Gradio answers to more: files of its cache, proxied addresses,
# descriptions for other programs.
_PATHS = re.compile(
    r"/|/(?:assets|static)/.+|/(?:theme\.css|favicon\.ico|manifest\.json|login|logout|config)/?"
    r"|/gradio_api/(?:startup-events|app_id|login_check|upload|upload_progress|queue/join"
    r"|queue/data|reset|cancel|run/\w+|heartbeat/\w+)/?"
)
_API = "/gradio_api/"
_LOGIN_CHECK = "/gradio_api/login_check"
# An upload comes with some lines around it; no other request is as large.
_MOST_BODY = MAX_BYTES + 2**16
# Bytes of all uploads together.
MOST_UPLOADED = 128 * 2**20
# Seconds for which what comes after a refusal is still read.
_LINGER = 2.0
# Seconds in which the head of a request has to come, and the rest of it.
HEAD_SECONDS = 10.0
_BODY_SECONDS = 120.0
_MOST_CONNECTIONS = 256
# Wrong passwords within some seconds, from one address and from all together.
MOST_FAILURES = 10
_MOST_FAILURES_OF_ALL = 100
_FAILURE_SECONDS = 60.0


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Gate:
    """ASGI middleware that lets through what the page needs, and nothing else.

    Args:
        app: what is behind it.
        loopback: whether it is to be reached as this machine alone; then a request that came by
            another name, from a site that pretends to be at this address, is refused.
        has_password: whether visitors log in. Then Gradio's own addresses answer after that alone,
            and whoever fails too often waits.
        uploads: the folder of what is uploaded, in which the oldest make room for new ones.
    """

    def __init__(
        self,
        app: Any,
        *,
        loopback: bool,
        has_password: bool = False,
        uploads: Path | None = None,
    ):
        self._app = app
        self._loopback = loopback
        self._has_password = has_password
        self._uploads = uploads
        self._failures: dict[str, collections.deque[float]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        received, is_whole = 0, False
        until = time.monotonic() + _BODY_SECONDS

        async def counted() -> Any:
            nonlocal received, is_whole
            gone = {"type": "http.disconnect"}
            if is_whole:  # and so it is the visitor's going that is waited for
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
            except TimeoutError:
                return gone
            received += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            # As if the visitor had gone.
            return gone if received > _MOST_BODY else message

        refusal = self._refusal(scope) or await self._refusal_of_stranger(scope)
        if refusal is not None:
            await _refuse(scope, counted, send, *refusal)
            return
        path = scope["path"].rstrip("/")
        if path == "/login" and scope["method"] == "POST":
            send = self._watched(scope, send)
        elif path == f"{_API}upload" and self._uploads is not None:
            make_room(self._uploads, MOST_UPLOADED - _MOST_BODY)
        await self._app(scope, counted, send)

    async def _refusal_of_stranger(self, scope: Any) -> tuple[int, str] | None:
        """Ask Gradio whether a visitor is logged in, for addresses that it answers to anybody."""
        path = scope["path"]
        if not self._has_password or not path.startswith(_API) or path.startswith(_LOGIN_CHECK):
            return None
        found: list[int] = []

        async def nothing() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def note(message: Any) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])

        asked = {"method": "GET", "path": _LOGIN_CHECK, "raw_path": _LOGIN_CHECK.encode()}
        await self._app({**scope, **asked, "query_string": b""}, nothing, note)
        return None if found == [200] else (401, "log in first")

    def _watched(self, scope: Any, send: Any) -> Any:
        """Return `send` of a login, which counts those that fail."""
        address = _address(scope)

        async def counting(message: Any) -> None:
            if message["type"] == "http.response.start":
                if message["status"] < 400:
                    self._failures.pop(address, None)
                else:
                    waiting = self._failures.setdefault(address, collections.deque())
                    waiting.append(time.monotonic())
            await send(message)

        return counting

    def _has_failed_too_often(self, address: str) -> bool:
        now = time.monotonic()
        for one, times in list(self._failures.items()):
            while times and now - times[0] > _FAILURE_SECONDS:
                times.popleft()
            if not times:
                del self._failures[one]
        of_all = sum(map(len, self._failures.values()))
        of_one = len(self._failures.get(address, ()))
        return of_one >= MOST_FAILURES or of_all >= _MOST_FAILURES_OF_ALL

    def _refusal(self, scope: Any) -> tuple[int, str] | None:
        if scope["type"] != "http" or not _PATHS.fullmatch(scope["path"]):
            return 404, "not found"
        headers = dict(scope["headers"])
        if self._loopback:
            try:
                name = urlsplit("//" + headers.get(b"host", b"").decode("latin-1")).hostname or ""
            except ValueError:
                name = ""
            if not is_loopback(name):
                return 421, "not the name of this machine"
        if scope["method"] not in ("GET", "HEAD") and not _is_of_this_site(headers):
            return 403, "sent by another site"
        if (
            scope["path"].rstrip("/") == "/login"
            and scope["method"] == "POST"
            and self._has_failed_too_often(_address(scope))
        ):
            return 429, "too many wrong passwords: wait a minute"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > _MOST_BODY:
            return 413, f"at most {MAX_BYTES / 2**20:g} MiB"
        return None


def _address(scope: Any) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _is_of_this_site(headers: dict[bytes, bytes]) -> bool:
    """Whether a request that changes something was sent by the page itself, or by no page.

    Any site that is open in the same browser may post to this address, without reading the answer.
    """
    if headers.get(b"sec-fetch-site") == b"cross-site":
        return False
    origin = headers.get(b"origin")
    if origin is None:  # no browser
        return True
    try:
        name = urlsplit(origin.decode("latin-1")).netloc
    except ValueError:
        return False
    # A proxy in front has its own name there; a site cannot set that header without being asked.
    known = (headers.get(key, b"").decode("latin-1") for key in (b"host", b"x-forwarded-host"))
    return bool(name) and name in known


def make_room(folder: Path, most: int) -> None:
    """Remove the oldest files of a folder until all of them together have so many bytes."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            facts = path.lstat()
            if not path.is_dir():
                found.append((facts.st_mtime_ns, facts.st_size, path))
    size = sum(one for _, one, _ in found)
    for _, bytes_, path in sorted(found, key=lambda one: one[0]):
        if size <= most:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        size -= bytes_


@functools.cache
def protocol() -> type:
    """Return uvicorn's reader of HTTP, which waits for the head of a request only so long."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        """Closes connections whose request does not come, and those beyond a number."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > _MOST_CONNECTIONS:
                transport.abort()
                return
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_answering():
                self._stop_waiting()
            elif self._timer is None:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _wait(self) -> None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if not self._is_answering():
                self.transport.close()

    return Impatient


async def _refuse(scope: Any, receive: Any, send: Any, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
        return
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    # A connection closed on bytes not yet read is reset, and the visitor may lose the answer.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body"})
