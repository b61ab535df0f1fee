"""How does the server hold? Kills, a busy machine, ten times too much, slow and idle clients, and drawing together.

    python benchmarks/serving.py [durability] [latency] [overload] [idle] [batching]

Each part starts a server of its own in a temporary folder, on this machine alone. Jobs whose prompt begins with "stub"
take 5 ms and answer a number that follows from their seed; all others are drawn by the model that comes with unstir.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

JOBS, REAL, CLIENTS, KILLS = 10_000, 300, 64, 20
STUB = 0.005
PROMPTS = ("red heart", "fox", "green apple", "snowman", "pizza")


# -- the worker and the server -----------------------------------------------------------------------------
def answer(seed: int) -> str:
    """What a stub makes of its seed."""
    return hashlib.sha256(str(seed).encode()).hexdigest()


def make_runner(setup: dict[str, Any]) -> Any:
    from unstir.serve.worker import Cancelled

    drawing: list[Any] = []

    def run(jobs: list[dict[str, Any]], tell: Any, wanted: Any) -> None:
        if not jobs[0]["asked"]["values"].get("prompt", "").startswith("stub"):
            if not drawing:
                from unstir.serve.drawing import Drawing

                drawing.append(Drawing(setup))
            drawing[0](jobs, tell, wanted)
            return
        for job in jobs:
            if job["id"] not in wanted:
                raise Cancelled
            time.sleep(float(job["asked"]["values"]["prompt"].split()[1]))
            seed = job["asked"]["values"]["seed"]
            tell({"done": job["id"], "items": [], "result": {"answer": answer(seed)}})

    return run


def draw_on() -> None:
    """Until it is killed, as kindly as a worker does."""
    import unstir
    from unstir.serve.child import stand_back

    stand_back(os.getppid())
    pipe = unstir.load("emoji")
    while True:
        pipe.sample(n=4, prompt="fox")


def serve(folder: str, port: int, options: dict[str, Any]) -> None:
    from unstir.serve.run import run
    from unstir.serve.settings import Settings

    worker = (__file__, "worker")
    settings = Settings(folder=Path(folder), models=("emoji",), port=port, worker=worker, **options)
    run(settings, (), lambda text: None, lambda address: print(address, flush=True))


class Server:
    """A server process that can be killed and started again at the same place."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder, self.options, self.port = folder, options, 0
        self.started: list[float] = []
        self.process: subprocess.Popen[str]
        self.start()
        self.token = (folder / "token").read_text()

    def start(self) -> None:
        begun = time.monotonic()
        words = [
            sys.executable,
            __file__,
            "server",
            str(self.folder),
            str(self.port),
            json.dumps(self.options),
        ]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.port = int(line.rsplit(":", 1)[1])
        self.started.append(time.monotonic() - begun)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def workers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.process.pid).children()
            return [child for child in children if "worker" in child.cmdline()]
        return []

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()

    @property
    def memory(self) -> float:
        """MiB."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20


@contextlib.contextmanager
def server(**options: Any) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        running = Server(Path(folder), **options)
        try:
            yield running
        finally:
            running.stop()


# -- a client that costs little ----------------------------------------------------------------------------
class Connection:
    """One connection that is kept; HTTP enough for this server."""

    def __init__(self, host: Server) -> None:
        self.host = host
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body); raises OSError where the connection is lost."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.host.port, limit=2**24)
        reader, writer = self.streams
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {self.host.token}"]
        lines += [f"Content-Length: {len(content)}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + content)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            found = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:]) if k}
            text = await reader.readexactly(int(found.get("content-length", 0)))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            self.close()
            raise ConnectionError(str(error)) from None
        except asyncio.CancelledError:
            self.close()
            raise
        return int(head[0].split()[1]), found, text

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def patiently(connection: Connection, *request: Any) -> tuple[int, dict[str, str], bytes]:
    """The same, as often as it takes."""
    while True:
        try:
            status, headers, body = await connection(*request)
        except OSError:
            await asyncio.sleep(0.1)
            continue
        if status != 429:
            return status, headers, body
        await asyncio.sleep(int(headers["retry-after"]) * random.random())


def wish(k: int, real: bool, seconds: float = STUB) -> dict[str, Any]:
    prompt = PROMPTS[k % len(PROMPTS)] if real else f"stub {seconds}"
    settings = {"prompt": prompt, "seed": k, "n": 1, "steps": 2 if real else 3}  # not drawn together
    return {"kind": "sample", "model": "emoji", "settings": settings}


async def ended(connection: Connection, job: str, every: float = 0.25) -> dict[str, Any]:
    while True:
        _, _, body = await patiently(connection, "GET", f"/api/jobs/{job}")
        found: dict[str, Any] = json.loads(body)
        if found.get("state") not in ("queued", "running"):
            return found
        await asyncio.sleep(every)


# -- 1. nothing is lost ------------------------------------------------------------------------------------
async def durability() -> None:
    """10,000 jobs from 64 clients, while the server is killed 20 times and its workers 20 times."""
    with server() as host:
        db = sqlite3.connect(host.folder / "unstir.sqlite")
        db.executescript(
            "CREATE TABLE finished(job TEXT); CREATE TRIGGER finishing AFTER UPDATE OF state ON jobs "
            "WHEN NEW.state = 'done' BEGIN INSERT INTO finished VALUES (NEW.id); END;"
        )
        db.close()
        every = JOBS // REAL
        jobs: dict[int, dict[str, Any]] = {}
        left = iter(range(JOBS))
        begun = time.monotonic()

        async def client() -> None:
            connection = Connection(host)
            for k in left:
                key = {"Idempotency-Key": f"job-{k}"}
                request = ("POST", "/api/jobs", wish(k, k % every == 0 and k // every < REAL), key)
                _, _, body = await patiently(connection, *request)
                jobs[k] = await ended(connection, json.loads(body)["id"])
            connection.close()

        kills = {"server": 0, "worker": 0}

        async def killer() -> None:
            rng = random.Random(0)
            while min(kills.values()) < KILLS and len(jobs) < JOBS:
                await asyncio.sleep(rng.uniform(2, 6))
                if kills["server"] < KILLS and kills["server"] <= kills["worker"]:
                    host.kill()
                    kills["server"] += 1
                    await asyncio.to_thread(host.start)
                elif workers := host.workers():
                    workers[0].kill()
                    kills["worker"] += 1

        await asyncio.gather(killer(), *(client() for _ in range(CLIENTS)))
        seconds = time.monotonic() - begun
        db = sqlite3.connect(host.folder / "unstir.sqlite")
        (integrity,) = db.execute("PRAGMA integrity_check").fetchone()
        finished = [job for (job,) in db.execute("SELECT job FROM finished")]
        (attempts,) = db.execute("SELECT max(attempt) FROM jobs").fetchone()
        (again,) = db.execute("SELECT count(*) FROM jobs WHERE attempt > 1").fetchone()
        names = {k: job["id"] for k, job in jobs.items()}
        wrong, drawn = await asyncio.to_thread(_wrong, host, jobs)
        faults = [job["error"]["message"] for job in jobs.values() if job["state"] != "done"]
        rows = {
            "jobs acknowledged": len(names),
            "clients": CLIENTS,
            "SIGKILLs of the server / of workers": f"{kills['server']} / {kills['worker']}",
            "lost": sum(name not in set(finished) for name in names.values()),
            "finished twice": len(finished) - len(set(finished)),
            "ended otherwise than done": f"{len(faults)} {faults[:3] or ''}",
            "wrong answers": wrong,
            f"of them drawn and compared, of {REAL}": drawn,
            "jobs begun more than once": f"{again}, one of them {attempts} times",
            "start after a kill, longest": f"{max(host.started[1:], default=math.nan):.2f} s",
            "database": integrity,
            "seconds": f"{seconds:.0f}, {JOBS / seconds:.0f} jobs/s",
        }
        show("durability", rows)


def _wrong(host: Server, jobs: dict[int, dict[str, Any]]) -> tuple[int, int]:
    """(answers that are not what they should be, pictures that were compared)"""
    import io

    from PIL import Image

    import unstir

    pipe = unstir.load("emoji")
    every, wrong, drawn = JOBS // REAL, 0, 0
    db = sqlite3.connect(host.folder / "unstir.sqlite")
    for k, job in jobs.items():
        if job["state"] != "done":
            continue
        if not (k % every == 0 and k // every < REAL):
            wrong += job["result"].get("answer") != answer(k)
            continue
        rows = db.execute("SELECT path FROM items WHERE job = ?", (job["id"],)).fetchall()
        drawn += 1
        if len(rows) != 1:
            wrong += 1
            continue
        picture = np.asarray(
            Image.open(io.BytesIO((host.folder / "pictures" / f"{rows[0][0]}.png").read_bytes()))
        )
        truth = pipe.sample(n=1, seed=k, prompt=PROMPTS[k % len(PROMPTS)], steps=2).images[0]
        wrong += not np.array_equal(picture, truth)
    return wrong, drawn


# -- 2. it answers while both cores draw -------------------------------------------------------------------
async def latency(rate: float = 50, seconds: float = 40) -> None:
    """Requests at a fixed rate while the worker draws, and one more process for each core, at the same priority."""
    with server() as host:
        connection = Connection(host)
        big = {"kind": "sample", "model": "emoji", "settings": {"prompt": "fox", "n": 64, "steps": 40}}
        for _ in range(40):
            await patiently(connection, "POST", "/api/jobs", big)
        await asyncio.sleep(8)  # the model is loaded, and it draws
        first = json.loads((await patiently(connection, "GET", "/api/jobs?state=running"))[2])["jobs"][0][
            "id"
        ]
        requests: dict[str, tuple[Any, ...]] = {
            "live": ("GET", "/live"),
            "status": ("GET", f"/api/jobs/{first}"),
            "submit": ("POST", "/api/jobs", {**wish(0, False), "priority": -10}),
        }
        others = [subprocess.Popen([sys.executable, __file__, "draw"]) for _ in range(os.cpu_count() or 1)]
        await asyncio.sleep(8)
        psutil.cpu_percent()
        took, alone = await asyncio.gather(
            steadily(host, requests, rate, seconds),
            asyncio.to_thread(_synced, host.folder / "synced", seconds),
        )
        busy = psutil.cpu_percent()
        for other in others:
            other.kill()
        bounds = {"live": 50, "status": 100, "submit": 250}
        rows: dict[str, Any] = {"both cores": f"{busy:.0f}% busy, {rate:g} requests/s, of each kind a third"}
        for name, times in took.items():
            rows[f"{name}: p50 / p99 / p99.9 / most"] = (
                " / ".join(f"{1e3 * quantile(times, q):.1f}" for q in (0.5, 0.99, 0.999, 1))
                + f" ms of {len(times)} (p99 at most {bounds[name]})"
            )
        shown = " / ".join(f"{1e3 * quantile(alone, q):.1f}" for q in (0.5, 0.99, 1))
        rows["fsync alone, at the same time: p50 / p99 / most"] = f"{shown} ms of {len(alone)}"
        show("latency", rows)


def _synced(path: Path, seconds: float) -> list[float]:
    """Seconds that the disk took, for 4 kB at a time: what an acknowledgement cannot be faster than."""
    took, until = [], time.monotonic() + seconds
    with path.open("wb", buffering=0) as file:
        while time.monotonic() < until:
            begun = time.monotonic()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            took.append(time.monotonic() - begun)
            time.sleep(0.1)
    return took


async def steadily(
    host: Server, requests: dict[str, tuple[Any, ...]], rate: float, seconds: float
) -> dict[str, list[float]]:
    """Seconds that each answer took, counted from when it was due: a server that stalls is not waited for."""
    took: dict[str, list[float]] = {name: [] for name in requests}
    free: list[Connection] = []

    async def one(name: str, due: float) -> None:
        connection = free.pop() if free else Connection(host)
        with contextlib.suppress(OSError):
            status, _, _ = await connection(*requests[name])
            if status < 500:
                took[name].append(time.monotonic() - due)
        free.append(connection)

    begun, tasks = time.monotonic(), []
    for k in range(int(rate * seconds)):
        due = begun + k / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(asyncio.create_task(one(list(requests)[k % len(requests)], due)))
    await asyncio.gather(*tasks)
    return took


# -- 3. ten times too much ---------------------------------------------------------------------------------
async def overload(seconds: float = 60, job: float = 0.05) -> None:
    """Jobs asked for at ten times the rate at which they can be done, whether or not the last one was answered."""
    with server() as host:
        connection = Connection(host)
        first = await patiently(connection, "POST", "/api/jobs", wish(0, False))
        await ended(connection, json.loads(first[2])["id"])
        rate = 10 / job
        memory = [host.memory]
        statuses: dict[int, list[float]] = {}
        integer = True
        accepted: list[str] = []
        free: list[Connection] = []

        async def one(k: int, due: float) -> None:
            nonlocal integer
            connection = free.pop() if free else Connection(host)
            with contextlib.suppress(OSError):  # one that lay idle for long may have been closed
                status, headers, body = await connection("POST", "/api/jobs", wish(k, False, job))
                statuses.setdefault(status, []).append(time.monotonic() - due)
                if status == 429:
                    integer &= headers.get("retry-after", "").isdecimal()
                else:
                    accepted.append(json.loads(body)["id"])
            free.append(connection)

        begun, tasks = time.monotonic(), []
        for k in range(int(rate * seconds)):
            due = begun + k / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(one(k, due)))
            if k % 200 == 0:
                memory.append(host.memory)
        await asyncio.gather(*tasks)
        done = [await ended(connection, name) for name in accepted]
        refused = statuses.get(429, [])
        shown = " / ".join(f"{1e3 * quantile(refused, q):.1f}" for q in (0.5, 0.99, 0.999, 1))
        rows = {
            "asked for": f"{rate:.0f}/s for {seconds:.0f} s; {1 / job:.0f}/s can be done",
            "accepted": f"{len(accepted)}, of which {sum(job['state'] == 'done' for job in done)} ended done",
            "refused with 429": f"{len(refused)}, each with an integer Retry-After: {integer}",
            "time to refuse: p50 / p99 / p99.9 / most": f"{shown} ms",
            "refused after more than 100 ms": sum(time > 0.1 for time in refused),
            "other answers": {s: len(t) for s, t in statuses.items() if s not in (201, 429)} or "none",
            "memory at the start / later, most": f"{memory[0]:.0f} / {max(memory):.0f} MiB",
        }
        show("overload", rows)


# -- 4. slow and idle ones ---------------------------------------------------------------------------------
async def idle(slow: int = 500, waiting: int = 5_000) -> None:
    """Clients that send a byte now and then, and thousands that send nothing."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    waiting = min(waiting, hard - slow - 200)
    with server() as host:
        before = host.memory
        lines = []
        for k in range(slow + waiting):
            _, writer = await asyncio.open_connection("127.0.0.1", host.port)
            lines.append(writer)
            if k < slow:
                writer.write(b"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nX-")

        async def drip() -> None:
            while True:
                await asyncio.sleep(1)
                for writer in lines[:slow]:
                    with contextlib.suppress(OSError):
                        writer.write(b"a")

        dripping = asyncio.create_task(drip())
        took = await steadily(host, {"submit": ("POST", "/api/jobs", wish(0, False))}, 20, 15)
        after = host.memory
        size = 2**30
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
        writer.write(
            f"POST /api/files HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {host.token}\r\n"
            f"Transfer-Encoding: chunked\r\nContent-Type: image/png\r\n\r\n".encode()
        )
        sent, status = 0, b""
        part = b"%x\r\n" % 2**20 + bytes(2**20) + b"\r\n"
        with contextlib.suppress(OSError):
            while sent < size and not status:
                writer.write(part)
                await asyncio.wait_for(writer.drain(), 10)
                sent += 2**20
                with contextlib.suppress(TimeoutError):
                    status = await asyncio.wait_for(reader.readline(), 0.001)
        dripping.cancel()
        rows = {
            "connections": f"{slow} slow, {waiting} idle",
            "submit: p50 / p99 / most": " / ".join(
                f"{1e3 * quantile(took['submit'], q):.0f}" for q in (0.5, 0.99, 1)
            )
            + f" ms of {len(took['submit'])}",
            "memory before / with them": f"{before:.0f} / {after:.0f} MiB",
            "upload of 1 GiB": f"{status.decode().strip() or 'cut off'} after {sent / 2**20:.0f} MiB (64 are accepted)",
            "memory after it": f"{host.memory:.0f} MiB",
        }
        for line in lines:
            line.close()
        show("idle", rows)


