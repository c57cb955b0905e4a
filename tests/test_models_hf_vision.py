"""Image folders of transformers against that library, their preprocessing, and what may be changed of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import bert_folder, cosines, images_of, layout_at, original, sketched
from PIL import Image
from sklearn.datasets import load_sample_image
from vision_folders import VISION, vision_folder

from featstore.errors import NotFoundError, UsageError
from featstore.inputs.images_fit import fit
from featstore.layout import Layout
from featstore.models import (
    Backbone,
    ModelOptions,
    ModelRequest,
    ensure,
    hf_images,
    modality_of,
    open_backbone,
)
from featstore.models.pooling import pooled
from featstore.models.samples import pictures
from featstore.records import ModelCard


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("vision")
    return {kind: vision_folder(place / kind, kind) for kind in VISION}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return layout_at(tmp_path_factory.mktemp("store"))


def _keep(layout: Layout, folder: Path, **options: object) -> tuple[ModelCard, Backbone]:
    card = ensure(layout, ModelRequest(model=str(folder), options=ModelOptions(**options)))  # type: ignore[arg-type]
    return card, open_backbone(layout, card, device="cpu")


def _pixels(card: ModelCard, batch: np.ndarray) -> torch.Tensor:
    """The network's input made by hand, one division and one normalisation."""
    assert card.image is not None
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (card.image.mean, card.image.std))
    return (torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255 - mean) / std


def _reference(folder: Path, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    from transformers import AutoModel

    network = AutoModel.from_pretrained(str(folder)).eval()
    with torch.inference_mode():
        found = network(pixel_values=pixels)
    return found.last_hidden_state, found.pooler_output


POOLED = {
    "vit": "cls", "dinov2": "cls", "registers": "cls", "convnext": "pooler", "swin": "pooler", "siglip_image": "pooler"
}  # fmt: skip


@pytest.mark.parametrize(("kind", "pooling"), list(POOLED.items()))
def test_a_folder_gives_what_transformers_gives(folders: dict[str, Path], kind: str, pooling: str) -> None:
    found = original(folders[kind])
    card = sketched(folders[kind])
    assert (card.modality, card.pooling, card.model) == ("image", pooling, f"hf:{kind}")
    assert card.image is not None
    batch = pictures(3, *card.image.crop, seed=5)
    last, pooler = _reference(folders[kind], _pixels(card, batch))
    expected = last[:, 0] if pooling == "cls" else pooler
    assert expected is not None
    np.testing.assert_allclose(images_of(found, batch), expected.flatten(1).numpy(), atol=2e-4)


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [pytest.param(kind, pooling, marks=[] if kind == "vit" else pytest.mark.heavy) for kind, pooling in POOLED.items()],
)
def test_an_exported_folder_gives_what_transformers_gives(
    folders: dict[str, Path], layout: Layout, kind: str, pooling: str
) -> None:
    card, backbone = _keep(layout, folders[kind])
    assert (card.modality, card.pooling, card.model) == ("image", pooling, f"hf:{kind}")
    assert card.image is not None
    batch = pictures(9, *card.image.crop, seed=5)
    last, pooler = _reference(folders[kind], _pixels(card, batch))
    expected = last[:, 0] if pooling == "cls" else pooler
    assert expected is not None
    together = np.concatenate([backbone.images(batch[:1]), backbone.images(batch[1:7]), backbone.images(batch[7:])])
    np.testing.assert_array_equal(together, backbone.images(batch))
    assert cosines(together, expected.flatten(1).numpy()).min() >= 0.9999
    np.testing.assert_allclose(together, expected.flatten(1).numpy(), atol=2e-4)


