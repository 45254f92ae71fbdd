"""The viewer's page, as a user sees it in a real browser."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.run_dir import RunDirectory
from tests.chromium import Page, browser, open_page
from tests.viewer_run import UPDATES, make_run, metrics_record

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path: Path, videos: list[Path]) -> RunDirectory:
    return make_run(tmp_path / "runs" / "first", videos, own_rewards=["names_it"])


@pytest.fixture
def address(run: RunDirectory) -> Iterator[str]:
    """The command as a user types it."""
    command = [sys.executable, str(ROOT / "launch.py"), "view", str(run.path), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=run.path)
    try:
        assert process.stdout is not None
        yield next(word for word in process.stdout.readline().split() if word.startswith("http://"))
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.skipif(browser() is None, reason="no Chromium on PATH")
def test_a_user_clicks_through_all_views(
    address: str, run: RunDirectory, videos: list[Path], tmp_path: Path
) -> None:
    with open_page(tmp_path / "profile") as page:
        page.open(address)
        page.wait(ready("curves"))
        page.wait("document.querySelector('[data-metric=\"reward/total\"] .latest').textContent === '1.3'")
        check_cards(page)
        check_downloads(page, tmp_path / "downloads")
        page.click("#tabs button:nth-child(2)")
        page.wait(ready("videos"))
        page.wait("document.querySelectorAll('.answers tbody tr').length === 3")
        page.wait("document.querySelectorAll('.frame').length === 8")
        check_videos(page, videos)
        page.press("3")
        page.wait(ready("ranking"))
        page.wait("document.querySelectorAll('.misses tbody tr').length === 6")
        page.wait("document.querySelectorAll('.clip .frame').length === 4")
        page.click(f".misses [data-video='{videos[3].stem}']")
        page.wait(f"document.querySelector('.clip h2').textContent === '{videos[3].stem}'")
        page.press("ArrowLeft")
        page.wait("document.querySelector('#version').value === '0'")
        page.press("4")
        page.wait(ready("fleet"))
        page.wait("document.querySelectorAll('.workers tbody tr').length === 2")
        check_shell(page, run)
        assert page.problems == []


def ready(view: str) -> str:
    return f"document.querySelector('main').dataset.ready === '{view}'"


def check_cards(page: Page) -> None:
    """Sections and titles come from the metric table, and the rewards from the run's record."""
    headings = page.evaluate("[...document.querySelectorAll('.sections h2')].map((e) => e.textContent)")
    assert headings == ["Rewards", "Held-out", "Answers", "Speed"]
    titles = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.card')]"
        ".map((e) => [e.dataset.metric, e.querySelector('h3').textContent]))"
    )
    assert {name: titles[name] for name in ("reward/names_it", "rollout/tokens", "sync/s")} == {
        "reward/names_it": "Names it",
        "rollout/tokens": "Sampled tokens",
        "sync/s": "Weight sync, s",
    }


def check_downloads(page: Page, folder: Path) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    for button, name in (("numbers", "total-reward.csv"), ("picture", "total-reward.png")):
        page.click(f"[data-metric='reward/total'] button[title={button}]")
        deadline = time.monotonic() + 30
        while not (folder / name).exists():
            assert time.monotonic() < deadline, page.problems
            time.sleep(0.1)
    assert (folder / "total-reward.csv").read_text() == "version,first\n1,1\n2,1.1\n3,1.2\n4,1.3\n"
    assert (folder / "total-reward.png").read_bytes().startswith(b"\x89PNG")


def check_videos(page: Page, videos: list[Path]) -> None:
    assert "onerror" in page.evaluate("document.querySelector('.answers').textContent")
    assert page.evaluate("document.querySelectorAll('main img').length") == 0, "texts of models are no HTML"
    number = "document.querySelector('.update-number').textContent"
    page.press("ArrowLeft")
    page.wait(f"{number} === 'update 2 → version 3'")
    page.press("ArrowDown")
    page.wait(f"document.querySelector('.group h2').textContent === '{videos[1].stem}'")
    page.click(".answer-tabs button:nth-child(2)")
    page.wait("document.querySelectorAll('.answers th').length === 3")
    page.click(".history tr.link:last-child")
    page.wait(f"{number} === 'update 0 → version 1'")
    page.press("End")
    page.wait(f"{number} === 'update 3 → version 4'")


def check_shell(page: Page, run: RunDirectory) -> None:
    theme = "document.documentElement.dataset.theme"
    before = page.evaluate(theme)
    page.click("#theme")
    page.wait(f"{theme} !== '{before}'")
    page.press("?")
    page.wait("document.querySelector('#help').open")
    page.press("2")
    page.press("Escape")
    page.wait("!document.querySelector('#help').open")
    page.wait(ready("fleet"))
    page.press("1")
    page.wait(ready("curves"))
    run.append("metrics", metrics_record(UPDATES))
    page.wait("document.querySelector('[data-metric=\"reward/total\"] .latest').textContent === '1.4'")