# -- 5. drawing together -----------------------------------------------------------------------------------
async def batching(clients: int = 8, each: int = 6) -> None:
    """Eight clients, each for one picture at a time, together against one after the other."""
    import io

    from PIL import Image

    import unstir

    settings = [{"prompt": PROMPTS[k % len(PROMPTS)], "seed": 100 + k, "n": 1} for k in range(clients * each)]
    rows: dict[str, Any] = {}
    pictures: list[np.ndarray] = []
    with server() as host:
        connection = Connection(host)
        warm = {"kind": "sample", "model": "emoji", "settings": {"prompt": "fox", "n": 8, "seed": 1}}
        await ended(connection, json.loads((await patiently(connection, "POST", "/api/jobs", warm))[2])["id"])
        took: list[float] = []
        found: dict[int, bytes] = {}

        async def client(place: int) -> None:
            own = Connection(host)
            for k in range(place, len(settings), clients):
                sent = time.monotonic()
                request = {"kind": "sample", "model": "emoji", "settings": settings[k]}
                job = await ended(
                    own, json.loads((await patiently(own, "POST", "/api/jobs", request))[2])["id"], 0.02
                )
                took.append(time.monotonic() - sent)
                found[k] = (await own("GET", job["result"]["items"][0]["url"]))[2]

        begun = time.monotonic()
        await asyncio.gather(*map(client, range(clients)))
        seconds = time.monotonic() - begun
        pictures = [np.asarray(Image.open(io.BytesIO(found[k]))) for k in range(len(settings))]
        rows["server, 8 clients, drawn together"] = _speed(seconds, took)
    pipe = unstir.load("emoji")
    pipe.sample(n=1, prompt="fox", exact=False)
    for name, exact in (
        ("library, one at a time, padded", True),
        ("library, one at a time, batch of 1", False),
    ):
        took = []
        images = []
        for one in settings:
            begun = time.monotonic()
            images.append(pipe.sample(**one, exact=exact).images[0])  # type: ignore[arg-type]
            took.append(time.monotonic() - begun)
        same = sum(np.array_equal(a, b) for a, b in zip(images, pictures, strict=True))
        most = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(images, pictures, strict=True))
        rows[name] = (
            f"{_speed(sum(took), took)}; {same} of {len(images)} pictures identical, differing by {most} at most"
        )
    show("batching", rows)


def _speed(seconds: float, took: list[float]) -> str:
    return f"{len(took) / seconds:.2f} pictures/s, {statistics.median(took):.2f} s each (median)"


# -- what they share ---------------------------------------------------------------------------------------
def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))] if values else math.nan


def show(title: str, rows: dict[str, Any]) -> None:
    print(f"\n{title}")
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value}")
    sys.stdout.flush()


PARTS: dict[str, Callable[[], Awaitable[None]]] = {
    part.__name__: part for part in (durability, latency, overload, idle, batching)
}


def main() -> None:
    match sys.argv[1:]:
        case ["worker", *_]:
            from unstir.serve.worker import main as work

            work(make_runner)
        case ["draw"]:
            draw_on()
        case ["server", folder, port, options]:
            serve(folder, int(port), json.loads(options))
        case names:
            for name in names or PARTS:
                asyncio.run(PARTS[name]())  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
