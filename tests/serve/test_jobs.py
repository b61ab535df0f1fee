"""The life of a job, move by move, on the store itself."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unstir.errors import CheckpointError
from unstir.serve import jobs
from unstir.serve.jobs import Asked, Claimed, Conflict, Full
from unstir.serve.store import Store

PLAIN = Asked(kind="sample", lane="device", model="emoji", batch="same")
ITEM = {"path": "a-1/0", "bytes": 9, "about": {"width": 1, "height": 1, "settings": {}, "seed": 3}}
OOPS = {"code": "oops", "message": "m", "field": None, "hint": None}


class Queue:
    """The moves, each as a transaction of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, move: str) -> Callable[..., Any]:
        work = getattr(jobs, move)
        return lambda *given, **more: self.store.submit(lambda db: work(db, *given, **more)).result(10)

    def add(
        self, asked: Asked = PLAIN, key: str | None = None, digest: str = "d", room: int = 100, **more: Any
    ) -> str:
        return str(self.submit(replace(asked, **more), digest, key, room)[0])

    def take(self, samples: int = 16, lane: jobs.Lane = "device") -> list[Claimed]:
        return list(self.claim(lane, samples))

    def state(self, job: str) -> str:
        return str(self.store.value("SELECT state FROM jobs WHERE id = ?", job))

    def error(self, job: str) -> str:
        return str(self.store.value("SELECT error ->> 'code' FROM jobs WHERE id = ?", job))


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    store = Store(tmp_path / "state.sqlite")
    yield Queue(store)
    store.close()


# -- moves -------------------------------------------------------------------------------------------------


def test_a_job_runs_and_ends_with_its_pictures(queue: Queue) -> None:
    job = queue.add()
    assert queue.state(job) == "queued"
    (taken,) = queue.take()
    assert (taken.id, taken.attempt, queue.state(job)) == (job, 1, "running")
    assert queue.take() == []
    assert queue.finish(job, 1, {"seconds": 1.0}, [ITEM])
    assert queue.state(job) == "done"
    (item,) = queue.store.rows("SELECT * FROM items")
    assert (item["job"], item["path"], item["words"]) == (job, "a-1/0", "3 emoji")


LATE: dict[str, Callable[[Queue, str], Any]] = {
    "finish": lambda q, job: q.finish(job, 1, {}, [ITEM]),
    "fail": lambda q, job: q.fail(job, 1, OOPS),
    "cancel": lambda q, job: q.cancel(job, 1),
    "release": lambda q, job: q.release([(job, 1)]),
    "crashed": lambda q, job: q.crashed([(job, 1)], "died"),
}


def snapshot(store: Store) -> list[tuple[Any, ...]]:
    tables = ("jobs", "items", "events")
    return [tuple(row) for table in tables for row in store.rows(f"SELECT * FROM {table}")]


@pytest.mark.parametrize("late", LATE)
def test_what_an_old_attempt_says_changes_nothing(queue: Queue, late: str) -> None:
    job = queue.add()
    queue.take()
    queue.release([(job, 1)])
    for move_on in (lambda: None, queue.take, lambda: queue.finish(job, 2, {}, [ITEM])):
        move_on()  # waiting again, running as the second attempt, done
        before = snapshot(queue.store)
        assert not LATE[late](queue, job)
        assert snapshot(queue.store) == before
    assert queue.state(job) == "done"


@pytest.mark.parametrize("late", LATE)
def test_a_job_ends_once(queue: Queue, late: str) -> None:
    job = queue.add()
    queue.take()
    assert queue.fail(job, 1, OOPS)
    before = snapshot(queue.store)
    assert not LATE[late](queue, job)
    assert snapshot(queue.store) == before


def test_cancelling_ends_what_waits_and_not_what_runs(queue: Queue) -> None:
    waits, runs = queue.add(batch=""), queue.add(batch="")
    assert queue.cancel(waits)
    assert not queue.cancel(waits)
    assert queue.state(waits) == "cancelled"
    queue.take()
    assert not queue.cancel(runs)
    assert queue.state(runs) == "running"
    assert queue.cancel(runs, 1)
    assert queue.state(runs) == "cancelled"


def test_a_server_takes_back_what_the_last_one_left_running(queue: Queue) -> None:
    left, waits = queue.add(batch=""), queue.add(batch="")
    queue.take()
    assert queue.recover() == [left]
    assert [queue.state(job) for job in (left, waits)] == ["queued", "queued"]
    (again,) = queue.take()
    assert (again.id, again.attempt) == (left, 2)
    assert queue.store.value("SELECT crashes FROM jobs WHERE id = ?", left) == 0


def test_deadlines_end_what_waits_and_name_what_runs(queue: Queue) -> None:
    runs = queue.add(batch="", deadline=time.time() - 1)
    queue.take()
    waits = queue.add(batch="", deadline=time.time() - 1)
    early = queue.add(batch="", deadline=time.time() + 100)
    assert queue.overdue() == [(runs, 1)]
    assert (queue.state(waits), queue.error(waits)) == ("failed", "deadline")
    assert (queue.state(runs), queue.state(early)) == ("running", "queued")


# -- the key -----------------------------------------------------------------------------------------------


def test_the_same_key_is_the_same_job(queue: Queue) -> None:
    first = queue.submit(PLAIN, "d", "key", 100)
    assert first[1]
    assert queue.submit(PLAIN, "d", "key", 100) == (first[0], False)
    assert queue.submit(PLAIN, "d", None, 100)[0] != first[0]
    queue.take()
    assert queue.submit(PLAIN, "d", "key", 0) == (first[0], False)  # also where there is no room for another
    with pytest.raises(Conflict) as caught:
        queue.submit(PLAIN, "other", "key", 100)
    assert caught.value.field == "Idempotency-Key"


