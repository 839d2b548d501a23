"""The page's server: who may reach it, and what they may ask for."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import processes
import pytest

import tfvae
from tfvae.app import explorer, gate
from tfvae.app import server as web
from tfvae.app.explorable import Examples, Score
from tfvae.datasets import image_files as uploads
from tfvae.errors import InputError
from tfvae.saving.run import TrainedModel

pytest.importorskip("gradio", reason="the page needs gradio: pip install 'tfvae[app]'")

SECRET = "the contents of a file in the working directory"
PASSWORD = "correct horse"


class Waves:
    """A model of two latent dimensions in closed form, without any network."""

    image_shape = (8, 8, 1)
    latent_dim = 2
    num_classes = None

    def code(self, x, label):
        return x[:, 0, :2, 0]

    def decode(self, z, label):
        rows = np.arange(8) / 8
        waves = np.sin(z[:, :1, None] + 3 * rows[:, None] + z[:, 1:, None] * rows)
        return (0.5 + 0.5 * waves[..., None]).astype(np.float32)

    def draw(self, n, label, seed):
        return np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)

    def draw_images(self, n, label, seed):
        z = self.draw(n, label, seed)
        return z, self.decode(z, label)

    def elbo(self, x, label, seed):
        return Score(-1.0, -0.75, 0.25, np.array([0.25, 0.0]))

    def admitted(self, x):
        return x


@pytest.fixture(scope="module", autouse=True)
def working_directory(tmp_path_factory):
    """Serve from a directory with a file in it that nobody must get."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "secret.txt").write_text(SECRET)
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)
    # Nothing was written beside it either.
    assert [path.name for path in folder.iterdir()] == ["secret.txt"]


@pytest.fixture(scope="module")
def examples():
    model = Waves()
    codes, images = model.draw_images(20, None, 0)
    return Examples("waves", images, None, codes)


@pytest.fixture(scope="module")
def url(examples):
    with web.serving(lambda: explorer.page(Waves(), examples)) as url:
        yield url


@pytest.fixture(scope="module")
def guarded(examples):
    with web.serving(lambda: explorer.page(Waves(), examples), password=PASSWORD) as url:
        yield url


