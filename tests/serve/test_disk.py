"""A disk that is full: what is asked is refused, what was made can be read, and with room again all goes on."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving import application, done, sample
from stub import png
from unstir.serve import jobs
from unstir.serve.core import Core

LARGE = sample("x" * 100_000)


@asynccontextmanager
async def full(core: Core) -> AsyncIterator[None]:
    """Within it the database can grow no further."""
    await core.store.write(lambda db: db.execute("PRAGMA max_page_count = 1"))  # as large as it is
    try:
        yield
    finally:
        await core.store.write(lambda db: db.execute("PRAGMA max_page_count = 1000000"))


async def fill(client: httpx.AsyncClient) -> httpx.Response:
    """The first refusal."""
    for _ in range(20):
        if (answer := await client.post("/api/jobs", json=LARGE)).status_code != 201:
            break
    return answer


def test_a_full_disk_refuses_what_is_new_and_shows_what_there_is(tmp_path: Path) -> None:
    async def story() -> None:
        async with application(tmp_path / "served") as (core, client):
            first = await done(client, (await client.post("/api/jobs", json=sample(seed=1))).json()["id"])
            async with full(core):
                answer = await fill(client)
                assert (answer.status_code, answer.json()["error"]["code"]) == (507, "checkpoint")
                assert (await client.put("/api/drafts/a", json={"value": "x" * 60_000})).status_code == 507
                for path in (
                    "/live",
                    "/ready",
                    "/metrics",
                    "/api/jobs",
                    "/api/items",
                    first["result"]["items"][0]["url"],
                ):
                    assert (await client.get(path)).status_code == 200, path
            assert (await client.post("/api/jobs", json=LARGE)).status_code == 201
            assert core.store.value("PRAGMA integrity_check") == "ok"

    asyncio.run(story())


def test_a_job_that_ends_while_the_disk_is_full_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end cannot be written down: once there is room it is done again."""
    faults = 0
    real = jobs.finish

    def finish(db: object, *given: object) -> bool:
        nonlocal faults
        if faults < 2:
            faults += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(db, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "finish", finish)

    async def story() -> None:
        async with application(tmp_path / "served") as (_, client):
            names = [(await client.post("/api/jobs", json=sample(seed=k))).json()["id"] for k in range(3)]
            ended = [await done(client, name) for name in names]
            assert [job["state"] for job in ended] == ["done"] * 3
            assert faults == 2
            items = (await client.get("/api/items")).json()["items"]
            assert sorted(item["job"] for item in items) == sorted(names)

    asyncio.run(story())


def test_deadlines_outlive_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults, real = [], jobs.overdue

    def overdue(db: Any) -> Any:
        if not faults:
            faults.append(True)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(db)

    monkeypatch.setattr(jobs, "overdue", overdue)

    async def story() -> None:
        async with application(tmp_path / "served") as (_, client):
            name = (await client.post("/api/jobs", json=sample("sleep 60", deadline=0.1))).json()["id"]
            assert (await done(client, name))["error"]["code"] == "deadline"
            assert faults

    asyncio.run(story())


def test_an_upload_that_does_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def story() -> None:
        async with application(tmp_path / "served", work=False) as (core, client):
            dataset = (await client.post("/api/datasets", json={"name": "a set"})).json()["id"]
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", fails)
                for path in ("/api/files", f"/api/datasets/{dataset}/files?path=a/1.png"):
                    answer = await client.post(path, content=png(1))
                    assert answer.status_code == 507, path
                    assert "free some space" in answer.json()["error"]["hint"]
            folders = (core.settings.files, core.settings.datasets)
            assert [path for folder in folders for path in folder.rglob("*") if path.is_file()] == []
            assert (await client.post("/api/files", content=png(1))).status_code == 201

    asyncio.run(story())


def test_one_name_for_a_board_twice_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with application(tmp_path / "served", work=False) as (_, client):
            answers = await asyncio.gather(
                *(client.post("/api/boards", json={"name": "one"}) for _ in range(9))
            )
            assert sorted(answer.status_code for answer in answers) == [201] + [409] * 8

    asyncio.run(story())