@pytest.mark.heavy
def test_pooling_and_layers_are_those_of_the_network(folders: dict[str, Path], layout: Layout) -> None:
    from transformers import AutoModel

    folder = folders["registers"]  # a class token and three registers stand before the patches
    own, _ = _keep(layout, folder)
    assert own.image is not None
    batch = pictures(4, *own.image.crop, seed=6)
    last, _ = _reference(folder, _pixels(own, batch))
    assert last.shape[1] == 16 + 1 + 3
    for pooling, expected in (("mean", last[:, 4:].mean(1)), ("max", last[:, 4:].amax(1))):
        card, backbone = _keep(layout, folder, pooling=pooling)
        assert (card.layer, card.pooling) == ("last hidden state", pooling)
        np.testing.assert_allclose(backbone.images(batch), expected.numpy(), atol=1e-4)
    same, _ = _keep(layout, folder, pooling="cls")
    assert same.space_id == own.space_id  # asking for what the model does anyway is no other space
    card, backbone = _keep(layout, folder, layer="encoder.layer.0", pooling="mean")
    network = AutoModel.from_pretrained(str(folder), output_hidden_states=True).eval()
    with torch.inference_mode():
        hidden = network(pixel_values=_pixels(own, batch)).hidden_states[1]
    np.testing.assert_allclose(backbone.images(batch), hidden[:, 4:].mean(1).numpy(), atol=1e-4)
    assert card.onnx.bytes < 0.8 * own.onnx.bytes  # what comes after the layer is not in the graph
    convnext, backbone = _keep(layout, folders["convnext"], pooling="max")
    assert convnext.image is not None
    batch = pictures(3, *convnext.image.crop, seed=7)
    last, _ = _reference(folders["convnext"], _pixels(convnext, batch))
    np.testing.assert_allclose(backbone.images(batch), last.amax((2, 3)).numpy(), atol=1e-4)


def test_a_vector_cut_short_is_the_first_values_of_length_one(folders: dict[str, Path], layout: Layout) -> None:
    card = sketched(folders["vit"], dim=12)
    assert (card.dim, card.normalize, card.space_id.startswith("vit-12d-")) == (12, True, True)
    assert card.image is not None
    batch = pictures(3, *card.image.crop)
    first = images_of(original(folders["vit"]), batch)[:, :12]
    short = images_of(original(folders["vit"], dim=12), batch)
    np.testing.assert_allclose(short, first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-5)
    with pytest.raises(UsageError, match=r"--dim 33: .* gives 32 values"):
        _keep(layout, folders["vit"], dim=33)


