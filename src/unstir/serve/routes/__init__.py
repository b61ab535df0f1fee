"""The HTTP API, a file for each noun; this list is their registration."""

from . import events, files, health, items, jobs, models

__all__ = ["ROUTERS"]

ROUTERS = [module.router for module in (health, jobs, events, items, files, models)]
