"""Start the studio, measure how soon it is ready and draws, and take the pictures of docs/studio.md.

    python tools/screenshots.py [--out docs/studio] [--only edit plot]

A few minutes on two cores; the times mean something where nothing else runs.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browsing import PHONE, Studio, Visitor, browser  # noqa: E402

PROMPTS = (
    *(
        "whale",
        "pig",
        "mushroom",
        "pineapple",
        "frog",
        "teddy bear",
        "red car",
        "cherry blossom",
        "tomato",
        "crab",
    ),
    *(
        "turtle",
        "green dragon",
        "unicorn",
        "cactus",
        "rainbow",
        "strawberry",
        "octopus",
        "owl",
        "robot",
        "sunflower",
    ),
    *(
        "ghost",
        "rocket",
        "jack-o-lantern",
        "watermelon",
        "penguin",
        "purple grapes",
        "yellow sun",
        "orange swan",
    ),
    *("blue heart", "birthday cake", "snowman", "fox", "green apple", "red heart", "panda"),
)
"""A picture of each, the last one on top."""
LARGEST = 300_000
"""Bytes of a picture; a larger one makes do with 256 colours."""


class Session:
    """A studio with pictures in it, and the pages that show them."""

    def __init__(self, studio: Studio, opened: Browser, out: Path) -> None:
        self.studio, self.out = studio, out
        self.visitor = Visitor(opened, studio)

    @contextmanager
    def page(self, place: str, **options: Any) -> Iterator[Page]:
        usual = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}
        page = self.visitor.open(place, **usual | options)
        yield page
        page.context.close()
        self.studio.forget()

    def shoot(self, page: Page, name: str) -> None:
        """Without the pointer over anything, nor a ring around what was used last."""
        page.mouse.move(page.viewport_size["width"] - 2, 2)
        page.evaluate("() => document.activeElement.blur()")
        page.wait_for_timeout(700)
        picture = Image.open(io.BytesIO(page.screenshot(caret="hide"))).convert("RGB")
        path = self.out / f"{name}.png"
        picture.save(path, optimize=True)
        if path.stat().st_size > LARGEST:
            picture.quantize(256, kmeans=3, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{name:16} {path.stat().st_size / 1000:.0f} kB")


# -- screens -----------------------------------------------------------------------------------------------
def generate(session: Session) -> None:
    phone = {"viewport": PHONE, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
    session.studio.make("fox", seed=5, n=4, steps=20)
    shot(session, "generate", "orange swan --seed 6 --no text --steps 120")
    shot(
        session,
        "generate-dark",
        "birthday cake --ar 1:1 --seed 1 --chaos 20 --steps 120",
        color_scheme="dark",
    )
    shot(session, "generate-phone", "snowman --seed 4 --steps 120", **phone)


def shot(session: Session, name: str, prompt: str, **options: Any) -> None:
    """While it draws."""
    with session.page("generate", **options) as page:
        page.get_by_test_id("prompt").fill(prompt)
        page.get_by_test_id("generate").click()
        page.get_by_test_id("preview").nth(3).wait_for()
        page.wait_for_timeout(1500)
        session.shoot(page, name)
        for job in session.studio.get("/api/jobs", state="queued,running")["jobs"]:
            session.studio.ended(job["id"])


def edit(session: Session) -> None:
    [apple] = session.studio.get("/api/items", q="green apple")["items"]
    with session.page(f"edit?item={apple['id']}") as page:
        page.get_by_label("Prompt").fill("a red apple")
        box = page.get_by_role("application").bounding_box()
        assert box is not None
        page.get_by_role("slider", name="Brush size").fill("24")
        left, top = box["x"] + box["width"] / 2 - 288, box["y"] + box["height"] / 2 - 288
        path = ((0.3, 0.42), (0.27, 0.6), (0.4, 0.75), (0.6, 0.75), (0.72, 0.6), (0.68, 0.42), (0.5, 0.6))
        for number, (across, down) in enumerate(path):
            page.mouse.move(left + 576 * across, top + 576 * down, steps=12)
            if number == 0:
                page.mouse.down()
        page.mouse.up()
        session.shoot(page, "edit")


def gallery(session: Session) -> None:
    board = session.studio.client.post("/api/boards", json={"name": "Favourites"}).json()["id"]
    session.studio.client.post("/api/boards", json={"name": "For the party"})
    items = session.studio.get("/api/items", limit=48)["items"]
    for item in items[::5]:
        session.studio.client.patch(f"/api/items/{item['id']}", json={"starred": True, "board": board})
    with session.page("gallery") as page:
        page.get_by_test_id("tile").nth(20).wait_for()
        session.shoot(page, "gallery")


def plot(session: Session) -> None:
    with session.page("plot") as page:
        page.get_by_test_id("plot-prompt").fill("octopus")
        page.get_by_test_id("columns-values").fill("1, 2, 4, 8, 16")
        page.get_by_test_id("rows-setting").select_option("guidance")
        page.get_by_test_id("rows-values").fill("1, 2, 6")
        page.get_by_test_id("plot-draw").click()
        page.get_by_test_id("plot-grid").wait_for(timeout=120_000)
        session.shoot(page, "plot")


def train(session: Session) -> None:
    with session.page("train") as page:
        page.locator("[data-source=digits]").click()
        page.locator("summary").click()
        for name, value in (("steps", 1500), ("preview_every", 100), ("heldout_every", 100)):
            page.locator(f"[name='training.{name}']").fill(str(value))
        page.get_by_label("Name of the model").fill("digits-small")
        page.get_by_role("button", name="Start training").click()
        run = page.get_by_label("Run digits-small")
        run.get_by_role("group").get_by_text("step 1,300").wait_for(timeout=240_000)
        session.shoot(page, "train")
        run.get_by_text("done", exact=True).wait_for(timeout=240_000)


def understand(session: Session) -> None:
    with session.page("understand?what=distribution", reduced_motion="reduce") as page:
        movie = page.locator(".player").nth(1)
        movie.wait_for()
        for player, share in ((page.locator(".player").first, 0.35), (movie, 0.8)):
            slider = player.get_by_role("slider")
            slider.fill(str(round(share * int(slider.get_attribute("max") or 0))))
        session.shoot(page, "understand")


SCREENS = {
    "gallery": gallery,
    "edit": edit,
    "plot": plot,
    "generate": generate,
    "train": train,
    "understand": understand,
}


def first_picture(session: Session) -> float:
    """Seconds from the click to the first picture, of a server that has drawn nothing yet."""
    with session.page("generate") as page:
        page.get_by_test_id("prompt").fill("red heart --n 1")
        page.get_by_test_id("generate").click()
        begun = time.perf_counter()
        page.get_by_test_id("card").first.wait_for()
        return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "studio")
    parser.add_argument("--only", nargs="*", choices=SCREENS, default=list(SCREENS))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser() as opened:
        begun = time.perf_counter()
        studio = Studio(Path(folder))
        ready = time.perf_counter() - begun
        try:
            session = Session(studio, opened, given.out)
            print(f"ready            {ready:.2f} s")
            print(f"first picture    {first_picture(session):.2f} s after the click")
            for prompt in PROMPTS:
                studio.make(prompt, seed=3 + PROMPTS[::-1].index(prompt), steps=20)
            for name in given.only:
                SCREENS[name](session)
        finally:
            studio.close()


if __name__ == "__main__":
    main()
