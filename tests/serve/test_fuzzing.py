"""Thousands of requests made from the OpenAPI document, right and wrong: no fault, and no answer it does not announce.

Names in paths and bodies are mostly of things that exist, and settings mostly of settings that exist; what exists
comes and goes while the requests run.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks

from serving import TOKEN, Server, sample, server
from stub import png

CASES, MANY = 5_000, 20_000
JOBS, MORE = "POST /api/jobs", 5
"""The route with most behind it is asked so many times as often as others."""
STREAM = "GET /api/events"
"""Never ends; tests/serve/test_events.py."""
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
KINDS = ("sample", "edit", "upscale", "restore", "plot", "train", "evaluate", "data", "explain")


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Server]:
    run = tmp_path / "runs/run"
    (run / "samples").mkdir(parents=True)
    (run / "samples/step-1.png").write_bytes(png(1))
    (run / "config.yaml").write_text("data:\n  source: digits\n")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n' * 9)
    with server(tmp_path / "served", runs=str(tmp_path / "runs"), studio=True, queue=512) as running:
        yield running


# -- what no document describes ----------------------------------------------------------------------------
ODD = {
    "not a number": "NaN",
    "infinite": "-Infinity",
    "overflowing": "1e999",
    "of 400 digits": "9" * 400,
    "of 5,000 digits": "9" * 5000,
    "beyond 63 bits": str(2**63),
    "beyond 64 bits": str(2**64),
    "tiny": "1e-320",
    "100 lists deep": "[" * 100 + "]" * 100,
    "900 lists deep": "[" * 900 + "]" * 900,
    "100,000 lists deep": "[" * 100_000 + "]" * 100_000,
    "900 objects deep": '{"a":' * 900 + "1" + "}" * 900,
    "half a letter": '"\\ud800"',
    "a key of half a letter": '{"\\ud800": 1}',
    "nothing at all": '"\\u0000"',
    "backwards": '"\\u202e"',
    "empty": '""',
    "long": '"' + "x" * 100_000 + '"',
    "null": "null",
    "true": "true",
    "a list": "[1, 2]",
    "an object": "{}",
}
PLACES = [
    *(
        f'POST /api/jobs {{"kind": "sample", "model": "emoji", "settings": {{"{word}": %s}}}}'
        for word in (
            *("steps", "prompt", "label", "size", "seed", "n", "guidance", "sampling", "solver", "weaker"),
            *("sampling.solver.tableau", "nothing"),
        )
    ),
    'POST /api/jobs {"kind": "sample", "model": "emoji", "settings": %s}',
    'POST /api/jobs {"kind": "sample", "model": %s}',
    'POST /api/jobs {"kind": "sample", "model": "emoji", "priority": %s}',
    'POST /api/jobs {"kind": "sample", "model": "emoji", "deadline": %s}',
    'POST /api/jobs {"kind": "upscale", "model": "emoji", "inputs": %s}',
    'POST /api/jobs {"kind": "upscale", "model": "emoji", "inputs": {"image": %s}}',
    'POST /api/jobs {"kind": "plot", "model": "emoji", "settings": {"x": %s}}',
    'POST /api/jobs {"kind": "plot", "model": "emoji", "settings": {"x": {"setting": %s, "values": [1]}}}',
    'POST /api/jobs {"kind": "plot", "model": "emoji", "settings": {"x": {"setting": "prompt", "values": [%s]}}}',
    'POST /api/jobs {"kind": "plot", "model": "emoji", "settings": {"base": %s, "x": {"setting": "n", "values": [1]}}}',
    *(
        f'POST /api/jobs {{"kind": "train", "settings": {{"data": "digits", "{word}": %s}}}}'
        for word in (
            *("name", "codec", "preset", "resume", "data.source", "training.steps", "network", "text"),
        )
    ),
    'POST /api/jobs {"kind": "train", "settings": {"data": %s}}',
    'POST /api/jobs {"kind": "data", "settings": {"source": %s}}',
    'POST /api/jobs {"kind": "evaluate", "model": "emoji", "settings": {"metrics": %s}}',
    "POST /api/jobs %s",
    'POST /api/explain {"what": %s}',
    'POST /api/explain {"what": "schedule", "settings": %s}',
    'PUT /api/drafts/a {"value": %s}',
    'POST /api/boards {"name": %s}',
    'POST /api/datasets {"name": %s}',
    *(
        f'POST /v1/images/generations {{"prompt": "a", "{word}": %s}}'
        for word in ("n", "size", "seed", "label", "model")
    ),
    'POST /v1/images/generations {"prompt": %s}',
]
ASKED = [
    *(
        f"/api/items?{query}"
        for query in (
            "q=%ff",
            "q=%00",
            "q=%ed%a0%80",
            "since=nan",
            "until=inf",
            "before=9" + "9" * 20,
            f"q={'x' * 9000}",
        )
    ),
    *(
        "/api/jobs/%00",
        "/api/items/%ff/image",
        "/api/runs/%00",
        "/api/runs/%00/metrics",
        "/api/drafts/%0a",
        "/%00",
    ),
    *(
        f"/api/runs/a/samples/{'9' * 5000}",
        f"/api/runs/{'a' * 300}",
        f"/{'a' * 5000}",
        "/enter?code=%ff",
        "/v1/models/%00",
    ),
]
TYPES = (
    "",
    "text/plain",
    "application/json; charset=utf-16",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
)


def test_odd_values_in_every_place_are_no_faults(studio: Server) -> None:
    asked: Counter[int] = Counter()
    for place in PLACES:
        method, path, body = place.split(" ", 2)
        for odd, text in ODD.items():
            content = body.replace("%s", text).encode()
            answer = studio.client.request(
                method, path, content=content, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code < 500, (place, odd, answer.text)
            answer.json()
            asked[answer.status_code] += 1
    for path in ASKED:
        assert studio.client.get(path).status_code < 500, path
    for kind in TYPES:
        for path in ("/api/jobs", "/api/files", "/api/boards", "/v1/images/edits"):
            answer = studio.client.post(path, content=b'\xff\xfe{"kind"', headers={"Content-Type": kind})
            assert 400 <= answer.status_code < 500, (kind, path, answer.text)
    for path in ("/api/jobs?limit=500", "/api/items", "/api/boards", "/api/datasets", "/api/drafts/a"):
        assert studio.client.get(path).status_code == 200, "what was accepted can be told"
    print(dict(asked))  # noqa: T201
    assert asked[422] > 500
    log = studio.log()
    assert "Traceback" not in log
    assert TOKEN not in log
    assert "xxxxxxxx" not in log, "nothing of what was asked is written down"


# -- what the document describes ---------------------------------------------------------------------------
def wishes(known: dict[str, list[str]]) -> st.SearchStrategy[dict[str, Any]]:
    """Jobs whose settings are mostly ones there are, of values that are mostly not."""
    plausible = (
        VALUES
        | st.integers(0, 100)
        | st.sampled_from(("none", "auto", "heun", "fox", "left:8", "2,3", "1e9"))
    )
    return st.fixed_dictionaries(
        {
            "kind": st.sampled_from(KINDS),
            "model": st.sampled_from(("emoji", "emoji", None, "nothing")),
            "settings": st.dictionaries(st.sampled_from(known["setting"]), plausible, max_size=4),
        },
        optional={
            "inputs": st.fixed_dictionaries(
                {}, optional={"image": st.sampled_from(known["file"]), "mask": st.sampled_from(known["file"])}
            ),
            "priority": st.integers(-10, 10),
            "deadline": st.floats(0.001, 1000),
            "parent": st.sampled_from(known["item"]),
            "board": st.sampled_from(known["board"]),
        },
    )


def things(studio: Server) -> dict[str, list[str]]:
    """Names of things that exist, by what paths call them."""
    client = studio.client
    for kind in ("boards", "datasets"):
        client.post(f"/api/{kind}", json={"name": f"one of the {kind}"})
    jobs = [studio.ended(studio.submit(sample(seed=k))) for k in range(4)]
    file = client.post("/api/files", content=png(1)).json()["id"]
    schemas = [
        client.get(f"/api/schema/{verb}").json() for verb in ("sample", "edit", "upscale", "restore", "train")
    ]
    names = [
        name
        for schema in schemas
        for name in (*schema["properties"], *schema["properties"].get("sampling", {}).get("properties", ()))
    ]
    return {
        "job": [job["id"] for job in jobs],
        "item": [job["result"]["items"][0]["id"] for job in jobs],
        "file": [file],
        "board": [board["id"] for board in client.get("/api/boards").json()["boards"]],
        "dataset": [it["id"] for it in client.get("/api/datasets").json()["datasets"]],
        "name": ["a-draft", "emoji", "run"],
        "model": ["emoji"],
        "setting": [
            *dict.fromkeys(names),
            "what",
            "base",
            "x",
            "y",
            "data",
            "source",
            "resume",
            "name",
            "preset",
        ],
    }


def varies(route: Any) -> bool:
    return bool(route.body) or any(route.iter_parameters())


def can_be_wrong(route: Any) -> bool:
    """Whether there is anything to get wrong: names in a path may be any text."""
    schemas = [parameter.definition.get("schema", {}) for parameter in route.iter_parameters()]
    return bool(route.body) or any(schema.keys() - {"title"} != {"type"} for schema in schemas)


class Fuzzer:
    """Asks, and keeps count: how often each status came for each route, and the request of every kind of fault."""

    def __init__(self, studio: Server) -> None:
        self.url = f"http://127.0.0.1:{studio.port}"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {TOKEN}"
        self.known, self.random = things(studio), Random(1)
        self.tally: dict[str, Counter[int]] = defaultdict(Counter)
        self.faults: dict[str, str] = {}

    def run(self, count: int) -> None:
        schema = schemathesis.openapi.from_url(f"{self.url}/openapi.json", headers=dict(self.session.headers))
        routes = [found.ok() for found in schema.get_all_operations()]
        routes = [route for route in routes if route.label != STREAM]
        plans = [(route, GenerationMode.POSITIVE) for route in routes if varies(route)]
        plans += [(route, GenerationMode.NEGATIVE) for route in routes if can_be_wrong(route)]
        each = -(-11 * count // (10 * (len(plans) + 2 * (MORE - 1))))  # some have fewer ways to ask
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for route in routes:
                self.attack(route, GenerationMode.POSITIVE, 1)
            for route, mode in plans:
                self.attack(route, mode, each * (MORE if route.label == JOBS else 1))

    def attack(
        self, route: schemathesis.APIOperation[Any, Any, Any], mode: GenerationMode, count: int
    ) -> None:
        """Asks so often, if there are as many ways to ask."""
        jobs = route.label == JOBS and mode is GenerationMode.POSITIVE

        @seed(1)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=route.as_strategy(generation_mode=mode), wish=wishes(self.known) if jobs else st.none())
        def one(case: schemathesis.Case, wish: dict[str, Any] | None) -> None:
            for name in case.path_parameters or {}:
                if name in self.known and self.random.random() < 0.6:
                    case.path_parameters[name] = self.random.choice(self.known[name])
            if jobs:
                case.body = wish
            if route.label == "POST /api/files" and self.random.random() < 0.5:
                case.body = png(self.random.randrange(99))
            self.ask(route.label, case)

        with suppress(Unsatisfiable):  # bytes are never wrong
            one()

    def ask(self, label: str, case: schemathesis.Case) -> None:
        answer = case.call(base_url=self.url, session=self.session)
        self.tally[label][answer.status_code] += 1
        try:
            case.validate_response(answer, checks=CHECKS)
        except BaseExceptionGroup as group:
            for fault in group.exceptions:
                kind = f"{label} {answer.status_code} {type(fault).__name__}"
                self.faults.setdefault(kind, f"{fault}\n{case.as_curl_command()}")


def table(tally: dict[str, Counter[int]]) -> str:
    codes = sorted({code for counts in tally.values() for code in counts})
    lines = ["| route | cases | " + " | ".join(map(str, codes)) + " |", "|---|" + "--:|" * (len(codes) + 1)]
    total: Counter[int] = Counter()
    for route, counts in tally.items():
        total += counts
        lines.append(
            f"| {route} | {counts.total()} | " + " | ".join(str(counts[code] or "") for code in codes) + " |"
        )
    lines.append(f"| all | {total.total()} | " + " | ".join(str(total[code]) for code in codes) + " |")
    return "\n".join(lines)


def check(studio: Server, count: int) -> None:
    fuzzer = Fuzzer(studio)
    fuzzer.run(count)
    tally, faults = fuzzer.tally, fuzzer.faults
    print(table(tally))  # noqa: T201
    for fault, request in faults.items():
        print(f"\n{fault}: {request}")  # noqa: T201
    assert list(faults) == []
    assert sum(counts.total() for counts in tally.values()) >= count, "too few cases were made"
    assert {code for counts in tally.values() for code in counts} >= {200, 201, 404, 422}
    assert studio.client.get("/ready").status_code == 200
    assert studio.ended(studio.submit(sample(priority=10)))["state"] == "done"


def test_no_request_is_answered_by_a_fault(studio: Server) -> None:
    check(studio, CASES)


@pytest.mark.slow
def test_no_request_of_very_many_is_answered_by_a_fault(studio: Server) -> None:
    check(studio, MANY)
