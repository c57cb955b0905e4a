"""A table moves to another model: side by side, judged, in one swap, and back."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from cli_world import Outcome, inside, schema
from refresh_world import bytes_of, seen
from spaces import letters, sayings, table_of

import featstore
from featstore.errors import (
    ConflictError,
    DeadlineError,
    FeatstoreError,
    GateError,
    InterruptedRunError,
    NotFoundError,
    SettingsError,
    SpaceMismatchError,
    UsageError,
)
from featstore.extract.progress import Reporter
from featstore.migrate import backfill
from featstore.records import MigrationResult
from featstore.store import Store
from featstore.tables import companion

# One world for all of these tests, made by one worker.
pytestmark = pytest.mark.xdist_group("migrate")

ITEMS = 240


@dataclass(frozen=True)
class World:
    """A store with the table ``texts`` by a weak model, its index and head; a strong model to move to."""

    store: Store
    source: Path
    weak: str
    strong: str

    def write(self, count: int = ITEMS, *, without: int = 0) -> None:
        """Texts labelled by their last word, every seventh by another's; ``clicks`` runs backwards through them."""
        rows = list(sayings(count).items())[without:]
        lines = [
            {"id": item, "text": text, "label": rows[at - (at % 7 == 0)][1].split()[-1][:4], "clicks": count - at}
            for at, (item, text) in enumerate(rows)
        ]
        self.source.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    def extract(self, model: str | None = None) -> featstore.Table:
        return self.store.extract(
            self.source, model=model or self.weak, name="texts", id_column="id", text_column="text",
            label_column="label", shard_items=32,
        )  # fmt: skip

    def migrate(self, **more: object) -> MigrationResult:
        return self.store.migrate("texts", **{"to": self.strong, **more})


def made(folder: Path) -> World:
    """The world, without its labels' head where there is nothing to learn."""
    folder.mkdir(parents=True, exist_ok=True)
    table = table_of(32)
    blurred = table[:, :10].copy()
    weak = letters(folder / "models", "weak", blurred)
    strong = letters(folder / "models", "strong", table)
    world = World(featstore.open(folder / "store"), folder / "texts.jsonl", str(weak), str(strong))
    world.write()
    world.extract()
    world.store.index("texts")
    world.store.train_head("texts", label="label", kind="ridge", curve=False, baselines=False)
    return world


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> World:
    return made(tmp_path_factory.mktemp("migrate"))


@pytest.fixture
def world(first: World, tmp_path: Path) -> World:
    return copy(first, tmp_path)


def copy(first: World, folder: Path) -> World:
    """The world as it was at first, its source the same file."""
    shutil.copytree(first.store.path, folder / "store")
    first.write()
    return replace(first, store=featstore.open(folder / "store"))


def spaces(world: World) -> tuple[str, str]:
    """The ids of both spaces."""
    cards = {card.space_id.partition("-")[0]: card.space_id for card in world.store.models()}
    return cards["weak"], cards["strong"]


class At(Reporter):
    """Raises when a stage of that number begins, from 1; notes the stages."""

    def __init__(self, number: int = 0, error: Callable[[], BaseException] | None = None) -> None:
        self.number, self.stages = number, list[str]()
        self._error = error or (lambda: InterruptedRunError("stopped", signum=15))

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append(name)
        if len(self.stages) == self.number:
            raise self._error()


# ── there and back ──────────────────────────────────────────────────────────────────────────────


def test_a_better_model_is_published_rolled_back_and_published_again(world: World) -> None:
    store = world.store
    result = world.migrate()
    weak, strong = spaces(world)
    assert result.status == "published"
    assert (result.from_space, result.to_space, result.embedded, result.items) == (weak, strong, ITEMS, ITEMS)
    assert result.report is not None
    (head,) = result.report.heads
    assert head.difference[head.main].value > 0

    after = seen(store)
    published = store.published("texts")
    assert published is not None
    assert (published.state.space_id, published.state.index_version) == (strong, after.version)
    assert store.table("texts").space_id == strong
    assert store.head("texts-label").card.space_id == strong
    assert store.migration("texts").status == "published"  # type: ignore[union-attr]

    store.rollback("texts")
    before = seen(store)
    assert store.table("texts").space_id == store.head("texts-label").card.space_id == weak
    assert before.items != after.items
    assert store.table(f"texts@{strong}").space_id == strong  # it stays until it is dropped

    again = world.migrate()
    assert again.status == "nothing new"
    assert store.table("texts").space_id == weak
    assert again.next == (f"featstore publish texts@{strong}:{after.version} --reason TEXT",)
    store.publish(f"texts@{strong}:{after.version}", reason="it is better after all")
    assert seen(store).items == after.items
    assert store.head("texts-label").card.space_id == strong


