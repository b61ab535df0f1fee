"""The HTTP API, a file for each noun; this list is their registration."""

from fastapi.routing import APIRoute

from . import events, files, health, items, jobs, models, openai

__all__ = ["ROUTERS"]

ROUTERS = [module.router for module in (health, jobs, events, items, files, models, openai)]

for router in ROUTERS:
    for route in router.routes:
        if isinstance(route, APIRoute):  # its first sentence is its title
            title, _, route.description = route.description.partition(". ")
            route.summary = title.rstrip(".")