def test_a_hundred_at_once_with_one_key_are_one_job(queue: Queue) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(queue.add(key="key"))) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 100
    assert len(set(found)) == 1
    assert queue.store.value("SELECT count(*) FROM jobs") == 1


def test_the_queue_has_an_end(queue: Queue) -> None:
    for _ in range(3):
        queue.add(room=3)
    with pytest.raises(Full):
        queue.add(room=3)
    assert queue.store.value("SELECT count(*) FROM jobs") == 3
    queue.take(1)
    queue.add(room=3)


# -- the order ---------------------------------------------------------------------------------------------


def test_priority_comes_first_and_then_who_came_first(queue: Queue) -> None:
    names = {
        word: queue.add(batch="", priority=priority)
        for word, priority in zip("abcd", (0, 5, -5, 5), strict=True)
    }
    taken = [queue.take()[0].id for _ in names]
    assert taken == [names[word] for word in "bdac"]


def test_lanes_do_not_meet(queue: Queue) -> None:
    device, explain = queue.add(), queue.add(lane="explain")
    assert [job.id for job in queue.take(lane="explain")] == [explain]
    assert [job.id for job in queue.take()] == [device]


def test_a_batch_is_of_equal_settings_and_not_too_large(queue: Queue) -> None:
    same = [queue.add(samples=2) for _ in range(3)]
    other, alone = queue.add(batch="other"), [queue.add(batch="") for _ in range(2)]
    assert [job.id for job in queue.take(5)] == same[:2]
    assert [job.id for job in queue.take(5)] == same[2:]
    assert [job.id for job in queue.take(5)] == [other]
    assert [job.id for _ in alone for job in queue.take(5)] == alone


def test_one_that_is_larger_than_a_batch_goes_alone(queue: Queue) -> None:
    large, small = queue.add(samples=40), queue.add()
    assert [job.id for job in queue.take(16)] == [large]
    assert [job.id for job in queue.take(16)] == [small]


# -- poison ------------------------------------------------------------------------------------------------


def test_what_kills_worker_after_worker_is_put_aside_and_its_company_is_not(queue: Queue) -> None:
    poison, *innocent = [queue.add() for _ in range(4)]
    together = queue.take()
    assert len(together) == 4
    queue.crashed([(job.id, job.attempt) for job in together], "was ended by signal 11")
    finished = []
    while batch := queue.take():
        (job,) = batch  # whoever has met a crash is alone from now on
        if job.id == poison:
            queue.crashed([(job.id, job.attempt)], "was ended by signal 11")
        else:
            finished.append(job.id)
            assert queue.finish(job.id, job.attempt, {}, [])
    assert finished == innocent
    assert (queue.state(poison), queue.error(poison)) == ("failed", "poison")
    assert "signal 11" in queue.store.value("SELECT error FROM jobs WHERE id = ?", poison)


# -- the store ---------------------------------------------------------------------------------------------


def test_one_that_fails_takes_no_other_with_it(queue: Queue) -> None:
    held, go = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        held.set()
        go.wait(10)

    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO drafts VALUES ('half', '1')")
        raise RuntimeError("a fault")

    first = queue.store.submit(hold)
    held.wait(10)  # what comes now is committed as one
    before = queue.store.submit(lambda db: db.execute("INSERT INTO drafts VALUES ('before', '1')") and None)
    fault = queue.store.submit(half)
    after = queue.store.submit(lambda db: db.execute("INSERT INTO drafts VALUES ('after', '1')") and None)
    go.set()
    for future in (first, before, after):
        future.result(10)
    with pytest.raises(RuntimeError, match="a fault"):
        fault.result(10)
    assert [row["name"] for row in queue.store.rows("SELECT name FROM drafts ORDER BY name")] == [
        "after",
        "before",
    ]


def test_what_was_acknowledged_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    store = Store(path)
    try:
        job = Queue(store).add()
        with sqlite3.connect(path) as other:  # another process would see it: it is committed
            assert other.execute("SELECT id FROM jobs").fetchall() == [(job,)]
        assert store.value("PRAGMA synchronous") == 2
        assert store.value("PRAGMA journal_mode") == "wal"
    finally:
        store.close()


@pytest.mark.parametrize("damage", ["text", "page", "newer"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.sqlite"
    store = Store(path)
    for _ in range(50):
        Queue(store).add()
    store.close()
    if damage == "newer":
        with sqlite3.connect(path) as other:
            other.execute("PRAGMA user_version = 99")
    else:
        content = bytearray(path.read_bytes())
        content[4096 if damage == "page" else 0 :][:2000] = b""
        content[4096 if damage == "page" else 0 : 6000] = b"no database" * 100
        path.write_bytes(content)
    kept = path.read_bytes()
    with pytest.raises(CheckpointError) as caught:
        Store(path)
    assert caught.value.field == str(path)
    assert "move it away" in str(caught.value.hint)
    assert path.read_bytes() == kept


def test_a_full_disk_refuses_and_loses_nothing(queue: Queue) -> None:
    job = queue.add()
    queue.store.submit(lambda db: db.execute("PRAGMA max_page_count = 1")).result(
        10
    )  # it is as large as it gets
    fills = replace(PLAIN, settings={"prompt": "x" * 10_000})

    def fill() -> None:
        for _ in range(100):
            queue.add(fills)

    with pytest.raises(CheckpointError) as caught:
        fill()
    assert (caught.value.field, "full" in caught.value.message) == ("disk", True)
    assert queue.state(job) == "queued"
    queue.store.submit(lambda db: db.execute("PRAGMA max_page_count = 1000000")).result(10)
    assert queue.state(queue.add(fills)) == "queued"
    assert queue.store.value("PRAGMA integrity_check") == "ok"
