"""The door: every route, asked under wrong names, from foreign pages and without the token, byte by byte.

The tables say what has to come back; nothing that is refused may have changed anything.
"""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from serving import TOKEN, Server, raw, sample, server, tree

GOOD = f"Authorization: Bearer {TOKEN}"
SHOWN = {
    "none": (None, False),
    "empty": ("Authorization:", False),
    "bare": (f"Authorization: {TOKEN}", False),
    "wrong": ("Authorization: Bearer wrong", False),
    "longer": (f"{GOOD}x", False),
    "shorter": (GOOD[:-1], False),
    "basic": ("Authorization: Basic dW5zdGlyOg==", False),
    "not ASCII": ("Authorization: Bearer \xff\xfe", False),
    "wrong cookie": ("Cookie: unstir=wrong", False),
    "other cookie": (f"Cookie: other={TOKEN}", False),
    "broken cookie": ('Cookie: unstir="; =,;', False),
    "good": (GOOD, True),
    "good, other case": (f"authorization: bearer {TOKEN}", True),
    "good cookie": (f"Cookie: other=1; unstir={TOKEN}", True),
}
"""Ways to show a token, and whether it is one."""
HEADERS = {
    "content-security-policy": "default-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "",
}
OPEN = ("/live", "/ready")
BODIES = {
    ("POST", "/api/jobs"): sample(),
    ("POST", "/api/boards"): {"name": "a board"},
    ("POST", "/api/datasets"): {"name": "a set"},
    ("PUT", "/api/drafts/"): {"value": 1},
    ("POST", "/api/explain"): {"what": "schedule"},
    ("POST", "/v1/images/generations"): {"prompt": "heart"},
}
"""What routes that begin so accept, and what would change something."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("studio")
    with server(folder / "served", runs=str(folder / "runs"), studio=True) as running:
        yield running


@pytest.fixture(scope="module")
def routes(studio: Server) -> list[tuple[str, str]]:
    """(method, path) of all there are, each leading to something where it can."""
    board = studio.client.post("/api/boards", json={"name": "kept"}).json()["id"]
    dataset = studio.client.post("/api/datasets", json={"name": "kept"}).json()["id"]
    job = studio.ended(studio.submit(sample()))
    item = job["result"]["items"][0]
    file = studio.client.post("/api/files", content=studio.client.get(item["url"]).content).json()["id"]
    names = {"board": board, "dataset": dataset, "job": job["id"], "item": item["id"], "file": file}
    names |= {"name": "a-name", "step": "1", "verb": "sample"}
    found = studio.client.get("/openapi.json").json()["paths"]
    listed = [(method.upper(), path) for path, methods in found.items() for method in methods]
    assert len(listed) > 30
    filled = [(method, path.format(**names)) for method, path in listed]
    return [
        *filled,
        ("GET", "/"),
        ("GET", "/openapi.json"),
        ("GET", "/app.js"),
        ("GET", "/enter"),
        ("GET", "/nothing"),
    ]


def ask(
    studio: Server,
    method: str,
    path: str,
    *lines: str | None,
    host: str | None = "",
    body: bytes | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """An answer to exactly these lines; host "" is the server's own."""
    name = f"127.0.0.1:{studio.port}" if host == "" else host
    if body is None:
        known = (it for (verb, start), it in BODIES.items() if verb == method and path.startswith(start))
        body = json.dumps(next(known, {})).encode() if method in ("POST", "PUT", "PATCH") else b""
    head = [
        f"{method} {path} HTTP/1.1",
        *([f"Host: {name}"] if name is not None else []),
        *(line for line in lines if line),
    ]
    head += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    return raw(studio.port, "\r\n".join([*head, "Connection: close", "", ""]).encode("latin-1") + body)


def state(studio: Server) -> tuple[dict[str, Any], str]:
    """All files but the database's, and all it lists."""
    lists = [
        studio.client.get(path).text for path in ("/api/jobs", "/api/items", "/api/boards", "/api/datasets")
    ]
    lists += [
        studio.client.get("/api/drafts/a-name").text,
        str(studio.client.get("/api/info").json()["cursor"]),
    ]
    return {
        name: it for name, it in tree(studio.folder).items() if "sqlite" not in name and "log" not in name
    }, "".join(lists)


def code(body: bytes) -> str:
    """The code of an error, of ours or in the form of OpenAI."""
    return str(json.loads(body)["error"]["code"])


def public(path: str) -> bool:
    return path in (*OPEN, "/", "/app.js", "/enter")


# -- the table ---------------------------------------------------------------------------------------------


