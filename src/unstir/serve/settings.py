"""How a server is set up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Settings"]

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All of it; sizes in bytes, times in seconds."""

    folder: Path
    """Where the server keeps its jobs, pictures and uploads."""
    models: tuple[str, ...] = ()
    """Models that are served, by name or path."""
    runs: Path | None = None
    """A folder of runs: every model in it is served, and new ones are trained into it."""
    studio: bool = False
    """Serve the page, the shipped models, and training."""
    host: str = "127.0.0.1"
    port: int = 8000
    hosts: tuple[str, ...] = ()
    """Further names under which browsers may reach it, as a proxy's."""
    token: str | None = None
    """What clients have to show; None: the one kept in the folder, made at the first start."""
    open: bool = False
    """Ask for no token; for loopback addresses alone."""

    queue: int = 256
    """Jobs that may wait; the next one is told to come back later."""
    samples: int = 64
    """Most pictures of one job."""
    pixels: int = 16_000_000
    """Most pixels of one job, all of its pictures together."""
    body: int = 1 * MIB
    """Longest JSON document."""
    upload: int = 64 * MIB
    """Longest file."""
    dataset: int = 8 * GIB
    """Largest data set that may be uploaded."""
    outputs: int = 8 * GIB
    """Room for the pictures that are made: beyond it the oldest ones without a star go."""
    uploads: float = 30 * 86400
    """For how long an uploaded picture is kept that nothing refers to."""
    memory: int = 4 * GIB
    """Models stay loaded up to so much; the one not used for longest leaves first."""
    batch: int = 16
    """Most samples that jobs of the same settings are done in together."""
    drain: float = 20.0
    """For how long running jobs may go on when the server is asked to stop."""
    wait: float = 600.0
    """For how long a client is answered that waits for its picture."""
    worker: tuple[str, ...] = field(default=("-m", "unstir.serve.worker"))
    """What Python runs as a worker."""

    @property
    def state(self) -> Path:
        return self.folder / "unstir.sqlite"

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def files(self) -> Path:
        return self.folder / "uploads"

    @property
    def datasets(self) -> Path:
        return self.folder / "datasets"
