"""News: what is told, what is told again after a break, and who is not waited for."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving import SOON, Server, application, done, eventually, sample, server
from unstir.serve import events


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("shared") / "served") as running:
        yield running


class Listener:
    """A page that listens, in a thread of its own."""

    def __init__(self, running: Server, query: str = "", **headers: str) -> None:
        self.heard: list[tuple[str, Any, int | None]] = []
        self.response: httpx.Response | None = None
        given = (running, query, {name.replace("_", "-"): value for name, value in headers.items()})
        self.thread = threading.Thread(target=self._listen, args=given, daemon=True)
        self.thread.start()
        eventually(lambda: self.response is not None and self.opened)

    opened = False

    def _listen(self, running: Server, query: str, headers: dict[str, str]) -> None:
        events = running.client.stream("GET", f"/api/events{query}", headers=headers)
        with suppress(httpx.TransportError), events as self.response:  # until one of the two leaves
            told: dict[str, str] = {}
            for line in self.response.iter_lines():
                self.opened = True
                if line and not line.startswith(":"):
                    word, _, text = line.partition(": ")
                    told[word] = text
                elif told and not line:
                    number = int(told["id"]) if "id" in told else None
                    self.heard.append((told["event"], json.loads(told["data"]), number))
                    told = {}

    def states(self, job: str) -> list[str]:
        return [data["state"] for kind, data, _ in self.heard if kind == "job" and data["id"] == job]

    def close(self) -> None:
        assert self.response is not None
        self.response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def test_a_page_hears_of_a_job_its_pictures_and_how_far_it_is(shared: Server) -> None:
    page = Listener(shared)
    job = shared.submit(sample("sleep 0.3"))
    shared.ended(job)
    eventually(lambda: page.states(job)[-1:] == ["done"])
    # a move is told as the job is then: quick ones may be told as the next
    assert [state for state in ("queued", "running", "done") if state in page.states(job)] == page.states(job)
    item = eventually(lambda: [data["item"] for kind, data, _ in page.heard if kind == "item"])
    assert [it["job"] for it in item] == [job]
    progress = [data for kind, data, _ in page.heard if kind == "progress" and data["id"] == job]
    assert progress
    assert progress[0]["progress"] == {"step": 1, "steps": 2, "fraction": 0.5, "n": 1}
    numbers = [number for kind, _, number in page.heard if kind != "progress"]
    assert all(number is None for kind, _, number in page.heard if kind == "progress")
    assert numbers == sorted(set(numbers))  # type: ignore[type-var]


def test_stars_and_deletions_are_told(shared: Server) -> None:
    item = shared.ended(shared.submit(sample()))["result"]["items"][0]["id"]
    page = Listener(shared)
    shared.client.patch(f"/api/items/{item}", json={"starred": True})
    shared.client.delete(f"/api/items/{item}")
    shared.client.post(f"/api/items/{item}/restore")
    eventually(lambda: len(page.heard) >= 3)
    told = [data["item"] for _, data, _ in page.heard]
    assert [(it["starred"], it["deleted"] is None) for it in told[-1:]] == [(True, True)]


@pytest.mark.parametrize("way", ["header", "query", "both"])
def test_after_a_break_what_was_missed_is_told_once(shared: Server, way: str) -> None:
    cursor = shared.client.get("/api/info").json()["cursor"]
    jobs = [shared.submit(sample(seed=k)) for k in range(5)]
    for job in jobs:
        shared.ended(job)
    ways = {"header": ("", {"Last_Event_ID": str(cursor)}), "query": (f"?after={cursor}", {})}
    query, headers = ways.get(way, ("?after=0", {"Last_Event_ID": str(cursor)}))
    page = Listener(shared, query, **headers)
    eventually(lambda: len(page.heard) >= 10)  # each as it is now: 5 jobs, 5 pictures
    assert [page.states(job) for job in jobs] == [["done"]] * 5
    assert len([data for kind, data, _ in page.heard if kind == "item"]) == 5
    numbers = [number for _, _, number in page.heard]
    assert numbers == sorted(set(numbers))  # type: ignore[type-var]
    assert numbers[0] is not None
    assert numbers[0] > cursor


def test_news_outlive_a_killed_server(tmp_path: Path) -> None:
    with server(tmp_path / "served") as running:
        first = running.ended(running.submit(sample()))["id"]
        cursor = running.client.get("/api/info").json()["cursor"]
        job = running.submit(sample("sleep 0.2"))
        running.running(job)
        running.kill()
    with server(tmp_path / "served") as running:
        page = Listener(running, f"?after={cursor}")
        eventually(lambda: page.states(job)[-1:] == ["done"])
        assert page.states(first) == []


def test_pages_that_leave_are_forgotten(shared: Server) -> None:
    before = shared.metric("unstir_listeners")
    pages = [Listener(shared) for _ in range(5)]
    assert shared.metric("unstir_listeners") == before + 5
    for page in pages:
        page.close()
    eventually(lambda: shared.metric("unstir_listeners") <= before)


def test_a_server_that_stops_lets_its_listeners_go(tmp_path: Path) -> None:
    with server(tmp_path / "served") as running:
        page = Listener(running)
        begun = time.monotonic()
        assert running.stop() == 0
        page.thread.join(5)
        assert not page.thread.is_alive()
        assert time.monotonic() - begun < SOON


# -- the hub itself ----------------------------------------------------------------------------------------


def test_a_slow_listener_is_let_go_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BACKLOG", 20)

    async def story() -> None:
        async with application(tmp_path / "served") as (core, client):
            slow = core.hub.listen(0)
            heard = asyncio.ensure_future(anext(slow))  # it listens, and takes one
            jobs = [(await client.post("/api/jobs", json=sample(seed=k))).json()["id"] for k in range(15)]
            for job in jobs:
                await done(client, job)
            first = await heard
            assert first is not None
            assert core.hub.listeners == 0, "nobody waits for it"
            left = [news async for news in slow]
            assert len(left) < 20
            last = max(news.number for news in (first, *left) if news)
            again = core.hub.listen(last)
            missed = []
            while core.hub.last not in [news.number for news in missed]:
                news = await asyncio.wait_for(anext(again), 5)
                assert news is not None
                missed.append(news)
            told = {news.data["id"] for news in (first, *left, *missed) if news and news.kind == "job"}
            assert told == set(jobs)

    asyncio.run(story())


def test_a_quiet_line_is_kept_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUIET", 0.05)

    async def story() -> None:
        async with application(tmp_path / "served", work=False) as (core, _):
            assert await asyncio.wait_for(anext(core.hub.listen(None)), 5) is None

    asyncio.run(story())


def test_old_news_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unstir.serve.core.KEPT_EVENTS", 10)

    async def story() -> None:
        async with application(tmp_path / "served", work=False) as (core, client):
            for k in range(30):
                await client.post("/api/jobs", json=sample(seed=k))
            assert core.store.value("SELECT count(*) FROM events") == 30
            await core.clean_up()
            assert core.store.value("SELECT count(*) FROM events") == 10
            assert core.store.value("SELECT max(number) FROM events") == core.hub.last

    asyncio.run(story())
