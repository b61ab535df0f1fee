"""Training as a job: a command of its own, which is paused, goes on, and dies with its server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from serving import SOON, Server, eventually, server
from tiny import TINY

SETTINGS = dict(word.split("=") for word in TINY.split())


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    with server(
        folder, "-m", "unstir", "studio", "port=0", f"folder={folder}", f"runs={tmp_path / 'runs'}"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a run in it that does not really train."""
    place = tmp_path_factory.mktemp("stub")
    (place / "runs/run").mkdir(parents=True)
    (place / "runs/run/config.yaml").write_text("data:\n  source: digits\n")
    with server(place / "served", runs=str(place / "runs"), studio=True) as running:
        yield running


def train(studio: Server, **settings: Any) -> str:
    return studio.submit(
        {"kind": "train", "settings": {"data": "digits", "name": "run", **SETTINGS, **settings}}
    )


def test_a_training_is_paused_and_goes_on(studio: Server, tmp_path: Path) -> None:
    job = train(studio, steps=100_000)
    eventually(lambda: (found := studio.job(job)["progress"]) and found["step"] > 5, 2 * SOON)
    assert studio.client.get("/api/runs/run").json()["state"] == "running"
    begun = time.monotonic()
    studio.client.post(f"/api/jobs/{job}/cancel")
    assert studio.ended(job)["state"] == "cancelled"
    assert time.monotonic() - begun < SOON
    paused = studio.client.get("/api/runs/run").json()
    assert paused["state"] == "paused"
    assert paused["step"] > 5
    assert (tmp_path / "runs/run/checkpoints/last/model.safetensors").is_file()
    steps = paused["step"] + 5
    again = studio.submit({"kind": "train", "settings": {"resume": "run", "steps": steps}})
    ended = studio.ended(again, 2 * SOON)
    assert (ended["state"], ended["error"]) == ("done", None)
    assert ended["result"]["run"] == "run"
    assert studio.client.get("/api/runs/run").json()["step"] == steps
    rows = studio.client.get("/api/runs/run/metrics").json()["rows"]
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)


def test_one_called_off_as_it_starts_ends_at_once(studio: Server) -> None:
    job = train(studio, steps=100_000)
    eventually(lambda: studio.job(job)["state"] == "running")
    begun = time.monotonic()
    studio.client.post(f"/api/jobs/{job}/cancel")
    assert studio.ended(job)["state"] == "cancelled"
    assert time.monotonic() - begun < SOON


def test_a_killed_server_takes_its_training_with_it(studio: Server) -> None:
    job = train(studio, steps=100_000)
    eventually(lambda: studio.job(job)["progress"] and studio.job(job)["progress"]["step"] > 1, 2 * SOON)
    children = studio.children()
    assert any("train" in child.cmdline() for child in children)
    studio.kill()
    eventually(
        lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children),
        5,
    )


def test_a_child_whose_parent_is_gone_does_not_start() -> None:
    words = [sys.executable, "-m", "unstir.serve.child", "1", "-c", "print('it runs')"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=SOON)
    assert (ended.returncode, ended.stdout) == (1, "")


@pytest.mark.parametrize(
    "settings",
    [
        {"resume": "run", "data.source": "/etc"},
        {"resume": "run", "source": "/etc"},
        {"resume": "run", "sampling": {"steps": 3}},
        {"resume": "run", "sampling.weaker": "/etc/passwd"},
        {"resume": "../run"},
        {"resume": "nothing"},
    ],
)
def test_going_on_names_no_file(stub: Server, settings: dict[str, Any]) -> None:
    answer = stub.client.post("/api/jobs", json={"kind": "train", "settings": settings})
    assert answer.status_code in (404, 422), answer.text
