"""Fine-tuning a network: every technique shown by what it does to weights, gradients and pixels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import PIXELS, TINY_VISION, gpt2_folder, sentence_folder, tiny_vision, vision_original
from network_world import (
    CLASSES,
    PLAIN,
    SETTINGS,
    Watcher,
    copied,
    fitted,
    gradients,
    learning,
    pictured,
    pictures,
    sentences,
    trained,
    values,
    written,
)
from vision_folders import VISION, vision_folder

from featstore.errors import FeatstoreError, UsageError
from featstore.finetune import network
from featstore.finetune.examples import Examples
from featstore.finetune.network.augmentation import augmented, draws
from featstore.finetune.network.batches import inputs
from featstore.finetune.network.parts import parts
from featstore.finetune.network.randaugment import CHANGES, changed
from featstore.finetune.network.schedule import factor
from featstore.inputs import images
from featstore.models import choosing, hf_vision, words
from featstore.models.catalog import ModelOptions, ModelRequest, resolve
from featstore.models.original import Original
from featstore.models.vision import image_graph
from featstore.records import FinetuneEpoch, ImagePreprocessing
from featstore.settings import FinetuneSettings

LEARNED, JUDGED = pictures(16), pictures(12, seed=1)
SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip": 0.0}


def _names(original: Original, **changed: Any) -> list[tuple[str, int | None]]:
    found = network.tuned_blocks(original, FinetuneSettings(**changed), n_train=100_000)
    return [(block.name, block.epoch) for block in found]


def _network_name(name: str) -> str:
    """Of a parameter of the graph, as the state has it."""
    return name.removeprefix("network.").removeprefix("body.")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Steps so small are done before a second thread is awake."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ── blocks ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "top", "lowest"),
    [
        ("test_vit", "blocks.5", "patch_embed"),
        ("test_resnet", "layer4", "conv1"),
        ("test_efficientnet", "conv_head", "conv_stem"),
        ("test_convnext", "stages.3", "stem"),
    ],
)
def test_blocks_of_timm_cover_all_of_a_network_from_the_top(name: str, top: str, lowest: str) -> None:
    original = pictured(name)
    found = network.tuned_blocks(original, FinetuneSettings(), n_train=100)
    assert (found[0].name, found[-1].name) == (top, lowest)
    assert sum(block.parameters for block in found) == original.parameters


@pytest.mark.parametrize(
    ("family", "top", "lowest"),
    [
        ("resnet", "layer4", "conv1"),
        ("vgg", "classifier.3", "features.0"),
        ("vit", "encoder.layers.encoder_layer_1", "conv_proj"),
        ("convnext", "features.3", "features.0"),
    ],
)
def test_blocks_of_torchvision_cover_all_of_a_network_from_the_top(family: str, top: str, lowest: str) -> None:
    assert family in TINY_VISION
    original = vision_original(tiny_vision(family), family)
    found = network.tuned_blocks(original, FinetuneSettings(), n_train=100)
    assert (found[0].name, found[-1].name) == (top, lowest)
    assert sum(block.parameters for block in found) == original.parameters


def test_blocks_of_texts_leave_the_embeddings_where_labels_are_few(tmp_path: Path) -> None:
    original = written(tmp_path / "bert")
    few = network.tuned_blocks(original, FinetuneSettings(), n_train=9_000)
    assert [(b.name, b.epoch) for b in few] == [("encoder.layer.1", 0), ("encoder.layer.0", 1), ("embeddings", None)]
    assert network.tuned_blocks(original, FinetuneSettings(), n_train=10_000)[-1].epoch is not None
    decoder = ModelRequest(model=str(gpt2_folder(tmp_path / "gpt2")))
    names = _names(words.load(resolve(decoder.model), decoder, lambda _: None))
    assert [name for name, _ in names] == ["h.1", "h.0", "wpe", "wte"]


def test_blocks_of_a_sentence_model_begin_with_the_layer_behind_the_pooling(tmp_path: Path) -> None:
    request = ModelRequest(model=str(sentence_folder(tmp_path / "st", "mean")))
    original = words.load(resolve(request.model), request, lambda _: None)
    assert _names(original)[0] == ("tail.0", 0)


@pytest.mark.parametrize(("kind", "top"), [("dinov2", "encoder.layer.1"), ("siglip_image", "head")])
def test_blocks_of_transformers_pictures(tmp_path: Path, kind: str, top: str) -> None:
    assert kind in VISION
    request = ModelRequest(model=str(vision_folder(tmp_path / kind, kind)))
    original = hf_vision.load(resolve(request.model), request, lambda _: None)
    assert _names(original)[0][0] == top
    # Nothing of the network hides behind a group of the same name, such as the head that is trained on it.
    settings = network.defaults(FinetuneSettings(unfreeze_every=0, depth=1), original, n_train=100)
    blocks = network.tuned_blocks(original, settings, n_train=100)
    found = [group.name for group in network.groups(original, (3, 8), settings, blocks, epoch=0)]
    assert len(found) == len(set(found)) == 4


def test_only_what_reaches_the_vector_is_a_block() -> None:
    whole = pictured("test_resnet")
    asked = ModelRequest(model="test_resnet", options=ModelOptions(layer="layer2"))
    chosen = choosing.choose(
        whole.graph.get_submodule("network"), PIXELS, asked, layer="input of fc", own="mean", features=None
    )
    cut = replace(whole, graph=image_graph(chosen.body, PIXELS), layer=chosen.layer)
    assert [name for name, _ in _names(cut)] == ["layer2", "layer1", "conv1"]
    with pytest.raises(UsageError, match="has no parameters that its vector"):
        _names(cut, blocks=("layer3",))


def test_named_blocks_begin_when_it_is_said_and_pieces_of_blocks_have_names_too() -> None:
    original = pictured("test_resnet")
    found = _names(original, blocks=("layer3:2", "layer4", "conv1.0"), epochs=10)
    assert found == [("layer4", 0), ("layer3", 2), ("layer2", None), ("layer1", None), ("conv1", None), ("conv1.0", 2)]
    sizes = network.tuned_blocks(original, FinetuneSettings(blocks=("conv1.0",)), n_train=100)
    assert sum(block.parameters for block in sizes) == original.parameters


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"blocks": ("layer5",)}, "no block 'layer5'; nearest: layer"),
        ({"blocks": ("layer4:soon",)}, "behind the colon stands an epoch"),
        ({"blocks": ("layer4:3",), "epochs": 3}, "after the end"),
        ({"blocks": ("layer4", "layer4.0")}, "is in 'layer4"),
        ({"blocks": ("layer4",), "depth": 2}, "both say what is trained"),
        ({"depth": 99}, "the network has 5 blocks"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _names(pictured("test_resnet"), **given)


def test_unfreezing_goes_down_by_epochs_and_is_done_by_the_middle() -> None:
    original = pictured("test_vit")
    begins = [epoch for _, epoch in _names(original, epochs=20, depth=4, unfreeze_every=2)]
    assert begins == [0, 2, 4, 6, None, None, None]
    assert [epoch for _, epoch in _names(original, epochs=20, unfreeze_every=0)] == [0] * 7
    begins = [epoch for _, epoch in _names(original, epochs=4)]
    assert begins == sorted(begins, key=lambda e: e or 0)
    assert set(begins) == {0, 1}


def test_more_labels_train_more_blocks_for_fewer_epochs() -> None:
    original = pictured("test_vit")
    found = [network.defaults(FinetuneSettings(), original, n_train=n) for n in (100, 1_000, 5_000, 100_000)]
    depths = [settings.depth or 0 for settings in found]
    epochs = [settings.epochs or 0 for settings in found]
    assert depths == sorted(depths)
    assert epochs == sorted(epochs, reverse=True)
    assert len(set(depths)) > 2


def test_defaults_go_by_the_network_and_keep_what_is_given(tmp_path: Path) -> None:
    assert network.defaults(FinetuneSettings(), pictured("test_resnet"), n_train=100).optimizer == "sgd"
    assert network.defaults(FinetuneSettings(), pictured("test_vit"), n_train=100).optimizer == "adamw"
    assert network.defaults(FinetuneSettings(lora=4), pictured("test_resnet"), n_train=100).optimizer == "adamw"
    text = written(tmp_path / "bert")
    given = FinetuneSettings(optimizer="sgd", learning_rate=0.5, epochs=7, depth=1, head_rate=0.0, micro_batch=2)
    found = network.defaults(given, text, n_train=100)
    kept = (found.optimizer, found.learning_rate, found.epochs, found.depth, found.head_rate, found.micro_batch)
    assert kept == ("sgd", 0.5, 7, 1, 0.0, 2)
    assert network.defaults(found, text, n_train=100) == found
    assert network.defaults(FinetuneSettings(), text, n_train=100).batch_norm == "frozen"
    assert network.defaults(FinetuneSettings(), text, n_train=5_000).batch_norm == "train"


def test_a_method_has_its_name() -> None:
    assert network.method(FinetuneSettings()) == "LP-FT"
    assert network.method(FinetuneSettings(start="random")) == "full from a random head"
    assert network.method(FinetuneSettings(lora=8)) == "LoRA rank 8"


# ── who learns, and how fast ──────────────────────────────────────────────────────────────────


def test_frozen_parameters_and_statistics_stay_bit_equal_and_trained_ones_move(tmp_path: Path) -> None:
    original = pictured("test_resnet")
    before = copied(original)
    trained(original, tmp_path, LEARNED, JUDGED, depth=2, unfreeze_every=0, epochs=1, learning_rate=1e-3, patience=9)
    # The best epoch may be the start, so what moved is looked at in a network that was not put back.
    original = pictured("test_resnet")
    with learning(original, LEARNED, depth=2, unfreeze_every=0) as (learner, batch):
        learner.step(batch, factor=1.0, seed=0)
    moved = {name for name, tensor in original.state.items() if not torch.equal(tensor, before[name])}
    parameters = {name for name, _ in original.graph.get_submodule("network").named_parameters()}
    assert moved == {name for name in parameters if name.startswith(("layer4", "layer3"))}
    buffers = set(original.state) - parameters
    assert any(name.endswith("running_mean") for name in buffers)
    assert not moved & buffers


def test_statistics_of_trained_blocks_follow_where_it_is_asked_for() -> None:
    original = pictured("test_resnet")
    before = copied(original)
    with learning(original, LEARNED, depth=1, batch_norm="train") as (learner, batch):
        learner.step(batch, factor=1.0, seed=0)
    moved = {name for name, tensor in original.state.items() if not torch.equal(tensor, before[name])}
    followed = {name for name in moved if "running" in name or "tracked" in name}
    assert followed
    assert all(name.startswith("layer4") for name in followed)
    assert not original.graph.training


def test_a_block_is_still_until_its_epoch(tmp_path: Path) -> None:
    original = pictured("test_vit")
    snapshots = []
    trained(
        original, tmp_path, LEARNED, JUDGED, blocks=("blocks.5", "blocks.4:1", "blocks.3:2"), epochs=3, patience=9,
        learning_rate=1e-3, observe=lambda _: snapshots.append(copied(original)),
    )  # fmt: skip
    first = copied(pictured("test_vit"))

    def moved(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> set[str]:
        return {".".join(name.split(".")[:2]) for name in a if not torch.equal(a[name], b[name])}

    assert moved(first, snapshots[0]) == {"blocks.5", "norm.weight", "norm.bias"}
    assert moved(snapshots[0], snapshots[1]) == {"blocks.5", "blocks.4", "norm.weight", "norm.bias"}
    assert moved(snapshots[1], snapshots[2]) == {"blocks.5", "blocks.4", "blocks.3", "norm.weight", "norm.bias"}


@pytest.mark.parametrize("lora", [None, 2])
def test_the_optimizer_has_the_groups_of_the_table_in_every_epoch(tmp_path: Path, lora: int | None) -> None:
    original = pictured("test_vit")
    given = FinetuneSettings(
        blocks=("blocks.5", "blocks.4:2", "blocks.2:1"), epochs=3, halving=True, lora=lora, batch=8, workers=2,
        device="cpu", patience=9,
    )  # fmt: skip
    settings = network.defaults(given, original, n_train=len(LEARNED))
    blocks = network.tuned_blocks(original, settings, n_train=len(LEARNED))
    dim = fitted(original, LEARNED).weight.shape[1]
    tables = [network.groups(original, (CLASSES, dim), settings, blocks, epoch=e) for e in range(3)]
    assert original.state.keys() == copied(original).keys()
    found = trained(
        original, tmp_path, LEARNED, JUDGED, blocks=given.blocks, epochs=3, halving=True, lora=lora, patience=9
    )
    assert [record.groups for record in found.epochs[1:]] == tables
    names = [group.name for group in tables[2]]
    flat = [] if lora else ["blocks.5 (no decay)", "blocks.4 (no decay)", "blocks.2 (no decay)"]
    assert set(names) == {"head", "head (no decay)", "blocks.5", "blocks.4", "blocks.2", *flat}
    assert len(tables[0]) < len(tables[1]) < len(tables[2])


def test_each_block_moves_by_its_own_rate_along_its_gradient() -> None:
    given = {**SGD, "learning_rate": 0.1, "head_rate": 0.3, "layer_decay": 0.5, "depth": 3, "unfreeze_every": 0}
    with learning(pictured(), LEARNED, **given) as (learner, batch):
        learner.gradients(batch, seed=0)
        slopes, before = gradients(learner), values(learner)
        learner._optimizer.zero_grad()
        learner.step(batch, factor=0.5, seed=0)
        after = values(learner)
    rates = {"head": 0.3, "network.blocks.5": 0.1, "network.blocks.4": 0.05, "network.blocks.3": 0.025}
    for prefix, rate in rates.items():
        mine = [name for name in slopes if name.startswith(prefix)]
        assert mine
        for name in mine:
            torch.testing.assert_close(after[name], before[name] - 0.5 * rate * slopes[name], rtol=1e-4, atol=1e-7)


def test_halving_halves_every_step_once_a_further_block_has_begun() -> None:
    given = {**SGD, "blocks": ("blocks.5", "blocks.4:1", "blocks.3:1"), "epochs": 3, "learning_rate": 0.1}
    moved = {}
    for halving in (False, True):
        for epoch in (0, 1, 2):
            with learning(pictured(), LEARNED, epoch=epoch, halving=halving, **given) as (learner, batch):
                before = values(learner)["head.weight"]
                learner.step(batch, factor=1.0, seed=0)
                moved[halving, epoch] = values(learner)["head.weight"] - before
    torch.testing.assert_close(moved[True, 0], moved[False, 0])
    torch.testing.assert_close(moved[True, 1], moved[False, 1] / 2, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(moved[True, 2], moved[True, 1], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_only_matrices_decay(optimizer: str) -> None:
    given = {"optimizer": optimizer, "learning_rate": 0.1, "head_rate": 0.1, "depth": 1, "momentum": 0.0, "clip": 0.0}
    ends = []
    for decay in (0.0, 0.5):
        with learning(pictured(), LEARNED, weight_decay=decay, **given) as (learner, batch):
            before = values(learner)
            learner.step(batch, factor=1.0, seed=0)
            ends.append(values(learner))
    moved = [name for name in before if not torch.equal(before[name], ends[0][name])]
    for name in moved:
        shrunk = before[name] * 0.1 * 0.5 if before[name].ndim > 1 else torch.zeros_like(before[name])
        torch.testing.assert_close(ends[0][name] - ends[1][name], shrunk, rtol=1e-3, atol=1e-6)
    assert {before[name].ndim > 1 for name in moved} == {True, False}


def test_momentum_carries_a_step_on() -> None:
    ends = []
    for momentum in (0.0, 0.9):
        with learning(pictured(), LEARNED, **{**SGD, "momentum": momentum}, head_rate=1e-4, depth=1) as (
            learner,
            batch,
        ):
            start = values(learner)["head.bias"]
            learner.step(batch, factor=1.0, seed=0)
            first = values(learner)["head.bias"] - start
            learner.step(batch, factor=1.0, seed=0)
            ends.append(values(learner)["head.bias"] - start)
    torch.testing.assert_close(ends[1] - ends[0], 0.9 * first, rtol=0.05, atol=1e-7)


def test_a_gradient_that_is_too_long_is_cut_to_length() -> None:
    lengths = []
    for clip in (0.0, 1e-3):
        with learning(pictured(), LEARNED, **{**SGD, "clip": clip}, learning_rate=1.0, head_rate=1.0, layer_decay=1.0,
                      depth=2, unfreeze_every=0) as (learner, batch):  # fmt: skip
            before = values(learner)
            learner.step(batch, factor=1.0, seed=0)
            after = values(learner)
        lengths.append(sum(float((after[n] - before[n]).double().square().sum()) for n in before) ** 0.5)
    assert lengths[0] > 1e-2
    assert lengths[1] == pytest.approx(1e-3, rel=0.02)


def test_rates_rise_then_fall_along_a_cosine() -> None:
    found = [factor(step, 100, warmup=0.1, kind="cosine") for step in range(100)]
    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10)
    assert found[10] == 1.0
    assert found[55] == pytest.approx(0.5)
    assert all(a > b for a, b in pairwise(found[10:]))
    assert 0 < found[-1] < 1e-3
    assert {factor(step, 100, warmup=0.0, kind="constant") for step in range(100)} == {1.0}


def test_the_schedule_bends_the_steps_of_a_training(tmp_path: Path) -> None:
    """One batch an epoch, the same each time: with a rate so small that the gradient stays, steps are the schedule."""
    original = pictured()
    places = [original.state["norm.bias"].clone()]
    trained(
        original, tmp_path, pictures(8), JUDGED, epochs=10, warmup=0.3, schedule="cosine", batch=8, patience=99,
        depth=1, learning_rate=1e-6, head_rate=0.0, **{**SGD, **PLAIN},
        observe=lambda _: places.append(original.state["norm.bias"].clone()),
    )  # fmt: skip
    moves = np.array([float((b - a).norm()) for a, b in pairwise(places)])
    wanted = [factor(step, 10, warmup=0.3, kind="cosine") for step in range(10)]
    np.testing.assert_allclose(moves / moves.max(), wanted, rtol=1e-2)


# ── the start ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("unit", [False, True])
def test_training_begins_at_the_fitted_heads_own_answers(tmp_path: Path, unit: bool) -> None:
    original = pictured("test_resnet")
    start = fitted(original, LEARNED, unit=unit)
    shown = network.vectors(original, JUDGED)
    if unit:
        shown = shown / np.linalg.norm(shown, axis=1, keepdims=True)
    logits = torch.from_numpy(shown @ start.weight.T + start.bias)
    truth = torch.from_numpy(JUDGED.truth)
    found = trained(original, tmp_path, LEARNED, JUDGED, head=start, epochs=1)
    assert found.epochs[0].epoch == -1
    assert found.epochs[0].validation_loss == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, truth)), rel=1e-4
    )
    assert found.epochs[0].validation_accuracy == float((logits.argmax(dim=1) == truth).float().mean().item())
    assert found.head.unit is unit


def test_a_random_head_knows_nothing_and_is_the_same_for_a_seed(tmp_path: Path) -> None:
    original = pictured("test_resnet")
    start = fitted(original, LEARNED)
    losses = [
        trained(pictured("test_resnet"), tmp_path / str(i), LEARNED, JUDGED, head=start, start="random", seed=seed,
                epochs=1).epochs[0].validation_loss
        for i, seed in enumerate((0, 0, 1))
    ]  # fmt: skip
    known = trained(original, tmp_path / "known", LEARNED, JUDGED, head=start, epochs=1).epochs[0].validation_loss
    assert losses[0] == losses[1] != losses[2]
    assert min(losses) > known


# ── batches, memory, precision ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("count", "weights"), [(32, None), (27, "balanced")])
def test_pieces_of_eight_make_the_step_of_the_whole_batch(count: int, weights: str | None) -> None:
    examples = pictures(count)
    examples = Examples(read=examples.read, truth=np.minimum(examples.truth, 1) if weights else examples.truth)
    found = []
    for size in (None, 8):
        with learning(pictured(), examples, micro_batch=size, depth=2, unfreeze_every=0, class_weights=weights) as (
            learner, batch,
        ):  # fmt: skip
            learnt = learner.gradients(batch, seed=0)
            found.append((gradients(learner), learnt))
    for name, whole in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], whole, rtol=1e-3, atol=1e-6)
    assert found[1][1].loss == pytest.approx(found[0][1].loss, rel=1e-5)
    assert found[1][1].right == found[0][1].right


def test_epochs_are_judged_as_the_classes_count(tmp_path: Path) -> None:
    original = pictured("test_vit")
    rows = np.flatnonzero((JUDGED.truth != 2) | (np.arange(len(JUDGED)) == 2))  # a single one of the last class
    judged = Examples(read=lambda at: JUDGED.read(int(rows[at])), truth=JUDGED.truth[rows])
    learned = np.array([0, 1, 2, 3, 4, 6, 7, 9])
    examples = Examples(read=lambda at: LEARNED.read(int(learned[at])), truth=LEARNED.truth[learned])
    head = fitted(original, examples)
    logits = network.vectors(original, judged) @ head.weight.T + head.bias
    right = logits.argmax(axis=1) == judged.truth
    counts = np.bincount(examples.truth)[judged.truth]
    wanted = float(np.average(right, weights=1 / counts))
    assert wanted != pytest.approx(right.mean())
    for weights, accuracy in (("balanced", wanted), (None, right.mean())):
        found = trained(original, tmp_path / str(weights), examples, judged, head=head, epochs=1, class_weights=weights)
        assert found.epochs[0].validation_accuracy == pytest.approx(accuracy)
        original = pictured("test_vit")


def test_rare_classes_count_as_much_as_common_ones() -> None:
    truth = np.array([0] * 12 + [1, 2, 1, 2], np.int64)
    examples = Examples(read=LEARNED.read, truth=truth)
    with learning(pictured("test_resnet"), examples, class_weights="balanced", depth=1) as (learner, batch):
        loss = learner.gradients(batch, seed=0).loss
        [(places, (pixels,))] = batch.pieces(16)
        with torch.no_grad():
            logits = learner.head(learner.graph(pixels))
        each = torch.nn.functional.cross_entropy(logits, torch.from_numpy(truth[places]), reduction="none")
    means = [float(each[truth == kind].mean()) for kind in range(CLASSES)]
    assert loss == pytest.approx(np.mean(means), rel=1e-5)


def _short_of_memory(original: Original, most: int, error: Callable[[], BaseException]) -> Any:
    def look(_: object, given: tuple[torch.Tensor, ...]) -> None:
        if torch.is_grad_enabled() and len(given[0]) > most:
            raise error()

    return original.graph.register_forward_pre_hook(look)


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory."),
        lambda: RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"),
    ],
)
def test_where_memory_runs_out_pieces_are_halved_and_the_result_is_the_same(
    tmp_path: Path, error: Callable[[], BaseException]
) -> None:
    given = {"epochs": 1, "batch": 16, "batch_norm": "frozen", "learning_rate": 1e-3, "depth": 1, "patience": 9}
    found, states = [], []
    for name, most in (("enough", 99), ("short", 5)):
        original, watcher = pictured("test_resnet"), Watcher()
        hook = _short_of_memory(original, most, error)
        look = _both([], after := [], original)
        found.append(trained(original, tmp_path / name, LEARNED, JUDGED, reporter=watcher, observe=look, **given))
        hook.remove()
        states.append(after[0])
    assert [f.micro_batch for f in found] == [16, 4]
    assert [w for w in watcher.warnings if "4 examples" in w]
    for name, whole in states[0].items():
        torch.testing.assert_close(states[1][name], whole, rtol=1e-3, atol=1e-6)


def _both(
    observed: list[FinetuneEpoch], after: list[dict[str, torch.Tensor]], original: Original
) -> Callable[[FinetuneEpoch], None]:
    def look(record: FinetuneEpoch) -> None:
        observed.append(record)
        after.append(copied(original))

    return look


def test_a_batch_that_is_begun_again_counts_once_in_the_statistics() -> None:
    ends = []
    for broken in (False, True):
        original = pictured("test_resnet")
        failed: list[int] = []

        def look(_: object, given: tuple[torch.Tensor, ...], failed: list[int] = failed) -> None:
            if torch.is_grad_enabled():
                failed.append(len(given[0]))
                if len(failed) == 2:
                    raise torch.OutOfMemoryError("CUDA out of memory.")

        with learning(original, LEARNED, depth=1, batch_norm="train", micro_batch=4 if not broken else 8) as (
            learner, batch,
        ):  # fmt: skip
            if broken:
                original.graph.register_forward_pre_hook(look)
            learner.gradients(batch, seed=0)
        ends.append({k: v for k, v in copied(original).items() if "running" in k or "tracked" in k})
        if broken:
            assert failed == [8, 8, 4, 4, 4, 4]
    for name, whole in ends[0].items():
        torch.testing.assert_close(ends[1][name], whole)


def test_memory_that_is_too_small_for_one_example_ends_with_advice() -> None:
    original = pictured("test_resnet")
    with learning(original, LEARNED, depth=1, warn=lambda _: None) as (learner, batch):
        _short_of_memory(original, 0, lambda: torch.OutOfMemoryError("CUDA out of memory."))
        with pytest.raises(FeatstoreError, match="one example at a time") as found:
            learner.gradients(batch, seed=0)
        assert "checkpointing" in (found.value.hint or "")


def test_other_errors_of_the_network_are_not_taken_for_memory() -> None:
    original = pictured("test_resnet")
    with learning(original, LEARNED, depth=1) as (learner, batch):
        _short_of_memory(original, 0, lambda: RuntimeError("shapes do not match"))
        with pytest.raises(RuntimeError, match="shapes"):
            learner.gradients(batch, seed=0)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_what_is_computed_again_takes_less_memory_and_gives_the_same_gradients(name: str) -> None:
    found, kept = [], []
    for checkpointing in (False, True):
        bytes_kept = [0]

        def note(tensor: torch.Tensor, bytes_kept: list[int] = bytes_kept) -> torch.Tensor:
            bytes_kept[0] += tensor.numel() * tensor.element_size()
            return tensor

        original = pictured(name)
        with learning(original, LEARNED, depth=5, unfreeze_every=0, checkpointing=checkpointing) as (learner, batch):
            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                learner.gradients(batch, seed=0)
            found.append(gradients(learner))
        kept.append(bytes_kept[0])
        assert all("forward" not in vars(module) for module in original.graph.modules())
    assert kept[1] < kept[0] * 0.75  # weights are among what is kept
    for key, whole in found[0].items():
        torch.testing.assert_close(found[1][key], whole, rtol=1e-4, atol=1e-7)


def test_half_precision_while_training_is_close_and_judging_stays_exact(tmp_path: Path) -> None:
    found, seen = [], []
    for kind in ("off", "bf16"):
        original = pictured()
        layer = original.graph.get_submodule("network.blocks.5.mlp.fc1")
        layer.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
        with learning(original, LEARNED, mixed_precision=kind, depth=2, unfreeze_every=0) as (learner, batch):
            seen.clear()
            learner.gradients(batch, seed=0)
            assert set(seen) == {torch.float32 if kind == "off" else torch.bfloat16}
            found.append(torch.cat([g.flatten() for g in gradients(learner).values()]))
            assert found[-1].dtype == torch.float32
    assert not torch.equal(*found)
    assert torch.nn.functional.cosine_similarity(found[0], found[1], dim=0) > 0.99
    first = [
        trained(pictured(), tmp_path / kind, LEARNED, JUDGED, epochs=1, mixed_precision=kind).epochs[0]
        for kind in ("off", "bf16")
    ]
    assert first[0].validation_loss == first[1].validation_loss
    with pytest.raises(UsageError, match="needs a GPU"):
        trained(pictured(), tmp_path / "fp16", LEARNED, JUDGED, epochs=1, mixed_precision="fp16")


def test_dropout_leaves_values_out_by_the_seed_while_learning_only() -> None:
    original = pictured()
    rates = [m.p for m in original.graph.modules() if isinstance(m, torch.nn.Dropout)]
    before = network.vectors(original, JUDGED)
    losses = []
    with learning(original, LEARNED, dropout=0.5, depth=1) as (learner, batch):
        losses = [learner.gradients(batch, seed=seed).loss for seed in (1, 1, 2)]
        active = [n for n, m in original.graph.named_modules() if isinstance(m, torch.nn.Dropout) and m.training]
        assert active
        assert all(name.startswith("network.blocks.5") for name in active)
    with learning(original, LEARNED, depth=1) as (learner, batch):
        plain = [learner.gradients(batch, seed=seed).loss for seed in (1, 2)]
    assert losses[0] == losses[1] != losses[2]
    assert plain[0] == plain[1] not in losses
    assert [m.p for m in original.graph.modules() if isinstance(m, torch.nn.Dropout)] == rates
    np.testing.assert_array_equal(network.vectors(original, JUDGED), before)


# ── pictures ──────────────────────────────────────────────────────────────────────────────────

HOW = ImagePreprocessing(
    resize=(72, 72), resize_mode="shortest", interpolation="bilinear", crop=(64, 64), mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)  # fmt: skip


def _photograph() -> np.ndarray[Any, np.dtype[np.uint8]]:
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image("china.jpg")[:200, 300:560])


def test_without_augmentation_training_sees_what_extraction_sees() -> None:
    rgb = _photograph()
    found = augmented(rgb, HOW, FinetuneSettings(**PLAIN), draws(0, 0, 0))
    np.testing.assert_array_equal(found, images.fit(rgb, HOW))


@pytest.mark.parametrize(
    "one",
    [{"crop_scale": 0.5}, {"flip": True}, {"rotation": 30.0}, {"color": 0.4}, {"randaugment": 9}],
    ids=lambda one: next(iter(one)),
)
def test_each_augmentation_changes_pixels_by_epoch_and_example_alone(one: dict[str, Any]) -> None:
    rgb, settings = _photograph(), FinetuneSettings(**{**PLAIN, **one})
    plain = images.fit(rgb, HOW)
    found = [augmented(rgb, HOW, settings, draws(0, epoch, 3)) for epoch in range(8)]
    again = [augmented(rgb, HOW, settings, draws(0, epoch, 3)) for epoch in reversed(range(8))][::-1]
    assert all(pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8 for pixels in found)
    np.testing.assert_array_equal(found, again)
    assert any(not np.array_equal(pixels, plain) for pixels in found)
    assert len({pixels.tobytes() for pixels in found}) > 1


def test_a_crop_keeps_its_share_of_the_picture() -> None:
    y, x = np.mgrid[0:100, 0:150]
    rgb = np.stack([y, x, 0 * x], axis=2).astype(np.uint8)
    for least in (0.9, 0.3):
        shares = []
        for epoch in range(60):
            found = augmented(rgb, HOW, FinetuneSettings(flip=False, crop_scale=least), draws(0, epoch, 0)).astype(int)
            height, width = np.ptp(found[..., 0]), np.ptp(found[..., 1])
            shares.append(height * width / (100 * 150))
        assert min(shares) > least - 0.08
        assert min(shares) < least + 0.15


def test_a_flip_is_a_mirror_image_half_of_the_time() -> None:
    rgb = _photograph()
    plain, settings = images.fit(rgb, HOW), FinetuneSettings(crop_scale=1.0, flip=True)
    found = [augmented(rgb, HOW, settings, draws(0, epoch, 0)) for epoch in range(64)]
    mirrored = sum(np.array_equal(pixels, plain[:, ::-1]) for pixels in found)
    assert mirrored + sum(np.array_equal(pixels, plain) for pixels in found) == 64
    assert 16 < mirrored < 48


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_of_randaugment_is_torchvisions(name: str) -> None:
    from torchvision.transforms.v2 import InterpolationMode, RandAugment

    picture = torch.from_numpy(np.array(images.fit(_photograph(), HOW))).permute(2, 0, 1)
    reference = RandAugment(num_ops=1, interpolation=InterpolationMode.BILINEAR, fill=[128, 128, 128])
    theirs = "".join(part.capitalize() for part in name.split("-")).replace("Autocontrast", "AutoContrast")
    magnitudes, _ = reference._AUGMENTATION_SPACE[theirs]
    table = magnitudes(31, 64, 64)
    size = 0.0 if table is None else float(table[15])
    wanted = reference._apply_image_or_video_transform(
        picture, theirs, size, interpolation=InterpolationMode.BILINEAR, fill=reference._fill
    )
    found = changed(picture, name, 0.5, [128, 128, 128])
    assert torch.equal(found, wanted) is True
    assert torch.equal(found, picture) is (name == "identity")


def test_a_stronger_randaugment_changes_more() -> None:
    rgb = _photograph()
    plain = images.fit(rgb, HOW).astype(float)
    means = []
    for magnitude in (1, 10, 30):
        settings = FinetuneSettings(**{**PLAIN, "randaugment": magnitude})
        found = [augmented(rgb, HOW, settings, draws(0, epoch, 0)) for epoch in range(40)]
        means.append(np.mean([np.abs(pixels - plain).mean() for pixels in found]))
    assert means == sorted(means)


def test_training_pixels_change_and_evaluations_never_do() -> None:
    original = pictured("test_resnet")
    settings = FinetuneSettings(crop_scale=0.3, rotation=30, color=0.5, randaugment=9, workers=2)
    rows = [np.arange(8)]

    def seen(augment: bool, epoch: int) -> np.ndarray[Any, Any]:
        [batch] = inputs(original, LEARNED, settings, augment=augment).batches(rows, epoch)
        return np.stack(batch.made)

    assert original.image is not None
    plain = np.stack([images.fit(images.decode(LEARNED.read(i), original.image), original.image) for i in range(8)])
    for epoch in (0, 1):
        np.testing.assert_array_equal(seen(False, epoch), plain)
        assert all(not np.array_equal(a, b) for a, b in zip(seen(True, epoch), plain, strict=True))
    assert not np.array_equal(seen(True, 0), seen(True, 1))
    np.testing.assert_array_equal(seen(True, 1), seen(True, 1))


# ── the end ───────────────────────────────────────────────────────────────────────────────────


def test_patience_ends_a_training_and_the_best_epoch_is_what_stays(tmp_path: Path) -> None:
    original = pictured("test_resnet")
    records: list[FinetuneEpoch] = []
    states: list[dict[str, torch.Tensor]] = []
    found = trained(
        original, tmp_path, LEARNED, JUDGED, epochs=12, patience=2, learning_rate=0.02, head_rate=0.02, depth=2,
        observe=_both(records, states, original),
    )  # fmt: skip
    assert found.stopped_early
    assert len(records) < 12
    merits = [(r.validation_accuracy, -r.validation_loss) for r in found.epochs]
    best = max(range(len(merits)), key=lambda i: (merits[i], -i))
    assert found.best_epoch == found.epochs[best].epoch
    assert [r.epoch for r in found.epochs if r.best] == [found.best_epoch]
    assert len(records) - 1 == max(found.best_epoch, 1) + 2
    wanted = copied(pictured("test_resnet")) if found.best_epoch < 0 else states[found.best_epoch]
    for name, tensor in original.state.items():
        assert torch.equal(tensor, wanted[name])
    vectors = torch.from_numpy(network.vectors(original, JUDGED))
    logits = vectors @ torch.from_numpy(found.head.weight).T + torch.from_numpy(found.head.bias)
    right = float((logits.argmax(dim=1) == torch.from_numpy(JUDGED.truth)).float().mean())
    assert right == pytest.approx(found.epochs[best].validation_accuracy)


def test_a_poisoned_rate_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    original, watcher = pictured("test_resnet"), Watcher()
    before, start = copied(original), fitted(original, LEARNED)
    found = trained(original, tmp_path, LEARNED, JUDGED, head=start, reporter=watcher, learning_rate=1e30, epochs=5)
    assert (found.best_epoch, found.stopped_early) == (-1, True)
    assert any("diverged" in warning for warning in watcher.warnings)
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.state.items())
    np.testing.assert_array_equal(found.head.weight, start.weight)
    assert all(np.isfinite(record.validation_loss) for record in found.epochs)


def test_a_search_can_end_a_training_and_sees_every_epoch(tmp_path: Path) -> None:
    asked: list[tuple[int, float]] = []
    seen: list[int] = []

    def stop(epoch: int, accuracy: float) -> bool:
        asked.append((epoch, accuracy))
        return epoch == 1

    found = trained(
        pictured("test_resnet"), tmp_path, LEARNED, JUDGED, epochs=6, patience=9, stop=stop,
        observe=lambda record: seen.append(record.epoch),
    )  # fmt: skip
    assert found.stopped_early
    assert seen == [0, 1]
    assert asked == [(r.epoch, r.validation_accuracy) for r in found.epochs[1:]]


def test_pictures_are_learned(tmp_path: Path) -> None:
    original = pictured("test_resnet")
    found = trained(
        original, tmp_path, pictures(48), pictures(30, seed=1), start="random", epochs=8, learning_rate=0.02,
        head_rate=0.1, unfreeze_every=0, depth=3, batch=16, patience=9, warmup=0.1, schedule="cosine", **PLAIN,
    )  # fmt: skip
    assert found.epochs[0].validation_accuracy < 0.6
    assert found.epochs[found.best_epoch + 1].validation_accuracy > 0.85
    losses = [record.train_loss for record in found.epochs[1:]]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("lora", [None, 4])
@pytest.mark.parametrize("kind", ["resnet", "vit", "convnext", "dinov2", "siglip_image"])
def test_networks_of_every_library_learn_in_their_top_block_alone(tmp_path: Path, kind: str, lora: int | None) -> None:
    if kind in TINY_VISION:
        original = vision_original(tiny_vision(kind), kind)
    else:
        request = ModelRequest(model=str(vision_folder(tmp_path / kind, kind)))
        original = hf_vision.load(resolve(request.model), request, lambda _: None)
    top = parts(original)[0]
    before = copied(original)
    found = trained(
        original, tmp_path / "run", pictures(48), pictures(30, seed=1), start="random", depth=1, unfreeze_every=0,
        lora=lora, epochs=6, patience=9, learning_rate=1e-2, head_rate=2e-2, batch=16, **PLAIN,
    )  # fmt: skip
    losses = [record.train_loss or 0.0 for record in found.epochs[1:]]
    assert min(losses) < 0.9 * losses[0]
    assert found.best_epoch >= 0
    moved = {name for name, tensor in original.state.items() if not torch.equal(tensor, before[name])}
    assert moved
    own = {_network_name(name) for name in top.parameters}
    assert {_network_name(name) for name in moved} <= own
    assert lora or len(moved) == len(own)


def test_texts_are_learned_whatever_their_lengths(tmp_path: Path) -> None:
    original = written(tmp_path / "bert")
    before = copied(original)
    found = trained(
        original, tmp_path, sentences(60), sentences(30, seed=1), start="random", epochs=8, learning_rate=3e-3,
        head_rate=1e-2, unfreeze_every=0, depth=2, batch=10, micro_batch=4, patience=9,
    )  # fmt: skip
    assert found.epochs[found.best_epoch + 1].validation_accuracy > 0.9
    moved = {name for name, tensor in original.state.items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("encoder.layer") for name in moved)


def test_vectors_are_those_of_the_network_in_the_examples_order(tmp_path: Path) -> None:
    original, examples = written(tmp_path / "bert"), sentences(40)
    found = network.vectors(original, examples)
    assert original.encode is not None
    for row in (0, 7, 39):
        ids = torch.tensor(original.encode([str(examples.read(row))]))
        with torch.no_grad():
            alone = original.graph(ids, torch.ones_like(ids)).numpy()[0]
        np.testing.assert_allclose(found[row], alone, atol=1e-5)
    assert found.dtype == np.float32


# ── adapters ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_merged_adapters_give_the_vectors_of_the_adapted_network(name: str) -> None:
    from featstore.finetune.network.lora import adapted

    original = pictured(name)
    before, plain = copied(original), network.vectors(original, JUDGED)
    modules = [module_name for module_name, _ in original.graph.named_modules()]
    chosen = parts(original)[:3]
    adapters = adapted(original, chosen, network.defaults(FinetuneSettings(lora=4), original, n_train=100))
    np.testing.assert_allclose(network.vectors(original, JUDGED), plain, atol=1e-6)
    with torch.no_grad():
        for place, tensor in adapters.tensors.items():
            if place.endswith("lora_B"):
                tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    unmerged = network.vectors(original, JUDGED)
    adapters.merge()
    assert np.abs(unmerged - plain).max() > 1e-2
    np.testing.assert_allclose(network.vectors(original, JUDGED), unmerged, atol=1e-5, rtol=1e-5)
    assert [module_name for module_name, _ in original.graph.named_modules()] == modules
    moved = {key for key, tensor in original.state.items() if not torch.equal(tensor, before[key])}
    assert moved
    assert all(key.endswith(".weight") and before[key].ndim > 1 for key in moved)


def test_layers_that_change_their_weights_have_no_adapters() -> None:
    from featstore.finetune.network.lora import adapter_shapes

    original = pictured("test_nfnet")
    every = dict(original.graph.get_submodule("network").named_modules())
    adapted = {name.rpartition(".")[0] for part in parts(original) for name in adapter_shapes(part, 4)}
    kinds = {type(module).__name__ for name, module in every.items() if name in adapted}
    assert any("StdConv2d" in type(module).__name__ for module in every.values())
    assert kinds == {"Conv2d"}, "of the attention over channels"


def test_adapters_learn_with_the_weights_beside_them_frozen(tmp_path: Path) -> None:
    original = pictured("test_resnet")
    before = copied(original)
    states: list[dict[str, torch.Tensor]] = []
    found = trained(
        original, tmp_path, LEARNED, JUDGED, lora=2, blocks=("layer4", "layer3"), unfreeze_every=0, epochs=4,
        patience=9, learning_rate=3e-3, head_rate=0.0, observe=lambda _: states.append(copied(original)), **PLAIN,
    )  # fmt: skip
    assert len(states) == 4
    assert all(torch.equal(tensor, before[name]) for state in states for name, tensor in state.items())
    losses = [record.train_loss or 0.0 for record in found.epochs[1:]]
    assert losses[-1] < 0.8 * losses[0]
    assert found.best_epoch >= 0
    moved = {n for n, tensor in original.state.items() if not torch.equal(tensor, before[n])}
    assert {name.split(".")[0] for name in moved} == {"layer4", "layer3"}
    assert all(before[name].ndim == 4 for name in moved)
    blocks = [group for group in found.epochs[-1].groups if group.name.startswith("layer")]
    assert [group.name for group in blocks] == ["layer4", "layer3"]
    assert all(group.parameters < 10_000 for group in blocks)


def test_a_decoders_transposed_layers_are_adapted_too(tmp_path: Path) -> None:
    from featstore.finetune.network.lora import adapted

    request = ModelRequest(model=str(gpt2_folder(tmp_path / "gpt2")))
    original = words.load(resolve(request.model), request, lambda _: None)
    settings = network.defaults(FinetuneSettings(lora=2), original, n_train=100)
    blocks = network.tuned_blocks(original, settings, n_train=100)
    table = network.groups(original, (CLASSES, 32), settings, blocks, epoch=99)
    adapters = adapted(original, parts(original)[:2], settings)
    with torch.no_grad():
        for tensor in adapters.tensors.values():
            tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    examples = sentences(8)
    unmerged = network.vectors(original, examples)
    size = {name: t.numel() for name, t in adapters.tensors.items()}
    adapters.merge()
    np.testing.assert_allclose(network.vectors(original, examples), unmerged, atol=1e-5)
    assert {g.name: g.parameters for g in table}["h.1"] == sum(n for name, n in size.items() if name.startswith("h.1"))


# ── beside training ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lora", [None, 2])
def test_measuring_the_rate_leaves_the_network_as_it_is(lora: int | None) -> None:
    original = pictured("test_efficientnet")
    before, asked = copied(original), [p.requires_grad for p in original.graph.parameters()]
    settings = FinetuneSettings(lora=lora, dropout=0.1, batch_norm="train", workers=2, device="cpu", depth=3)
    blocks = network.tuned_blocks(original, settings, n_train=len(LEARNED))
    learning_seconds, judging_seconds = network.rate(original, LEARNED, settings, blocks)
    assert 0 < judging_seconds < 60
    assert 0 < learning_seconds < 60
    parameters = {name for name, _ in original.graph.get_submodule("network").named_parameters()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.state.items())
    assert parameters
    assert [p.requires_grad for p in original.graph.parameters()] == asked
    assert not any(module.training for module in original.graph.modules())


def test_the_room_is_entered_without_torch() -> None:
    code = "import sys, featstore.finetune.network; sys.exit('torch' in sys.modules or 'peft' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no device 'cuda:77'"):
        trained(pictured("test_resnet"), tmp_path, LEARNED, JUDGED, epochs=1, device="cuda:77")
    assert SETTINGS.device == "cpu"
