"""Servers and workers that are killed, full queues, taken ports: nothing is lost, nothing is done twice.

Every test asserts that its fault happened.
"""

from __future__ import annotations

import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psutil
import pytest

from serving import SOON, STUB, Server, eventually, refused, sample, server
from stub import seed_of
from unstir.serve.jobs import CRASHES
from unstir.serve.store import Store

STEP = 0.02
"""Seconds of a step of the stub."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests that leave it as they find it."""
    with server(tmp_path_factory.mktemp("shared") / "served") as running:
        yield running


def pixels(running: Server, job: dict[str, Any]) -> list[int]:
    """The seeds that the pictures of a job show."""
    return [seed_of(running.client.get(item["url"]).content) for item in job["result"]["items"]]


# -- a worker dies -----------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_and_its_job_is_done(shared: Server) -> None:
    job = shared.submit(sample("sleep 1", seed=5))
    shared.running(job)
    worker, crashes = shared.worker(), shared.metric('unstir_lane_crashes_total{lane="device"}')
    worker.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    assert shared.client.get("/live").status_code == shared.client.get("/ready").status_code == 200
    assert time.monotonic() - killed < SOON
    again = eventually(lambda: (found := shared.job(job))["attempt"] == 2 and found["progress"], 5)
    assert again, "it runs again within 5 s"
    assert shared.metric('unstir_lane_crashes_total{lane="device"}') == crashes + 1
    ended = shared.ended(job)
    assert (ended["state"], ended["attempt"], pixels(shared, ended)) == ("done", 2, [5])
    assert shared.worker().pid != worker.pid
    assert not psutil.pid_exists(worker.pid)


def test_what_kills_every_worker_is_put_aside_and_its_company_is_done(shared: Server) -> None:
    first = shared.submit(sample("sleep 0.3"))  # while it runs the others gather
    poison = shared.submit(sample("die"))
    others = [shared.submit(sample("heart", seed=k)) for k in range(3)]
    crashes = shared.metric('unstir_lane_crashes_total{lane="device"}')
    ended = shared.ended(poison)
    assert (ended["state"], ended["error"]["code"]) == ("failed", "poison")
    assert "signal 9" in ended["error"]["message"]
    assert shared.metric('unstir_lane_crashes_total{lane="device"}') == crashes + CRASHES
    for seed, job in enumerate(others):
        done = shared.ended(job)
        assert (done["state"], pixels(shared, done)) == ("done", [seed])
    assert shared.ended(first)["state"] == "done"


def test_what_kills_one_worker_is_done_by_the_next(shared: Server) -> None:
    ended = shared.ended(shared.submit(sample("die 1")))
    assert (ended["state"], ended["attempt"]) == ("done", 2)


@pytest.mark.parametrize(("word", "code"), [("fail", "failed"), ("refuse", "config")])
def test_a_fault_in_a_job_is_its_own(shared: Server, word: str, code: str) -> None:
    shared.ended(shared.submit(sample()))
    worker = shared.worker().pid
    ended = shared.ended(shared.submit(sample(word)))
    assert (ended["state"], ended["error"]["code"]) == ("failed", code)
    assert shared.ended(shared.submit(sample()))["state"] == "done"
    assert shared.worker().pid == worker


def test_where_no_worker_gets_ready_jobs_say_so(tmp_path: Path) -> None:
    with server(tmp_path / "served", memory=1) as running:  # the stub leaves when it reads that
        ended = running.ended(running.submit(sample()))
        assert (ended["state"], ended["error"]["code"]) == ("failed", "device")
        assert "no device would have me" in ended["error"]["message"]
        assert running.metric('unstir_lane_crashes_total{lane="device"}') == 3
        assert running.client.get("/ready").status_code == 200


# -- the server dies ---------------------------------------------------------------------------------------


def test_a_killed_server_leaves_no_child(tmp_path: Path) -> None:
    with server(tmp_path / "served") as running:
        running.running(running.submit(sample("deaf 60")))
        running.client.post("/api/explain", json={"what": "schedule"})  # the other lane has a worker too
        children = running.children()
        assert len(children) == 2
        running.kill()
        eventually(lambda: not any(child.is_running() for child in children), 5)