def test_what_was_never_published_is_published_as_it_is_before_anything_else(world: World) -> None:
    assert world.store.published("texts") is None
    with pytest.raises(InterruptedRunError):
        world.migrate(reporter=At(1))
    state = world.store.published("texts").state  # type: ignore[union-attr]
    assert (state.table_version, state.index_version, state.heads) == (0, 0, {"texts-label": 1})
    assert world.store.table("texts").space_id == spaces(world)[0]


@pytest.mark.heavy
def test_a_worse_model_is_refused_and_nothing_is_moved(world: World, tmp_path: Path) -> None:
    there = World(world.store, world.source, world.strong, world.weak)
    assert world.migrate().status == "published"
    before, documents = seen(world.store), bytes_of(world.store, "published", "heads")
    third = letters(tmp_path / "models", "third", table_of(32)[:, :2].copy())
    with pytest.raises(GateError) as refused:
        there.migrate(to=str(third))
    result = refused.value.context["result"]
    assert result.status == "refused"
    assert [gate.gate for gate in result.gates if gate.status == "refused"]
    assert bytes_of(world.store, "published", "heads") == documents
    assert seen(world.store) == before
    report = world.store.layout.storage.read("migrations/texts/report.json")
    assert json.loads(report)["gates"]
    assert world.store.migration("texts").refused is not None  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="refused"):
        world.store.publish(result.run_id)
    world.store.publish(result.run_id, reason="it is smaller")
    assert seen(world.store).items != before.items


def test_the_page_of_a_move_says_which_of_the_jobs_own_gates_refused(world: World) -> None:
    third = letters(world.store.path / "more", "third", table_of(32)[:, :6].copy())
    with pytest.raises(GateError) as refused:
        world.migrate(to=str(third), max_drop=1.0, min_accuracy={"texts-label": 1.0})
    assert [gate.gate for gate in refused.value.context["result"].gates if gate.status == "refused"] == [
        "min_accuracy.texts-label"
    ]
    page = (world.store.path / "migrations" / "texts" / "report.html").read_text("utf-8")
    assert "min_accuracy.texts-label" in page
    assert "refused: the old model stays" in page
    assert "Nothing that was judged speaks against" not in page


def test_a_model_of_no_numbers_is_refused_before_anything_is_made(world: World, tmp_path: Path) -> None:
    broken = letters(tmp_path / "models", "broken", np.full((64, 8), np.nan, np.float32))
    with pytest.raises(FeatstoreError):
        world.migrate(to=str(broken))
    assert world.store.migration("texts") is None
    assert len(world.store.tables()) == 1


# ── side by side ────────────────────────────────────────────────────────────────────────────────


def test_what_has_most_of_a_column_is_embedded_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "FIRST", 60)
    world.write()
    with pytest.raises(InterruptedRunError):
        # scanning, loading the model, embedding, committing; then the bridge
        world.migrate(priority="clicks", reporter=At(5))
    table = world.store.table(f"texts@{spaces(world)[1]}")
    found = table.to_polars()["clicks"]
    assert len(found) == 60
    assert found.min() == ITEMS - 59


@pytest.mark.heavy
def test_the_published_state_answers_while_the_new_one_is_made(world: World) -> None:
    before = seen(world.store)
    told = At()
    result = world.migrate(publish=False, reporter=told)
    assert result.status == "ready"
    assert seen(world.store) == before if before.version is None else seen(world.store).items == before.items
    weak, strong = spaces(world)
    assert world.store.table("texts").space_id == weak
    with pytest.warns(UserWarning, match="through the bridge"):
        found = world.store.table("texts").search(text="judge maps the moon", k=5, model=strong)
    assert len(found) == 5
    with pytest.raises(SpaceMismatchError, match=strong):
        world.store.predict("texts-label:1", table=f"texts@{strong}")
    world.store.publish(result.run_id or "", reason="looked at it")
    assert world.store.table("texts").space_id == strong


# ── stopped anywhere ────────────────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_stopped_at_any_stage_it_goes_on_to_the_same_end(first: World, tmp_path: Path) -> None:
    whole = copy(first, tmp_path / "whole")
    told = At()
    assert whole.migrate(reporter=told).status == "published"
    wanted = seen(whole.store)
    last = told.stages.index("publishing") + 1
    world = copy(first, tmp_path / "stopped")
    before = seen(world.store)
    stops = 0
    for number in range(1, last):
        try:
            world.migrate(reporter=At(number))
        except InterruptedRunError as error:
            stops += 1
            assert seen(world.store).items == before.items
            result = error.context.get("result")
            assert result is None or result.status == "interrupted"
        else:
            break
    assert stops > 4
    if world.store.table("texts").space_id == spaces(world)[0]:
        assert world.migrate().status == "published"
    found = seen(world.store)
    assert found.items == wanted.items
    assert world.migrate().status == "nothing new"


