"""The real client of OpenAI against a real server: pictures from the shipped model, every fault from the stub."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from serving import Server, eventually, server

QUICK = {"steps": 2, "seed": 5}


def client_of(running: Server, **more: Any) -> openai.OpenAI:
    token = running.client.headers["Authorization"].partition(" ")[2]
    given = {"api_key": token, "max_retries": 0, "timeout": 60} | more
    return openai.OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", **given)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("real")
    with server(folder, "-m", "unstir", "serve", "emoji", "port=0", f"folder={folder}") as running:
        yield running


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("stub"), queue=1, samples=8, wait=2.0) as running:
        yield running


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


def png(mode: str = "RGB", colour: Any = (200, 30, 30), size: tuple[int, int] = (64, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def holed(box: tuple[int, int, int, int]) -> bytes:
    """Black, but transparent in a box."""
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    picture.paste((0, 0, 0, 0), box)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def torn(content: bytes) -> bytes:
    """With a head that can be read, and pixels that cannot."""
    place = content.index(b"IDAT") + 6
    return content[:place] + bytes(8) + content[place + 8 :]


def contents(made: Any) -> list[bytes]:
    return [base64.b64decode(picture.b64_json) for picture in made.data]


# -- pictures ----------------------------------------------------------------------------------------------
def test_generations_are_the_pictures_of_a_job(real: Server) -> None:
    made = client_of(real).images.generate(model="gpt-image-1", prompt="red heart", n=2, extra_body=QUICK)
    settings = {"prompt": "red heart", "n": 2, "steps": 2, "seed": 5}
    job = real.ended(real.submit({"kind": "sample", "model": "emoji", "settings": settings}))
    same = [real.client.get(item["url"]).content for item in job["result"]["items"]]
    assert contents(made) == same
    assert [picture.seed for picture in made.data] == [5, 6]
    assert pixels(same[0]).shape == (64, 64, 3)


def test_a_url_opens_with_the_token(real: Server) -> None:
    made = client_of(real).images.generate(model="dall-e-2", prompt="sun", size="48x32", extra_body=QUICK)
    (picture,) = made.data
    assert picture.b64_json is None
    assert httpx.get(picture.url).status_code == 401
    assert pixels(real.client.get(picture.url).content).shape == (32, 48, 3)


def test_an_edit_changes_what_is_transparent_and_nothing_else(real: Server) -> None:
    image, hole = png(), (slice(8, 24), slice(16, 48))
    made = client_of(real).images.edit(
        image=image, mask=holed((16, 8, 48, 24)), prompt="heart", extra_body=QUICK
    )
    changed = (pixels(contents(made)[0]) != pixels(image)).any(-1)
    assert changed[hole].mean() > 0.5
    changed[hole] = False
    assert not changed.any()


def test_an_edit_without_a_mask_changes_all_of_it(real: Server) -> None:
    made = client_of(real).images.edit(
        image=[("a.png", png())], prompt="heart", size="64x64", extra_body=QUICK
    )
    assert (pixels(contents(made)[0]) != pixels(png())).any(-1).mean() > 0.9


@pytest.mark.filterwarnings("ignore:deprecated")
def test_variations_differ(real: Server) -> None:
    start = contents(client_of(real).images.generate(prompt="red heart", extra_body=QUICK))[0]
    made = client_of(real).images.create_variation(image=start, n=2, extra_body={"steps": "4"})
    first, second = map(pixels, contents(made))
    assert (first != second).any()
    jobs = real.client.get("/api/jobs").json()["jobs"]
    assert (jobs[0]["kind"], jobs[0]["settings"]["strength"]) == ("edit", 0.6)


def test_quality_and_style_set_steps_and_guidance(stub: Server) -> None:
    client_of(stub).images.generate(prompt="heart", quality="high", style="vivid")
    settings = stub.client.get("/api/jobs").json()["jobs"][0]["settings"]
    assert (settings["steps"], settings["guidance"]) == (40, 3.0)


def test_models_are_listed(stub: Server) -> None:
    client = client_of(stub)
    assert [model.id for model in client.models.list()] == ["emoji"]
    assert client.models.retrieve("emoji").owned_by == "unstir"


# -- faults ------------------------------------------------------------------------------------------------
def test_a_wrong_token(stub: Server) -> None:
    with pytest.raises(openai.AuthenticationError) as told:
        client_of(stub, api_key="guess").images.generate(prompt="heart")
    assert told.value.code == "token"


def test_an_unknown_model(stub: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'emoji'") as told:
        client_of(stub).images.generate(model="emojy", prompt="heart")
    assert (told.value.code, told.value.param) == ("missing", "model")


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"n": 9}, "n"),
        ({"n": 0}, "n"),
        ({"size": "huge"}, "size"),
        ({"size": "1x1"}, "size"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "webp"}, "output_format"),
        ({"stream": True}, "stream"),
        ({"partial_images": 2}, "partial_images"),
        ({"extra_body": {"steps": 0}}, "steps"),
        ({"extra_body": {"label": "cat"}}, "label"),
        ({"prompt": "refuse"}, "prompt"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_named(stub: Server, given: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as told:
        client_of(stub).images.generate(**{"prompt": "heart"} | given)
    assert told.value.param == param
    assert told.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"image": b"no picture"}, "no picture that can be read"),
        ({"image": png(), "mask": png()}, "nothing of the mask is transparent"),
        ({"image": png(), "mask": torn(holed((0, 0, 9, 9)))}, "damaged"),
        ({"image": png(size=(4100, 4100))}, "at most"),
        ({"image": [png(), png()]}, "more than one image"),
        ({"image": png(), "size": "128x128"}, "that of the picture 64x64"),
    ],
    ids=["none", "opaque", "damaged", "large", "two", "size"],
)
def test_a_bad_picture(stub: Server, given: dict[str, Any], says: str) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as told:
        client_of(stub).images.edit(**{"prompt": "heart"} | given)
    assert told.value.param in ("image", "mask", "size")


def test_a_form_of_too_many_parts(stub: Server) -> None:
    many = [("image", (f"{k}.png", png(), "image/png")) for k in range(3)]
    answer = stub.client.post("/v1/images/edits", files=many)
    assert answer.status_code == 400
    assert "Too many files" in answer.json()["error"]["message"]
    answer = stub.client.post("/v1/images/variations", data={f"x{k}": "1" for k in range(40)}, files=many[:1])
    assert "Too many fields" in answer.json()["error"]["message"]
    answer = stub.client.post("/v1/images/variations", content=b"--x", headers={"Content-Type": "text/plain"})
    assert answer.json()["error"]["param"] == "image"


def test_a_fault_is_not_asked_for_again(stub: Server) -> None:
    before = len(stub.client.get("/api/jobs").json()["jobs"])
    with pytest.raises(openai.InternalServerError) as told:
        client_of(stub, max_retries=2).images.generate(prompt="fail")
    assert told.value.type == "server_error"
    assert len(stub.client.get("/api/jobs").json()["jobs"]) == before + 1


def test_an_unknown_path_is_told_in_their_form(stub: Server) -> None:
    assert set(stub.client.post("/v1/chat/completions").json()["error"]) == {
        "message",
        "type",
        "param",
        "code",
    }


def newest(stub: Server) -> dict[str, Any]:
    found: dict[str, Any] = stub.client.get("/api/jobs?limit=1").json()["jobs"][0]
    return found


def test_who_leaves_calls_the_job_off(stub: Server) -> None:
    with pytest.raises(openai.APITimeoutError):
        client_of(stub, timeout=0.5).images.generate(prompt="sleep 30")
    job = eventually(lambda: one if (one := newest(stub))["state"] == "cancelled" else None)
    assert job["error"]["message"] == "nobody waits for it any more"
    assert client_of(stub).images.generate(prompt="heart").data  # the worker is free


def test_what_takes_too_long_is_called_off(stub: Server) -> None:
    with pytest.raises(openai.InternalServerError) as told:
        client_of(stub).images.generate(prompt="sleep 30")
    assert told.value.status_code == 503
    assert stub.ended(newest(stub)["id"])["state"] in ("cancelled", "failed")


def test_a_full_queue_says_when_to_come_back(stub: Server) -> None:
    wish = {"kind": "sample", "model": "emoji", "settings": {"prompt": "sleep 30"}}
    running = stub.submit(wish)
    stub.running(running)
    waiting = stub.submit(wish)
    with pytest.raises(openai.RateLimitError) as told:
        client_of(stub).images.generate(prompt="heart")
    assert int(told.value.response.headers["Retry-After"]) >= 1
    for job in (running, waiting):
        stub.client.post(f"/api/jobs/{job}/cancel")
        stub.ended(job)


def test_a_server_that_stops_lets_its_clients_ask_again(tmp_path: Path) -> None:
    with server(tmp_path, drain=0.2) as stopping:
        client = client_of(stopping)
        told: list[BaseException] = []

        def ask() -> None:
            try:
                client.images.generate(prompt="sleep 30")
            except openai.OpenAIError as error:
                told.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        eventually(lambda: stopping.client.get("/api/jobs?state=running").json()["jobs"])
        assert stopping.stop() == 0
        asking.join(10)
    assert isinstance(told[0], openai.RateLimitError)