def test_kills_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    random, asked, kills, interrupted = Random(1), {}, 0, 0
    for start in range(4):
        with server(tmp_path / "served") as running:
            for k in range(30):
                key = f"{start}-{k}"
                wish = sample(random.choice(("heart", "star", "sleep 0.05")), seed=len(asked))
                job = running.submit(wish, key)
                assert running.submit(wish, key) == job
                asked[job] = wish["settings"]["seed"]
            time.sleep(random.uniform(0.05, 0.4))
            if start < 3:
                kills += 1
                running.kill()
                with sqlite3.connect(tmp_path / "served/unstir.sqlite") as db:
                    interrupted += db.execute("SELECT count(*) FROM jobs WHERE state = 'running'").fetchone()[
                        0
                    ]
                continue
            for job, seed in asked.items():
                ended = running.ended(job)
                assert (ended["state"], pixels(running, ended)) == ("done", [seed])
            first = running.client.get("/api/jobs?limit=500").json()
            assert {job["id"] for job in first["jobs"]} == set(asked)
            assert first["next"] is None
            assert running.client.get("/api/items?limit=500").json()["next"] is None
            assert len(running.client.get("/api/items?limit=500").json()["items"]) == len(asked)
            assert running.stop() == 0
    print(f"{kills} kills, {interrupted} jobs were running then, {len(asked)} were asked for")  # noqa: T201
    assert kills == 3
    assert interrupted > 0
    folders = {path.name.partition("-")[0] for path in (tmp_path / "served/pictures").iterdir()}
    assert folders == set(asked), "nothing is left of the attempts that came to nothing"


def test_a_request_sent_again_after_a_kill_is_the_same_job(tmp_path: Path) -> None:
    with server(tmp_path / "served") as running:
        job = running.submit(sample("sleep 1"), "key")
        running.kill()
        with pytest.raises(httpx.TransportError):
            running.submit(sample("sleep 1"), "key")
    with server(tmp_path / "served") as running:
        assert running.submit(sample("sleep 1"), "key") == job
        assert (
            running.client.post("/api/jobs", json=sample(), headers={"Idempotency-Key": "key"}).status_code
            == 409
        )
        assert len(running.client.get("/api/jobs").json()["jobs"]) == 1


def test_told_to_stop_it_answers_on_and_puts_back_what_runs(tmp_path: Path) -> None:
    with server(tmp_path / "served", drain=1.0) as running:
        job, waits = running.submit(sample("deaf 60")), running.submit(sample("sleep 60"))
        running.running(job)
        running.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        eventually(lambda: running.client.get("/ready").status_code == 503, 1)
        assert time.monotonic() - begun < SOON
        assert running.client.get("/live").status_code == 200
        late = running.client.post("/api/jobs", json=sample())
        assert late.status_code == 429
        assert int(late.headers["Retry-After"]) >= 1
        assert running.process.wait(10) == 0
        assert time.monotonic() - begun > 0.9, "it waited for the job to end"
        assert running.children() == []
    store = Store(tmp_path / "served/unstir.sqlite")
    try:
        assert [row["state"] for row in store.rows("SELECT state FROM jobs")] == ["queued", "queued"]
        assert {row["id"] for row in store.rows("SELECT id FROM jobs")} == {job, waits}
    finally:
        store.close()


def test_told_to_stop_it_lets_a_short_job_end(tmp_path: Path) -> None:
    with server(tmp_path / "served", drain=10.0) as running:
        job = running.submit(sample("sleep 0.5"))
        running.running(job)
        assert running.stop() == 0
    with server(tmp_path / "served") as running:
        found = running.job(job)
        assert (found["state"], found["attempt"]) == ("done", 1)


# -- calling off -------------------------------------------------------------------------------------------


def test_what_waits_is_cancelled_at_once(shared: Server) -> None:
    runs, waits = shared.submit(sample("sleep 1")), shared.submit(sample("sleep 2"))
    shared.running(runs)
    assert shared.client.post(f"/api/jobs/{waits}/cancel").json()["state"] == "cancelled"
    assert shared.client.post(f"/api/jobs/{runs}/cancel").status_code == 200
    assert shared.ended(runs)["state"] == "cancelled"
    assert shared.client.post(f"/api/jobs/{waits}/cancel").json()["state"] == "cancelled"


def test_what_runs_is_cancelled_within_a_step_and_a_second(shared: Server) -> None:
    worker = shared.worker().pid
    for _ in range(5):
        job = shared.submit(sample("sleep 60"))
        shared.running(job)
        begun = time.monotonic()
        shared.client.post(f"/api/jobs/{job}/cancel")
        assert shared.ended(job)["state"] == "cancelled"
        assert time.monotonic() - begun < SOON
    assert shared.worker().pid == worker, "it stays"
    assert shared.ended(shared.submit(sample(seed=9)))["state"] == "done"


def test_cancels_at_any_moment_leave_every_job_ended(shared: Server) -> None:
    random, jobs = Random(2), []
    for k in range(40):
        jobs.append(shared.submit(sample(f"sleep {random.choice((0, 0.02, 0.05))}", seed=k)))
        if random.random() < 0.7:
            assert shared.client.post(f"/api/jobs/{random.choice(jobs)}/cancel").status_code == 200
    states = [shared.ended(job)["state"] for job in jobs]
    assert set(states) == {"done", "cancelled"}
    assert [job for job in jobs if shared.job(job)["attempt"] > 1] == []


