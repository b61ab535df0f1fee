"""The description of the API: every route says what it does and shows how, for both forms of errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unstir.serve.app import make_app
from unstir.serve.core import Core
from unstir.serve.settings import Settings


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("described")
    _, app = make_app(Core(Settings(folder=folder, models=("emoji",), studio=True, runs=folder)))
    return app.openapi()


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_says_what_it_does(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        assert " " in operation["summary"], f"{name} needs a sentence"
        assert not operation["summary"].endswith("."), name
        assert operation["tags"], name


def test_every_json_body_has_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, operation in operations(document).items():
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None:
            schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
            properties = schema["properties"].values()
            assert "examples" in schema or any("examples" in one for one in properties), name


def test_errors_have_the_form_of_their_api(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        (content,) = operation["responses"]["401"]["content"].values()
        assert content["schema"]["$ref"].endswith("/OpenAIFault" if " /v1/" in name else "/Fault"), name
