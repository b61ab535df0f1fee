"""The body of an answer that is an error: our own, or under /v1 that which clients of OpenAI read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["in_form_of"]

OPENAI = "/v1/"
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def in_form_of(
    path: str, status: int, error: Mapping[str, Any]
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """(status, body, headers) of an error as the API at this path tells it."""
    if not path.startswith(OPENAI):
        return status, {"error": error}, {}
    status = 400 if status == 422 else status
    other = "server_error" if status >= 500 else "invalid_request_error"
    field = error["field"] and error["field"].rpartition(".")[2]
    # its clients show the message alone
    message = "; ".join(text for text in (error["message"], error["hint"]) if text)
    told = {"message": message, "type": TYPES.get(status, other), "param": field, "code": error["code"]}
    # unless told not to, they ask twice more for what has failed
    return status, {"error": told}, {} if status == 429 else {"x-should-retry": "false"}