def test_every_route_refuses_what_it_must(studio: Server, routes: list[tuple[str, str]]) -> None:
    port = studio.port
    own, before, asked = f"127.0.0.1:{port}", state(studio), 0
    evil = (
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.evil.example:{port}",
        "192.168.0.7",
        "0.0.0.0",
        f"127.0.0.1@evil.example:{port}",
    )
    origins = (
        "null",
        "http://evil.example",
        f"http://evil.example:{port}",
        f"https://{own}.evil.example",
        "http://127.0.0.1:1",
        "",
    )
    for method, path in routes:
        for host in (*evil, None, ""):
            status, _, body = ask(studio, method, path, GOOD, host=host if host != "" else " ")
            assert (status, code(body)) == (421, "host") if status != 400 else host is None, (
                method,
                path,
                host,
            )
            asked += 1
        two = ask(studio, method, path, GOOD, "Host: evil.example")
        assert two[0] in (400, 421), (method, path)
        for origin in origins:
            status, _, body = ask(studio, method, path, GOOD, f"Origin: {origin}")
            assert (status, code(body)) == (403, "origin"), (method, path, origin)
        for site in ("cross-site", "same-site"):
            status, _, body = ask(studio, method, path, GOOD, f"Sec-Fetch-Site: {site}")
            assert (status, code(body)) == (403, "origin"), (method, path, site)
        two = ask(studio, method, path, GOOD, f"Origin: http://{own}", "Origin: http://evil.example")
        assert two[0] == 403, (method, path)
        asked += 2 + len(origins) + 2
        for word, (line, good) in SHOWN.items():
            if not good and not public(path):
                status, headers, body = ask(studio, method, path, line)
                assert (status, code(body)) == (401, "token"), (method, path, word)
                assert headers["www-authenticate"] == "Bearer"
                asked += 1
    assert state(studio) == before, "a refused request has changed something"
    print(f"{asked} requests to {len(routes)} routes refused")  # noqa: T201


def test_every_route_lets_in_whom_it_should(studio: Server, routes: list[tuple[str, str]]) -> None:
    """Host and Origin are its own, the token is right: what comes back is never the door's refusal."""
    harmless = [(method, path) for method, path in routes if method == "GET" and path != "/api/events"]
    for method, path in harmless:
        for word, (line, good) in SHOWN.items():
            if good:
                assert ask(studio, method, path, line)[0] in (200, 303 if path == "/enter" else 404, 404), (
                    path,
                    word,
                )


def test_its_own_page_is_no_stranger(studio: Server) -> None:
    own = f"Origin: http://127.0.0.1:{studio.port}"
    for site in ("same-origin", "none"):
        assert ask(studio, "GET", "/api/boards", GOOD, own, f"Sec-Fetch-Site: {site}")[0] == 200


def test_the_whole_matrix(studio: Server) -> None:
    """Each name, each origin, each way to show a token, on a route that reads and one that writes."""
    own = studio.port
    hosts = {
        f"127.0.0.1:{own}": True,
        "127.0.0.1": True,
        f"localhost:{own}": True,
        f"LOCALHOST:{own}": True,
        f"[::1]:{own}": True,
        "[::1]": True,
        f"192.168.0.7:{own}": False,
        "evil.example": False,
        f"evil.example:{own}": False,
        f"localhost.evil.example:{own}": False,
        "127.0.0.1:80:80": False,
        "": False,
        None: False,
    }
    shown = [word for word in SHOWN if word in ("none", "wrong", "good", "good cookie", "wrong cookie")]
    refused = changed = let_in = 0
    for (host, known), origin, word in itertools.product(
        hosts.items(), ("no", "same", "foreign", "null"), shown
    ):
        line, good = SHOWN[word]
        told = {
            "no": None,
            "same": f"Origin: http://{host}",
            "foreign": "Origin: http://evil.example",
            "null": "Origin: null",
        }
        for method, path in (("GET", "/api/boards"), ("PUT", "/api/drafts/matrix")):
            before = studio.client.get("/api/drafts/matrix").json()
            body = json.dumps({"value": f"{host} {origin} {word}"}).encode() if method == "PUT" else b""
            status = ask(
                studio, method, path, line, told[origin], host=host if host != "" else " ", body=body
            )[0]
            after = studio.client.get("/api/drafts/matrix").json()
            right = known and origin in ("no", "same") and good
            if right:
                expected = {200}
                let_in += 1
                changed += after != before
            else:
                expected = {421, 400} if not known else {403} if origin in ("foreign", "null") else {401}
                refused += 1
                assert after == before, (host, origin, word)
            assert status in expected, (method, host, origin, word, status)
    print(f"{refused} refused, {let_in} let in, {changed} of them changed something")  # noqa: T201
    assert changed == let_in / 2


