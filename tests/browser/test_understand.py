"""Understand: all six subjects are drawn, and a slider changes what the library itself computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from browsing import SUBJECTS, Studio, Visitor
from serving import eventually
from unstir.process import BetaLinear

DRAWN = {
    "forward": (".player img", ".chart canvas"),
    "schedule": (".chart canvas", "table"),
    "distribution": ("canvas.plane", "table"),
    "trajectory": (".player img",),
    "solvers": (".chart canvas", "table"),
    "attention": (".player img, figure img.pixels",),
}


def lesson(page: Page) -> Locator:
    """The explanation, once it is computed."""
    found = page.get_by_role("region", name="Explanation")
    expect(found).to_have_attribute("aria-busy", "false")
    expect(found.locator("h2")).to_be_visible()
    return found


QUICK: dict[str, dict[str, Any]] = {
    "forward": {"frames": 4},
    "schedule": {"steps": 100},
    "distribution": {"steps": 4, "particles": 50},
    "trajectory": {"n": 4, "steps": 2},
    "solvers": {"solvers": [{"name": "DDIM"}, {"name": "Heun"}], "steps": [2, 4]},
    "attention": {"steps": 2},
}


@pytest.mark.parametrize("what", SUBJECTS)
def test_it_is_drawn(visitor: Visitor, studio: Studio, what: str) -> None:
    studio.fill(f"understand-{what}", {"model": None, "settings": QUICK[what], "image": None, "name": None})
    page = visitor.open(f"understand?what={what}")
    found = lesson(page)
    for drawing in DRAWN[what]:
        expect(found.locator(drawing).first).to_be_visible()
    for movie in found.get_by_role("group").all():
        movie.get_by_role("slider").press("End")
        expect(movie.locator(".player-frame > *").first).to_be_visible()
    blank = "one => !one.getContext('2d').getImageData(0, 0, one.width, one.height).data.some(Boolean)"
    for canvas in found.locator("canvas").all():
        eventually(lambda one=canvas: not one.evaluate(blank))


def numbers(page: Page) -> list[list[str]]:
    rows: list[list[str]] = (
        lesson(page)
        .locator(".table-scroll tbody tr")
        .evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.textContent))")
    )
    return rows


def kept(studio: Studio, what: str) -> dict[str, Any]:
    """The settings that the sliders stand at, once the page has stored them."""
    draft = eventually(lambda: studio.get(f"/api/drafts/understand-{what}")["value"])
    return dict(draft["value"]["settings"])


def test_a_slider_computes_it_anew(visitor: Visitor, studio: Studio) -> None:
    page = visitor.open("understand?what=schedule")
    before = numbers(page)
    check(before, BetaLinear(), 1000)

    slider = page.locator("[name='schedule.beta_T']")
    slider.focus()
    for _ in range(3):
        slider.press("PageDown")
    eventually(lambda: numbers(page) != before)
    beta = kept(studio, "schedule")["schedule"]["beta_T"]
    assert beta != BetaLinear().beta_T
    check(numbers(page), BetaLinear(beta_T=beta), 1000)

    page.get_by_role("button", name="Reset").click()
    eventually(lambda: numbers(page) == before)


def check(rows: list[list[str]], schedule: BetaLinear, steps: int) -> None:
    """The table shows what the schedule says: k, t, beta, alpha-bar, alpha, sigma, log-SNR."""
    for k, t, _, alpha_bar, alpha, sigma, _ in rows:
        time = torch.tensor(int(k.replace(",", "")) / steps, dtype=torch.float64)
        assert float(t) == pytest.approx(float(time))
        for shown, wanted in (
            (alpha, schedule.alpha(time)),
            (alpha_bar, schedule.alpha(time) ** 2),
            (sigma, schedule.sigma(time)),
        ):
            assert float(shown) == pytest.approx(float(wanted), rel=2e-3, abs=1e-9)


def test_ones_own_picture(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.open("understand?what=forward")
    frame = lesson(page).locator(".player img").first
    frame.evaluate("one => one.closest('.player').querySelector('input').stepDown(99)")
    before = frame.get_attribute("src")
    own = tmp_path / "<b>own.png"
    Image.linear_gradient("L").resize((32, 32)).convert("RGB").save(own)
    page.get_by_label("Your own picture").set_input_files(own)
    expect(page.get_by_text("Picture: <b>own.png")).to_be_visible()
    expect(frame).not_to_have_attribute("src", before or "")
    page.reload()
    expect(page.get_by_text("Picture: <b>own.png")).to_be_visible()


def test_a_wrong_setting_is_said(visitor: Visitor) -> None:
    page = visitor.open("understand?what=no-such-thing")
    expect(lesson(page).locator("h2")).to_be_visible()  # the first subject instead
