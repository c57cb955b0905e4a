"""A head's report in a real headless browser: it asks for nothing, fits a phone, and can be read in light and dark."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import report_world as world
from browser import Page, browser

from featstore import reports

pytestmark = pytest.mark.heavy

TASKS = ("classification", "upright", "many", "texts", "multilabel", "regression", "hostile")
every_page = pytest.mark.parametrize("name", TASKS)

EVIL = "</script><script>window.ran=1</script><img src=x onerror=window.ran=2><svg onload=window.ran=3>" + "w" * 300


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each kind of report."""
    found = tmp_path_factory.mktemp("reports")
    for name, text in _pages().items():
        (found / f"{name}.html").write_text(text, "utf-8")
    return found


def _pages() -> dict[str, str]:
    pictures = {"previews": world.thumbnails, "modality": "image", "model_card": world.model_card()}
    words = {"previews": world.beginnings, "modality": "text", "model_card": world.model_card("text")}
    upright = tuple(f"a rather long name {at}" for at in range(12))
    many = tuple(f"topic {at}" for at in range(90))
    evil = (EVIL, "b")
    several = world.card(world.NAMES[:5], task="multilabel", metrics={"mAP": world.around(0.8)}, conformal=None)
    number = world.card(
        (), task="regression", metrics={"r2": world.around(0.9), "mae": world.around(1.6)}, conformal=None,
        classes_figures=(), shots=(),
    )  # fmt: skip
    hostile = world.frame(evil, sure=1.0, planted=20).with_columns(item_id=pl.concat_str(pl.lit(EVIL), "item_id"))
    return {
        "classification": reports.render(world.card(), world.frame(planted=5), **pictures),
        "upright": reports.render(world.card(upright), world.frame(upright, 1500, sure=2.0), **pictures),
        "many": reports.render(world.card(many), world.frame(many, 2000, sure=2.0), **pictures),
        "texts": reports.render(world.card(), world.frame(), **words),
        "multilabel": reports.render(several, world.labels_frame(), **pictures),
        "regression": reports.render(number, world.numbers_frame(3000), **pictures),
        "hostile": reports.render(
            world.card(evil, head=EVIL, table=EVIL, label=EVIL, warnings=(EVIL,)),
            hostile,
            previews=lambda contents: dict.fromkeys(contents, EVIL.encode()),
            modality="text",
        ),
    }


@every_page
def test_nothing_is_asked_for_and_nothing_complains(tab, folder, name):
    tab.look()
    tab.open(folder / f"{name}.html")
    tab.run("new Promise((done) => setTimeout(done, 100))")
    asked = [event["request"]["url"] for event in tab.named("Network.requestWillBeSent")]
    assert asked[0] == (folder / f"{name}.html").as_uri()
    assert all(url.startswith("data:") for url in asked[1:]), asked
    for event in (
        "Runtime.exceptionThrown",
        "Runtime.consoleAPICalled",
        "Log.entryAdded",
        "Page.javascriptDialogOpening",
    ):
        assert not tab.named(event)
    assert tab.run("window.ran") is None
    assert tab.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


@every_page
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_a_page_fits_its_window_and_its_charts_have_size(tab, folder, name, width):
    tab.look(width=width, height=844)
    tab.open(folder / f"{name}.html")
    assert tab.run("document.documentElement.scrollWidth") <= width
    charts = tab.run(
        """[...document.querySelectorAll("svg.chart")].map((svg) => {
          const box = svg.getBoundingClientRect(), whole = svg.viewBox.baseVal;
          const out = [...svg.querySelectorAll("text")].filter((text) => {
            const inner = text.getBBox();
            return inner.x < -1 || inner.x + inner.width > whole.width + 1 || inner.y < -1 ||
              inner.y + inner.height > whole.height + 1;
          });
          return { name: svg.getAttribute("aria-labelledby"), width: box.width, height: box.height, right: box.right,
            out: out.map((text) => text.textContent), size: 12.5 * box.width / whole.width };
        })"""
    )
    assert len(charts) >= 3
    for chart in charts:
        assert chart["width"] > min(250, width * 0.7), chart
        assert chart["height"] > 10, chart
        assert chart["right"] <= width, chart
        assert not chart["out"], chart


# What a table or a list holds may be wider than its window only where the reader can move it.
_CUT = """[...document.querySelectorAll("main *, header *")].filter((element) => {
  if (element.closest("svg, .scroll, pre")) return false;
  const box = element.getBoundingClientRect();
  return box.width > 0 && box.right > document.documentElement.clientWidth + 1;
}).map((element) => element.outerHTML.slice(0, 120))"""


@every_page
def test_nothing_stands_out_of_a_phone(tab, folder, name):
    tab.look(width=390, height=844)
    tab.open(folder / f"{name}.html")
    assert tab.run(_CUT) == []
    assert tab.run(
        "[...document.querySelectorAll('.scroll')].every((e) => e.tabIndex === 0 && e.getAttribute('aria-label'))"
    )