def test_a_worker_that_does_not_listen_is_replaced(shared: Server) -> None:
    job = shared.submit(sample("deaf 60"))
    shared.running(job)
    worker = shared.worker().pid
    shared.client.post(f"/api/jobs/{job}/cancel")
    assert shared.ended(job, 8)["state"] == "cancelled"
    assert shared.ended(shared.submit(sample()))["state"] == "done"
    assert shared.worker().pid != worker


def test_a_deadline_ends_a_job_waiting_or_running(shared: Server) -> None:
    runs, waits = shared.submit(sample("sleep 60", deadline=0.8)), shared.submit(sample(deadline=0.2))
    shared.running(runs)
    begun = time.monotonic()
    for job in (waits, runs):
        ended = shared.ended(job)
        assert (ended["state"], ended["error"]["code"]) == ("failed", "deadline")
    assert shared.job(waits)["attempt"] == 0
    assert time.monotonic() - begun < SOON


def test_a_client_that_leaves_changes_nothing(shared: Server) -> None:
    body = b'{"kind": "sample", "model": "emoji", "settings": {"prompt": "heart"}}'
    before = len(shared.client.get("/api/jobs?limit=500").json()["jobs"])
    head = f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {shared.client.headers['Authorization']}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    for sent in (head.encode()[:40], head.encode(), head.encode() + body[:20]):
        with socket.create_connection(("127.0.0.1", shared.port)) as connection:
            connection.sendall(sent)
    with socket.create_connection(("127.0.0.1", shared.port)) as connection:
        connection.sendall(head.encode() + body)  # this one was asked for, though nobody hears of it
    eventually(lambda: len(shared.client.get("/api/jobs?limit=500").json()["jobs"]) == before + 1)
    eventually(lambda: not shared.client.get("/api/jobs?state=queued,running").json()["jobs"])
    assert len(shared.client.get("/api/jobs?limit=500").json()["jobs"]) == before + 1


def test_a_job_that_only_its_client_waits_for_ends_when_it_leaves(shared: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        shared.client.post("/v1/images/generations", json={"prompt": "sleep 60"}, timeout=0.5)
    job = shared.client.get("/api/jobs?limit=1").json()["jobs"][0]
    assert job["settings"]["prompt"] == "sleep 60"
    assert shared.ended(job["id"], 5)["state"] == "cancelled"
    assert shared.ended(shared.submit(sample()))["state"] == "done"


# -- no room -----------------------------------------------------------------------------------------------


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    with server(tmp_path / "served", queue=5) as running:
        running.running(running.submit(sample("sleep 60")))
        accepted = [running.submit(sample("star", seed=k)) for k in range(5)]
        for _ in range(50):
            begun = time.monotonic()
            answer = running.client.post("/api/jobs", json=sample())
            assert answer.status_code == 429
            assert answer.headers["Retry-After"].isdecimal()
            assert time.monotonic() - begun < SOON
        listed = running.client.get("/api/jobs?state=queued").json()["jobs"]
        assert [job["id"] for job in reversed(listed)] == accepted
        assert [job["position"] for job in reversed(listed)] == [0, 1, 2, 3, 4]


# -- at the start ------------------------------------------------------------------------------------------


def test_a_second_server_in_a_folder_is_refused(tmp_path: Path) -> None:
    with server(tmp_path / "served") as running:
        code, error = refused(tmp_path / "served")
        assert code == 4
        assert str(running.process.pid) in error["message"]
        assert running.client.get("/ready").status_code == 200


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, error = refused(tmp_path / "served", port=taken.getsockname()[1])
    assert (code, error["field"]) == (2, "port")
    assert "\n" not in error["message"]


def test_a_damaged_database_is_one_line(tmp_path: Path) -> None:
    with server(tmp_path / "served") as running:
        running.submit(sample())
        assert running.stop() == 0
    path = tmp_path / "served/unstir.sqlite"
    path.write_bytes(b"no database" * 1000)
    code, error = refused(tmp_path / "served")
    assert (code, error["field"]) == (4, str(path))
    assert "\n" not in error["message"]
    path.unlink()
    with server(tmp_path / "served") as running:  # moved away: it starts anew
        assert running.client.get("/api/jobs").json()["jobs"] == []


def test_a_folder_that_cannot_be_one_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, error = refused(tmp_path / "file/served")
    assert (code, error["field"]) == (4, "folder")
    assert "\n" not in error["message"]


def test_open_to_strangers_is_refused(tmp_path: Path) -> None:
    code, error = refused(tmp_path / "served", host="0.0.0.0", open=True)
    assert (code, error["field"]) == (2, "open")
    assert not (tmp_path / "served").exists()


def test_the_stub_is_what_these_servers_run(shared: Server) -> None:
    assert str(STUB) in shared.worker().cmdline()
