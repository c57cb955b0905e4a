"""What a fine-tuning begins with, found and checked before any work is done."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from featstore import addresses, models
from featstore.errors import UsageError
from featstore.finetune import base, frozen, key
from featstore.finetune.data import labelled
from featstore.records import SourceRecord
from featstore.refresh.drafting import draft
from featstore.storage import documents
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.finetune.base import Base
    from featstore.finetune.data import Labelled
    from featstore.finetune.frozen import Scored
    from featstore.jobs import HeadJob
    from featstore.layout import Layout
    from featstore.models.original import Original
    from featstore.records import ModelCard
    from featstore.settings import ExtractSettings, FinetuneSettings

__all__ = ["ADVISED_FROM", "Prepared", "prepare"]

ADVISED_FROM = 1_000
"""Labels below which fine-tuning rarely pays.

Source: Kumar et al., Fine-tuning can distort pretrained features (2022), and the practice it started.
"""


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared:
    """A fine-tuning before it begins.

    Attributes:
        layout: The store.
        table: The table.
        card: Of its model.
        base: The backbone to begin with.
        extract: How the table is extracted.
        heads: The table's registered heads.
        labelled: The items.
        settings: What was asked.
        reporter: Told of progress.
        warnings: What a person should know.
    """

    layout: Layout
    table: FeatureTable
    card: ModelCard
    base: Base
    extract: ExtractSettings
    heads: tuple[HeadJob, ...]
    labelled: Labelled
    settings: FinetuneSettings
    reporter: Reporter
    warnings: tuple[str, ...]

    @cached_property
    def original(self) -> Original:
        """The network to begin with; loading it takes seconds, and is done when it is first asked for."""
        return self.base.load(self.layout, self.reporter)

    @cached_property
    def origin(self) -> ModelCard:
        """The card of the backbone to begin with; one that the store does not have lacks its files."""
        if self.base.card is not None:
            return self.base.card
        from featstore.models import making

        return making.sketch(self.original)

    @cached_property
    def key(self) -> str:
        """What names this fine-tuning."""
        return key.key(self.table.name, self.origin.digest, self.labelled, self.settings)

    @property
    def judged_by(self) -> str:
        """What the gates' answers rest on beside what was trained."""
        return key.judged_by(self.layout, self.table.space_id, self.heads, self.settings)

    @cached_property
    def frozen(self) -> Scored:
        """The best head on the table's vectors, fitted to the training side.

        Where the table's model was itself fine-tuned, its vectors may have learned from these items too.
        """
        mine = self.labelled
        side = mine.learned
        if base.full_precision(self.layout, self.card).finetuning is not None:
            return frozen.renewed(
                mine.vectors[side],
                mine.truth[side],
                mine.data.classes,
                mine.fold[side],
                mine.groups[side],
                mine.validated[side],
                weights=self.settings.class_weights,
                seed=self.settings.seed,
                progress=self.reporter.stage,
            )
        return frozen.best(
            mine.vectors[side],
            mine.truth[side],
            mine.data.classes,
            mine.fold[side],
            mine.groups[side],
            weights=self.settings.class_weights,
            seed=self.settings.seed,
            progress=self.reporter.stage,
        )

    @property
    def advice(self) -> str | None:
        """Why one should rather not, with few labels."""
        count = int(self.labelled.learned.sum())
        if count >= ADVISED_FROM:
            return None
        return f"with {count:,} labels stay with frozen features; fine-tuning starts to pay from about {ADVISED_FROM:,}"


def prepare(layout: Layout, address: str, settings: FinetuneSettings, reporter: Reporter, *, keep: bool) -> Prepared:
    """Finds the table, its labels, its source and the backbone; refuses what could not be done.

    Args:
        layout: The store.
        address: The table: ``NAME[@MODEL][:VERSION]``.
        settings: What was asked.
        reporter: Told of progress.
        keep: Write the split down.

    Raises:
        NotFoundError: There is no such table, label, model or source.
        UsageError: The labels, the source or the model do not make something that can be fine-tuned.
        GateError: A given split leaks.
        IntegrityError: The table or the kept split is damaged.
    """
    asked = addresses.parse(address)
    name, space_id = addresses.resolve(layout, asked)
    table = FeatureTable.open(layout, name, space_id, addresses.meant(layout, asked, space_id))
    card = models.load_card(layout, space_id)
    if documents.find(layout.storage, layout.source(name), SourceRecord) is None:
        raise UsageError(
            f"'{name}' cannot be learned from: the store does not know where its items came from.",
            hint="Extract it again from a folder or a table.",
        )
    job, notes, _ = draft(layout, f"finetune-{name}", f"{name}@{space_id}", lists=True)
    assert job.extract is not None
    found = base.choose(layout, card, job.extract, settings)
    mine = labelled(layout, table, card, job.extract, settings, reporter, keep=keep)
    return Prepared(
        layout=layout,
        table=table,
        card=card,
        base=found,
        extract=job.extract,
        heads=job.heads,
        labelled=mine,
        settings=settings,
        reporter=reporter,
        warnings=(*mine.warnings, *(note for note in notes if "head" in note.split(":")[0])),
    )