# Contrast as WCAG 2 defines it: of each text that is seen with what lies behind it, down to the page.
_CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const parse = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3])).concat(1);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.push(parse(getComputedStyle(e).backgroundColor));
    return chain.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const poor = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, title, desc")) continue;
    const style = getComputedStyle(element);
    if (style.visibility === "hidden" || !element.getClientRects().length) continue;
    const back = behind(element);
    const ink = over(parse(element.closest("svg") ? style.fill : style.color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    seen += 1;
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < (large ? 3 : 4.5)) poor.push(`${node.data.trim()}: ${contrast.toFixed(2)}`);
  }
  return { seen, poor };
})()"""


@every_page
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(tab, folder, name, dark):
    tab.look(dark=dark)
    tab.open(folder / f"{name}.html")
    found = tab.run(_CONTRAST)
    assert found["seen"] > 100
    assert found["poor"] == []
    background = tab.run("getComputedStyle(document.body).backgroundColor")
    red = int(background.removeprefix("rgb(").partition(",")[0])
    assert red < 60 if dark else red > 200


def _column(tab: Page, caption: str, column: int) -> list[str]:
    found: list[str] = tab.run(
        f"""[...[...document.querySelectorAll("table")].find((t) => t.caption.textContent.startsWith({caption!r}))
        .tBodies[0].rows].map((row) => row.cells[{column}].textContent)"""
    )
    return found


def _press(tab: Page, caption: str, column: int, *, key: bool = False) -> str | None:
    """Clicks a heading, or reaches it and presses Enter; gives its ``aria-sort``."""
    button = f"""[...document.querySelectorAll("table")].find((t) => t.caption.textContent.startsWith({caption!r}))
        .tHead.rows[0].cells[{column}].querySelector("button")"""
    if key:
        tab.run(f"{button}.focus()")
        for kind in ("keyDown", "keyUp"):
            code = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            tab.call("Input.dispatchKeyEvent", type=kind, **code)
    else:
        tab.run(f"{button}.click()")
    found: str | None = tab.run(f"{button}.closest('th').getAttribute('aria-sort')")
    return found


def test_tables_sort_by_a_click_and_by_the_keyboard(tab, folder):
    tab.look()
    tab.open(folder / "classification.html")
    names = _column(tab, "Classes", 0)
    precision = _column(tab, "Classes", 3)

    def number(text: str) -> float:
        return float(text.rstrip("%"))

    assert _press(tab, "Classes", 3) == "ascending"
    assert _column(tab, "Classes", 3) == sorted(precision, key=number)
    assert _press(tab, "Classes", 3) == "descending"
    assert _column(tab, "Classes", 3) == sorted(precision, key=number, reverse=True)
    assert _press(tab, "Classes", 0, key=True) == "ascending"
    assert _column(tab, "Classes", 0) == sorted(names)
    assert _press(tab, "Classes", 0, key=True) == "descending"
    assert _column(tab, "Classes", 0) == sorted(names, reverse=True)
    assert tab.run("document.querySelectorAll('th[aria-sort]').length") == 1
    # What has no figure comes last, however the rest is sorted.
    for _ in range(2):
        _press(tab, "Kinds of head", 2)
        assert _column(tab, "Kinds of head", 2)[-1] == "–"


def test_what_gets_into_a_page_later_does_not_run(tab, folder):
    """The policy holds even where a script or a request should find its way into the page."""
    tab.look()
    tab.open(folder / "classification.html")
    tab.run(
        """window.refused = [];
        document.addEventListener("securitypolicyviolation", (e) => window.refused.push(e.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.ran = 1";
        const image = new Image();
        image.src = "http://127.0.0.1:9/x.png";
        const style = document.createElement("style");
        style.textContent = "body { display: none }";
        document.body.append(script, image, style);
        new Promise((done) => setTimeout(done, 200))"""
    )
    assert tab.run("window.ran") is None
    assert tab.run("getComputedStyle(document.body).display") == "block"
    assert set(tab.run("window.refused")) == {"script-src-elem", "img-src", "style-src-elem"}


@every_page
def test_a_reader_who_cannot_see_is_told_of_everything(tab, folder, name):
    tab.look()
    tab.open(folder / f"{name}.html")
    nodes: list[dict[str, Any]] = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            role = node.get("role", {}).get("value", "")
            roles.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    for role in ("image", "img", "button", "link", "table", "region", "heading"):
        assert all(roles.get(role, ["x"])), f"a {role} without a name"
    assert len(roles["table"]) == tab.run("document.querySelectorAll('table').length")
    levels = tab.run("[...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert len(roles["main"]) == len(roles["banner"]) == 1


@every_page
def test_a_page_prints(tab, folder, name):
    tab.look(dark=True)
    tab.open(folder / f"{name}.html")
    pdf = base64.b64decode(tab.call("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert 2 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 30
    tab.look(dark=True, media="print")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert tab.run(_CONTRAST)["poor"] == []
