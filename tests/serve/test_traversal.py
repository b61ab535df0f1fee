"""Five hundred spellings of "somewhere else", in every place where a client may put a text.

What is outside of the server's folders must be as it was, must never come back, and must not even be opened.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

import unstir
from serving import TOKEN, Server, complete, sample, server, tree
from stub import png

CANARY = b"the canary sings"
COUNT = 500
SETTINGS = {
    "sample": (
        "out",
        "sampling.classifier",
        "classifier",
        "sampling.decoder",
        "decoder",
        "sampling.weaker",
        "weaker",
    ),
    "edit": ("out", "mask", "reference", "sampling.classifier", "decoder", "weaker"),
    "upscale": ("out", "reference", "sampling.decoder"),
    "restore": ("out", "mask", "kernel", "reference"),
    "evaluate": ("out", "data", "features", "sampling.classifier", "weaker"),
    "train": (
        "data.source",
        "source",
        "codec",
        "training.device",
        "sampling.classifier",
        "weaker",
        "name",
        "data",
        "resume",
        "preset",
    ),
    "data": ("source", "data.source"),
    "explain": ("picture", "out", "what"),
}
"""Settings that name, or might name, a file or folder, by kind of job."""


def payloads(outside: Path) -> list[str]:
    """As they stand in a URL."""
    up = [
        f"{'../' * depth}{tail}"
        for depth in range(1, 9)
        for tail in ("outside/canary", "outside/canary.png", "etc/passwd")
    ]
    absolute = [
        str(outside / "canary"),
        str(outside / "canary.png"),
        "/etc/passwd",
        "/proc/self/environ",
        "//etc/passwd",
        str(outside),
    ]
    foreign = [
        "\\\\host\\share\\canary",
        "//host/share/canary",
        "C:\\canary",
        "C:/canary",
        "file:///etc/passwd",
        "http://127.0.0.1:1/x",
    ]
    inside = [
        "link",
        "link/canary",
        "link/canary.png",
        "./link/canary",
        "x/../link/canary",
        ".",
        "..",
        "...",
        "~",
        "~root",
        "$HOME",
        "%",
        "-",
        "--help",
    ]
    plain = up + absolute + foreign + inside
    spelled: list[Callable[[str], str]] = [
        lambda text: text,
        lambda text: quote(text, safe=""),
        lambda text: quote(text, safe="").replace(".", "%2e"),
        lambda text: quote(quote(text, safe="").replace(".", "%2e"), safe=""),
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace("/", "%5c"),
        lambda text: text.replace("../", "....//"),
        lambda text: text.replace("../", "..;/"),
        lambda text: text.replace("../", "%c0%ae%c0%ae%c0%af"),
        lambda text: text.replace("../", "%e0%80%ae%e0%80%ae%e0%80%af"),
        lambda text: text.replace("../", "．．／"),
        lambda text: f"{text}%00",
        lambda text: f"{text}%00.png",
        lambda text: f"x/{text}",
        lambda text: f"{text}/.",
        lambda text: f"%20{text}",
        lambda text: f"{text}%0a",
    ]
    found = list(dict.fromkeys(spell(text) for spell in spelled for text in plain))
    return [found[k * len(found) // COUNT] for k in range(COUNT)]


def text_of(payload: str) -> str:
    """What a client means by it, where it need not be in a URL."""
    return unquote(payload)


class Connection:
    """One that stays open, and sends what it is told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket: socket.socket | None = None

    def ask(self, method: str, target: str, body: Any = None, *lines: str) -> tuple[int, bytes]:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {TOKEN}", *lines]
        head += ["Content-Type: application/json"] * (body is not None and not isinstance(body, bytes))
        head += [f"Content-Length: {len(content)}", "", ""]
        self.socket = self.socket or socket.create_connection(("127.0.0.1", self.port), 10)
        self.socket.sendall("\r\n".join(head).encode() + content)
        received = b""
        while not complete(received):
            part = self.socket.recv(2**16)
            if not part:
                break
            received += part
        if not complete(received) or b"connection: close" in received.partition(b"\r\n\r\n")[0].lower():
            self.socket.close()
            self.socket = None
        status = int(received.split(b" ", 2)[1]) if received else 0
        return status, received


Ask = Callable[[Connection, str], tuple[int, bytes]]


def in_path(method: str, template: str, body: Any = None) -> Ask:
    return lambda connection, payload: connection.ask(method, template.replace("{}", payload), body)


def in_query(method: str, template: str, body: Any = None) -> Ask:
    return lambda connection, payload: connection.ask(
        method, template.replace("{}", payload.replace("&", "").replace("#", "")), body
    )