@pytest.mark.parametrize("kind", list(VISION))
def test_pictures_are_prepared_as_the_folders_own_processor_prepares_them(folders: dict[str, Path], kind: str) -> None:
    from transformers import AutoImageProcessor

    how = hf_images.preprocessing(folders[kind])
    picture = load_sample_image("china.jpg")[:400, :601]
    ours = fit(picture, how).astype(np.float32) / 255
    ours = (ours - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
    processor = AutoImageProcessor.from_pretrained(str(folders[kind]))
    theirs = processor(Image.fromarray(picture), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 0.02  # a hundredth of the range: the same cut, the same filter
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9995


@pytest.mark.parametrize(
    ("kind", "change", "what"),
    [
        ("vit", {"do_resize": False}, "no resizing"),
        ("vit", {"rescale_factor": 1.0}, "pixels times 1"),
        ("vit", {"resample": 0}, "resampling"),
        ("dinov2", {"size": {"longest_edge": 64}}, "size"),
        ("dinov2", {"do_center_crop": False}, "size"),
    ],
)
def test_other_ways_to_prepare_pictures_are_refused_by_name(
    folders: dict[str, Path], kind: str, change: dict[str, object], what: str, tmp_path: Path
) -> None:
    shutil.copytree(folders[kind], tmp_path / "copy")
    path = tmp_path / "copy" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=what):
        hf_images.preprocessing(tmp_path / "copy")


def test_what_does_not_fit_is_said_plainly(folders: dict[str, Path], layout: Layout, tmp_path: Path) -> None:
    vit = folders["vit"]
    for options, words in (
        ({"layer": "encoder.layer.9"}, "layers.1|nearest|outermost"),
        ({"pooling": "last"}, "takes images"),
        ({"prompt_query": "query: "}, "--prompt-query: .* takes images"),
        ({"layer": "embeddings.patch_embeddings", "pooling": "cls"}, "no class token"),
    ):
        with pytest.raises(UsageError, match=words):
            _keep(layout, vit, **options)
    with pytest.raises(UsageError, match=r"no class token|a map"):
        _keep(layout, folders["swin"], pooling="cls")
    shutil.copytree(vit, tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    with pytest.raises(NotFoundError, match="preprocessor_config"):
        _keep(layout, tmp_path / "vit")
    (tmp_path / "vit" / "config.json").write_text('{"model_type": "vit_mae", "image_size": 64}')
    with pytest.raises(UsageError, match="at random"):
        _keep(layout, tmp_path / "vit")
    (tmp_path / "vit" / "config.json").write_text('{"model_type": "llava", "vision_config": {}, "text_config": {}}')
    with pytest.raises(UsageError, match="llava"):
        _keep(layout, tmp_path / "vit")
    with pytest.raises(UsageError, match="no towers"):
        modality_of(ModelRequest(model=f"hf:{vit}:text"))
    assert modality_of(ModelRequest(model=str(vit))) == "image"
    assert modality_of(ModelRequest(model=str(bert_folder(tmp_path / "bert")))) == "text"


@pytest.mark.heavy
def test_own_weights_for_a_folders_architecture(folders: dict[str, Path], layout: Layout, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = {k: v * 1.5 for k, v in load_file(folders["vit"] / "model.safetensors").items()}
    assert any(name.startswith("vit.") for name in state)  # with a classifier, as fine-tuning leaves it
    save_file(state, tmp_path / "mine.safetensors")
    card = ensure(layout, ModelRequest(model=str(folders["vit"]), weights=tmp_path / "mine.safetensors"))
    assert card.space_id.startswith("vit-custom-")
    assert card.weights.licence == "unknown"
    del state["vit.layernorm.bias"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(UsageError, match=r"missing layernorm\.bias"):
        ensure(layout, ModelRequest(model=str(folders["vit"]), weights=tmp_path / "less.safetensors"))


def _processor(name: str) -> Any:
    import transformers

    return getattr(transformers, name)()


@pytest.mark.parametrize("maker", ["", "Pil"], ids=["torchvision", "pillow"])
@pytest.mark.parametrize("kind", sorted(hf_images._KNOWN))
def test_each_known_processor_cuts_the_very_same_pixels(kind: str, maker: str, tmp_path: Path) -> None:
    if (kind, maker) == ("DINOv3ViT", "Pil"):
        return  # there is none
    processor = _processor(f"{kind}ImageProcessor{maker}")
    processor.save_pretrained(tmp_path)
    how = hf_images.preprocessing(tmp_path)
    for picture in (load_sample_image("china.jpg")[:400, :601], load_sample_image("flower.jpg")[:427, :333]):
        ours = fit(np.ascontiguousarray(picture), how).astype(np.float32) / 255
        ours = (ours - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
        theirs = np.asarray(processor(Image.fromarray(picture), return_tensors="np")["pixel_values"][0])
        assert ours.shape == theirs.transpose(1, 2, 0).shape
        assert np.abs(ours - theirs.transpose(1, 2, 0)).mean() < 0.006  # DINOv3 never rounds to bytes; others < 0.002


@pytest.mark.parametrize(
    "kind", ["EfficientNet", "Levit", "PoolFormer", "Perceiver", "VideoMAE", "ImageGPT", "MobileViT"]
)
def test_a_processor_with_rules_of_its_own_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    _processor(f"{kind}ImageProcessorPil").save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=f"{kind}ImageProcessor.* does not know") as caught:
        hf_images.preprocessing(tmp_path)
    assert "ConvNext" in str(caught.value.hint)


def test_patches_that_fill_no_square_keep_their_class_token(tmp_path: Path) -> None:
    """7 by 9 patches and the class token are 64: a square, but not that of a picture of 28 by 36."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=(28, 36),
        patch_size=4,
    )  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path / "oblong"
    ViTModel(config, add_pooling_layer=False).eval().save_pretrained(folder)
    ViTImageProcessor(size={"height": 28, "width": 36}).save_pretrained(folder)
    card = sketched(folder)
    assert card.pooling == "cls"
    batch = pictures(3, 28, 36)
    last, _ = _reference(folder, _pixels(card, batch))
    np.testing.assert_allclose(images_of(original(folder), batch), last[:, 0].numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("tokens", "prefix", "side", "kind"),
    [
        (64, 1, (28, 36), "cls"), (63, 1, (28, 36), None), (197, 1, (224, 224), "cls"), (196, 1, (224, 224), None),
        (201, 5, (224, 224), "cls"), (50, 1, (448, 224), None), (33, 1, (32, 16), "cls"), (256, 0, (224, 224), None),
    ],
)  # fmt: skip
def test_special_tokens_are_known_by_the_grid_of_the_patches(
    tokens: int, prefix: int, side: tuple[int, int], kind: str | None
) -> None:
    def pool(wanted: str) -> str:
        shape = (1, tokens, 8)
        return pooled(torch.nn.Identity(), wanted, shape=shape, side=side, prefix=prefix, own="mean", what="it")[1]

    if kind == "cls":
        assert pool("cls") == "cls"
    else:
        with pytest.raises(UsageError, match="no class token"):
            pool("cls")