def test_killed_after_the_swap_it_is_noted_the_next_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore import migrations

    real = migrations.note

    def stopping(*args: object, **changes: object) -> object:
        if changes.get("status") == "published":
            raise InterruptedRunError("stopped", signum=15)
        return real(*args, **changes)  # type: ignore[arg-type]

    monkeypatch.setattr(migrations, "note", stopping)
    with pytest.raises(InterruptedRunError):
        world.migrate()
    monkeypatch.undo()
    assert world.store.table("texts").space_id == spaces(world)[1]
    assert world.store.migration("texts").status == "open"  # type: ignore[union-attr]
    assert world.migrate().status == "nothing new"
    assert world.store.migration("texts").status == "published"  # type: ignore[union-attr]


def test_a_deadline_ends_it_and_the_next_night_goes_on(world: World) -> None:
    with pytest.raises(DeadlineError) as stopped:
        world.migrate(deadline=1e-9)
    assert stopped.value.exit_code == 7
    assert world.migrate(deadline="1h").status == "published"


# ── what cannot be ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_a_second_move_waits_until_the_first_is_given_up(world: World, tmp_path: Path) -> None:
    assert world.migrate(publish=False).status == "ready"
    third = str(letters(tmp_path / "models", "third", table_of(16, seed=5)))
    with pytest.raises(ConflictError, match="on its way"):
        world.migrate(to=third)
    assert world.store.abandon_migration("texts").status == "abandoned"
    with pytest.raises(NotFoundError, match="not on its way"):
        world.store.abandon_migration("texts")
    assert world.migrate(to=third, max_drop=1.0).status == "published"


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"to": None}, UsageError, "to which model"),
        ({"max_drop": 2}, SettingsError, "--max-drop: Input should be less"),
        ({"prority": "clicks"}, SettingsError, "priority"),
        ({"priority": "click"}, SettingsError, "clicks"),
        ({"to": "efficientnet_lite0"}, FeatstoreError, "texts"),
        ({"qrels": "nowhere.tsv", "queries": "nowhere.jsonl"}, NotFoundError, "nowhere"),
        ({"qrels": __file__}, SettingsError, "queries"),
        ({"min_ndcg": 0.5}, SettingsError, "judgements"),
        ({"min_accuracy": {"texts-lable": 0.5}}, SettingsError, "texts-label"),
    ],
)
def test_what_is_asked_wrongly_is_said_and_nothing_is_moved(
    world: World, settings: dict[str, object], error: type[FeatstoreError], words: str
) -> None:
    with pytest.raises(error) as found:
        world.migrate(**settings)
    assert words in f"{found.value.message} {found.value.hint}"
    assert world.store.table("texts").space_id == next(
        card.space_id for card in world.store.models() if card.space_id.startswith("weak-")
    )
    assert len(world.store.tables()) == 1  # said before anything was embedded


def test_its_own_model_and_tables_that_are_not_there_are_refused(world: World) -> None:
    with pytest.raises(UsageError, match="already"):
        world.migrate(to=world.weak)
    with pytest.raises(NotFoundError, match="nothing"):
        world.store.migrate("nothing", to=world.strong)
    with pytest.raises(UsageError, match="what moves"):
        world.store.migrate("texts:0", to=world.strong)


# ── the plan, and the command ───────────────────────────────────────────────────────────────────


def test_a_rehearsal_writes_nothing(world: World) -> None:
    before = bytes_of(world.store, "features", "published", "migrations", "models", "heads", "runs")
    plan = world.store.plan_migration("texts", to=world.strong, max_drop=0.1)
    assert (plan.items, plan.there, plan.to_embed) == (ITEMS, 0, ITEMS)
    assert plan.bytes > 0
    assert plan.disk_free > 0
    assert "max_drop" in " ".join(plan.gates)
    assert "texts-label" in plan.heads
    assert bytes_of(world.store, "features", "published", "migrations", "models", "heads", "runs") == before