def in_body(path: str, wish: Callable[[str], Any], method: str = "POST") -> Ask:
    return lambda connection, payload: connection.ask(method, path, wish(text_of(payload)))


def setting(kind: str, name: str, nested: bool) -> Ask:
    def wish(text: str) -> Any:
        value: Any = text
        group, _, last = name.rpartition(".")
        settings = {group: {last: value}} if nested and group else {name: value}
        base = {"data": "digits"} if kind == "train" and name not in ("data", "resume") else {}
        return {
            "kind": kind,
            "model": None if kind in ("train", "data") else "emoji",
            "settings": base | settings,
        }

    return in_body("/api/jobs", wish)


PARAMETERS: dict[str, Ask] = {
    **{
        f"{method} {path}": in_path(method, path, body)
        for method, path, body in (
            ("GET", "/{}", None),
            ("GET", "/screens/{}", None),
            ("GET", "/api/jobs/{}", None),
            ("POST", "/api/jobs/{}/cancel", None),
            ("GET", "/api/items/{}", None),
            ("GET", "/api/items/{}/image", None),
            ("GET", "/api/items/{}/thumb", None),
            ("PATCH", "/api/items/{}", {"starred": True}),
            ("DELETE", "/api/items/{}", None),
            ("POST", "/api/items/{}/restore", None),
            ("GET", "/api/files/{}", None),
            ("DELETE", "/api/boards/{}", None),
            ("GET", "/api/drafts/{}", None),
            ("PUT", "/api/drafts/{}", {"value": 1}),
            ("POST", "/api/datasets/{}/files?path=a.png", b"x"),
            ("GET", "/api/runs/{}", None),
            ("GET", "/api/runs/{}/metrics", None),
            ("GET", "/api/runs/{}/samples/1", None),
            ("GET", "/api/runs/run/samples/{}", None),
            ("GET", "/api/runs/{}/report", None),
            ("GET", "/api/schema/{}", None),
            ("GET", "/api/models/{}/sheet", None),
            ("GET", "/v1/models/{}", None),
        )
    },
    **{
        f"{method} {path}": in_query(method, path)
        for method, path in (
            ("GET", "/api/items?q={}"),
            ("GET", "/api/items?model={}&board={}"),
            ("GET", "/api/jobs?state={}"),
            ("GET", "/enter?code={}"),
        )
    },
    "wish.model": in_body("/api/jobs", lambda text: sample(model=text)),
    "wish.kind": in_body("/api/jobs", lambda text: sample(kind=text)),
    "wish.parent": in_body("/api/jobs", lambda text: sample(parent=text)),
    "wish.board": in_body("/api/jobs", lambda text: sample(board=text)),
    "wish.inputs": in_body(
        "/api/jobs", lambda text: {"kind": "upscale", "model": "emoji", "inputs": {"image": text}}
    ),
    "wish.settings": in_body("/api/jobs", lambda text: sample() | {"settings": {text: text}}),
    "explain.model": in_body("/api/explain", lambda text: {"what": "trajectory", "model": text}),
    "explain.image": in_body("/api/explain", lambda text: {"what": "forward", "image": text}),
    "v1.model": in_body("/v1/images/generations", lambda text: {"prompt": "heart", "model": text}),
    "item.board": in_body("/api/items/x", lambda text: {"board": text}, "PATCH"),
    **{
        f"{kind} {name}{' nested' if nested else ''}": setting(kind, name, nested)
        for kind, names in SETTINGS.items()
        for name in names
        for nested in (False, True)[: 1 + ("." in name)]
    },
}
HARMLESS = ("GET /api/items?", "GET /api/drafts/", "PUT /api/drafts/", "wish.settings", "train name")
"""Where a text may be a fine question, whose answer is nothing, or a fine name."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server, and beside its folders one that is none of its business; links in its folders lead there."""
    place = tmp_path_factory.mktemp("place")
    outside = place / "outside"
    outside.mkdir()
    (outside / "canary").write_bytes(CANARY)
    (outside / "canary.png").write_bytes(png(1) + CANARY)
    (outside / "config.yaml").write_text("data:\n  source: digits\n")
    (outside / "report.html").write_bytes(CANARY)
    (place / "runs/run").mkdir(parents=True)
    (place / "runs/run/config.yaml").write_text("data:\n  source: digits\n")
    for folder in ("served/uploads", "served/pictures", "served/datasets"):
        (place / folder).mkdir(parents=True)
        (place / folder / "link").symlink_to(outside)
    with server(
        place / "served", runs=str(place / "runs"), studio=True, audit=str(place / "audit")
    ) as running:
        running.ended(running.submit(sample()))
        os.truncate(place / "audit", 0)  # what it opens to start is not of interest
        yield running, place


