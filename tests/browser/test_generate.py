"""Generate: the flags in the prompt, and what can be done with a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from browsing import Studio, Visitor, fill_advanced
from serving import eventually

Job = dict[str, Any]


@pytest.fixture(scope="module")
def heart(studio: Studio) -> Job:
    """A picture to do something with."""
    return studio.make("red heart", steps=4, seed=7, n=2)[0]


@pytest.fixture
def asked(studio: Studio) -> Callable[[], Job]:
    """The next job that is handed in; it is called off at once."""
    known = {job["id"] for job in studio.get("/api/jobs")["jobs"]}

    def newest() -> Job:
        job: Job = eventually(
            lambda: next((job for job in studio.get("/api/jobs")["jobs"] if job["id"] not in known), None)
        )
        known.add(job["id"])
        studio.client.post(f"/api/jobs/{job['id']}/cancel")
        studio.ended(job["id"])
        return job

    return newest


def card(page: Page, item: Job) -> Locator:
    found = page.locator(f"[data-testid=card][data-item='{item['id']}']")
    found.hover()
    return found


def choose(page: Page, item: Job, name: str) -> None:
    """An entry of the picture's menu."""
    card(page, item).get_by_role("button", name="More actions").click()
    page.get_by_role("menuitem", name=name, exact=True).click()


# -- flags -------------------------------------------------------------------------------------------------
def test_flags_set_what_is_documented(page: Page, asked: Callable[[], Job]) -> None:
    flags = "--ar 3:2 --seed 7 --no text --chaos 20 --stylize 200 --n 4 --steps 6"
    page.get_by_test_id("prompt").fill(f"a red fox {flags}")
    says = {
        "ar": "sets size to 80x56",
        "seed": "sets seed to 7",
        "no": 'sets negative to "text"',
        "chaos": "sets guidance to 1 + (guidance - 1) × 0.8",
        "stylize": "sets guidance to 1 + (guidance - 1) × 2",
        "n": "makes 4 pictures",
        "steps": "sets steps to 6",
    }
    for name, words in says.items():
        chip = page.locator(f"[data-flag={name}]")
        expect(chip.get_by_role("tooltip", include_hidden=True)).to_contain_text(words)
        expect(chip.get_by_role("tooltip", include_hidden=True)).to_be_hidden()
        chip.hover()
        expect(chip.get_by_role("tooltip")).to_be_visible()
    page.get_by_test_id("generate").click()
    assert asked()["settings"] == {
        "prompt": "a red fox",
        "size": "80x56",
        "seed": 7,
        "negative": "text",
        "sampling.guidance": 2.6,  # 1 + (2 - 1) 0.8 2, where 2 is the model's own
        "n": 4,
        "sampling.steps": 6,
    }


WRONG = {
    "--seed x": '--seed takes a whole number from 0 to 9007199254740991; got "x"',
    "--seed -1": '--seed takes a whole number from 0 to 9007199254740991; got "-1"',
    "--seed 1 --seed 2": "--seed is given twice",
    "--ar 3:0": '--ar takes width:height, such as 3:2; got "3:0"',
    "--ar wide": '--ar takes width:height, such as 3:2; got "wide"',
    "--no": "--no takes what is not to be seen, in words; got nothing",
    "--chaos 101": '--chaos takes a whole number from 0 to 100; got "101"',
    "--n 65": '--n takes a whole number from 1 to 64; got "65"',
    "--sede 7": "no flag is called --sede. There are --ar, --seed",
    "--constructor 1": "no flag is called --constructor",
}


def test_wrong_flags_are_said(page: Page, studio: Studio) -> None:
    before = studio.get("/api/jobs", limit=1)
    generate = page.get_by_test_id("generate")
    for flag, reason in WRONG.items():
        page.get_by_test_id("prompt").fill(f"fox {flag}")
        expect(page.locator(".flag-error")).to_contain_text(reason)
        expect(generate).to_be_disabled()
        expect(generate).to_have_accessible_description("a flag in the prompt is not right")
        page.get_by_test_id("prompt").press("Control+Enter")
    page.get_by_test_id("prompt").fill("fox")
    expect(generate).to_be_enabled()
    assert studio.get("/api/jobs", limit=1) == before


