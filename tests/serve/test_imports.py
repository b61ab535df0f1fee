"""What the process that answers does not know, and what it costs to start it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from contract.test_imports import processor_seconds, run
from serving import SOON, Server, sample, server

HEAVY = ("torch", "numpy", "scipy", "matplotlib", "safetensors.torch")
STORY = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from serving import application, done, sample
async def story():
    async with application(Path({folder!r}), studio=True, runs=Path({folder!r}) / "runs") as (core, client):
        for path in ("/api/info", "/api/models", "/api/runs", "/metrics", "/api/schema/train", "/openapi.json"):
            assert (await client.get(path)).status_code == 200, path
        assert (await done(client, (await client.post("/api/jobs", json=sample())).json()["id"]))["state"] == "done"
        await client.post("/api/explain", json={{"what": "schedule"}})
        file = (await client.post("/api/files", content=Path({picture!r}).read_bytes())).json()["id"]
        for wish in ({{"kind": "upscale", "model": "emoji", "inputs": {{"image": file}}}},
                     {{"kind": "evaluate", "model": "emoji"}}, {{"kind": "data", "settings": {{"source": "digits"}}}},
                     {{"kind": "train", "settings": {{"data": "digits", "text": "transformer", "network": "dit"}}}}):
            core.asks(__import__("unstir.serve.messages", fromlist=["Wish"]).Wish(**wish))
asyncio.run(story())
print(json.dumps(sorted(sys.modules)))
"""


def modules_after(code: str) -> set[str]:
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout))


def test_the_process_that_answers_never_imports_torch(tmp_path: Path) -> None:
    from stub import png

    (tmp_path / "picture.png").write_bytes(png(1))
    given = {"folder": str(tmp_path / "served"), "picture": str(tmp_path / "picture.png")}
    found = modules_after(STORY.format(tests=str(Path(__file__).parents[1]), **given))
    assert "unstir.serve.core" in found
    assert found.isdisjoint(HEAVY)


@pytest.mark.parametrize("verb", ["serve", "studio"])
def test_help_is_quick(verb: str) -> None:
    words = ("-m", "unstir", verb, "--help")
    imported = run("-X", "importtime", *words).stderr.splitlines()
    names = {line.rpartition("|")[2].strip() for line in imported}
    assert "unstir.cli.serve" in names
    assert names.isdisjoint((*HEAVY, "fastapi", "uvicorn", "sqlite3"))
    assert processor_seconds(*words) < 0.4


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Server]:
    """The command itself, with its own workers."""
    words = ("-m", "unstir", "serve", "emoji", "port=0", f"folder={tmp_path / 'served'}")
    with server(tmp_path / "served", *words) as running:
        yield running


def test_the_command_serves(real: Server) -> None:
    """From the address it prints to a picture; torch is in the worker and not in the server."""
    assert real.client.get("/ready").status_code == 200
    job = real.ended(
        real.submit(sample("fox", seed=3) | {"settings": {"prompt": "fox", "steps": 2}}), 4 * SOON
    )
    assert job["state"] == "done"
    assert real.client.get(job["result"]["items"][0]["url"]).content.startswith(b"\x89PNG")
    libraries = {
        pid: {Path(m.path).name for m in psutil.Process(pid).memory_maps()}
        for pid in (real.process.pid, real.worker().pid)
    }
    assert "libtorch_cpu.so" in libraries[real.worker().pid]
    assert "libtorch_cpu.so" not in libraries[real.process.pid]
    assert real.stop() == 0
