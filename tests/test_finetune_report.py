"""The report of a fine-tuning: what its page shows, that it hides no bad end, and that nothing strange runs in it."""

from __future__ import annotations

import html
import itertools
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from browser import browser
from cli_world import schema
from finetune_report_world import BLOCKS, around, beside, epochs, gate, made, refused

from featstore.finetune.report import Neighbours, nearest, render
from featstore.finetune.report.rates import short
from featstore.records import FinetuneForgetting, FinetuneTrial, TunedBlock
from featstore.reports.lines import Line, legend, lines
from featstore.storage import documents

NASTY = '<script>alert("x")</script>&\u202e'


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="([^"]+)"', page)


def words(page: str) -> str:
    """What a reader reads, in one line."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def section(page: str, name: str) -> str:
    return page.split(f'<section id="{name}"')[1].split("</section>")[0]


# ── the page ────────────────────────────────────────────────────────────────────────────────────


def test_it_has_every_section_and_says_how_it_ended() -> None:
    page = render(made(), **beside())
    assert sections(page) == [
        "verdict", "compared", "forgetting", "training", "rates", "neighbours", "trials", "setup",
    ]  # fmt: skip
    said = words(page)
    assert "Every gate passed: fruit-kind-77aa66bb is a model of the store." in said
    assert "+7.9" in words(section(page, "verdict"))
    for name in ("gain", "forgetting.ripe", "forgetting.probe", "parity", "geometry", "latency"):
        assert name in words(section(page, "verdict"))
    assert "12 items changed since version 3" in said
    links = re.findall(r'<a href="#([^"]+)"', page)
    assert links == sections(page)
    assert render(made(), **beside()) == page, "the same arguments give the same page"


def test_a_refusal_is_not_dressed_up() -> None:
    page = render(refused())
    verdict = words(section(page, "verdict"))
    assert "1 gate of 3 refused: no model came of it, and everything is as it was." in verdict
    assert "It is clearly worse than the frozen backbone: fine-tuning hurt here." in verdict
    assert "No epoch was better on the validation items than the start." in verdict
    assert "▲ refused" in verdict
    assert "a/1.jpg" in verdict
    assert "Every gate passed" not in words(page)


def test_a_gain_that_may_be_chance_is_called_so() -> None:
    page = render(made(gain=around(0.01, 0.02)))
    assert "cannot be told from these items" in words(section(page, "verdict"))


def test_curves_show_training_beside_validation_in_words_too() -> None:
    page = section(render(made()), "training")
    described = {
        found[1]: html.unescape(found[2]) for found in re.finditer(r'<desc id="([^"]+)-words">([^<]*)</desc>', page)
    }
    assert set(described) == {"curve-accuracy", "curve-loss"}
    for text in described.values():
        assert "validation items, 7 points" in text
        assert "training items, 6 points" in text
    assert "71.0% at −1" in described["curve-accuracy"]
    assert page.count('class="line"') == page.count('class="line2"') == 2, "two lines in each chart"
    assert ">best</text>" in page
    said = words(page)
    assert "4 ✓" in said
    assert "may lie on either side" in said
    assert "layer4" in said, "when a block began"


def test_rates_stand_as_they_were_used() -> None:
    page = section(render(made()), "rates")
    rows = {
        words(row).split()[0]: [words(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", page.split("</thead>")[1].split("</tbody>")[0])
    }
    assert list(rows) == ["head", *BLOCKS]
    assert rows["head"][1:4] == ["1e-3", "5e-4", "2.5e-4"], "halved with each block"
    assert rows["layer4"][1:4] == ["1e-4", "5e-5", "2.5e-5"]
    assert rows["layer3"][1:4] == ["·", "3.8e-5", "1.9e-5"]
    assert rows["stem"][1:] == ["·"] * 6
    assert "layer4 (no decay)" in words(page)


def test_epochs_with_the_same_rates_share_a_column() -> None:
    from dataclasses import replace

    first = epochs(1)[1]
    same = tuple(replace(first, epoch=at) for at in range(30))
    heads = re.findall(r'<th scope="col">([^<]*)</th>', section(render(made(epochs=same, best_epoch=3)), "rates"))
    assert heads[0] == "0–29"


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(2e-5, "2e-5"), (3.76e-5, "3.8e-5"), (1e-3, "1e-3"), (0.01, "0.01"), (0.0, "0"), (1e-10, "1e-10")],
)
def test_a_rate_is_written_short(rate: float, shown: str) -> None:
    assert short(rate) == shown


def test_what_other_tasks_lose_is_drawn_against_what_they_may() -> None:
    page = section(render(made()), "forgetting")
    assert 'class="limit"' in page
    assert "At least −0.010 is allowed." in page
    assert "neutral items" in words(page)
    assert "+0.5 (−1.5 to +2.5)" in words(page)
    assert "forgetting" not in sections(render(made(forgetting=())))


def test_neighbours_say_whose_class_they_have() -> None:
    page = section(render(made(), **beside()), "neighbours")
    said = words(page)
    assert "61% are still among the ten" in said
    assert "before: 3 of 6 of its class" in said
    assert "after: 5 of 6 of its class" in said
    assert page.count("<img") > 12
    assert "unknown.jpg" in said
    bare = section(render(made(), neighbours=[Neighbours("a", ("b",), ("c",))]), "neighbours")
    assert "of its class" not in bare
    assert "of the item's own class" not in bare
    texts = section(render(made(), **beside("text")), "neighbours")
    assert "<img" not in texts
    assert "the beginning of the text about apple/01.jpg" in words(texts)


def test_the_search_names_its_choice() -> None:
    page = section(render(made()), "trials")
    said = words(page)
    assert "2 ✓ 83.0% complete" in said
    assert "1 62.0% pruned" in said
    assert "3 – failed" in said
    assert page.count('class="line"') == 1
    assert 'class="line2"' not in page, "trials are dots: nothing leads from one to the next"
    assert "trials" not in sections(render(made(trials=())))


def test_it_grows_with_nothing_beyond_a_bound() -> None:
    blocks = tuple(TunedBlock(name=f"blocks.{at}", parameters=at, epoch=None) for at in range(500))
    trials = tuple(
        FinetuneTrial(number=at, settings={"learning_rate": 1e-4}, accuracy=0.5, status="complete") for at in range(50)
    )
    forgotten = tuple(
        FinetuneForgetting(name=f"h{at}", kind="head", items=9, before=0.5, after=0.5, difference=around(0))
        for at in range(9)
    )
    found = made(
        blocks=blocks, epochs=epochs(300, 7), trials=trials, forgetting=forgotten,
        classes={f"class {at}": 9 for at in range(5_000)},
    )  # fmt: skip
    page = render(found)
    assert len(page) < 400_000
    assert "464 blocks more are not shown" in words(page)


def test_nothing_of_a_stranger_becomes_markup() -> None:
    evil = beside("text")
    evil["labels"] = dict.fromkeys(evil["labels"], NASTY)
    evil["previews"] = dict.fromkeys(evil["previews"], NASTY.encode())
    evil["neighbours"] = [Neighbours(NASTY, (NASTY,), (NASTY,)), *evil["neighbours"]]
    found = made(
        table=NASTY, label=NASTY, model=NASTY, base=NASTY, space_id=NASTY, method=NASTY, notes=(NASTY,),
        classes={NASTY: 3}, settings={NASTY: NASTY}, split_id=NASTY, frozen_kind=NASTY, tuned_kind=NASTY,
        blocks=(TunedBlock(name=NASTY, parameters=1, epoch=0),),
        gates=(gate(NASTY, "refused", note=NASTY),),
        forgetting=(
            FinetuneForgetting(name=NASTY, kind="head", items=9, before=0.5, after=0.5, difference=around(0)),
        ),
        trials=(FinetuneTrial(number=0, settings={NASTY: NASTY}, accuracy=0.5, status="complete"),),
    )  # fmt: skip
    page = render(found, **evil)
    assert "<script" not in page
    assert "\u202e" not in page
    assert "script-src 'none'" in html.unescape(page)


def test_what_is_no_number_is_left_out_of_charts() -> None:
    nan = float("nan")
    page = render(made(frozen={"accuracy": around(nan)}, gain=around(nan), gates=(gate("gain", "refused", None),)))
    assert not re.search(r'\b(c?x|c?y|x1|y1|d)="[^"]*nan', page)


def test_the_record_keeps_to_its_schema() -> None:
    for found in (made(), refused()):
        body = json.loads(json.dumps(documents.to_json(found)))
        jsonschema.Draft202012Validator(schema("outputs/finetune.json")["$defs"]["FinetuneReport"] | {
            "$defs": schema("outputs/finetune.json")["$defs"]
        }).validate(body)  # fmt: skip


# ── its pieces ──────────────────────────────────────────────────────────────────────────────────


def test_lines_stand_where_their_values_are() -> None:
    a = Line("a <b>", [(0, 0.0), (1, 1.0)], own=True)
    b = Line("b", [(0, 1.0), (1, float("inf"))])
    drawn = lines("x", "X", [a, b], across="epoch", up="share", share=True)
    own, (other,) = (
        [(float(found[1]), float(found[2])) for found in re.finditer(rf'class="{kind}" cx="(\S+)" cy="(\S+)"', drawn)]
        for kind in ("dot", "hollow")
    )
    assert own[0][0] < own[1][0]
    assert own[0][1] > own[1][1], "more is higher up"
    assert other == (own[0][0], own[1][1]), "one scale for both"
    assert lines("x", "X", [Line("none", [(0, float("nan"))])], across="", up="", share=True) == ""
    assert "a &lt;b&gt;" in legend([a, b])


def test_the_nearest_that_changed_most_are_found() -> None:
    generator = np.random.default_rng(0)
    before = generator.standard_normal((60, 8)).astype(np.float32)
    after = before.copy()
    after[:5] = generator.standard_normal((5, 8)).astype(np.float32)  # these move, the rest hardly notices
    ids = [f"i{at:02d}" for at in range(60)]
    found = nearest(ids, before, after, k=10, queries=5)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (before, after)]
    near = [np.argsort(-(u @ u.T) + 9 * np.eye(60), axis=1, kind="stable")[:, :10] for u in unit]
    shares = np.array([len(set(a) & set(b)) / 10 for a, b in zip(*near, strict=True)])
    assert found.overlap == pytest.approx(shares.mean())
    assert found.overlap < 1
    assert {one.item_id for one in found.changed} == {f"i{at:02d}" for at in range(5)}
    first = found.changed[0]
    assert first.before == tuple(ids[at] for at in near[0][ids.index(first.item_id)][:6])
    assert first.named[0] == first.item_id
    assert nearest(ids, before, before).overlap == 1
    assert nearest(ids, before, before).changed == ()
    assert nearest(["one"], before[:1], after[:1]).overlap == 1


# ── in a browser ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_it_fits_a_phone_and_asks_for_nothing(tmp_path: Path) -> None:
    evil = "w" * 300
    pages: dict[str, dict[str, Any]] = {
        "good": {"found": made(), **beside()},
        "texts": {"found": refused(), **beside("text")},
        "long": {"found": made(label=evil, space_id=evil, base=evil, notes=(evil,)), **beside()},
    }
    with browser() as tab:
        for (name, given), width, dark in itertools.product(pages.items(), (390, 1280), (False, True)):
            file = tmp_path / f"{name}.html"
            file.write_text(render(given["found"], **{k: v for k, v in given.items() if k != "found"}), "utf-8")
            tab.look(width=width, dark=dark)
            tab.open(file)
            asked = [event["request"]["url"] for event in tab.named("Network.requestWillBeSent")]
            assert asked[0] == file.as_uri()
            assert all(url.startswith("data:") for url in asked[1:])
            assert tab.named("Runtime.exceptionThrown") == []
            assert tab.named("Log.entryAdded") == []
            assert tab.run("document.documentElement.scrollWidth <= innerWidth"), (name, width)