def test_a_server_behind_a_proxy_knows_the_name_it_was_told(tmp_path: Path) -> None:
    with server(tmp_path / "served", hosts=["studio.example"]) as running:
        assert ask(running, "GET", "/api/boards", GOOD, host="studio.example")[0] == 200
        assert (
            ask(running, "GET", "/api/boards", GOOD, "Origin: https://studio.example", host="studio.example")[
                0
            ]
            == 200
        )
        assert ask(running, "GET", "/api/boards", GOOD, host="other.example")[0] == 421


def test_on_every_address_only_known_names_are_answered(tmp_path: Path) -> None:
    with server(tmp_path / "served", host="0.0.0.0", hosts=["192.168.0.7"]) as running:
        for host, status in (
            ("127.0.0.1", 200),
            ("192.168.0.7", 200),
            ("192.168.0.8", 421),
            ("0.0.0.0", 421),
        ):
            assert ask(running, "GET", "/api/boards", GOOD, host=host)[0] == status, host
        assert ask(running, "GET", "/api/boards", host="192.168.0.7")[0] == 401


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 on this machine")
def test_ipv6_is_served(tmp_path: Path) -> None:
    with server(tmp_path / "served", host="::1") as running:
        assert running.address == f"http://[::1]:{running.port}"
        head = f"GET /api/boards HTTP/1.1\r\nHost: [::1]:{running.port}\r\n{GOOD}\r\n\r\n"
        assert raw(running.port, head.encode(), host="::1")[0] == 200


def test_without_a_token_the_other_doors_stay_shut(tmp_path: Path) -> None:
    with server(tmp_path / "served", open=True) as running:
        assert ask(running, "GET", "/api/boards")[0] == 200
        assert ask(running, "GET", "/api/boards", host="evil.example")[0] == 421
        assert ask(running, "POST", "/api/boards", "Origin: http://evil.example")[0] == 403
        assert ask(running, "POST", "/api/boards", "Sec-Fetch-Site: cross-site")[0] == 403


# -- what else comes through a door ------------------------------------------------------------------------


def test_web_sockets_are_refused(studio: Server) -> None:
    lines = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    for path in ("/api/events", "/", "/api/jobs"):
        for shown in (GOOD, None):
            head = [
                f"GET {path} HTTP/1.1",
                f"Host: evil.example:{studio.port}",
                *lines,
                *([shown] if shown else []),
                "",
                "",
            ]
            assert raw(studio.port, "\r\n".join(head).encode())[0] in (0, 400, 403, 421)


def test_every_answer_tells_browsers_to_be_careful(studio: Server, routes: list[tuple[str, str]]) -> None:
    asked = [
        ask(studio, method, path, line) for method, path in routes if method == "GET" for line in (GOOD, None)
    ]
    asked += [
        ask(studio, "GET", "/api/boards", GOOD, host="evil.example"),
        ask(studio, "GET", "/api/boards", GOOD, "Origin: null"),
        ask(studio, "PATCH", "/api/boards", GOOD, body=b"{}"),
        ask(studio, "POST", "/api/jobs", GOOD, body=b"{"),
        ask(studio, "POST", "/api/jobs", GOOD, "Content-Length: 99999999", body=b""),
    ]
    for status, headers, _ in asked:
        for name, start in HEADERS.items():
            assert headers.get(name, "missing").startswith(start), (status, name, headers)
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


def test_pictures_and_uploads_are_what_they_say(studio: Server, routes: list[tuple[str, str]]) -> None:
    kinds = {
        path.rpartition("/")[2]: ask(studio, "GET", path, GOOD)[1]
        for method, path in routes
        if method == "GET"
    }
    assert kinds["image"]["content-type"] == "image/png"
    assert kinds["thumb"]["content-type"] == "image/webp"
    upload = next(path for method, path in routes if path.startswith("/api/files/"))
    headers = ask(studio, "GET", upload, GOOD)[1]
    assert headers["content-type"] == "image/png"
    assert headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "content",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html>",
        b"",
        b"GIF89a" + b"\0" * 99,
        b"\x89PNG\r\n\x1a\n" + b"\0" * 99,
    ],
)
def test_what_is_no_picture_is_not_kept(studio: Server, content: bytes) -> None:
    before = tree(studio.folder / "uploads")
    answer = studio.client.post("/api/files", content=content, headers={"Content-Type": "image/svg+xml"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "data")
    assert tree(studio.folder / "uploads") == before


def test_headers_cannot_be_smuggled(studio: Server) -> None:
    for path in ("/api/jobs/x%0d%0aX-Evil:%201", "/api/items?q=%0d%0aX-Evil:1", "/%0d%0aX-Evil:%201"):
        status, headers, _ = ask(studio, "GET", path, GOOD)
        assert status in (200, 404), path
        assert "x-evil" not in headers
    lines = ("Transfer-Encoding: chunked", "Content-Length: 5")
    head = [
        "POST /api/boards HTTP/1.1",
        f"Host: 127.0.0.1:{studio.port}",
        GOOD,
        *lines,
        "",
        "0\r\n\r\nGET /live HTTP/1.1\r\n\r\n",
    ]
    with socket.create_connection(("127.0.0.1", studio.port), 5) as connection:
        connection.sendall("\r\n".join(head).encode())
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(2**16), b""))
    assert b'{"live":true}' not in received


