"""CLIP and SigLIP as two towers, against transformers; and the layer's capture by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from model_fixtures import SENTENCES, cosines, images_of, layout_at, original, sketched, texts_of, tokens
from vision_folders import clip_folder, siglip_folder

from featstore.errors import UsageError
from featstore.layout import Layout
from featstore.models import ModelOptions, ModelRequest, ensure, layers, modality_of, open_backbone, towers
from featstore.models.catalog import resolve
from featstore.models.samples import pictures
from featstore.records import ModelCard


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("towers")
    return {"clip": clip_folder(place / "clip"), "siglip": siglip_folder(place / "siglip")}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return layout_at(tmp_path_factory.mktemp("store"))


def _keep(layout: Layout, folder: Path, tower: str, **options: object) -> ModelCard:
    return ensure(layout, ModelRequest(model=f"hf:{folder}{tower}", options=ModelOptions(**options)))  # type: ignore[arg-type]


def _reference(folder: Path, *, pixels: torch.Tensor | None = None, ids: torch.Tensor | None = None) -> np.ndarray:
    """The library's own features; one text at a time, filled up as the model was trained."""
    from transformers import AutoModel

    network = AutoModel.from_pretrained(str(folder)).eval()
    with torch.inference_mode():
        found = network.get_image_features(pixels) if pixels is not None else network.get_text_features(ids)
    return torch.nn.functional.normalize(found.pooler_output, dim=1).numpy()


def _pixels(card: ModelCard, batch: np.ndarray) -> torch.Tensor:
    assert card.image is not None
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (card.image.mean, card.image.std))
    return (torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255 - mean) / std


def test_both_towers_of_clip_give_the_librarys_features_and_share_a_space(folders: dict[str, Path]) -> None:
    folder = folders["clip"]
    seen, read = (f"hf:{folder}:{tower}" for tower in ("image", "text"))
    cards = sketched(seen), sketched(read)
    assert cards[0].joint_id is not None
    assert cards[0].joint_id == cards[1].joint_id
    assert cards[0].image is not None
    batch = pictures(3, *cards[0].image.crop, seed=8)
    expected = _reference(folder, pixels=_pixels(cards[0], batch))
    np.testing.assert_allclose(images_of(original(seen), batch), expected, atol=1e-5)
    texts = original(read)
    assert texts.encode is not None
    expected = np.concatenate([_reference(folder, ids=torch.tensor([ids])) for ids in texts.encode(SENTENCES)])
    assert cosines(texts_of(texts, SENTENCES), expected).min() >= 0.9999


@pytest.mark.parametrize("kind", [pytest.param("clip", marks=pytest.mark.heavy), "siglip"])
def test_both_towers_give_the_librarys_features_and_share_a_space(
    kind: str, folders: dict[str, Path], layout: Layout
) -> None:
    folder = folders[kind]
    seen, read = _keep(layout, folder, ":image"), _keep(layout, folder, ":text")
    assert _keep(layout, folder, "") == seen  # the image tower is the default
    assert (seen.modality, read.modality, seen.normalize, read.normalize) == ("image", "text", True, True)
    assert seen.joint_id is not None
    assert seen.joint_id == read.joint_id
    assert seen.space_id != read.space_id
    assert seen.dim == read.dim == (24 if kind == "clip" else 32)
    assert (seen.model, read.model) == (f"hf:{kind}:image", f"hf:{kind}:text")

    assert seen.image is not None
    batch = pictures(5, *seen.image.crop, seed=8)
    found = open_backbone(layout, seen, device="cpu").images(batch)
    np.testing.assert_allclose(found, _reference(folder, pixels=_pixels(seen, batch)), atol=1e-5)

    assert read.text is not None
    ids, mask = tokens(layout, read, SENTENCES)
    backbone = open_backbone(layout, read, device="cpu")
    together = backbone.texts(ids, mask)
    for row, expected in enumerate(together):
        own = ids[row][mask[row] == 1]
        np.testing.assert_allclose(backbone.texts(own[None], np.ones_like(own)[None])[0], expected, atol=1e-5)
        if kind == "siglip":  # which was trained on texts of full length
            own = np.concatenate([own, np.full(16 - len(own), read.text.pad_token_id)])
        assert cosines(_reference(folder, ids=torch.from_numpy(own[None])), expected[None]).min() >= 0.9999


def test_siglips_texts_are_lowered_and_lose_their_punctuation(folders: dict[str, Path], layout: Layout) -> None:
    card = _keep(layout, folders["siglip"], ":text")
    ids, _ = tokens(layout, card, ["The CAT,  sat - on (the) mat!", "the cat sat on the mat"])
    assert ids[0].tolist() == ids[1].tolist()


def test_a_text_tower_needs_its_tokenizers_file(folders: dict[str, Path], layout: Layout, tmp_path: Path) -> None:
    shutil.copytree(folders["siglip"], tmp_path / "copy")
    (tmp_path / "copy" / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match=r"spiece\.model"):
        _keep(layout, tmp_path / "copy", ":text")


@pytest.mark.heavy
def test_options_of_a_tower(folders: dict[str, Path], layout: Layout) -> None:
    folder = folders["clip"]
    assert modality_of(ModelRequest(model=str(folder))) == "image"
    assert modality_of(ModelRequest(model=f"{folder}:text")) == "text"
    short = [_keep(layout, folder, tower, dim=8) for tower in (":image", ":text")]
    assert short[0].joint_id == short[1].joint_id != _keep(layout, folder, "").joint_id
    assert {card.dim for card in short} == {8}
    prompted = _keep(layout, folder, ":text", prompt_query="a photo of a ")
    assert prompted.text is not None
    assert prompted.text.prompt_query == "a photo of a "
    assert prompted.joint_id == _keep(layout, folder, ":text").joint_id
    inside = _keep(layout, folder, "", layer="vision_model.encoder.layers.0")
    assert (inside.joint_id, inside.normalize, inside.dim) == (None, False, 32)
    for tower, options in ((":text", {"layer": "x"}), (":text", {"pooling": "mean"}), (":image", {"pooling": "mean"})):
        with pytest.raises(UsageError, match="projection"):
            _keep(layout, folder, tower, **options)


def test_a_layer_is_captured_by_its_name() -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.act, self.second = torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 3)
            self.unused = torch.nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
            return self.act(self.second(self.act(self.first(x)))), "more"

    network, x = Network(), torch.randn(2, 4)
    assert torch.equal(layers.capture(network, "first")(x), network.first(x))
    assert torch.equal(layers.capture(network, "act")(x), network(x)[0])  # the last time it ran
    with pytest.raises(UsageError, match="nearest: second"):
        layers.capture(network, "secnd")
    with pytest.raises(UsageError, match="outermost layers: first, act"):
        layers.capture(network, "zzz")
    with pytest.raises(UsageError, match="never runs"):
        layers.capture(network, "unused")(x)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_towers_belong_together_by_what_they_compute_and_not_by_their_folder(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    def joint(folder: Path) -> str | None:
        request = ModelRequest(model=f"hf:{folder}:text")
        return towers.load(resolve(request.model), request, lambda _: None).joint_id

    own = joint(folders[kind])
    assert own is not None
    shutil.copytree(folders[kind], tmp_path / "renamed")
    assert joint(tmp_path / "renamed") == own
    config = json.loads((tmp_path / "renamed" / "config.json").read_text())
    for part in ("vision_config", "text_config"):
        changed = {**config, part: {**config[part], "hidden_act": "relu"}}
        (tmp_path / "renamed" / "config.json").write_text(json.dumps(changed))
        assert joint(tmp_path / "renamed") != own
