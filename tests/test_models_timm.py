"""timm's backbones against timm: vectors, preprocessing, pooling and layers, and refusals before a download."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from model_fixtures import cosines, images_of, layout_at, original, sketched

from featstore.errors import NotFoundError, UsageError
from featstore.layout import Layout
from featstore.models import (
    Backbone,
    ModelOptions,
    ModelRequest,
    catalog,
    ensure,
    entry,
    hub,
    modality_of,
    open_backbone,
    timm_names,
    timm_vision,
)
from featstore.models.catalog import PACKAGES, resolve
from featstore.models.samples import pictures
from featstore.records import ModelCard

TINY = ("test_vit", "test_convnext", "test_efficientnet")  # timm's own smallest, at 160 pixels


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import timm

    place = tmp_path_factory.mktemp("weights")
    for name in TINY:
        torch.manual_seed(0)
        network = timm.create_model(name)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.running_mean, std=0.1)
        torch.save(network.state_dict(), place / f"{name}.pth")
    return {name: place / f"{name}.pth" for name in TINY}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return layout_at(tmp_path_factory.mktemp("store"))


def _keep(layout: Layout, name: str, file: Path, **options: object) -> tuple[ModelCard, Backbone]:
    request = ModelRequest(model=f"timm:{name}", weights=file, options=ModelOptions(**options))  # type: ignore[arg-type]
    card = ensure(layout, request)
    return card, open_backbone(layout, card, device="cpu")


def _network(name: str, file: Path) -> torch.nn.Module:
    import timm

    network = timm.create_model(name)
    network.load_state_dict(torch.load(file, weights_only=True))
    network.reset_classifier(0)
    return network.eval()


def _pixels(card: ModelCard, batch: np.ndarray) -> torch.Tensor:
    assert card.image is not None
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (card.image.mean, card.image.std))
    return (torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255 - mean) / std


@pytest.mark.parametrize("name", TINY)
def test_a_backbone_gives_what_timm_gives(name: str, files: dict[str, Path]) -> None:
    card = sketched(f"timm:{name}", files[name])
    assert card.image is not None
    assert (card.image.resize, card.image.crop, card.image.interpolation) == ((168, 168), (160, 160), "bicubic")
    assert card.space_id.startswith(f"{name}-custom-")
    assert card.weights.licence == "unknown"  # a file of whoever's
    batch = pictures(3, 160, 160, seed=3)
    with torch.inference_mode():
        expected = _network(name, files[name])(_pixels(card, batch)).numpy()
    np.testing.assert_allclose(images_of(original(f"timm:{name}", files[name]), batch), expected, atol=1e-3)


@pytest.mark.parametrize("name", [TINY[0], *(pytest.param(name, marks=pytest.mark.heavy) for name in TINY[1:])])
def test_an_export_gives_what_timm_gives_whatever_the_batch(name: str, files: dict[str, Path], layout: Layout) -> None:
    card, backbone = _keep(layout, name, files[name])
    assert card.space_id == sketched(f"timm:{name}", files[name]).space_id
    batch = pictures(9, 160, 160, seed=3)
    with torch.inference_mode():
        expected = _network(name, files[name])(_pixels(card, batch)).numpy()
    together = np.concatenate([backbone.images(batch[:1]), backbone.images(batch[1:7]), backbone.images(batch[7:])])
    np.testing.assert_array_equal(together, backbone.images(batch))
    assert cosines(together, expected).min() >= 0.9999
    np.testing.assert_allclose(together, expected, atol=1e-3)


@pytest.mark.heavy
def test_tokens_maps_and_named_layers_are_pooled_as_asked(files: dict[str, Path], layout: Layout) -> None:
    batch = pictures(3, 160, 160, seed=4)
    own, _ = _keep(layout, "test_vit", files["test_vit"])
    assert own.pooling == "cls"
    with torch.inference_mode():
        vit = _network("test_vit", files["test_vit"])
        tokens = vit.forward_features(_pixels(own, batch))
        seen: list[torch.Tensor] = []
        vit.blocks[1].register_forward_hook(lambda _, __, out: seen.append(out))
        vit(_pixels(own, batch))
    card, backbone = _keep(layout, "test_vit", files["test_vit"], pooling="mean")
    np.testing.assert_allclose(backbone.images(batch), tokens[:, 1:].mean(1).numpy(), atol=1e-4)
    card, backbone = _keep(layout, "test_vit", files["test_vit"], layer="blocks.1", pooling="max", dim=20)
    expected = torch.nn.functional.normalize(seen[0][:, 1:].amax(1)[:, :20], dim=1)
    np.testing.assert_allclose(backbone.images(batch), expected.numpy(), atol=1e-4)
    assert card.layer == "blocks.1 > first 20 > normalize"
    assert "blocks.1-max-20d" in card.space_id
    with torch.inference_mode():
        network = _network("test_convnext", files["test_convnext"])
        maps = network.forward_features(_pixels(card, batch))
    _, backbone = _keep(layout, "test_convnext", files["test_convnext"], pooling="max")
    np.testing.assert_allclose(backbone.images(batch), maps.amax((2, 3)).numpy(), atol=1e-4)
    assert _keep(layout, "test_vit", files["test_vit"], pooling="cls")[0].space_id == own.space_id


@pytest.mark.heavy
def test_real_weights_from_their_package_are_the_same_space_through_timm(layout: Layout) -> None:
    packaged = ensure(layout, ModelRequest(model="efficientnet_lite0"))
    card, _ = _keep(layout, "tf_efficientnet_lite0", PACKAGES["efficientnet_lite0"].locate())
    assert card == packaged
    assert card.weights.parameters == PACKAGES["efficientnet_lite0"].parameters


def test_siglips_attention_pooling_and_dinov2_go_the_same_way(tmp_path: Path) -> None:
    """The real ones are large; the same classes, small, loaded through the filter that timm uses for them."""
    from timm.models.vision_transformer import VisionTransformer

    small = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    for options, own, features in (
        ({"global_pool": "map", "class_token": False}, "attention", 16),
        ({"init_values": 1e-5, "reg_tokens": 4}, "cls", 16 + 5),
    ):
        torch.manual_seed(0)
        network = VisionTransformer(**small, num_classes=0, **options).eval()
        path = tmp_path / f"{own}.pth"
        torch.save(network.state_dict(), path)
        torch.manual_seed(1)
        other = VisionTransformer(**small, num_classes=0, **options).eval()
        timm_vision._fill(other, torch.load(path, weights_only=True), path, ("head",))
        with torch.inference_mode():
            picture = torch.randn(2, 3, 32, 32)
            assert torch.equal(network(picture), other(picture))
            found = timm_names.features(other)
            assert found is not None
            assert found[1](picture).shape[1] == features
        assert timm_vision._own_pooling(other) == own


@pytest.mark.parametrize(
    "name",
    [
        "vit_small_patch14_dinov2.lvd142m",
        "vit_base_patch16_siglip_224.v2_webli",
        "convnext_tiny.in12k_ft_in1k",
        "swin_tiny_patch4_window7_224",
        "resnet50.a1_in1k",
        "eva02_tiny_patch14_336.mim_in22k_ft_in1k",
    ],
)
def test_pictures_are_prepared_as_timms_own_transform_prepares_them(name: str) -> None:
    from PIL import Image
    from sklearn.datasets import load_sample_image
    from timm.data import create_transform, resolve_data_config

    from featstore.inputs.images_fit import fit

    _, configuration = timm_names.understand(name)
    how = timm_vision.preprocessing(configuration, name)
    picture = load_sample_image("flower.jpg")[:401, :600]
    theirs = create_transform(**resolve_data_config(pretrained_cfg=configuration.to_dict()))(Image.fromarray(picture))
    ours = fit(picture, how).astype(np.float32) / 255
    ours = (ours - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
    assert ours.shape == theirs.permute(1, 2, 0).shape
    assert np.abs(ours - theirs.permute(1, 2, 0).numpy()).max() < 0.05


def test_what_does_not_fit_is_refused_before_anything_is_downloaded(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("featstore.models.hf_hub.file", no_network)
    monkeypatch.setattr(hub, "fetch", no_network)
    for model, options, kind, words in (
        ("timm:test_vitt", {}, NotFoundError, "Nearest: test_vit"),
        ("timm:test_vit.nothing", {}, NotFoundError, "it has r160_in1k"),
        ("timm:test_vit", {"layer": "blokcs.1"}, UsageError, r"nearest: .*blocks\.1"),
        ("timm:test_vit", {"dim": 65}, UsageError, "gives 64 values"),
        ("timm:test_convnext", {"pooling": "cls"}, UsageError, "gives a map of 64x5x5"),
        ("timm:test_vit", {"layer": "blocks.0.attn.q_norm"}, UsageError, "blocks.0.attn.q_norm"),
        ("timm:test_vit", {"prompt_document": "a"}, UsageError, "prompts are for texts"),
        ("squeezenet1_1", {"layer": "featurs.3"}, UsageError, r"nearest: features\.3"),
        ("alexnet", {"pooling": "mean"}, UsageError, "Name what to pool|neither a last map"),
        ("squeezenet1_1", {"dim": 513}, UsageError, "gives 512 values"),
    ):
        request = ModelRequest(model=model, options=ModelOptions(**options))  # type: ignore[arg-type]
        with pytest.raises(kind, match=words):
            ensure(layout, request)


def test_weights_of_another_network_are_refused(files: dict[str, Path], layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"test_convnext\.pth do not fit"):
        _keep(layout, "test_vit", files["test_convnext"])
    state = torch.load(files["test_vit"], weights_only=True)
    del state["blocks.0.norm1.bias"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(UsageError, match=r"missing blocks\.0\.norm1\.bias"):
        _keep(layout, "test_vit", tmp_path / "less.pth")


@pytest.mark.heavy
def test_torchvision_takes_the_same_options(layout: Layout, tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    network = squeezenet1_1().eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    batch = pictures(2, 224, 224, seed=2)
    for options, layer, expected in (
        ({"pooling": "max"}, "features", lambda x: network.features(x).amax((2, 3))),
        ({"layer": "features.4"}, "features.4", lambda x: network.features[:5](x).mean((2, 3))),
    ):
        request = ModelRequest(model="squeezenet1_1", weights=tmp_path / "w.pth", options=ModelOptions(**options))
        card = ensure(layout, request)
        assert card.layer == layer
        with torch.inference_mode():
            wanted = expected(_pixels(card, batch)).numpy()
        np.testing.assert_allclose(open_backbone(layout, card, device="cpu").images(batch), wanted, atol=1e-3)


def test_names_are_searched_only_where_timm_is_asked_for() -> None:
    script = """