# -- the link ----------------------------------------------------------------------------------------------


def test_the_link_lets_in_once(tmp_path: Path) -> None:
    with server(tmp_path / "served", studio=True, runs=str(tmp_path / "runs")) as running:
        path = running.address.partition(str(running.port))[2]
        assert path.startswith("/enter?code=")
        wrong = ask(running, "GET", "/enter?code=wrong")
        assert (wrong[0], "set-cookie" in wrong[1]) == (303, False)  # the page says what to do
        assert ask(running, "GET", path, "Sec-Fetch-Site: cross-site")[0] == 403
        status, headers, _ = ask(running, "GET", path)
        assert (status, headers["location"]) == (303, "/")
        cookie = headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
        assert ask(running, "GET", "/api/boards", f"Cookie: {cookie.partition(';')[0]}")[0] == 200
        again = ask(running, "GET", path)
        assert (again[0], "set-cookie" in again[1]) == (303, False)
        assert ask(running, "POST", "/api/link")[0] == 401
        other = json.loads(ask(running, "POST", "/api/link", GOOD)[2])["link"]
        assert "set-cookie" in ask(running, "GET", other.partition(str(running.port))[2])[1]


def test_a_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    tokens = []
    for _ in range(2):
        with server(tmp_path / "served", token=None) as running:
            kept = tmp_path / "served/token"
            assert kept.stat().st_mode & 0o077 == 0
            tokens.append(kept.read_text())
            assert ask(running, "GET", "/api/boards", f"Authorization: Bearer {tokens[-1]}")[0] == 200
            assert ask(running, "GET", "/api/boards", GOOD)[0] == 401
    assert tokens[0] == tokens[1]
    assert len(tokens[0]) > 40


# -- too much ----------------------------------------------------------------------------------------------


def test_long_bodies_are_refused_before_they_are_read(studio: Server) -> None:
    for path, most in (("/api/jobs", 2**20), ("/api/files", 64 * 2**20), ("/v1/images/generations", 2**20)):
        status, _, body = ask(studio, "POST", path, GOOD, f"Content-Length: {most + 1}", body=b"")
        assert (status, code(body)) == (413, "too_large"), path
        assert ask(studio, "POST", path, GOOD, "Content-Length: " + "9" * 18, body=b"")[0] == 413


def test_endless_bodies_are_cut_off_and_not_kept(studio: Server) -> None:
    memory = psutil.Process(studio.process.pid).memory_info
    before, part = memory().rss, b"10000\r\n" + b"x" * 2**16 + b"\r\n"
    head = [
        "POST /api/jobs HTTP/1.1",
        f"Host: 127.0.0.1:{studio.port}",
        GOOD,
        "Transfer-Encoding: chunked",
        "",
        "",
    ]
    sent = 0
    with socket.create_connection(("127.0.0.1", studio.port), 10) as connection:
        connection.sendall("\r\n".join(head).encode())
        try:
            while sent < 200 * 2**20:
                connection.sendall(part)
                sent += len(part)
        except OSError:
            pass
    assert sent < 16 * 2**20, "it would have gone on"
    assert memory().rss - before < 16 * 2**20
    chunked = "\r\n".join(head).encode() + part * 20 + b"0\r\n\r\n"
    status, _, body = raw(studio.port, chunked)
    assert status == 413
    assert json.loads(body)["error"]["message"]


def test_idle_and_slow_connections_stop_nobody(studio: Server) -> None:
    idle = []
    try:
        for k in range(200):
            connection = socket.create_connection(("127.0.0.1", studio.port), 5)
            idle.append(connection)
            if k % 2:
                connection.sendall(
                    f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n{GOOD}\r\nContent-Length: 9\r\n\r\n{{".encode()
                )
        for _ in range(20):
            assert studio.client.get("/api/boards").status_code == 200
    finally:
        for connection in idle:
            connection.close()