def check(place: tuple[Server, Path], pairs: Iterator[tuple[str, str]]) -> int:
    running, folder = place
    connection, before, asked = Connection(running.port), tree(folder / "outside"), 0
    dataset = running.client.post("/api/datasets", json={"name": "kept"}).json()["id"]
    inside = {name for name in tree(folder / "served") if "sqlite" not in name}
    for parameter, payload in pairs:
        status, received = PARAMETERS[parameter](connection, payload)
        asked += 1
        assert 200 <= status < 500, (parameter, payload, received)
        assert CANARY not in received, (parameter, payload)
        assert b"root:x:" not in received, (parameter, payload)
        if status < 300:
            assert parameter.startswith(HARMLESS) or page(parameter, received), (
                parameter,
                payload,
                received[-300:],
            )
    assert tree(folder / "outside") == before
    assert {name for name in tree(folder / "served") if "sqlite" not in name} == inside
    asked += check_uploads(running, folder, dataset, connection)
    opened = [json.loads(line) for line in (folder / "audit").read_text().splitlines()]
    assert len(opened) > 10, "the hook saw nothing"
    fine = [
        str(folder / "served"),
        str(folder / "runs"),
        str(Path(unstir.__file__).parent),
        sys.prefix,
        sys.base_prefix,
    ]
    strange = [(event, path) for event, path in opened if not path.startswith(tuple(fine))]
    assert [entry for entry in strange if entry[1] not in ("/etc/mime.types", "/dev/null")] == []
    return asked


def page(parameter: str, received: bytes) -> bool:
    """Whether it is a file of the page, under a roundabout name."""
    return parameter in ("GET /{}", "GET /screens/{}") and b"unstir" in received


def check_uploads(running: Server, folder: Path, dataset: str, connection: Connection) -> int:
    """Names of files of a data set: each is refused, or a file in its folder."""
    names = payloads(folder / "outside")
    kept = 0
    for payload in names:
        status, received = connection.ask(
            "POST", f"/api/datasets/{dataset}/files?path={quote(text_of(payload))}", b"x"
        )
        assert status in (200, 422), (payload, received)
        kept += status == 200
    there = folder / "served/datasets" / dataset
    files = [path for path in there.rglob("*") if path.is_file()]
    assert len(files) <= kept
    assert all(path.resolve().is_relative_to(there.resolve()) and path.read_bytes() == b"x" for path in files)
    assert not any(path.is_symlink() for path in there.rglob("*"))
    assert (folder / "outside/canary").read_bytes() == CANARY
    return len(names)


def test_nothing_leads_outside(place: tuple[Server, Path]) -> None:
    """Every payload in a ninth of the parameters, every parameter with a ninth of the payloads."""
    names = payloads(place[1] / "outside")
    assert len(names) == len(set(names)) == COUNT
    pairs = itertools.product(enumerate(PARAMETERS), enumerate(names))
    asked = check(place, ((word, payload) for (i, word), (k, payload) in pairs if (i + k) % 9 == 0))
    print(f"{asked} requests, {len(names)} payloads, {len(PARAMETERS) + 1} parameters")  # noqa: T201


@pytest.mark.slow
def test_nothing_leads_outside_in_any_combination(place: tuple[Server, Path]) -> None:
    asked = check(place, itertools.product(PARAMETERS, payloads(place[1] / "outside")))
    print(f"{asked} requests")  # noqa: T201


def test_every_route_with_a_text_in_it_is_attacked(place: tuple[Server, Path]) -> None:
    paths = place[0].client.get("/openapi.json").json()["paths"]
    attacked = {word.partition(" ")[2].partition("?")[0] for word in PARAMETERS if " /" in word}
    shapes = {"/".join("{}" if part.startswith("{") else part for part in path.split("/")) for path in paths}
    shapes = {shape for shape in shapes if "{}" in shape}
    assert {
        shape for shape in shapes if shape not in attacked and shape != "/api/runs/{}/samples/{}"
    } == set()


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in SETTINGS.items() for name in names]
)
def test_settings_that_name_files_are_refused(place: tuple[Server, Path], kind: str, name: str) -> None:
    """Those of files that exist: what is refused is the setting, not a missing file."""
    running, folder = place
    connection = Connection(running.port)
    for nested in (False, True):
        status, received = setting(kind, name, nested)(connection, str(folder / "outside/canary.png"))
        assert status in (404, 422), received
        assert b"canary" not in received or b"message" in received