def test_how_flags_are_read(page: Page) -> None:
    read = page.evaluate(
        """async (texts) => {
            const {parse, settingsOf} = await import("/ui/flags.js");
            const model = {size: [64, 64]};
            return texts.map((text) => {
                const {prompt, flags} = parse(text, model);
                return [prompt, settingsOf(flags, model, 3)];
            });
        }""",
        [
            "fox",
            "--n 2",
            "a well--known fox -- or two",
            "fox —seed 7",
            "fox --no text or frames --n 2",
            "fox --ar 8:1",
            "fox --chaos 100",
            "fox --stylize 1000",
            "fox --chaos 50 --stylize 50",
        ],
    )
    assert read == [
        ["fox", {}],
        ["", {"n": 2}],
        ["a well--known fox -- or two", {}],
        ["fox", {"seed": 7}],
        ["fox", {"negative": "text or frames", "n": 2}],
        ["fox", {"size": "184x24"}],
        ["fox", {"guidance": 1}],
        ["fox", {"guidance": 15}],
        ["fox", {"guidance": 1.5}],
    ]


def test_settings_and_seed(page: Page, asked: Callable[[], Job]) -> None:
    page.get_by_test_id("prompt").fill("fox")
    page.get_by_test_id("negative").fill("text")
    page.get_by_test_id("size").select_option(label="3:2, 80 × 56")
    page.get_by_role("button", name="One picture less").click()
    page.get_by_test_id("seed").fill("11")
    page.get_by_test_id("seed").blur()
    expect(page.get_by_test_id("seed-lock")).to_have_attribute("aria-pressed", "true")
    fill_advanced(page, "[name='sampling.steps']", "many")
    expect(page.get_by_test_id("generate")).to_be_disabled()
    page.locator("[name='sampling.steps']").fill("5")
    page.locator("[name='sampling.solver']").select_option("DDIM")
    page.get_by_test_id("generate").dblclick()
    wish = {"prompt": "fox", "negative": "text", "size": "80x56", "n": 3, "seed": 11}
    assert asked()["settings"] == wish | {"sampling.steps": 5, "sampling.solver": {"name": "DDIM"}}
    expect(page.get_by_test_id("queue-job")).to_have_count(0)  # the second click of the two asked for nothing

    page.get_by_test_id("seed-lock").click()
    page.get_by_test_id("generate").click()
    assert asked()["settings"]["seed"] != 11


def test_what_the_server_says_stands_at_its_field(page: Page, visitor: Visitor) -> None:
    page.get_by_test_id("size").select_option("custom")
    page.get_by_label("Width x height").fill("64000x64000")
    page.get_by_test_id("generate").click()
    expect(page.get_by_test_id("generate-error")).to_contain_text("pixels")
    visitor.forgive("422")


# -- pictures ----------------------------------------------------------------------------------------------
DERIVED = {
    "Vary subtly": ("edit", {"strength": 0.4, "n": 4}),
    "Vary strongly": ("edit", {"strength": 0.75, "n": 4}),
    "Upscale 2×": ("upscale", {"scale": 2, "n": 1}),
    "Extend left": ("edit", {"extend": "left:16", "n": 1}),
    "Extend right": ("edit", {"extend": "right:16", "n": 1}),
    "Extend up": ("edit", {"extend": "top:16", "n": 1}),
    "Extend down": ("edit", {"extend": "bottom:16", "n": 1}),
}


def test_others_from_a_picture(page: Page, asked: Callable[[], Job], heart: Job) -> None:
    for name, (kind, settings) in DERIVED.items():
        choose(page, heart, name)
        job = asked()
        assert (job["kind"], job["parent"], job["inputs"]["image"]) == (kind, heart["id"], heart["id"])
        assert job["settings"].items() >= (settings | {"prompt": "red heart"}).items()


def test_a_picture_to_start_from(page: Page, asked: Callable[[], Job], heart: Job) -> None:
    choose(page, heart, "Use as start")
    page.get_by_test_id("strength").fill("0.5")
    page.get_by_test_id("prompt").fill("blue heart")
    page.get_by_test_id("generate").click()
    job = asked()
    assert (job["kind"], job["parent"], job["inputs"]) == ("edit", heart["id"], {"image": heart["id"]})
    assert job["settings"].items() >= {"prompt": "blue heart", "strength": 0.5}.items()


