"""Image backbones: what is exported computes what torchvision and timm compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_fixtures import PIXELS, TINY_VISION, cosines, images_of, keep, layout_at, tiny_vision, vision_original
from sklearn.datasets import load_sample_image
from stores import copy_models

from featstore.errors import UsageError
from featstore.layout import Layout
from featstore.models import Backbone, ModelRequest, catalog, ensure, making, open_backbone
from featstore.models.names import HEADS, TORCHVISION
from featstore.models.samples import pictures
from featstore.records import ModelCard


def _last_layers_input(network: torch.nn.Module, family: str, batch: np.ndarray) -> np.ndarray:
    """What the whole network gives its last layer, for pictures prepared by torchvision."""
    from torchvision.transforms.v2 import functional as transforms

    seen: list[torch.Tensor] = []
    hook = network.get_submodule(HEADS[family]).register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.inference_mode():
        pixels = transforms.to_dtype(torch.from_numpy(batch).permute(0, 3, 1, 2), torch.float32, scale=True)
        network(transforms.normalize(pixels, list(PIXELS.mean), list(PIXELS.std)))
    hook.remove()
    return seen[0].numpy()


@pytest.mark.parametrize("family", sorted(TINY_VISION))
def test_a_tiny_network_of_each_family_gives_the_input_of_its_last_layer(family: str) -> None:
    network, batch = tiny_vision(family), pictures(3, *PIXELS.crop, seed=5)
    expected = _last_layers_input(network, family, batch)
    found = images_of(vision_original(network, family), batch)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[] if f == "resnet" else pytest.mark.heavy) for f in sorted(TINY_VISION)]
)
def test_an_exported_network_gives_the_input_of_its_last_layer(family: str, tmp_path: Path) -> None:
    network, batch = tiny_vision(family), pictures(9, *PIXELS.crop, seed=5)
    expected = _last_layers_input(network, family, batch)
    layout = layout_at(tmp_path)
    card = making.keep(layout, vision_original(network, family), lambda _: None)
    backbone = open_backbone(layout, card, device="cpu")
    found = backbone.images(batch)

    assert found.shape == (9, card.dim)
    assert card.parity.min_cosine >= 0.9999
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())
    assert cosines(found, expected).min() >= 0.9999
    for size in (1, 2, 4):  # the same bytes in whatever company
        assert np.array_equal(np.concatenate([backbone.images(batch[i : i + size]) for i in range(0, 9, size)]), found)


@pytest.fixture(scope="module")
def lite0(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, ModelCard, Backbone]:
    layout = layout_at(copy_models(model_store, tmp_path_factory.mktemp("lite0"), "efficientnet_lite0"))
    return layout, *keep(layout, "efficientnet_lite0")


def test_lite0_equals_timm_and_knows_what_it_sees(lite0: tuple[Layout, ModelCard, Backbone]) -> None:
    import timm
    from PIL import Image
    from timm.data import create_transform, resolve_model_data_config

    from featstore.models import weights
    from featstore.models.catalog import PACKAGES

    _, card, backbone = lite0
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    path = PACKAGES["efficientnet_lite0"].locate()
    network.load_state_dict(weights.in_order(network, weights.read(path), source="package"), strict=False)
    how = resolve_model_data_config(network)
    assert card.image is not None
    assert (card.image.mean, card.image.std, card.image.interpolation) == (
        how["mean"],
        how["std"],
        how["interpolation"],
    )
    assert round(card.image.crop[0] / card.image.resize[0], 3) == how["crop_pct"]
    transform = create_transform(**how)
    # ImageNet: 985 daisy; 698 palace, 663 monastery, 442 bell cote (the pagoda has no class of its own)
    for name, classes in (("flower.jpg", {985}), ("china.jpg", {698, 663, 442})):
        pixels = transform(Image.fromarray(load_sample_image(name)))
        with torch.inference_mode():
            expected = network.forward_head(network.forward_features(pixels[None]), pre_logits=True).numpy()
        raw = ((pixels * 0.5 + 0.5) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        found = backbone.images(raw[None])
        assert cosines(found, expected).min() > 0.9999
        logits = network.get_classifier()(torch.from_numpy(found))
        assert int(logits.argmax()) in classes


def test_vectors_do_not_depend_on_batch_padding_or_threads(lite0: tuple[Layout, ModelCard, Backbone]) -> None:
    layout, card, backbone = lite0
    batch = pictures(8, 224, 224, seed=3)
    eight = backbone.images(batch)
    padded = np.concatenate([batch[:3], np.zeros((5, 224, 224, 3), np.uint8)])
    assert np.array_equal(backbone.images(padded)[:3], eight[:3])
    assert np.array_equal(np.concatenate([backbone.images(batch[i : i + 1]) for i in range(8)]), eight)
    assert np.array_equal(backbone.images(batch[::-1])[::-1], eight)
    assert np.array_equal(open_backbone(layout, card, device="cpu", threads=2).images(batch), eight)
    assert backbone.images(batch[:0]).shape == (0, 1280)


def test_a_batch_of_another_shape_or_type_is_refused(lite0: tuple[Layout, ModelCard, Backbone]) -> None:
    _, _, backbone = lite0
    with pytest.raises(UsageError, match="224"):
        backbone.images(np.zeros((1, 64, 64, 3), np.uint8))
    with pytest.raises(UsageError, match="uint8"):
        backbone.images(np.zeros((1, 224, 224, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not texts"):
        backbone.texts(np.ones((1, 2), np.int64), np.ones((1, 2), np.int64))


def test_the_table_of_names_is_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    listed = {entry.name for entry in catalog() if entry.origin == "torchvision"}
    assert listed == set(models.list_models(module=models))
    for name, (_, _, side, tags) in TORCHVISION.items():
        official = {w.name: w for w in models.get_model_weights(name) if w.name != "IMAGENET1K_FEATURES"}
        assert {f"IMAGENET1K_{tag}" for tag in tags.split()} == set(official)
        assert official[f"IMAGENET1K_{tags.split()[0]}"].transforms().crop_size == [side]


def _without_training(network_name: str) -> torch.nn.Module:
    from torchvision import models

    options = {"init_weights": False} if network_name in ("googlenet", "inception_v3") else {}
    return models.get_model(network_name, weights=None, **options)


def test_the_dimensions_in_the_table_are_those_of_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore.models.vision import penultimate

    for name in dir(torch.nn.init):  # untouched memory costs nothing, so even the largest fit
        if name.endswith("_") and not name.startswith("_"):
            monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    for name in ("alexnet", "densenet121", "maxvit_t", "mobilenet_v3_small", "regnet_y_128gf", "swin_t", "vit_h_14"):
        family, dim, _, _ = TORCHVISION[name]
        network = _without_training(name)
        assert network.get_submodule(HEADS[family]).in_features == dim
        penultimate(network, family)
        assert isinstance(network.get_submodule(HEADS[family]), torch.nn.Identity)


SWEEP = (
    *("squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf"),
    *("densenet121", "efficientnet_b0", "googlenet", "inception_v3", "convnext_tiny", "swin_t", "maxvit_t"),
    *("vit_b_32", "alexnet"),
)


@pytest.mark.heavy
@pytest.mark.parametrize("name", SWEEP)
def test_each_architecture_is_exported_from_a_weights_file(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(_without_training(name).state_dict(), tmp_path / "weights.pth")
    card = ensure(layout_at(tmp_path), ModelRequest(model=name, weights=tmp_path / "weights.pth"))
    assert card.dim == TORCHVISION[name][1]
    assert card.parity.min_cosine >= 0.9999
