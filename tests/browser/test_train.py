"""Train: from data to a model that can be tried, on the page alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect

from browsing import Studio, Visitor, fill_advanced


def start(page: Page, data: str, name: str, **settings: Any) -> None:
    page.locator(f"[data-source={data}]").click()
    for setting, value in settings.items():
        fill_advanced(page, f"[name='{setting}'], [name='training.{setting}']", str(value))
    page.get_by_label("Name of the model").fill(name)
    page.get_by_role("button", name="Start training").click()


def test_digits_from_the_page(visitor: Visitor, studio: Studio) -> None:
    page = visitor.open("train")
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()
    page.locator("[data-source=digits]").click()
    report = page.get_by_label("Data report")
    expect(report).to_contain_text("To learn from")
    expect(report.get_by_role("list", name="Pictures per class").get_by_role("listitem")).to_have_count(10)
    expect(report).to_contain_text("No problems found")

    # while it trains
    start(page, "digits", "small-digits", steps=30, batch=16, preview_every=15, heldout_every=15)
    run = page.get_by_label("Run small-digits")
    expect(run.get_by_role("heading", name="small-digits")).to_be_visible()
    expect(run.get_by_role("img", name="loss over step. training from")).to_be_visible()
    samples = run.get_by_role("group", name="Samples of small-digits")
    expect(samples.get_by_role("img")).to_be_visible()

    # when it is done
    expect(run.get_by_text("done", exact=True)).to_be_visible()
    expect(run).to_contain_text("30 of 30")
    expect(run.get_by_role("img", name="loss over step. training from")).to_have_accessible_name(
        re.compile("held out from")
    )
    expect(run.get_by_role("img", name="loss over time t. step 15 from")).to_be_visible()
    slider = samples.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuetext", "step 30")
    slider.press("Home")
    expect(samples.get_by_role("img")).to_have_attribute(
        "src", re.compile("/api/runs/small-digits/samples/15")
    )

    # and then
    run.get_by_role("button", name="Try it").click()
    expect(page.get_by_test_id("model-picker")).to_have_accessible_name("Model: small-digits")
    page.get_by_test_id("class").select_option("3")
    page.get_by_test_id("generate").click()
    expect(page.get_by_test_id("group").first.get_by_test_id("card")).to_have_count(4)
    newest = studio.get("/api/items", limit=1)["items"][0]
    assert (newest["model"], newest["width"]) == ("small-digits", 8)


def test_pause_and_go_on(visitor: Visitor, studio: Studio) -> None:
    page = visitor.open("train")
    start(page, "digits", "paused", steps=4000, batch=8, preview_every=10000)
    run = page.get_by_label("Run paused")
    expect(run.get_by_role("img", name="loss over step")).to_be_visible()
    run.get_by_role("button", name="Pause").click()
    expect(run.get_by_text("paused", exact=True).last).to_be_visible()
    page.reload()
    run.get_by_role("button", name="Resume").click()
    expect(run.get_by_text("running", exact=True)).to_be_visible()
    run.get_by_role("button", name="Pause").click()
    expect(run.get_by_role("button", name="Resume")).to_be_visible()
    assert {job["kind"] for job in studio.get("/api/jobs", limit=2)["jobs"]} == {"train"}
    assert studio.get("/api/runs/paused")["step"] > 0


def test_a_folder_of_ones_own(visitor: Visitor, studio: Studio, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    for k in range(40):
        place = folder / ("cats" if k % 2 else "dogs") / f"{k}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").resize((16, 16)).rotate(9 * k).convert("RGB").save(place)
    (folder / "cats" / "broken.png").write_bytes(b"not a picture")
    (folder / "notes.md").write_text("not for training")
    page = visitor.open("train")
    page.get_by_label("Choose a folder of pictures").set_input_files(folder)
    report = page.get_by_label("Data report")
    expect(report.get_by_role("list", name="Problems")).to_contain_text("cats/broken.png")
    bars = report.get_by_role("list", name="Pictures per class").get_by_role("listitem")
    expect(bars).to_have_count(2)
    expect(bars.first).to_contain_text("cats")
    [data] = studio.get("/api/datasets")["datasets"]
    assert (data["name"], data["count"]) == ("pets", 41)
    expect(page.get_by_role("button", name="pets 41 pictures")).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(page.get_by_role("list", name="Problems")).to_contain_text("cats/broken.png")


def test_what_is_wrong_is_said(visitor: Visitor) -> None:
    page = visitor.open("train")
    start(page, "digits", "wrong", codec="no-such-run")
    expect(page.get_by_role("alert")).to_contain_text("no-such-run")
    visitor.forgive("404", "422")