@pytest.mark.heavy
def test_the_command_says_what_it_did(world: World, tmp_path: Path) -> None:
    def run(*arguments: str) -> Outcome:
        return inside("migrate", "texts", *arguments, "--store", world.store.path, cwd=tmp_path)

    planned = run("--to", world.strong, "--dry-run", "--json")
    assert planned.code == 0, planned.err
    jsonschema.validate(planned.json, schema("outputs/migrate-plan.json"))
    refused = run("--to", world.strong, "--min-accuracy", "texts-label=1.0", "--json")
    assert refused.code == 5, refused.err
    jsonschema.validate(refused.json, schema("outputs/migrate.json"))
    assert refused.json["status"] == "refused"
    assert "min_accuracy" in refused.err
    assert world.store.table("texts").space_id == spaces(world)[0]
    done = run("--to", world.strong, "--json")
    assert done.code == 0, done.err
    assert done.json["status"] == "published"
    rehearsed = run("--abandon", "--dry-run")
    assert rehearsed.code == 2
    assert "take one of them" in rehearsed.err
    late = run("--abandon")
    assert late.code == 2
    assert "not on its way" in late.err
    wrong = run("--to", world.strong, "--min-accuracy", "texts-label")
    assert wrong.code == 2
    assert "HEAD=NUMBER" in wrong.err


@pytest.mark.heavy
def test_items_that_go_and_come_meanwhile_are_in_the_new_table(world: World) -> None:
    assert world.migrate(publish=False).status == "ready"
    world.write(ITEMS + 20, without=5)
    assert world.migrate().status == "published"
    ids = set(world.store.table("texts").to_polars()["item_id"])
    assert ids == set(list(sayings(ITEMS + 20))[5:])


# ── what a table is made of ─────────────────────────────────────────────────────────────────────


def test_every_source_of_a_table_is_counted_and_brought_over(world: World, tmp_path: Path) -> None:
    more, names = tmp_path / "more", list(sayings(ITEMS + 30).items())[ITEMS:]
    more.mkdir()
    for item, text in names:
        (more / f"{item}.txt").write_text(text, "utf-8")
    world.store.extract(more, model=world.weak, name="texts", add=True, keep_text=True)
    plan = world.store.plan_migration("texts", to=world.strong)
    assert (plan.items, plan.there, plan.to_embed) == (ITEMS + 30, 0, ITEMS + 30)
    assert "of their own" not in " ".join(plan.warnings)
    result = world.migrate()
    assert (result.items, result.embedded, result.warnings) == (ITEMS + 30, ITEMS + 30, ())
    table = world.store.table("texts")
    rows = table.to_polars()
    texts = dict(zip(rows["item_id"], rows["text"], strict=True))
    assert {item: texts[f"{item}.txt"] for item, _ in names} == dict(names)
    assert sum(text is not None for text in texts.values()) == 30  # kept of this source alone


def test_a_table_of_listed_files_is_embedded_again_from_those_files_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, names = tmp_path / "files", list(sayings(40).items())
    folder.mkdir()
    for item, text in names:
        (folder / f"{item}.txt").write_text(text, "utf-8")
    listed = [f"{item}.txt" for item, _ in names[:30]]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(listed).encode())))
    world.store.extract("-", source_root=str(folder), model=world.weak, name="listed")
    assert world.store.migrate("listed", to=world.strong).status == "published"
    table = world.store.table("listed")
    assert table.space_id == spaces(world)[1]
    assert set(table.to_polars()["item_id"]) == set(listed)


def test_a_table_that_keeps_its_history_keeps_it_in_the_new_space(world: World) -> None:
    world.store.extract(world.source, model=world.weak, name="texts", history=True)
    world.migrate()
    assert companion.find(world.store.layout, "texts", spaces(world)[1]) is not None


def test_a_head_of_some_items_alone_is_trained_again_on_those(world: World) -> None:
    rare = world.source.read_text("utf-8").replace('"label": "coin"', '"label": "rare"', 1)
    world.source.write_text(rare, "utf-8")
    world.extract()
    world.store.train_head(
        "texts", label="label", kind="ridge", curve=False, baselines=False, drop_rare=True, where="item_id < 's0150'"
    )
    old = world.store.head("texts-label").card
    assert old.n_train + old.n_test < 150
    assert world.migrate().status == "published"
    new = world.store.head("texts-label").card
    assert new.space_id == spaces(world)[1]
    assert (new.n_train, new.n_test, new.classes) == (old.n_train, old.n_test, old.classes)
    assert "rare" not in new.classes


