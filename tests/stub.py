"""A server and a worker without torch: what a job does is what its prompt says.

    python tests/stub.py serve '{"folder": ..., "port": 0, ...}'     the server, with this file as its workers;
                                                                     "audit": a file to log all opened files in
    python tests/stub.py '{"lane": ...}'                             such a worker

Prompts: "die" ends the worker by SIGKILL, "die N" only while a job is at most at its N-th attempt, "sleep S" takes S
seconds and heeds a cancellation, "deaf S" does not, "fail" is a fault, "refuse" an error with a name. Any other is a
picture whose colour is its seed, at once.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

SIDE = 4


def png(seed: int) -> bytes:
    """A square of one colour, that of the seed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    colour = (seed % 2**24).to_bytes(3, "big")
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + colour * SIDE) * SIDE)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def seed_of(content: bytes) -> int:
    """The seed of such a picture."""
    start = content.index(b"IDAT") + 4
    return int.from_bytes(zlib.decompressobj().decompress(content[start:])[1:4], "big")


def make_runner(setup: dict[str, Any]) -> Any:
    from unstir.errors import ConfigError

    if setup["memory"] == 1:
        raise SystemExit("no device would have me")

    def run(jobs: list[dict[str, Any]], tell: Any, wanted: Any) -> None:
        for job in jobs:
            values = job["asked"]["values"]
            word, _, number = str(values.get("prompt") or "").partition(" ")
            if word == "die" and (not number or job["attempt"] <= int(number)):
                os.kill(os.getpid(), signal.SIGKILL)
            if word == "fail":
                raise RuntimeError("a fault")
            if word == "refuse":
                raise ConfigError("not like this", field="settings.prompt", hint="otherwise")
            until = time.monotonic() + (float(number) if word in ("sleep", "deaf") else 0)
            while (left := until - time.monotonic()) > 0 and (word == "deaf" or job["id"] in wanted):
                tell({"progress": job["id"], "step": 1, "steps": 2, "fraction": 0.5, "n": 1, "previews": {}})
                time.sleep(min(left, 0.02))
            if job["id"] in wanted:
                result = {"seconds": 0.0, "batch": len(jobs), "explanation": {"what": "a stub"}}
                tell({"done": job["id"], "items": items(job), "result": result})

    return run


def items(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The pictures of a job, written as a real worker does."""
    if job["kind"] == "explain":
        return []
    folder, values = Path(job["out"]), job["asked"]["values"]
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for place in range(values.get("n") or 1):
        seed = (values.get("seed") or 0) + place
        for ending in (".png", ".webp"):
            (folder / f"{place}{ending}").write_bytes(png(seed))
        about = {"width": SIDE, "height": SIDE, "seed": seed, "prompt": values.get("prompt"), "settings": {}}
        made.append({"path": f"{folder.name}/{place}", "bytes": 2 * len(png(seed)), "about": about})
    return made


async def at_once(lane: Any, batch: Any) -> None:
    """Training and evaluation, in no time."""
    await lane.finished(batch[0].id, {}, ())


def watch_files(log: str) -> None:
    """Writes down every path that this process opens, lists, makes, moves or removes from now on."""
    file = open(log, "a", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    events = (
        "open",
        "os.listdir",
        "os.scandir",
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.symlink",
    )

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in events:
            for path in arguments[: 2 if event == "os.rename" else 1]:
                if isinstance(path, (str, bytes, os.PathLike)):
                    file.write(json.dumps([event, os.path.realpath(os.fsdecode(path))]) + "\n")

    sys.addaudithook(hook)


def serve(given: dict[str, Any]) -> int:
    """What `unstir serve` does, with workers of this file."""
    from unstir.errors import UnstirError
    from unstir.serve import lanes
    from unstir.serve.run import run
    from unstir.serve.settings import Settings

    if audit := given.pop("audit", None):
        watch_files(audit)
    lanes.Background.do = at_once  # type: ignore[method-assign]
    paths = {word: Path(given[word]) for word in ("folder", "runs") if given.get(word)}
    words = {word: tuple(given[word]) for word in ("models", "hosts") if word in given}
    settings = Settings(**given | paths | words, worker=(__file__,))
    try:
        run(settings, ("digits",), lambda _: None, lambda address: print(address, flush=True))  # noqa: T201
    except UnstirError as error:
        print(json.dumps(error.to_dict()), file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        sys.exit(serve(json.loads(sys.argv[2])))
    from unstir.serve.worker import main

    main(make_runner)