def test_star_stays(page: Page, studio: Studio, heart: Job) -> None:
    for said, starred in (("Star", True), ("Remove star", False)):
        card(page, heart).get_by_role("button", name=said, exact=True).click()
        eventually(lambda wanted=starred: studio.get(f"/api/items/{heart['id']}")["starred"] is wanted)
        page.reload()


def test_delete_and_undo(page: Page, studio: Studio) -> None:
    [gone] = studio.make("banana", seed=3)
    choose(page, gone, "Delete")
    expect(page.locator(f"[data-item='{gone['id']}']")).to_have_count(0)
    assert studio.get(f"/api/items/{gone['id']}")["deleted"]
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(f"[data-item='{gone['id']}']")).to_have_count(1)
    assert studio.get(f"/api/items/{gone['id']}")["deleted"] is None


def test_download(page: Page, studio: Studio, heart: Job) -> None:
    with page.expect_download() as download:
        choose(page, heart, "Download")
    assert download.value.suggested_filename.endswith(".png")
    assert download.value.path().read_bytes() == studio.image(heart["id"])


def test_large_with_all_about_it(page: Page, studio: Studio, heart: Job) -> None:
    card(page, heart).locator(".picture").click()
    detail = page.get_by_test_id("detail")
    expect(detail.locator("dl")).to_contain_text("red heart")
    expect(detail.locator(".command")).to_contain_text("unstir sample emoji")
    number = detail.locator("figcaption small")
    before = number.inner_text()
    page.keyboard.press("ArrowRight" if before.startswith("1 ") else "ArrowLeft")
    expect(number).not_to_have_text(before)
    page.keyboard.press("Escape")
    expect(detail).to_have_count(0)
    expect(card(page, heart).locator(".picture")).to_be_focused()


def test_compare(page: Page, studio: Studio, heart: Job) -> None:
    wish = {"kind": "edit", "model": "emoji", "parent": heart["id"], "inputs": {"image": heart["id"]}}
    job = studio.submit(wish | {"settings": {"prompt": "blue heart", "strength": 0.8, "steps": 3}})
    [child] = studio.ended(job)["result"]["items"]
    assert child["parent"] == heart["id"]
    choose(page, child, "Compare")
    window = page.get_by_test_id("compare")
    expect(window.locator("img.before")).to_have_attribute("src", heart["url"])
    expect(window.locator("img.after")).to_have_attribute("src", child["url"])
    part = window.locator(".before-part")
    assert part.evaluate("(one) => one.style.clipPath") == "inset(0px 50% 0px 0px)"
    window.get_by_role("slider").press("End")
    assert part.evaluate("(one) => one.style.clipPath") == "inset(0px 0% 0px 0px)"

    # with any other picture
    page.keyboard.press("Escape")
    choose(page, heart, "Compare")
    card(page, child).locator(".picture").click()
    expect(window.locator("img.before")).to_have_attribute("src", heart["url"])


# -- X/Y plot ----------------------------------------------------------------------------------------------
def test_a_grid_of_two_settings(visitor: Visitor, studio: Studio) -> None:
    page = visitor.open("plot")
    page.get_by_test_id("plot-prompt").fill("red heart")
    page.get_by_test_id("columns-values").fill("1, x")
    expect(page.get_by_test_id("plot-draw")).to_be_disabled()
    page.get_by_test_id("columns-values").fill("1, 3")
    page.get_by_test_id("rows-setting").select_option("seed")
    page.get_by_test_id("rows-values").fill("5, 6")
    page.get_by_role("button", name="Draw 4 pictures").click()
    grid = page.get_by_test_id("plot-job").filter(has_text="steps 3").get_by_test_id("plot-grid")
    expect(grid.locator("thead th")).to_have_text(["steps 1", "steps 3"])
    expect(grid.locator("tbody th")).to_have_text(["seed 5", "seed 6"])
    cells = grid.locator("td .picture")
    expect(cells).to_have_count(4)
    cells.last.click()
    expect(page.get_by_test_id("detail").locator("dl")).to_contain_text("Seed6")
    page.keyboard.press("Escape")
    grid.get_by_test_id("plot-sheet").click()
    expect(page.get_by_test_id("detail").locator("dl")).to_contain_text("Columnssteps: 1, 3Rowsseed: 5, 6")
    assert studio.get("/api/items", kind="plot")["items"]
