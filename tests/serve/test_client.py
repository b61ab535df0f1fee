"""`unstir.Client` against real servers: one that draws, one of stubs, and ones that fail on the way."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unstir
from serving import TOKEN, Server, eventually, server
from unstir.client import Client, _events
from unstir.errors import ConfigError, DataError, IncompatibleError, UnstirError


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("real")
    with server(folder, "-m", "unstir", "serve", "emoji", "port=0", f"folder={folder}") as running:
        yield unstir.Client(f"http://127.0.0.1:{running.port}", (folder / "token").read_text())


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("stub"), queue=2) as running:
        yield running


@pytest.fixture
def client(stub: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("UNSTIR_TOKEN", TOKEN)
    with Client(f"http://127.0.0.1:{stub.port}", patience=5.0) as found:
        yield found


def test_importing_unstir_imports_no_client() -> None:
    code = "import sys, unstir; assert not {'httpx', 'pydantic', 'torch'} & sys.modules.keys()"
    code += "; unstir.Client; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- pictures ----------------------------------------------------------------------------------------------
def test_samples_save_and_show_themselves(real: Client, tmp_path: Path) -> None:
    made = real.sample("emoji", prompt="red heart", n=2, steps=2, seed=7)
    assert [item.seed for item in made.items] == [7, 8]
    assert made.images[0].size == made[1].size == (64, 64)
    assert made.save(tmp_path / "new" / "sheet.png").read_bytes() == made._repr_png_()
    assert sorted(path.name for path in made.save(tmp_path / "all").iterdir()) == ["000007.png", "000008.png"]
    with pytest.raises(ConfigError, match="cannot write"):
        made.save(tmp_path / "x.npz")
    (one,) = real.sample("emoji", prompt="red heart", steps=2, seed=8).files
    assert one == made.files[1]


def test_pictures_come_from_paths_bytes_and_items(real: Client, tmp_path: Path) -> None:
    made = real.sample("emoji", prompt="sun", steps=2)
    path = made.save(tmp_path / "sun.png")
    mask = tmp_path / "mask.png"
    picture = Image.new("L", (64, 64))
    picture.paste(255, (0, 0, 32, 64))
    picture.save(mask)
    edited = real.edit("emoji", made.items[0], mask, prompt="heart", steps=2)
    assert (np.asarray(edited[0])[:, 32:] == np.asarray(made[0])[:, 32:]).all()
    assert edited.items[0].parent == made.items[0].id
    assert real.upscale("emoji", path, scale=2, steps=1)[0].size == (128, 128)
    assert real.restore("emoji", path.read_bytes(), operator="blur", steps=1)[0].size == (64, 64)


def test_an_explanation(real: Client) -> None:
    assert real.explain("schedule", steps=20)["charts"]
    with pytest.raises(ConfigError, match="no subject 'scedule'"):
        real.explain("scedule")


# -- jobs --------------------------------------------------------------------------------------------------
def test_a_job_is_followed_to_its_end(client: Client) -> None:
    seen: list[float] = []
    job = client.submit("sample", "emoji", prompt="sleep 0.7", seed=3, priority=2)
    assert (job.state, job.priority) == ("queued", 2)
    found = client.wait(job, lambda progress: seen.append(progress.fraction))
    assert found.result is not None
    assert (found.state, seen[0], found.result.items[0].seed) == ("done", 0.5, 3)
    assert client.job(job.id) == found
    assert next(client.jobs("done")) == found
    assert next(client.items(q="sleep")).job == job.id


def test_lists_go_on_over_their_pages(client: Client) -> None:
    made = [client.wait(client.submit("sample", "emoji", prompt="many", n=40)) for _ in range(2)]
    found = list(client.items(q="many"))
    assert len(found) == len({item.id for item in found}) == sum(len(job.result.items) for job in made)


def test_a_job_is_called_off(client: Client) -> None:
    job = client.submit("sample", "emoji", prompt="sleep 30")
    with pytest.raises(TimeoutError):
        client.wait(job, seconds=0.2)
    client.cancel(job)
    with pytest.raises(UnstirError, match="cancelled") as told:
        client.wait(job)
    assert told.value.code == "cancelled"


def test_ctrl_c_calls_the_job_off(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.sample("emoji", prompt="sleep 30")
    eventually(lambda: next(client.jobs()).state == "cancelled")


def test_a_key_makes_one_job(client: Client) -> None:
    first, second = (client.submit("sample", "emoji", prompt="once", key="mine") for _ in range(2))
    assert first.id == second.id
    with pytest.raises(UnstirError) as told:
        client.submit("sample", "emoji", prompt="twice", key="mine")
    assert told.value.code == "conflict"


# -- errors ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ask", "kind", "field"),
    [
        (lambda c: c.sample("emoji", steps=0), ConfigError, "settings.sampling.steps"),
        (lambda c: c.sample("emoji", label="cat"), IncompatibleError, "settings.label"),
        (lambda c: c.upload(b"no picture"), DataError, "body"),
        (lambda c: c.sample("emojy"), UnstirError, "model"),
        (lambda c: c.sample("emoji", guidance=float("nan")), ConfigError, "settings"),
        (lambda c: c.sample("emoji", prompt="refuse"), ConfigError, "settings.prompt"),
        (lambda c: c.edit("emoji", "0" * 24 + ".png"), DataError, "picture"),
    ],
)
def test_errors_are_those_of_the_library(client: Client, ask: Any, kind: Any, field: str | None) -> None:
    with pytest.raises(kind) as told:
        ask(client)
    assert getattr(told.value, "field", None) == field


def test_a_wrong_token(stub: Server) -> None:
    with (
        Client(f"http://127.0.0.1:{stub.port}", "guess") as stranger,
        pytest.raises(UnstirError, match="token") as told,
    ):
        stranger.models()
    assert told.value.code == "token"


def test_no_server() -> None:
    with Client("http://127.0.0.1:9", patience=0.2) as lonely, pytest.raises(UnstirError) as told:
        lonely.models()
    assert told.value.hint == "start one: unstir serve MODEL"


# -- what goes wrong on the way ----------------------------------------------------------------------------
def test_a_full_queue_is_waited_for(client: Client) -> None:
    jobs = [client.submit("sample", "emoji", prompt="sleep 0.5", steps=k + 1) for k in range(3)]
    assert client.wait(client.submit("sample", "emoji", prompt="late")).state == "done"
    with Client(client.address, TOKEN, patience=0.0) as hasty:
        jobs += [client.submit("sample", "emoji", prompt="sleep 2", steps=k + 1) for k in range(3)]
        with pytest.raises(UnstirError) as told:
            hasty.submit("sample", "emoji", prompt="never")
    assert told.value.code == "full"
    for job in jobs:
        client.cancel(job)


class Rude(BaseHTTPRequestHandler):
    """Hangs up, says that it is full, then answers as asked; remembers the keys."""

    keys: list[str]

    def do_POST(self) -> None:
        self.keys.append(self.headers["Idempotency-Key"])
        self.rfile.read(int(self.headers["Content-Length"]))
        match len(self.keys):
            case 1:
                self.close_connection = True
                return
            case 2:
                self.send_response(429)
                self.send_header("Retry-After", "1")
                body = b'{"error": {"code": "full", "message": "full"}}'
            case _:
                self.send_response(502)
                body = b"<h1>a proxy</h1>"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_the_same_key_is_sent_again() -> None:
    Rude.keys = []
    with HTTPServer(("127.0.0.1", 0), Rude) as rude, Client(f"http://127.0.0.1:{rude.server_port}") as client:
        threading.Thread(target=rude.serve_forever, daemon=True).start()
        begun = time.monotonic()
        with pytest.raises(UnstirError, match="502"):
            client.submit("sample", "emoji")
        assert time.monotonic() - begun >= 1
        rude.shutdown()
    assert len(Rude.keys) == 3
    assert len(set(Rude.keys)) == 1


def test_events_go_on_after_a_restart(tmp_path: Path) -> None:
    with server(tmp_path) as first:
        address, port = f"http://127.0.0.1:{first.port}", first.port
        with Client(address, TOKEN, patience=20.0) as client:
            events = client.events()
            listening = eventually_next(events)
            job = client.submit("sample", "emoji", prompt="sleep 1")
            assert listening().kind == "job"
            first.running(job.id)
            first.kill()
            with server(tmp_path, port=port):
                seen = [event for event in until_done(events, job.id) if event.number is not None]
                numbers = [event.number for event in seen]
                assert numbers == sorted(set(numbers))
                assert client.job(job.id).attempt == 2


def eventually_next(events: Iterator[Any]) -> Any:
    """Begins to listen now; the first event, when called."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(next(events)), daemon=True)
    thread.start()
    time.sleep(0.3)

    def first() -> Any:
        thread.join(20)
        return found[0]

    return first


def until_done(events: Iterator[Any], job: str) -> Iterator[Any]:
    for event in events:
        yield event
        if event.kind == "job" and event.data["id"] == job and event.data["state"] == "done":
            return


def test_events_are_read_as_they_are_written() -> None:
    lines = [": hello", "", "id: 7", "event: job", 'data: {"id": "a"}', "", "event: progress", "data: {}", ""]
    first, second = _events(iter(lines))
    assert first == ("job", {"id": "a"}, 7)
    assert second == ("progress", {}, None)
