"""``--decode fast``: a space of its own, whose large JPEGs are reduced by their decoder; small ones are left alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from own_models import SIDE, image_card, image_model, save, text_card, text_model
from PIL import Image
from sklearn.datasets import load_sample_image
from stores import fresh

import featstore
from featstore.encoder import FeatstoreEncoder
from featstore.errors import ItemError, SpaceMismatchError, UsageError
from featstore.inputs import images
from featstore.inputs.images_fit import reduction
from featstore.records import ImagePreprocessing
from featstore.store import Store, Table

EXACT = ImagePreprocessing(
    resize=(256, 256), resize_mode="shortest", interpolation="bicubic", crop=(224, 224), mean=(0, 0, 0), std=(1, 1, 1)
)
FAST = ImagePreprocessing(**{name: getattr(EXACT, name) for name in EXACT.__slots__} | {"decode": "fast"})


def photo(name: str, size: tuple[int, int], part: int = 0) -> Image.Image:
    """A part of a real photograph, enlarged to (width, height)."""
    whole = Image.fromarray(load_sample_image(name))
    left, top = 60 * (part % 3), 50 * (part // 3 % 3)
    return whole.crop((left, top, left + 450, top + 300)).resize(size, Image.Resampling.LANCZOS)


def jpeg(image: Image.Image, **options: object) -> bytes:
    """The file's bytes."""
    out = io.BytesIO()
    image.save(out, "JPEG", **{"quality": 90, **options})
    return out.getvalue()


