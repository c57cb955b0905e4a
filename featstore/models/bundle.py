"""One file with a whole model, for a host without a network: ``NAME.featstore``.

An uncompressed zip of the files that a store keeps of a model (graph, tokenizer, canaries, card), a note on the
licence, and ``bundle.json`` with the hash of each. Reading it trusts nothing that it says of itself.
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from featstore.errors import IntegrityError, NotFoundError, StorageError, UsageError
from featstore.layout import Layout
from featstore.models import joining, kept, parity, session, sound
from featstore.models.catalog import ModelOptions, ModelRequest
from featstore.records import Artefact, Bundle, ModelCard, ModelExport
from featstore.storage import documents, durable

__all__ = ["SUFFIX", "check_request", "keep", "peek", "write", "write_out"]

SUFFIX = ".featstore"

_MANIFEST = "bundle.json"
_LARGEST = {
    _MANIFEST: 1 << 20,
    "card.json": 1 << 20,
    kept.LICENCE: 1 << 20,
    "tokenizer.json": 1 << 28,
    "canaries.safetensors": 1 << 28,
    "model.onnx": (1 << 31) - 1,
    kept.WEIGHTS: (1 << 31) - 1,
}
"""What a bundle may hold, and the most bytes of each."""

_MOMENT = (1980, 1, 1, 0, 0, 0)


def write(layout: Layout, card: ModelCard, target: Path) -> Artefact:
    """Writes a model, verified, into one file; the same model of the same store gives the same bytes.

    Args:
        layout: The store.
        card: The model's card.
        target: The file; an existing one is replaced.

    Returns:
        The file's name, size and hash.

    Raises:
        IntegrityError: A file of the model is missing or damaged; nothing is written then.
        StorageError: The disk refused.
    """
    files = kept.contents(layout, card)
    listed = tuple(kept.artefact(name, files[name]) for name in sorted(files))
    manifest = Bundle(space_id=card.space_id, digest=card.digest, files=listed)
    whole = {_MANIFEST: documents.render(manifest), **{name: files[name] for name in sorted(files)}}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in whole.items():
            member = zipfile.ZipInfo(name, _MOMENT)
            member.create_system = 3  # otherwise the writing machine's own
            member.external_attr = 0o644 << 16
            archive.writestr(member, content)
    content = packed.getvalue()
    with durable.replacing(target) as file:
        file.write(content)
    return kept.artefact(target.name, content)


def write_out(layout: Layout, card: ModelCard, folder: Path | None, file: Path | None) -> ModelExport:
    """Writes a model as a folder, as a bundle, or both.

    Raises:
        IntegrityError: A file of the model is missing or damaged; nothing is written then.
        StorageError: The disk refused.
    """
    written = [] if folder is None else kept.export_model(layout, card, folder)
    packed = None if file is None else write(layout, card, file)
    names = tuple(path.name for path in written) or tuple(sorted((*kept.contents(layout, card), _MANIFEST)))
    return ModelExport(
        model=card.model,
        space_id=card.space_id,
        folder=None if folder is None else str(folder.absolute()),
        files=names,
        artefacts=kept.artefacts(card),
        bundle=packed,
    )


def check_request(request: ModelRequest) -> None:
    """Refuses what would change a model that is whole.

    Raises:
        UsageError: ``--weights`` or an option was given beside a bundle.
    """
    if request.weights is not None or request.options != ModelOptions():
        raise UsageError(
            f"{request.model} is a whole model, which neither --weights nor an option can change.",
            hint="Change the model where it was made and write another bundle there.",
        )


def peek(path: Path) -> ModelCard:
    """The card in a bundle; of its other files only the hashes are read.

    Raises:
        NotFoundError: There is no such file.
        IntegrityError: It is no bundle, or not as it was written.
    """
    with _opened(path) as read:
        return _card(path, read)[0]


def keep(layout: Layout, path: Path, progress: Callable[[str], None]) -> ModelCard:
    """Takes the model of a bundle into the store: under the very same space, after its canaries agreed here.

    Raises:
        NotFoundError: There is no such file.
        IntegrityError: It is no bundle, not as it was written, says of itself what cannot be, or gives other
            vectors here than where it was made, or than the store's space of equal digest.
    """
    progress(f"reading {path.name}")
    with _opened(path) as read:
        card, manifest = _card(path, read)
        files = {a.file: read(a.file, a) for a in manifest.files}
    wrong = sound.problems(card, files.get("tokenizer.json"))
    if wrong:
        raise IntegrityError(f"{path}: its card says {'; '.join(wrong)}.", hint=_AGAIN)
    own = {name: files[name] for name in files if name not in ("card.json", kept.LICENCE)}
    backbone = session.open_bytes(card, own["model.onnx"], name=f"model.onnx in {path}", device="cpu")
    progress(f"checking {card.model} on this runtime")
    parity.compare_canaries(card, own["canaries.safetensors"], backbone)
    final = kept.equal_space(layout, card.digest) or kept.publish(layout, card, own)
    if final.onnx == card.onnx:
        parity.remember(layout, final, backbone)
    else:
        joining.check_graph(layout, final, backbone, name=path.name)
    return final


_Read = Callable[[str, Artefact | None], bytes]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Read]:
    """A reader of a bundle's files, which are looked at before anything of them is read."""
    if not path.is_file():
        raise NotFoundError(f"model '{path}': there is no such file.")
    try:
        with zipfile.ZipFile(path) as archive:
            _check(path, archive.infolist(), os.stat(path).st_size)

            def read(name: str, artefact: Artefact | None = None) -> bytes:
                if name not in archive.NameToInfo:
                    raise IntegrityError(f"{path} lacks {name}.", hint=_AGAIN)
                content = archive.read(name)
                if artefact is not None and kept.artefact(name, content) != artefact:
                    raise IntegrityError(f"{name} in {path} is not what was written.", hint=_AGAIN)
                return content

            yield read
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError) as error:
        raise IntegrityError(f"{path} is damaged or no bundle: {error}.", hint=_AGAIN) from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}.") from error