# ── by hand, from elsewhere, at once ────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_what_is_published_by_hand_has_arrived(world: World, tmp_path: Path) -> None:
    result = world.migrate(publish=False)
    world.store.publish(result.run_id or "", reason="looked at it")
    assert world.store.migration("texts").status == "published"  # type: ignore[union-attr]
    with pytest.raises(NotFoundError, match="not on its way"):
        world.store.abandon_migration("texts")
    third = str(letters(tmp_path / "models", "third", table_of(16, seed=5)))
    assert world.migrate(to=third, max_drop=1.0).status == "published"


def test_what_was_given_up_and_then_published_has_arrived(world: World) -> None:
    result = world.migrate(publish=False)
    world.store.abandon_migration("texts")
    world.store.publish(result.run_id or "", reason="after all")
    assert world.store.migration("texts").status == "published"  # type: ignore[union-attr]


def test_a_model_named_from_another_folder_is_found_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    strong = Path(world.strong)
    monkeypatch.chdir(strong.parent)
    world.migrate(to=strong.name, publish=False)
    assert world.store.migration("texts").model["model"] == world.strong  # type: ignore[union-attr]


@pytest.mark.heavy
def test_a_table_called_like_the_move_is_not_held_up_by_it(world: World) -> None:
    class Meanwhile(Reporter):
        done = False

        def stage(self, name: str, total: int | None = None) -> None:
            if name == "comparing retrieval":
                world.store.extract(world.source, model=world.weak, name="migrate-texts", id_column="id")
                self.done = True

    told = Meanwhile()
    assert world.migrate(reporter=told).status == "published"
    assert told.done


@pytest.mark.heavy
def test_a_damaged_bridge_is_learned_anew(world: World) -> None:
    assert world.migrate(publish=False).status == "ready"
    (card,) = (world.store.path / "crossings").rglob("card.json")
    whole = card.read_text("utf-8")
    card.write_text(whole[:100], "utf-8")
    assert world.migrate().status == "published"
    assert json.loads(card.read_text("utf-8"))["items"] == json.loads(whole)["items"]


@pytest.mark.heavy
def test_the_plan_of_a_move_that_is_under_way_is_of_the_new_model(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "FIRST", 60)
    with pytest.raises(InterruptedRunError):
        world.migrate(reporter=At(5))
    plan = world.store.plan_migration("texts", to=world.strong)
    assert (plan.items, plan.there, plan.to_embed) == (ITEMS, 60, ITEMS - 60)
    assert plan.extract is not None
    assert plan.extract.space_id == plan.to_space == spaces(world)[1]
    assert "followed" not in " ".join(plan.warnings)
    world.migrate(publish=False)
    done = world.store.plan_migration("texts", to=world.strong)
    assert (done.there, done.to_embed, done.bytes) == (ITEMS, 0, 0)


_KILLED = """
import importlib, os, signal, sys
import featstore
store, strong, module, name, when, number = sys.argv[1:]
held = importlib.import_module(module)
holder, _, name = name.rpartition(".")
held = getattr(held, holder) if holder else held
real, count = getattr(held, name), 0
def instead(*args, **more):
    global count
    count += 1
    if (when, count) == ("before", int(number)):
        os.kill(os.getpid(), signal.SIGKILL)
    found = real(*args, **more)
    if (when, count) == ("after", int(number)):
        os.kill(os.getpid(), signal.SIGKILL)
    return found
setattr(held, name, instead)
featstore.open(store).migrate("texts", to=strong)
"""


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("module", "name", "when", "number"),
    [
        ("featstore.published", "swap", "after", 1),  # the old state is published for the first time
        ("featstore.tables.table", "FeatureTable.commit", "before", 1),
        ("featstore.tables.table", "FeatureTable.commit", "after", 1),
        ("featstore.migrate.run", "report", "after", 1),
        ("featstore.refresh.run", "adopt", "after", 1),
        ("featstore.published", "swap", "before", 2),
        ("featstore.published", "swap", "after", 2),
    ],
)
def test_killed_anywhere_readers_see_one_space_and_it_is_finished_later(
    world: World, module: str, name: str, when: str, number: int
) -> None:
    before, script = seen(world.store), [sys.executable, "-c", _KILLED, str(world.store.path), world.strong]
    ended = subprocess.run([*script, module, name, when, str(number)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    arrived = (name, when, number) == ("swap", "after", 2)
    there = seen(world.store)  # the index, every head and the table agree
    assert (there.items == before.items) is not arrived
    assert world.migrate().status == ("nothing new" if arrived else "published")
    after = seen(world.store)
    assert after.items != before.items
    assert world.store.migration("texts").status == "published"  # type: ignore[union-attr]
    assert world.store.table("texts").space_id == world.store.head("texts-label").card.space_id == spaces(world)[1]