def turned(content: bytes, orientation: int) -> bytes:
    """The same file with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(io.BytesIO(content)) as picture:
        return jpeg(picture.copy(), exif=exif.tobytes())


def folder_of(path: Path, **pictures: bytes) -> Path:
    path.mkdir()
    for name, content in pictures.items():
        (path / f"{name}.jpg").write_bytes(content)
    return path


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(
    ("size", "how", "step"),
    [
        ((2000, 3000), FAST, 4),
        ((2000, 3000), EXACT, 1),
        ((3072, 4000), FAST, 8),
        ((768, 1200), FAST, 2),
        ((767, 9000), FAST, 1),  # the shorter side decides
        ((375, 500), FAST, 1),
    ],
)
def test_a_side_keeps_one_and_a_half_times_what_it_is_resized_to(
    size: tuple[int, int], how: ImagePreprocessing, step: int
) -> None:
    assert reduction(*size, how) == step
    pixels = images.decode(jpeg(Image.new("RGB", size[::-1], (10, 200, 30))), how)
    assert pixels.shape == (-(-size[0] // step), -(-size[1] // step), 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_may_have_lain_on_any_side(orientation: int) -> None:
    # Exact sizes that differ: height and width must not change places.
    how = ImagePreprocessing(
        resize=(100, 300), resize_mode="exact", interpolation="bilinear", crop=(100, 300), mean=(0, 0, 0),
        std=(1, 1, 1), decode="fast",
    )  # fmt: skip
    content = turned(jpeg(photo("china.jpg", (1200, 800))), orientation)
    whole, reduced = images.decode(content), images.decode(content, how)
    step = reduction(*whole.shape[:2], how)
    assert step == (2 if orientation < 5 else 1)  # 800 × 1200 to 100 × 300, or 1200 × 800
    assert reduced.shape == (whole.shape[0] // step, whole.shape[1] // step, 3)
    assert np.abs(images.fit(whole, how).astype(int) - images.fit(reduced, how)).mean() < 3


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_are_reduced_as_colours_are(mode: str) -> None:
    content = jpeg(photo("flower.jpg", (2400, 1600)).convert(mode))
    whole, reduced = images.decode(content), images.decode(content, FAST)
    assert reduced.shape == (400, 600, 3)
    near = np.abs(images.fit(whole, FAST).astype(int) - images.fit(reduced, FAST))
    assert near.mean() < 2


def test_progressive_pictures_and_other_formats_keep_their_rules() -> None:
    large = photo("china.jpg", (2400, 1600))
    assert images.decode(jpeg(large, progressive=True), FAST).shape == (400, 600, 3)
    out = io.BytesIO()
    large.save(out, "PNG", compress_level=1)
    assert images.decode(out.getvalue(), FAST).shape == (1600, 2400, 3)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_what_exact_decoding_refuses_is_refused_alike(mode: str) -> None:
    content = jpeg(photo("china.jpg", (2400, 1600)).convert(mode))
    for damaged, limit in ((content[: len(content) // 2], None), (content[:200], None), (content, 2400 * 1600 - 1)):
        codes = []
        for how in (EXACT, FAST):
            with pytest.raises(ItemError) as caught:
                images.decode(damaged, how, pixel_limit=limit or images.PIXEL_LIMIT)
            codes.append((caught.value.stage, caught.value.code))
        assert codes[0] == codes[1]


# ── spaces and tables ─────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path, Table, Table]:
    """Two large pictures and a small one, embedded exactly and fast by a network of our own."""
    root = tmp_path_factory.mktemp("fast")
    model = save(root / "model", image_model(), image_card())
    pictures = folder_of(
        root / "pictures",
        a=jpeg(photo("china.jpg", (900, 600))),
        b=jpeg(photo("flower.jpg", (900, 600), 4)),
        small=jpeg(photo("flower.jpg", (60, SIDE + 8), 2)),
    )
    store = featstore.open(root / "store")
    exact = store.extract(pictures, model=str(model), name="pictures")
    return store, model, exact, store.extract(pictures, model=str(model), name="pictures", decode="fast")


def test_fast_is_a_space_of_its_own_and_exact_is_the_one_it_was(own: tuple[Store, Path, Table, Table]) -> None:
    store, model, exact, fast = own
    assert exact.space_id.rpartition("-")[0] + "-fast" == fast.space_id.rpartition("-")[0]
    assert exact.space_id.endswith("-8daf378d")  # as it was before there was another way to decode
    said = store.extract(store_pictures(own), model=str(model), name="pictures", decode="exact")
    assert said.space_id == exact.space_id
    assert said.last_run is not None
    assert said.last_run.stored == 0


def store_pictures(own: tuple[Store, Path, Table, Table]) -> Path:
    return own[1].parent.parent / "pictures"


def test_small_pictures_have_the_same_vectors_and_large_ones_are_near(own: tuple[Store, Path, Table, Table]) -> None:
    _, _, exact, fast = own
    (ids, plain), (same, quick) = exact.matrix(), fast.matrix()
    assert list(ids) == list(same)
    for at, item in enumerate(ids):
        if str(item).startswith("small"):
            assert np.array_equal(plain[at], quick[at])
        else:
            assert not np.array_equal(plain[at], quick[at])
            assert cosine(plain[at], quick[at]) > 0.999


def test_a_picture_finds_itself_and_vectors_of_the_other_way_are_refused(
    own: tuple[Store, Path, Table, Table], tmp_path: Path
) -> None:
    _, _, exact, fast = own
    (hit,) = fast.search(image=store_pictures(own) / "a.jpg", k=1).to_dicts()
    assert (hit["item_id"], round(hit["score"], 5)) == ("a.jpg", 1.0)
    out = tmp_path / "exact.parquet"
    exact.export(out)
    with pytest.raises(SpaceMismatchError):
        fast.search(vectors=out, k=1)
    with pytest.raises(SpaceMismatchError):
        fast.search(image=store_pictures(own) / "a.jpg", k=1, model=exact.space_id)


def test_the_encoder_of_pipelines_reads_as_the_table_does(own: tuple[Store, Path, Table, Table]) -> None:
    store, _, _, fast = own
    encoder = FeatstoreEncoder(store=str(store.path), model=str(own[1]), decode="fast", memory_mb=0)
    ids, matrix = fast.matrix()
    found = encoder.fit_transform([str(store_pictures(own) / str(item)) for item in ids])
    assert np.array_equal(np.asarray(found), matrix)


def test_texts_are_not_decoded(tmp_path: Path) -> None:
    words = save(tmp_path / "words", text_model(), text_card())
    (tmp_path / "texts.csv").write_text("id,text\na,a cat sat\n")
    store = featstore.open(tmp_path / "store")
    with pytest.raises(UsageError, match=r"--decode fast: .* takes texts"):
        store.extract(tmp_path / "texts.csv", model=str(words), text_column="text", id_column="id", decode="fast")


@pytest.mark.heavy
def test_a_packaged_network_reads_large_photographs_fast(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    pictures = folder_of(
        tmp_path / "pictures",
        **{f"{n}{at}": jpeg(photo(f"{n}.jpg", (3000, 2000), at)) for n in ("china", "flower") for at in range(2)},
        small=jpeg(photo("china.jpg", (500, 375))),
    )
    exact = store.extract(pictures, model="efficientnet_lite0", name="pictures")
    assert exact.space_id == "efficientnet_lite0-imagenet1k-23232fc3"
    fast = store.extract(pictures, model="efficientnet_lite0", name="pictures", decode="fast")
    assert fast.space_id.startswith("efficientnet_lite0-imagenet1k-fast-")
    (ids, plain), (_, quick) = exact.matrix(), fast.matrix()
    for at, item in enumerate(ids):
        near = cosine(plain[at], quick[at])
        assert near == pytest.approx(1, abs=1e-6) if str(item) == "small.jpg" else 0.998 < near < 0.999999
    (hit,) = fast.search(image=pictures / "china1.jpg", k=1).to_dicts()
    assert (hit["item_id"], round(hit["score"], 4)) == ("china1.jpg", 1.0)
    assert store.verify([f"pictures@{fast.space_id}"], sample=5).ok