import sys
from featstore.models import catalog, modality_of, ModelRequest
assert not [line for line in catalog(["vit"]) if line.name.startswith("timm:")]
assert modality_of(ModelRequest(model="timm:anything")) == "image"
assert "torch" not in sys.modules and "timm" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    found = {line.name: line for line in catalog(["timm:test_vit"]) if line.origin == "timm"}
    line = found["timm:test_vit"]
    assert (line.dim, line.input_side, line.parameters, line.licence) == (64, 160, 306_240, "apache-2.0")
    assert line.weights[0] == "r160_in1k"
    described = entry("timm:vit_small_patch14_dinov2.lvd142m")
    assert described is not None
    assert (described.dim, described.input_side, described.parameters) == (384, 518, 22_056_192)
    assert described.weights == ("lvd142m",)
    resnet = entry("resnet50:IMAGENET1K_V2")
    assert resnet is not None
    assert resnet.parameters == 23_508_032
    assert timm_names.training_data("laion2b_ft_in12k_in1k") == "LAION-2B, then ImageNet-12k, then ImageNet-1k"
    assert modality_of(ModelRequest(model="timm:test_vit")) == "image"


def test_a_distilled_network_averages_two_tokens_unless_it_is_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm
    from timm.models.deit import VisionTransformerDistilled

    name = "deit_tiny_distilled_patch16_224"

    def tiny(*_: object, **__: object) -> torch.nn.Module:
        torch.manual_seed(0)
        network = VisionTransformerDistilled(embed_dim=16, depth=1, num_heads=2, num_classes=0, weight_init="skip")
        for parameter in network.parameters():  # some are never set but by weights
            torch.nn.init.normal_(parameter, std=0.1)
        return network.eval()

    monkeypatch.setattr(timm_names, "create", tiny)
    network = tiny()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    assert timm.is_model(name)
    pixels = torch.rand(2, 3, 224, 224)

    def vectors(**options: object) -> tuple[str, torch.Tensor]:
        request = ModelRequest(model=f"timm:{name}", weights=tmp_path / "w.pth", options=ModelOptions(**options))  # type: ignore[arg-type]
        original = timm_vision.load(resolve(request.model), request, lambda _: None)
        assert original.image is not None
        given = (pixels * 255).to(torch.uint8).permute(0, 2, 3, 1)
        with torch.inference_mode():
            return original.pooling, original.graph(given)

    mean, std = (torch.tensor(timm.get_pretrained_cfg(name).to_dict()[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.inference_mode():
        tokens = network.forward_features(((pixels * 255).to(torch.uint8).float() / 255 - mean) / std)
    own, both = vectors()
    assert own == "own"
    torch.testing.assert_close(both, tokens[:, :2].mean(1), atol=1e-4, rtol=1e-4)
    kind, first = vectors(pooling="cls")
    assert kind == "cls"
    torch.testing.assert_close(first, tokens[:, 0], atol=1e-4, rtol=1e-4)