def ask(url, path, method="GET", body=None, **headers):
    """Send a request as it is, without tidying its path; give status, headers and body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=240)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.putrequest(method, path, skip_host="Host" in named)
        for name, value in named.items():
            connection.putheader(name, value)
        if body is not None and "Content-Length" not in named:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def multipart(data, name="image.png"):
    head = f'--xyz\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n--xyz--\r\n"


def send_file(url, data, name="image.png", **headers):
    kind = "multipart/form-data; boundary=xyz"
    body = multipart(data, name)
    return ask(url, "/gradio_api/upload", "POST", body, Content_Type=kind, **headers)


def settings(url, **headers):
    return json.loads(ask(url, "/config", **headers)[2])


def test_the_page_is_served_on_loopback_alone_from_port_7860(url, guarded):
    host, port = urlsplit(url).hostname, urlsplit(url).port
    assert host == "127.0.0.1"
    # Whichever of the two was served first, the other has a port that was free.
    assert urlsplit(guarded).port != port
    assert {port, urlsplit(guarded).port} <= set(range(7860, 7960))
    status, _, body = ask(url, "/")
    assert status == 200
    assert b"gradio_config" in body
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port)}
    for address in addresses - {"127.0.0.1", "::1"}:
        if not web.is_loopback(address):
            with pytest.raises(OSError), socket.create_connection((address, port), timeout=2):
                pass


def test_files_are_out_of_reach(url, working_directory):
    secret = working_directory / "secret.txt"
    names = ["secret.txt", "./secret.txt", str(secret), f"/{secret}", secret.as_uri()]
    names += ["/etc/passwd", "../../../../../../etc/passwd", "http://127.0.0.1:1/"]
    assert send_file(url, b"some bytes")[0] == 200
    uploaded = json.loads(send_file(url, b"some bytes")[2])[0]
    assert Path(uploaded).read_bytes() == b"some bytes"
    names += [uploaded, str(Path(uploaded).parent)]
    for name in names:
        for spelt in (name, quote(name), quote(name, safe=""), quote(quote(name, safe=""))):
            for start in ("file=", "file/", "proxy=", "stream/", "../", "%2e%2e/"):
                status, _, body = ask(url, f"/gradio_api/{start}{spelt}")
                assert status >= 400, (start, spelt)
                assert SECRET.encode() not in body
    for start in ("/assets/", "/static/", "/static//", "/svelte/", "/custom_component/", "//"):
        for way in ("../" * 12, "..%2f" * 12, "%2e%2e/" * 12, "..\\" * 12, "%2e%2e%5c" * 12, "/"):
            for target in (str(secret)[1:], "etc/passwd", "secret.txt"):
                status, _, body = ask(url, f"{start}{way}{target}")
                assert status >= 400, (start, way, target)
                assert SECRET.encode() not in body


def test_an_event_reads_no_file_but_an_upload(url, working_directory):
    config = settings(url)
    (upload,) = (
        one["id"] for one in config["components"] if one["props"].get("elem_id") == "upload-image"
    )
    (event,) = (one for one in config["dependencies"] if one["inputs"][:1] == [upload])

    def send(path):
        file = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        data = [file] + [None] * (len(event["inputs"]) - 1)
        body = json.dumps({"fn_index": event["id"], "session_hash": "s", "data": data}).encode()
        where = "/gradio_api/run/predict"
        return ask(url, where, "POST", body, Content_Type="application/json")

    # What an upload begins with is told, and so it can be seen that it was read.
    uploaded = json.loads(send_file(url, b"abcdefgh")[2])[0]
    status, _, answer = send(uploaded)
    assert status == 200
    assert b"begins with 61 62 63 64" in answer
    (working_directory.parent / "picture.svg").write_text("<svg/>")
    secret = working_directory / "secret.txt"
    for path in (secret, "secret.txt", "/etc/passwd", working_directory.parent / "picture.svg"):
        for _ in range(2):
            status, _, answer = send(path)
            assert status == 500
            assert b"begins with" not in answer


@pytest.mark.parametrize(
    "path",
    [
        *("/docs", "/redoc", "/openapi.json", "/monitoring", "/monitoring/summary", "/robots.txt"),
        *(
            f"/gradio_api/{name}"
            for name in ("info", "openapi.json", "runs", "user", "token", "deep_link", "vibe-code")
        ),
        *("/gradio_api/component_server", "/gradio_api/call/walk", "/gradio_api/dev/reload"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(url, path):
    assert ask(url, path)[0] == 404
    assert ask(url, path, "POST", b"{}", Content_Type="application/json")[0] == 404


def open_connection(url):
    return socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=240)


def test_a_refusal_arrives_whatever_the_visitor_still_sends(url):
    head = b"POST /gradio_api/info HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
    for _ in range(100):
        with open_connection(url) as connection:
            connection.sendall(head)
            connection.sendall(b"{}")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 404")
        assert answer.endswith(b"not found")


def test_a_refused_visitor_who_sends_no_more_is_left(url):
    # The connection waits for 20 s, and raises.
    with open_connection(url) as connection:
        connection.sendall(
            b"POST /gradio_api/info HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nfew"
        )
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.endswith(b"not found")


def test_a_web_socket_is_refused():
    """By the gate itself, as whether the server speaks to any depends on what is installed."""
    sent = []

    async def send(message):
        sent.append(message)

    gate = web.Gate(None, loopback=True)
    asyncio.run(gate({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close"}]


def test_nothing_is_shared_counted_or_documented(url):
    config = settings(url)
    assert not config["analytics_enabled"]
    assert not config.get("is_space")
    assert all(event["api_visibility"] == "private" for event in config["dependencies"])
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] in ("1", "True")  # both mean so


def test_a_request_by_another_name_is_refused(url):
    """As from a site whose name was made to point to this machine."""
    port = urlsplit(url).port
    for name in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert ask(url, "/", Host=name)[0] == 200
    for name in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "[", ""):
        assert ask(url, "/", Host=name)[0] >= 400


def test_large_uploads_are_refused(url):
    assert send_file(url, bytes(uploads.MAX_BYTES))[0] == 200
    assert send_file(url, bytes(uploads.MAX_BYTES + 1))[0] == 413
    status, _, body = ask(url, "/gradio_api/upload", "POST", Content_Length="99999999999")
    assert (status, body) == (413, b"at most 10 MiB")
    # Of a length that it does not tell, only as much is read.
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    with open_connection(url) as connection:
        head = "POST /gradio_api/run/predict HTTP/1.1\r\nHost: localhost\r\n"
        head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        sent = 0
        try:
            while sent < 400:
                connection.sendall(chunk)
                sent += 1
        except OSError:  # closed by the server
            pass
        else:
            connection.sendall(b"0\r\n\r\n")
            assert not connection.recv(100).startswith(b"HTTP/1.1 200")
    assert ask(url, "/")[0] == 200


def test_a_password_is_needed_where_there_is_one(guarded):
    status, _, body = ask(guarded, "/")
    assert status == 200
    assert b'"auth_required":true' in body
    assert b"data:image/png" not in body
    assert ask(guarded, "/config")[0] == 401
    assert send_file(guarded, b"x")[0] == 401
    run = {"fn_index": 0, "session_hash": "s", "data": []}
    given = {"Content_Type": "application/json"}
    assert (
        ask(guarded, "/gradio_api/run/predict", "POST", json.dumps(run).encode(), **given)[0] == 401
    )

    def log_in(password):
        form = f"username=me&password={quote(password)}".encode()
        kind = "application/x-www-form-urlencoded"
        return ask(guarded, "/login", "POST", form, Content_Type=kind)

    for wrong in ("", "x", PASSWORD[:-1], PASSWORD + " ", PASSWORD.upper(), "pässword"):
        status, headers, _ = log_in(wrong)
        assert status >= 400
        assert "set-cookie" not in headers
    status, headers, _ = log_in(PASSWORD)
    assert status == 200
    cookie = headers["set-cookie"].partition(";")[0]
    assert settings(guarded, Cookie=cookie)["components"]
    assert ask(guarded, "/config", Cookie=cookie + "x")[0] == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org", ""])
def test_a_public_address_needs_a_password(host):
    with pytest.raises(InputError, match="which needs a password: write it to a file"):
        web.check_access(host, None)
    with pytest.raises(InputError, match="which needs a password"):
        explorer.launch(Waves(), host=host)
    web.check_access(host, PASSWORD)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback_needs_none(host):
    web.check_access(host, None)


def test_passwords_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("TFVAE_PASSWORD", raising=False)
    assert web.read_password(None) is None
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    assert web.read_password(file) == PASSWORD
    monkeypatch.setenv("TFVAE_PASSWORD", "from the environment")
    assert web.read_password(None) == "from the environment"
    assert web.read_password(file) == PASSWORD
    file.write_text("short\n")
    with pytest.raises(InputError, match="has 5 characters; expected 8 or more") as refused:
        web.read_password(file)
    assert "short" not in str(refused.value).replace(str(file), "")
    monkeypatch.setenv("TFVAE_PASSWORD", "")
    with pytest.raises(InputError, match="TFVAE_PASSWORD has 0 characters"):
        web.read_password(None)
    with pytest.raises(InputError, match="cannot read the password"):
        web.read_password(tmp_path / "missing")
    file.write_bytes(b"\xff\xfe" * 9)
    with pytest.raises(InputError, match="no UTF-8"):
        web.read_password(file)


def test_a_port_that_is_taken_is_refused_in_one_line(url):
    with pytest.raises(InputError, match=f"port {urlsplit(url).port}: .*choose another --port"):
        explorer.launch(Waves(), port=urlsplit(url).port)


@pytest.mark.parametrize(
    ("host", "port"), [("no-such-host.invalid", None), ("127.0.0.1", 70_000), ("192.0.2.7", None)]
)
def test_an_address_that_cannot_be_had_is_refused_in_one_line(host, port):
    with pytest.raises(InputError, match=r"cannot listen on .*: choose another"):
        explorer.launch(Waves(), host=host, port=port, password=PASSWORD)


def test_two_servers_start_at_once(examples):
    urls, ended = [], threading.Event()

    def serve():
        with web.serving(lambda: explorer.page(Waves(), examples)) as url:
            urls.append(url)
            ended.wait(20)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 240
    while len(urls) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert len(set(urls)) == 2
    assert [ask(url, "/")[0] for url in urls] == [200, 200]
    ended.set()
    for thread in threads:
        thread.join()


def test_a_missing_gradio_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError, match=r"the page needs gradio: pip install 'tfvae\[app\]'"):
        explorer.launch(Waves())


def explore_a_model(folder):
    os.chdir(folder)
    tempfile.tempdir = str(folder / "tmp")
    for number, name in ((1, "out"), (2, "err")):
        with (folder / name).open("wb") as file:
            os.dup2(file.fileno(), number)
    explorer.explore(TrainedModel.open(Path("model.keras")))


@pytest.mark.exhaustive
def test_ctrl_c_ends_it_quietly_and_leaves_no_uploads(tmp_path):
    vae = tfvae.VAE.for_images((8, 8, 1), latent_dim=2, network="dense", seed=0)
    vae.save(tmp_path / "model.keras")
    (tmp_path / "tmp").mkdir()
    process = processes.start(explore_a_model, tmp_path)
    out, until = tmp_path / "out", time.monotonic() + 240
    while not (out.exists() and "\n" in out.read_text()):
        assert process.is_alive() and time.monotonic() < until
        time.sleep(0.05)
    line = out.read_text()
    assert line.startswith("tfvae explore model.keras: http://127.0.0.1:")
    url = line.split()[3]
    assert ask(url, "/")[0] == 200
    (folder,) = (tmp_path / "tmp").glob("tfvae-uploads-*")
    assert folder.stat().st_mode & 0o077 == 0
    (uploaded,) = json.loads(send_file(url, b"some bytes")[2])
    assert Path(uploaded).is_relative_to(folder)
    assert Path(uploaded).read_bytes() == b"some bytes"
    # With a page open, as its browser would hold it.
    address = (urlsplit(url).hostname, urlsplit(url).port)
    with socket.create_connection(address, timeout=240) as connection:
        connection.sendall(b"GET /gradio_api/heartbeat/abc HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(100)
        os.kill(process.pid, signal.SIGINT)
        # It does not wait for the page to be closed.
        assert processes.finish(process) == "done"
    assert out.read_text() == line
    said = (tmp_path / "err").read_text()
    assert "Traceback" not in said
    assert "Error" not in said
    assert not folder.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"model.keras", "tmp", "out", "err"}


# --- who asks too much, or from elsewhere ---------------------------------------------------------


def test_other_sites_cannot_post_to_the_page(url):
    """A site that is open in the same browser may send a form here, without asking."""
    own = url.rstrip("/")
    for given in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": own, "Sec_Fetch_Site": "cross-site"},
        {"Origin": own.replace(str(urlsplit(own).port), "1")},
    ):
        assert send_file(url, b"abc", **given)[0] == 403
        assert ask(url, "/gradio_api/run/predict", "POST", b"{}", **given)[0] == 403
    assert send_file(url, b"abc", Origin=own)[0] == 200
    assert send_file(url, b"abc", Origin=own, Sec_Fetch_Site="same-origin")[0] == 200
    # Behind a proxy the page has another name, which the proxy tells.
    proxied = {"Origin": "https://here.example", "X_Forwarded_Host": "here.example"}
    assert send_file(url, b"abc", **proxied)[0] == 200


def test_without_a_login_nothing_of_gradio_answers(guarded):
    body = json.dumps({"session_hash": "s", "fn_index": 0, "event_id": "e"}).encode()
    given = {"Content_Type": "application/json"}
    for path in ("app_id", "startup-events", "heartbeat/x"):
        assert ask(guarded, f"/gradio_api/{path}")[0] == 401
    for path in ("reset", "cancel", "queue/join", "run/predict"):
        assert ask(guarded, f"/gradio_api/{path}", "POST", body, **given)[0] == 401
    assert ask(guarded, "/gradio_api/login_check")[0] == 401


def test_passwords_cannot_be_tried_at_will(examples):
    kind = "application/x-www-form-urlencoded"

    def log_in(url, password):
        form = f"username=me&password={quote(password)}".encode()
        return ask(url, "/login", "POST", form, Content_Type=kind)[0]

    with web.serving(lambda: explorer.page(Waves(), examples), password=PASSWORD) as url:
        answers = [log_in(url, f"wrong {number}") for number in range(15)]
        assert answers == [400] * gate.MOST_FAILURES + [429] * (15 - gate.MOST_FAILURES)
        # Nor is the right one taken before the minute is over.
        assert log_in(url, PASSWORD) == 429


def test_half_requests_are_not_held(examples, monkeypatch):
    monkeypatch.setattr(gate, "HEAD_SECONDS", 0.5)
    with web.serving(lambda: explorer.page(Waves(), examples)) as url:
        # Each of these waits for 20 s, and raises.
        held = [open_connection(url) for _ in range(20)]
        for connection in held[:10]:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert all(connection.recv(100) == b"" for connection in held)
        # A connection that has been answered may be used again, and waits no longer either.
        with open_connection(url) as connection:
            connection.sendall(b"GET /gradio_api/app_id HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            connection.sendall(b"GET / HTTP/1.1\r\n")
            while connection.recv(4096):
                pass
        for connection in held:
            connection.close()


def test_uploads_have_a_total(url, monkeypatch, tmp_path):
    for number in range(5):
        path = tmp_path / "one" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(10))
        os.utime(path, (number, number))
    gate.make_room(tmp_path, 25)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["3.png", "4.png"]
    uploaded = Path(json.loads(send_file(url, bytes(1000), name="a.png")[2])[0])
    monkeypatch.setattr(gate, "MOST_UPLOADED", 0)
    other = Path(json.loads(send_file(url, bytes(1001), name="b.png")[2])[0])
    assert other.exists()
    assert not uploaded.exists()


def test_a_bad_request_is_no_traceback_on_the_operators_screen(examples, capsys):
    with web.serving(lambda: explorer.page(Waves(), examples)) as url:
        for number in range(30):
            run = {"fn_index": number, "session_hash": "s", "data": [None, {"path": "/etc/passwd"}]}
            ask(
                url,
                "/gradio_api/run/predict",
                "POST",
                json.dumps(run).encode(),
                Content_Type="application/json",
            )
        print("from elsewhere", file=sys.stderr)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "from elsewhere" in said
    assert len(said.splitlines()) <= 4


def test_sessions_are_forgotten(examples, monkeypatch):
    monkeypatch.setattr(web, "_MOST_SESSIONS", 5)
    pages = []

    def make():
        pages.append(explorer.page(Waves(), examples))
        return pages[0]

    with web.serving(make) as url:
        for number in range(20):
            body = json.dumps({"fn_index": 0, "session_hash": f"s{number}", "data": []}).encode()
            ask(url, "/gradio_api/run/predict", "POST", body, Content_Type="application/json")
        assert len(pages[0].state_holder.session_data) <= 6


def serve_until_sigterm(folder, port):
    tempfile.tempdir = str(folder)
    model = Waves()
    codes, images = model.draw_images(20, None, 0)
    explorer.launch(model, Examples("waves", images, None, codes), port=port)


@pytest.mark.exhaustive
def test_sigterm_leaves_no_uploads(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = processes.start(serve_until_sigterm, tmp_path, port)
    url = f"http://127.0.0.1:{port}/"
    for _ in range(600):
        with contextlib.suppress(OSError):
            if ask(url, "/")[0] == 200:
                break
        time.sleep(0.1)
    uploaded = Path(json.loads(send_file(url, b"some bytes")[2])[0])
    assert uploaded.is_relative_to(tmp_path)
    assert uploaded.exists()
    process.terminate()
    assert processes.finish(process) == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("tfvae-uploads-*"))