_AGAIN = "Write it again: featstore models export MODEL --bundle FILE"


def _check(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    """Only known files, each once, uncompressed, and together no larger than the file that holds them."""
    names = [member.filename for member in members]
    wrong = sorted({name for name in names if name not in _LARGEST or names.count(name) > 1})
    if wrong:
        raise IntegrityError(
            f"{path} holds what no bundle does: {', '.join(repr(name)[:80] for name in wrong[:5])}.", hint=_AGAIN
        )
    for member in members:
        packed = member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size
        if packed or member.flag_bits & 1:
            raise IntegrityError(f"{path} holds {member.filename} compressed or encrypted.", hint=_AGAIN)
        if member.file_size > _LARGEST[member.filename]:
            raise IntegrityError(
                f"{path} says that its {member.filename} has {member.file_size:,} bytes; "
                f"at most {_LARGEST[member.filename]:,} are read."
            )
    if sum(member.file_size for member in members) > size:
        raise IntegrityError(f"{path} has {size:,} bytes, less than what it says it holds.", hint=_AGAIN)


def _card(path: Path, read: Callable[..., bytes]) -> tuple[ModelCard, Bundle]:
    """The card and the manifest, which must say the same."""
    manifest = documents.parse(read(_MANIFEST), Bundle, where=f"{_MANIFEST} in {path}")
    listed = {a.file: a for a in manifest.files}
    if "card.json" not in listed:
        raise IntegrityError(f"{path} lists no card.json.", hint=_AGAIN)
    card = documents.parse(read("card.json", listed["card.json"]), ModelCard, where=f"card.json in {path}")
    own = kept.artefacts(card)
    same = (card.space_id, card.digest) == (manifest.space_id, manifest.digest)
    expected = {"card.json", kept.LICENCE, *(a.file for a in own)}
    if not same or set(listed) != expected or any(listed[a.file] != a for a in own) or len(listed) != len(own) + 2:
        raise IntegrityError(f"{path}: its card and its list of files do not fit together.", hint=_AGAIN)
    plain = kept.is_plain(card.space_id) and card.space_id.endswith(card.digest[:8])
    if not plain or not set(listed) <= set(_LARGEST):
        raise IntegrityError(f"{path} names a model or files that cannot be kept: {card.space_id}.", hint=_AGAIN)
    if (card.onnx.file, card.canaries.file) != ("model.onnx", "canaries.safetensors"):
        raise IntegrityError(f"{path} calls its graph {card.onnx.file} and its canaries {card.canaries.file}.")
    return card, manifest
