"""The façade: a store, each method one operation of the rooms below.

Heavy libraries are imported by the operations, so that opening a store and looking around is fast.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from featstore import addresses
from featstore.errors import FeatstoreError, NotFoundError, SettingsError, UsageError
from featstore.layout import Layout
from featstore.storage import Storage
from featstore.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from featstore.extract.progress import Reporter
    from featstore.heads.trained import TrainedHead
    from featstore.jobs import Job
    from featstore.models import ModelRequest
    from featstore.predicting import Predictions
    from featstore.records import (
        BridgeCard,
        BridgeResult,
        Comparison,
        Difference,
        DropReport,
        Evaluation,
        ExportResult,
        ExtractResult,
        FeatureExport,
        FinetunePlan,
        FinetuneResult,
        GcReport,
        HeadCard,
        HeadComparison,
        HeadDifference,
        HeadExport,
        HeadPlan,
        IndexCard,
        IndexPlan,
        JobCheck,
        JobDraft,
        JobStanding,
        Manifest,
        Migration,
        MigrationPlan,
        MigrationResult,
        ModelBench,
        ModelCard,
        ModelExport,
        Published,
        PublishResult,
        PurgeReport,
        RefreshPlan,
        RefreshResult,
        SpaceBridgeCard,
        SpaceBridgeResult,
        VerifyReport,
    )
    from featstore.settings import HeadSettings, TorchSettings
    from featstore.tables import FeatureTable

__all__ = ["DEFAULT_FOLDER", "Store", "open"]

DEFAULT_FOLDER = "featstore-data"


def open(path: str | os.PathLike[str] | None = None) -> Store:
    """Opens a store, making it on its first write.

    Args:
        path: The store's folder. By default ``FEATSTORE_STORE``, else the first ``featstore-data``
            found from the working folder upwards, else ``./featstore-data``.

    Raises:
        IntegrityError: The folder's ``store.json`` is damaged or of a newer featstore.
        UsageError: The path cannot be a store.
    """
    return Store(path)


class Store:
    """A folder with models, feature tables and what belongs to them."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        from featstore import founding

        self.layout = Layout(Storage.at(path if path is not None else founding.locate(DEFAULT_FOLDER)))
        founding.check(self.layout)

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self.layout.storage.root

    def __repr__(self) -> str:
        names = self.layout.storage.folders("features")
        return f"Store({str(self.path)!r}, tables: {', '.join(names) if names else 'none yet'})"

    # ── make ────────────────────────────────────────────────────────────────────────────────

    def extract(
        self,
        source: str | os.PathLike[str],
        *,
        model: str,
        reporter: Reporter | None = None,
        **settings: object,
    ) -> Table:
        """Brings a table in step with a source: embeds what is new, drops what is gone.

        Args:
            source: A folder of images, texts or WebDataset tars; a tar or ``name-{000..009}.tar``; a CSV, JSONL,
                Parquet or Arrow file; ``-`` for a list of files on standard input.
            model: A backbone's name, such as ``resnet50`` or ``minilm``, or a model's folder.
            reporter: Told of progress.
            **settings: Any field of ``ExtractSettings``, such as ``name``, ``label_from`` or ``limit``.

        Returns:
            The table at its new version; its ``last_run`` says what was done.

        Raises:
            SettingsError: A setting is unknown, of the wrong type or out of range.
            UsageError: The source or the model cannot be used as given.
            GateError: More items would leave the table than is plausible.
            TooManyRejectsError: The good items are stored, too many were refused.
        """
        result = self._extract(source, model, settings, reporter, dry_run=False)
        version = "" if result.version is None else f":{result.version}"  # what it made, whatever is published
        table = self.table(f"{result.table}@{result.space_id}{version}", missing_ok=True)
        table.last_run = result
        return table

    def plan(self, source: str | os.PathLike[str], *, model: str, **settings: object) -> ExtractResult:
        """What ``extract`` would do, by reading only; times and bytes are estimates."""
        return self._extract(source, model, settings, None, dry_run=True)

    def _extract(
        self,
        source: str | os.PathLike[str],
        model: str,
        settings: dict[str, object],
        reporter: Reporter | None,
        *,
        dry_run: bool,
    ) -> ExtractResult:
        from featstore.extract import extract
        from featstore.settings import ExtractSettings, resolve

        given = {"source": os.fspath(source), "model": model, **settings}
        resolved, origins = resolve(ExtractSettings, given)
        return extract(self.layout, resolved, origins.origins, reporter=reporter, dry_run=dry_run)

    def compare(
        self,
        source: str | os.PathLike[str],
        models: Sequence[str],
        *,
        output: str | os.PathLike[str] | None = None,
        reporter: Reporter | None = None,
        **settings: object,
    ) -> Comparison:
        """Compares models on a fixed sample of a source; the vectors stay in its table and are reused by ``extract``.

        With labels each model gets a probe on the same folds, its accuracy with a paired interval against the best.
        Without, the overlap of their neighbourhoods says how much they differ.

        Args:
            source: What ``extract`` takes.
            models: Backbones by name, folder or ``space_id``, all for images or all for texts.
            output: A folder for one sheet a model of the neighbours of the same five queries.
            reporter: Told of progress.
            **settings: Fields of ``ExtractSettings``, such as ``name``, ``label_from`` or ``sample`` (2,000 by
                default), but none that changes a model.

        Raises:
            SettingsError: A setting is unknown, out of range, or has no place in a comparison.
            UsageError: The source or a model cannot be used as given, or the models take different kinds of items.
        """
        from featstore.compare import compare

        folder = None if output is None else Path(output)
        return compare(self.layout, os.fspath(source), models, settings, output=folder, reporter=reporter)

    def bench_model(
        self,
        model: str,
        source: str | os.PathLike[str] | None = None,
        *,
        table: str | None = None,
        precision: Sequence[str] = (),
        backend: Sequence[str] = (),
        threads: Sequence[int] = (),
        batch: Sequence[int] = (),
        seconds: float = 5.0,
        keep: bool = False,
        reporter: Reporter | None = None,
        **settings: object,
    ) -> ModelBench:
        """Measures how fast a model is on this machine's CPU in several ways, side by side, from contents to vectors.

        Args:
            model: A backbone by name, folder or ``space_id``; it is exported into the store if it is not there.
            source: What ``extract`` takes; without it and ``table``, samples that come with the program.
            table: A table whose source is taken.
            precision: ``fp32``, ``int8``; by default fp32, and int8 where the store has it.
            backend: ``onnxruntime``, ``openvino``; by default those that are installed.
            threads: How many threads; by default the usable CPUs.
            batch: Images a call, for texts padded tokens a call; by default 8, 16 and 32, or 256, 512 and 1,024.
            seconds: How long each way is timed, about.
            keep: Whether the best of each space is what this store uses from now on, on machines of this kind, where
                nobody says anything else.
            reporter: Told of progress.
            **settings: Options of the model and of how the source is read: fields of ``ExtractSettings``.

        Returns:
            All ways with their rounds, the best marked.

        Raises:
            SettingsError: A setting is unknown or out of range.
            UsageError: The model, the source or a way cannot be used as asked.
            IntegrityError: The model gives other vectors here than its space has.
        """
        from featstore.settings import ExtractSettings, resolve
        from featstore.tuning import Asked, bench

        given = {"source": "" if source is None else os.fspath(source), "model": model, **settings}
        resolved, _ = resolve(ExtractSettings, given)
        asked = Asked(precisions=precision, backends=backend, threads=threads, batches=batch)
        return bench(self.layout, resolved, asked, table=table, seconds=seconds, keep=keep, reporter=reporter)

    def index(
        self,
        address: str,
        *,
        queries: str | os.PathLike[str] | NDArray[np.float32] | None = None,
        reporter: Reporter | None = None,
        **settings: object,
    ) -> IndexCard:
        """Makes a table's search index, or adds what is new to the one there is; ``search`` uses it by itself.

        The first kind of index that finds enough of what exact search finds is kept: recall is measured on items that
        were not in it, or on ``queries``, and never on those it was tuned on.

        Args:
            address: Which table.
            queries: What will be asked, to tune on: vectors (q, dim), or a file of vectors or texts as ``search``
                takes it. By default items of the table; captions, where texts can find its images.
            reporter: Told of progress.
            **settings: Any field of ``IndexSettings``: ``recall``, ``kind``, ``factory``, ``memory``, ``rebuild``.

        Returns:
            What was done and why, and how well the index does.

        Raises:
            NotFoundError: There is no such table, version or file.
            UsageError: The table is empty, or what is asked for cannot be.
            GateError: Nothing that ``kind``, ``factory`` and ``memory`` allow finds enough; nothing is changed.
            LockedError: Another process is making an index of the table.
        """
        from featstore.index import build, plan
        from featstore.search.tuning import captions, likely_queries
        from featstore.settings import IndexSettings, resolve

        resolved, _ = resolve(IndexSettings, settings)
        features = self.table(address).features
        said = reporter.message if reporter else lambda _: None
        asked = None
        if queries is None:
            # Captions are encoded only where there is something to tune.
            if len(features) and plan(self.layout, features, resolved).action not in ("unchanged", "carried"):
                asked = captions(self.layout, features, progress=said)
        else:
            asked = likely_queries(self.layout, features, queries, progress=said)
        return build(self.layout, features, resolved, queries=asked, reporter=reporter)

    def plan_index(self, address: str, **settings: object) -> IndexPlan:
        """What ``index`` would begin with, by reading only."""
        from featstore.index import plan
        from featstore.settings import IndexSettings, resolve

        resolved, _ = resolve(IndexSettings, settings)
        return plan(self.layout, self.table(address).features, resolved)

    def train_head(
        self, address: str | None = None, *, reporter: Reporter | None = None, **settings: object
    ) -> TrainedHead:
        """Trains a light model on a table's vectors and keeps it as the next version of a head.

        Items of one group, of equal content, and near-duplicates stay on one side of the split, which is made once
        and shared by every model and version of the table. The kinds of heads and their settings are chosen inside the
        training folds, the result is calibrated and measured once on the test items.

        Args:
            address: Which table; not needed where one table alone has the labels.
            reporter: Told of progress.
            **settings: Any field of ``HeadSettings`` or ``TorchSettings``, such as ``label``, ``labels``, ``kind``,
                ``group`` or ``seed``.

        Returns:
            The head, a fitted scikit-learn estimator; its ``card`` says what it reaches.

        Raises:
            NotFoundError: There is no such table, column or file.
            SettingsError: A setting is unknown, of the wrong type or out of range.
            UsageError: The labels, classes or groups do not make something that can be learned and tested.
            GateError: The given split has groups on both sides.
            LockedError: Another process is training the same head.
        """
        from featstore.records import HeadCard

        card = self._train(() if address is None else (address,), settings, reporter)
        assert isinstance(card, HeadCard)
        return self.head(f"{card.head}:{card.version}")

    def compare_heads(
        self, addresses: Sequence[str], *, reporter: Reporter | None = None, **settings: object
    ) -> HeadComparison:
        """Trains a head on each of several tables, with the same items on the same sides, and compares them.

        Args:
            addresses: Two tables or more, such as those of several models; the first is what others are compared with.
            reporter: Told of progress.
            **settings: As for ``train_head``.

        Raises:
            UsageError: Fewer than two tables were named, or what ``train_head`` raises.
        """
        from featstore.records import HeadComparison

        if len(addresses) < 2:
            raise UsageError(f"{len(addresses)} tables were named; a comparison needs two at least.")
        found = self._train(tuple(addresses), settings, reporter)
        assert isinstance(found, HeadComparison)
        return found

    def plan_head(self, addresses: str | Sequence[str] | None = None, **settings: object) -> HeadPlan:
        """What ``train_head`` or ``compare_heads`` would begin with, by reading only."""
        from featstore.training import plan

        named = () if addresses is None else (addresses,) if isinstance(addresses, str) else tuple(addresses)
        resolved, _ = self._head_settings(settings)
        return plan(self.layout, self._trained_on(named, resolved.label, resolved.labels), resolved)

    def _train(
        self, addresses: Sequence[str], settings: dict[str, object], reporter: Reporter | None
    ) -> HeadCard | HeadComparison:
        from featstore.training import train_head

        resolved, torch = self._head_settings(settings)
        tables = self._trained_on(addresses, resolved.label, resolved.labels)
        return train_head(self.layout, tables, resolved, reporter, torch=torch)

    @staticmethod
    def _head_settings(settings: dict[str, object]) -> tuple[HeadSettings, TorchSettings]:
        from featstore.settings import HeadSettings, TorchSettings, resolve

        own = {field.name for field in fields(TorchSettings)}
        torch, _ = resolve(TorchSettings, {key: value for key, value in settings.items() if key in own})
        resolved, _ = resolve(HeadSettings, {key: value for key, value in settings.items() if key not in own})
        return resolved, torch

    def _trained_on(
        self, addresses: Sequence[str], label: str, labels: str | None
    ) -> list[tuple[FeatureTable, ModelCard]]:
        """The tables that were named, or the only one that can be meant."""
        if addresses:
            named = [self.table(address) for address in addresses]
            return [(table.features, table.card) for table in named]
        tables = self.tables()
        fitting = [table for table in tables if labels is not None or label in table.features.column_names]
        if len(fitting) == 1:
            return [(fitting[0].features, fitting[0].card)]
        names = ", ".join(f"{table.name}@{table.space_id}" for table in (fitting or tables)) or "none yet"
        what = "with labels in a file" if labels is not None else f"with a column '{label}'"
        raise UsageError(
            f"which table? {len(fitting)} of {len(tables)} tables could be meant, {what}: {names}.",
            hint="Name it: featstore train-head TABLE --label COLUMN",
        )

    def predict(
        self,
        head: str,
        source: str | os.PathLike[str] | None = None,
        *,
        table: str | None = None,
        top_k: int = 3,
        coverage: float | None = None,
        into: str | None = None,
        where: str | None = None,
        limit: int | None = None,
        output: str | os.PathLike[str] | BinaryIO | None = None,
        format: str | None = None,
        keep: int | None = None,
        reporter: Reporter | None = None,
        **reading: object,
    ) -> Predictions:
        """Lets a head say what the items of a table, or new ones, are.

        New items go through the model of the head's space as ``extract`` sends them, and are not stored; where the
        store has the vector of an equal content, it is used. A table is read as the head's own was, unless
        ``reading`` says otherwise. One that cannot be read or decoded stays among the predictions, with the reason
        in the column ``rejected``.

        Args:
            head: ``HEAD[:VERSION]``.
            source: New items: anything that ``extract`` takes, or one picture or text.
            table: A table's address, instead of a source.
            top_k: How many of the likeliest classes to name.
            coverage: The share of items whose set of classes shall hold the true one, by split conformal prediction;
                0.9 by default. The head abstains where a set is not exactly one class.
            into: Extract the source into this table first, and predict on all of it.
            where: Only items for whose columns this Polars SQL expression holds.
            limit: Only the first so many.
            output: A ``.parquet``, ``.csv`` or ``.jsonl`` file, written piece by piece; it appears when it is whole.
                Without one the predictions are in the result.
            format: Of the file, where its name does not tell.
            keep: Without a file: hold on to the first so many predictions only.
            reporter: Told of progress.
            **reading: Fields of ``ExtractSettings`` that say how a source is read, such as ``text_column``, and
                ``device`` or ``workers``.

        Raises:
            NotFoundError: There is no such head, table, source or column, or the head's model is gone.
            SpaceMismatchError: The table is of another space than the head.
            UsageError: An option, the expression or the place cannot be used.
            TooManyRejectsError: The others were predicted; its ``context["predictions"]`` are they.
            IntegrityError: The head, the model or a file of the table is damaged.
        """
        from featstore.predicting import predict

        return predict(
            self.layout,
            head,
            source,
            table=table,
            top_k=top_k,
            coverage=coverage,
            into=into,
            where=where,
            limit=limit,
            output=output,
            format=format,
            keep=keep,
            reading=reading,
            reporter=reporter,
        )

    # ── keep fresh ──────────────────────────────────────────────────────────────────────────

    def refresh(
        self,
        job: str | os.PathLike[str] | Job,
        *,
        as_of: str | datetime | None = None,
        deadline: str | float | None = None,
        reporter: Reporter | None = None,
        **settings: object,
    ) -> RefreshResult:
        """Runs a job: brings its table, index and heads up to date, then publishes all of it or nothing.

        Args:
            job: A job's TOML file, or a ``Job``.
            as_of: The time to take for now, ISO 8601; items of a later ``event_ts`` are left for later runs.
            deadline: From when on no further shard or step is begun: seconds from now, or a text such as ``2h``.
            reporter: Told of progress.
            **settings: Over what the file says: ``limit``, ``device``, ``workers``.

        Raises:
            SettingsError: The file, or a setting, is not as it must be; all problems are listed.
            GateError: A gate refused; nothing is published, and ``context["result"]`` is the result.
            ConflictError: Another run holds the job or the table, or was faster.
            DeadlineError: The time is up; run it again to go on.
            InterruptedRunError: A signal stopped it; run it again to go on.
        """
        from featstore.refresh import refresh

        return refresh(self.layout, self._job(job, settings), as_of=as_of, deadline=deadline, reporter=reporter)

    def plan_refresh(
        self, job: str | os.PathLike[str] | Job, *, as_of: str | datetime | None = None, **settings: object
    ) -> RefreshPlan:
        """What ``refresh`` would do, by reading only; times and bytes are estimates."""
        from featstore.refresh import plan

        return plan(self.layout, self._job(job, settings), as_of=as_of)

    @staticmethod
    def _job(job: str | os.PathLike[str] | Job, settings: dict[str, object]) -> Job:
        from featstore.jobs import Job
        from featstore.jobs.loading import load

        if not isinstance(job, Job):
            return load(job, settings)
        if settings:
            raise SettingsError(f"{', '.join(settings)}: a Job has its settings already; give its file instead.")
        return job

    def jobs(
        self, files: Sequence[str | os.PathLike[str]] | None = None, *, stale: str | float | None = None
    ) -> list[JobStanding]:
        """How each job stands: its last run and success, what is published, and what to do next.

        Args:
            files: Jobs' files, or folders of them: those jobs alone, also where they never ran. By default those that
                have run in this store.
            stale: Since when a job has to have succeeded: seconds ago, or a text such as ``26h``.

        Raises:
            NotFoundError: There is no such file or folder, or no job in it.
            SettingsError: ``stale`` is no length of time.
        """
        from featstore.refresh.deadline import seconds_of
        from featstore.refresh.standing import standings

        return standings(self.layout, files, older_than=None if stale is None else seconds_of(stale))

    def check_jobs(self, files: Sequence[str | os.PathLike[str]]) -> list[JobCheck]:
        """What is wrong with jobs' files, all of it, and what to know before they run; runs and fetches nothing.

        Raises:
            NotFoundError: There is no such file.
        """
        from featstore.refresh.checking import check

        return check(self.layout, files)

    def new_job(self, name: str, *, table: str | None = None, output: str | os.PathLike[str] | None = None) -> JobDraft:
        """Writes a commented job that keeps a table as it is now: its source and model, its index, its heads.

        The gates are set to what was measured: the lower ends of the intervals, rounded down.

        Args:
            name: What the job shall be called; or the address of a table, whose name the job then has.
            table: The table's address; by default the table of the job's name.
            output: The file, by default ``NAME.toml`` in the working folder; what is there is never replaced.

        Raises:
            NotFoundError: There is no such table.
            UsageError: The file is there, does not end in ``.toml``, or nothing could be done for the table.
            SettingsError: The name cannot be a job's.
        """
        from featstore.refresh.drafting import write

        return write(self.layout, name, address=table, output=output)

    def publish(self, what: str, *, reason: str | None = None) -> PublishResult:
        """Lets a table's name mean what a run made, or another version; lifts a hold.

        Args:
            what: A run's id, or ``NAME[@MODEL]:VERSION``.
            reason: Why; needed where a gate had refused.

        Raises:
            NotFoundError: There is no such run or version, or ``gc`` has removed what it needs.
            UsageError: No reason was given, or the run made nothing.
            ConflictError: The table has moved since the run.
        """
        from featstore.refresh import publish

        return publish(self.layout, what, reason=reason)

    def rollback(self, name: str, *, hold: bool = False, reason: str | None = None) -> PublishResult:
        """Goes back to what was published before: table version, index and heads together, in one step.

        Args:
            name: The table.
            hold: From now on nothing is published but by ``publish``.
            reason: Why; kept.

        Raises:
            NotFoundError: Nothing was published, nothing before, or ``gc`` has removed what it needs.
        """
        from featstore.refresh import rollback

        return rollback(self.layout, name, hold=hold, reason=reason)

    def published(self, name: str) -> Published | None:
        """What a table's name means, and what it meant before; None where nothing was ever published."""
        from featstore import published

        return published.find(self.layout, name)

    # ── change the model ────────────────────────────────────────────────────────────────────

    # ── change the model ────────────────────────────────────────────────────────────────────

    def migrate(
        self,
        what: str | os.PathLike[str] | Job,
        *,
        deadline: str | float | None = None,
        reporter: Reporter | None = None,
        **settings: Any,
    ) -> MigrationResult:
        """Moves a table to another model: beside what is published, then table, index and heads in one swap.

        The new model embeds every item of the table's source; a bridge lets it ask the published vectors meanwhile.
        Index and heads are made as they are, the heads on the same split. A report sets both sides beside each other,
        and gates judge. ``rollback`` brings all back. Run again after whatever stopped it, it goes on.

        Args:
            what: The table's name; or a job with a section ``[migrate]``: its TOML file, or a ``Job``.
            deadline: From when on no further shard or step is begun: seconds from now, or a text such as ``8h``.
            reporter: Told of progress.
            **settings: ``to``, the model; any other field of ``MigrateSettings``, such as ``priority`` or ``qrels``;
                any field of ``Gates``, such as ``max_drop``.

        Raises:
            UsageError: The table cannot be moved to this model.
            SettingsError: A setting is unknown, of the wrong type or out of range.
            GateError: A gate refused; nothing was published, and ``context["result"]`` is the result.
            ConflictError: A move to another model is under way, or another run holds the table.
            DeadlineError: The time is up; run it again to go on.
            InterruptedRunError: A signal stopped it; run it again to go on.
        """
        from featstore.migrate import migrate
        from featstore.migrate.asking import asked

        found = asked(what, settings)
        return migrate(
            self.layout,
            found.name,
            found.settings,
            job=found.job,
            gates=found.gates,
            deadline=deadline,
            reporter=reporter,
        )

    def plan_migration(self, what: str | os.PathLike[str] | Job, **settings: Any) -> MigrationPlan:
        """What ``migrate`` would do, by reading only; times and bytes are estimates."""
        from featstore.migrate import plan
        from featstore.migrate.asking import asked

        found = asked(what, settings)
        return plan(self.layout, found.name, found.settings, job=found.job, gates=found.gates)

    def abandon_migration(self, name: str) -> Migration:
        """Gives a move up; what was embedded stays until ``drop_space``.

        Raises:
            NotFoundError: No move of the table is under way.
            LockedError: It is going on in another process.
        """
        from featstore.migrate import abandon

        return abandon(self.layout, name)

    def migration(self, name: str) -> Migration | None:
        """How a table's last move to another model stands; None where there never was one."""
        from featstore import migrations

        return migrations.find(self.layout, name)

    def finetune(
        self,
        what: str | os.PathLike[str] | Job,
        *,
        deadline: str | float | None = None,
        reporter: Reporter | None = None,
        **settings: Any,
    ) -> FinetuneResult:
        """Fine-tunes the backbone of a table on its labels; what passes every gate becomes a model of the store.

        Training begins with the head fitted to the vectors as they are, and thaws the network block by block from the
        top. The new backbone must then be better than the best frozen head on the same test items, may hardly cost
        other heads and neutral items anything, and its graph must be the network, keep its vectors' spread and its
        speed. The table, its heads and what is published stay as they are: ``migrate`` moves to the new model, and a
        job with a section ``[migrate]`` does so at once, with gates of its own.

        Stopped anywhere, it goes on from there; the same labels, backbone and settings are never trained twice.

        Args:
            what: The table, ``NAME[@MODEL][:VERSION]``; or a job with a section ``[finetune]``: its TOML file, or a
                ``Job``.
            deadline: From when on no further step is begun: seconds from now, or a text such as ``8h``.
            reporter: Told of progress.
            **settings: Any field of ``FinetuneSettings``, such as ``label``, ``blocks``, ``epochs`` or ``min_gain``.

        Raises:
            NotFoundError: There is no such table, label, model or source.
            UsageError: The labels, the source or the model do not make something that can be fine-tuned.
            SettingsError: A setting is unknown, of the wrong type or out of range.
            GateError: A gate refused; everything is as it was, and ``context["result"]`` is the result.
            LockedError: Another process is fine-tuning on the same table.
            DeadlineError: The time is up; run it again to go on.
            InterruptedRunError: A signal stopped it; run it again to go on.
        """
        from featstore.finetune.job import finetune

        return finetune(self.layout, what, settings, deadline=deadline, reporter=reporter)

    def plan_finetune(
        self, what: str | os.PathLike[str] | Job, *, reporter: Reporter | None = None, **settings: Any
    ) -> FinetunePlan:
        """What ``finetune`` would train, for how long, and what the frozen head reaches, by reading only.

        The network is loaded and a few steps are timed. The test side is not looked at.
        """
        from featstore.finetune.job import plan

        return plan(self.layout, what, settings, reporter=reporter)

    def bridge(
        self,
        address: str,
        *,
        to: str,
        pairs: str | os.PathLike[str],
        device: str | None = None,
        dry_run: bool = False,
        reporter: Reporter | None = None,
    ) -> BridgeResult:
        """Learns a linear map from a table's image space into a text space, so that text finds its pictures.

        It holds for every table of that image space. Ridge regression with its penalty, or a rotation, whichever
        finds more pictures by their captions on pairs held out; pictures and captions that are nearly the same stay
        on one side of each split. The captions are embedded as documents; the figures from text to image are of
        captions embedded as queries.

        Args:
            address: A table of pictures.
            to: The text model, by any name that ``extract`` takes.
            pairs: The table's column with captions, or a CSV file with ``item_id`` and ``caption``; an item may have
                several.
            device: Where the captions are embedded; ``auto`` by default.
            dry_run: Learn and measure, but keep nothing.
            reporter: Told of progress.

        Raises:
            NotFoundError: There is no such table, model, column or file.
            UsageError: The models take something else or need no bridge, or fewer than 50 different pairs are there.
            GateError: What was learned finds no more than chance would; nothing is kept.
            IntegrityError: A model or a file of the table is damaged.
        """
        from featstore.bridge import make

        features = self.table(address).features
        return make(self.layout, features, to, pairs, device=device, dry_run=dry_run, reporter=reporter)

    def bridges(self) -> list[BridgeCard]:
        """The cards of the store's bridges, by image space and text space.

        Raises:
            SpaceMismatchError: A bridge lies where it does not belong.
            IntegrityError: A card is damaged.
        """
        from featstore.bridge import bridges

        return bridges(self.layout)

    def bridge_spaces(
        self, new: str, onto: str, *, dry_run: bool = False, reporter: Reporter | None = None
    ) -> SpaceBridgeResult:
        """Learns a linear map from one model's space into another's, so that queries of the one search the other.

        It is learned from the items whose content is the same in both tables, at most 50,000, and holds for every table
        of the two models. Ridge regression with its penalty, or a rotation, whichever finds more of what the new model
        finds, on items held out; near-duplicates stay on one side of each split.

        Args:
            new: The table of the model that queries are embedded with.
            onto: The table of the same source by the model whose vectors and index are to be searched.
            dry_run: Learn and measure, but keep nothing.
            reporter: Told of progress.

        Raises:
            NotFoundError: There is no such table or model.
            UsageError: The tables are of one space, of pictures and texts or of two sources, or have fewer than 50
                different items in common.
            GateError: What was learned finds no more than chance would; nothing is kept.
            IntegrityError: A model or a file of a table is damaged.
        """
        from featstore.bridge import make_spaces

        tables = [self.table(address).features for address in (new, onto)]
        return make_spaces(self.layout, *tables, dry_run=dry_run, reporter=reporter)

    def space_bridges(self) -> list[SpaceBridgeCard]:
        """The cards of the store's bridges between models' spaces, by the space they lead from and to.

        Raises:
            SpaceMismatchError: A bridge lies where it does not belong.
            IntegrityError: A card is damaged.
        """
        from featstore.bridge import space_bridges

        return space_bridges(self.layout)

    # ── look ────────────────────────────────────────────────────────────────────────────────

    def table(self, address: str, *, missing_ok: bool = False) -> Table:
        """A table by its address ``NAME[@MODEL][:VERSION]``.

        Args:
            address: Which table; the model's part may be any beginning of the ``space_id``.
            missing_ok: Also a table that has no version yet, because every item was refused.

        Raises:
            NotFoundError: There is no such table or version.
            UsageError: Several tables fit.
        """
        from featstore.tables import FeatureTable

        where = addresses.parse(address)
        try:
            name, space_id = addresses.resolve(self.layout, where)
            version = addresses.meant(self.layout, where, space_id)
            return Table(self.layout, FeatureTable.open(self.layout, name, space_id, version))
        except NotFoundError:
            staged = self._without_version(where) if missing_ok and where.version is None else None
            if staged is None:
                raise
            return staged

    def _without_version(self, where: addresses.Address) -> Table | None:
        """The table of a space that nothing was ever committed to; found by its rejects where no space is named."""
        from featstore.models import load_card
        from featstore.tables import FeatureTable, RejectsTable

        known = set(self.layout.storage.folders("models"))
        if where.model in known:
            spaces = [where.model]
        else:
            refused = set(RejectsTable.read(self.layout, where.name)["space_id"].to_pylist())
            spaces = [s for s in sorted(known & refused) if where.model is None or s.startswith(where.model)]
        if len(spaces) != 1 or FeatureTable.exists(self.layout, where.name, spaces[0]):
            return None
        card = load_card(self.layout, spaces[0])
        return Table(self.layout, FeatureTable.staging(self.layout, where.name, spaces[0], card.dim))

    def tables(self, *, broken: Callable[[FeatstoreError], None] | None = None) -> list[Table]:
        """Every table of the store, by name and space; each at its published version, else at its newest.

        Args:
            broken: Told of each table that cannot be opened; without it, the first such error is raised.

        Raises:
            IntegrityError: A table's log is damaged, or of a newer featstore.
            SpaceMismatchError: A table lies where it does not belong.
        """
        from featstore.tables import FeatureTable

        found = []
        for name in self.layout.storage.folders("features"):
            for space in self.layout.storage.folders(f"features/{name}"):
                if not FeatureTable.exists(self.layout, name, space):
                    continue
                try:
                    version = addresses.meant(self.layout, addresses.Address(name), space)
                    found.append(Table(self.layout, FeatureTable.open(self.layout, name, space, version)))
                except FeatstoreError as error:
                    if broken is None:
                        raise
                    broken(error)
        return found

    def runs(self, *, limit: int = 50) -> list[Manifest]:
        """The newest runs, newest first."""
        from featstore.records import Manifest
        from featstore.storage import documents

        names = sorted((r for r in self.layout.storage.folders("runs") if r != "open"), reverse=True)
        found = (documents.find(self.layout.storage, self.layout.manifest(run), Manifest) for run in names[:limit])
        # Names tell times apart by the second only.
        return sorted((one for one in found if one is not None), key=lambda one: one.started_ts, reverse=True)

    def run(self, run_id: str) -> Manifest:
        """One run's manifest.

        Raises:
            NotFoundError: There is no such run.
        """
        from featstore.records import Manifest
        from featstore.storage import documents

        if not self.layout.storage.exists(self.layout.manifest(run_id)):
            raise NotFoundError(f"there is no run '{run_id}'.", hint="featstore ls runs")
        return documents.read(self.layout.storage, self.layout.manifest(run_id), Manifest)

    def refreshes(self, *, limit: int = 50) -> list[RefreshResult]:
        """How the newest refreshes went, newest first."""
        from featstore.records import RefreshResult
        from featstore.storage import documents

        names = sorted((r for r in self.layout.storage.folders("runs") if r != "open"), reverse=True)
        found = (documents.find(self.layout.storage, self.layout.refresh(run), RefreshResult) for run in names[:limit])
        return [result for result in found if result is not None]

    def refreshed(self, run_id: str) -> RefreshResult | None:
        """How the refresh with a run's id went; None where the run was no refresh.

        Raises:
            IntegrityError: What was written down of it is damaged.
        """
        from featstore.records import RefreshResult
        from featstore.storage import documents

        return documents.find(self.layout.storage, self.layout.refresh(run_id), RefreshResult)

    def heads(
        self, *, all_versions: bool = False, broken: Callable[[FeatstoreError], None] | None = None
    ) -> list[HeadCard]:
        """The cards of the heads by name, each of its newest version.

        Args:
            all_versions: Of every version, the newest first.
            broken: Told of each that cannot be read, which then hides no other.

        Raises:
            IntegrityError: A card is damaged.
        """
        from featstore.heads.opening import cards

        return cards(self.layout, all_versions=all_versions, broken=broken)

    def head(self, address: str) -> TrainedHead:
        """A head by its address ``HEAD[:VERSION]``: a fitted scikit-learn estimator with its ``card``.

        Raises:
            NotFoundError: There is no such head or version.
            IntegrityError: Its card or file is damaged.
        """
        from featstore.heads.opening import open_head
        from featstore.heads.trained import TrainedHead

        return TrainedHead(*open_head(self.layout, address))

    def report_head(self, address: str, output: str | os.PathLike[str]) -> None:
        """Writes one page about a head: a single HTML file that opens anywhere and asks for nothing.

        Args:
            address: ``HEAD[:VERSION]``.
            output: The file; replaced if it is there.

        Raises:
            NotFoundError: There is no such head or version.
            UsageError: The file cannot be written so, or there.
            IntegrityError: The head's predictions are damaged.
        """
        from featstore.heads.opening import find_card
        from featstore.reports import write
        from featstore.training import page_at

        write(self.layout, find_card(self.layout, address), page_at(self.layout, output))

    def diff_heads(self, a: str, b: str) -> HeadDifference:
        """Two heads on the test items that both have: each figure of ``b`` minus that of ``a``, paired by item.

        Raises:
            NotFoundError: There is no such head or version.
            UsageError: They were tested on different splits, or predict something else.
        """
        from featstore.training import compare

        return compare(self.layout, a, b)

    def models(self) -> list[ModelCard]:
        """The cards of the models in the store."""
        from featstore.models import load_card

        spaces = [space for space in self.layout.storage.folders("models") if space != "refs"]
        present = (s for s in spaces if self.layout.storage.exists(self.layout.model_card(s)))
        return [load_card(self.layout, space) for space in present]

    def model(self, model: str, *, weights: str | os.PathLike[str] | None = None, **options: Any) -> ModelCard | None:
        """The card of a model; None while the store does not hold it. Loads and downloads nothing.

        Args:
            model: A name, a model's folder or file, or the id of a space in the store.
            weights: A file to take the model's weights from.
            **options: What is changed of the model: ``pooling``, ``layer``, ``dim``, ``prompt_document``,
                ``prompt_query``.

        Raises:
            NotFoundError: There is no such model or file.
            UsageError: The options do not fit, or an own ONNX file has no card.
            IntegrityError: What the store has of the model is damaged, or the file is.
        """
        from featstore.models import find

        return find(self.layout, _request(model, weights, options))

    def export_model(
        self,
        model: str,
        output: str | os.PathLike[str] | None = None,
        *,
        bundle: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        reporter: Reporter | None = None,
        **options: Any,
    ) -> ModelExport:
        """Writes a model out; one that the store does not hold yet is put there first.

        Args:
            model: A name, a model's folder or file, or the id of a space in the store.
            output: A folder for the ONNX file, tokenizer, card, canaries and a note on the licence.
            bundle: One ``.featstore`` file with all of it, which ``--model`` takes on a host without a network.
            weights: A file to take the model's weights from.
            reporter: Told of downloads and slow steps.
            **options: What is changed of the model, as in ``model``.

        Raises:
            NotFoundError: There is no such model or file.
            UsageError: Neither ``output`` nor ``bundle`` is given, or the bundle's name does not end in .featstore.
            HubError: The weights cannot be downloaded.
            IntegrityError: Weights, or what the store has of the model, are damaged; nothing is written.
            GateError: The exported graph does not compute what the original does.
        """
        from featstore import founding
        from featstore.models import ensure, find, write_out

        target, file = (None if path is None else Path(path) for path in (output, bundle))
        request = _request(model, weights, options)
        if target is None and file is None:
            raise UsageError(
                "nothing says where to write the model.",
                hint="Give --output FOLDER, --bundle FILE.featstore, or both.",
            )
        if file is not None and file.suffix != ".featstore":
            raise UsageError(f"{file}: a bundle's name ends in .featstore.", hint=f"Write {file.stem}.featstore")
        if target is not None and target.exists() and not target.is_dir():
            raise UsageError(f"{target} is a file; a model's files go into a folder.", hint="Name another --output.")
        if file is not None and file.is_dir():
            raise UsageError(f"{file} is a folder; a bundle is one file.", hint="Name another --bundle.")
        find(self.layout, request)  # a name that nobody has is told before a store is made
        founding.found(self.layout)
        card = ensure(self.layout, request, progress=reporter.message if reporter else lambda _: None)
        return write_out(self.layout, card, target, file)

    def diff(self, a: str, b: str, *, k: int = 10, queries: int = 1000, examples: int = 10) -> Difference:
        """Compares two tables, or two versions of one.

        Within one space: which items came, went and changed, how far vectors have moved, and whether what came is of
        the kind that was there, by its vectors and by what the table's heads say of it. Between two spaces: how far
        they agree on each item's nearest neighbours.

        Args:
            a: The address of the first, usually the older.
            b: The address of the second.
            k: Neighbours of each query.
            queries: How many items are asked for their neighbours, always the same ones; 0 for all.
            examples: How many items of each kind are named.

        Raises:
            NotFoundError: There is no such table or version.
            UsageError: Several tables fit, or a number is out of range.
        """
        from featstore.diff import diff
        from featstore.training.unseen import of_table

        one, other = self.table(a).features, self.table(b).features
        heads = of_table(self.layout, one) if one.space_id == other.space_id else {}
        return diff(self.layout, one, other, k=k, queries=queries, examples=examples, heads=heads)

    def eval(
        self,
        address: str | Sequence[str],
        queries: str | os.PathLike[str],
        qrels: str | os.PathLike[str] | None = None,
        *,
        k: int = 100,
        group_by: str | None = None,
        examples: int = 20,
        output: str | os.PathLike[str] | None = None,
        device: str | None = None,
        reporter: Reporter | None = None,
    ) -> Evaluation:
        """Measures how well a table answers queries, exactly and through its index.

        With judgements: nDCG@10, MRR@10 and recall with 95 % intervals, and for two tables their difference and the
        queries that lost most. Without: how many of the first 10 hits two tables, or exact search and the index,
        have in common.

        Args:
            address: A table, or two that answer the same queries.
            queries: JSON lines with ``_id`` and ``text`` (BEIR), a ``.tsv`` of ids and texts, or anything else that
                ``search`` takes as queries.
            qrels: Judgements: tab-separated ``query item relevance`` (BEIR), or ``query 0 item relevance`` (TREC).
            k: Where the second recall ends.
            group_by: The column that the judgements name; by default ``item_id``, and for chunks the text they are of.
            examples: How many queries are named.
            output: A Parquet or CSV file for each query's figures.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, for the queries.
            reporter: Told of progress.

        Raises:
            NotFoundError: A table, version, file or column is not there, or a table is empty.
            UsageError: A file cannot be used, no query is judged, or there is nothing to compare.
        """
        from featstore.evaluate import evaluate

        progress = None if reporter is None else reporter.message
        named = [address] if isinstance(address, str) else list(address)
        searchers = [self.table(one).searcher(device=device, progress=progress) for one in named]
        return evaluate(
            self.layout,
            searchers,
            queries,
            qrels,
            k=k,
            group_by=group_by,
            examples=examples,
            output=output,
            device=device,
            reporter=reporter,
        )

    # ── out ─────────────────────────────────────────────────────────────────────────────────

    def export(self, address: str, output: str | os.PathLike[str], **selection: Any) -> ExportResult:
        """Writes a table, or some of it, into one file; see ``Table.export`` for what can be said.

        Raises:
            NotFoundError: There is no such table, version, column or id.
            UsageError: Several tables fit, ``as_of`` is given beside a version, or the file cannot be written so.
        """
        if selection.get("as_of") is not None and addresses.parse(address).version is not None:
            raise UsageError(
                f"{address} names a version, and as_of finds one by its time.", hint="Leave out one of the two."
            )
        return self.table(address).export(output, **selection)

    def get_features(
        self,
        frame: Any,
        features: Sequence[str],
        *,
        timestamp_column: str | None = None,
        on: str = "item_id",
    ) -> Any:
        """Puts vectors next to the rows of a frame, joined by id, each as it was at the row's time.

        With times no row gets a vector from after its time: of those with max(event_ts, created_ts) at or before it,
        it gets the one made last. What has left a table is known where ``extract(history=True)`` keeps it.

        Args:
            frame: A Polars or pandas frame or an Arrow table.
            features: Each ``ADDRESS`` for vectors or ``ADDRESS[COLUMN]`` for a column beside them, such as
                ``photos@resnet50`` and ``photos@resnet50[label]``; several tables and spaces stand side by side.
            timestamp_column: The column of times; without it, each row gets what the address means now.
            on: The column of ids.

        Returns:
            A frame of the same kind, with the asked columns behind its own and ``ADDRESS__missing``: why there is no
            vector, null where there is one.

        Raises:
            UsageError: The frame, a feature or a column cannot be used so.
            NotFoundError: There is no such table, version or column.
            IntegrityError: A file of a table or of its history is damaged.
        """
        from featstore.features import get_features

        return get_features(self.layout, frame, features, timestamp_column=timestamp_column, on=on)

    def export_features(
        self,
        features: Sequence[str],
        output: str | os.PathLike[str],
        *,
        ids: Sequence[str] | None = None,
        as_of: str | datetime | None = None,
        format: str | None = None,
        reporter: Reporter | None = None,
    ) -> FeatureExport:
        """Writes the features of several tables into one file: a row for each id, explained where one is missing.

        Args:
            features: As in ``get_features``.
            output: The file, ``.parquet``, ``.csv`` or ``.npz``; replaced if it is there.
            ids: The items; by default those of the first address.
            as_of: Take what counted then.
            format: By default the file's suffix.
            reporter: Told of progress.

        Raises:
            UsageError: A feature, the format, the place or the time cannot be used.
            NotFoundError: There is no such table, version or column.
            IntegrityError: A file is damaged; nothing is written then.
        """
        from featstore.features import export

        return export(self.layout, features, output, ids=ids, as_of=as_of, format=format, reporter=reporter)

    def export_head(
        self,
        head: str,
        output: str | os.PathLike[str],
        *,
        format: str | None = None,
        fused: bool = False,
    ) -> HeadExport:
        """Writes a head as one ONNX file, once its graph has been compared with the head itself.

        Args:
            head: ``HEAD[:VERSION]``.
            output: The file; replaced if it is there.
            format: ``onnx``, or nothing where the file's name ends so.
            fused: One graph from pixels or token ids to calibrated probabilities, not from vectors on.

        Raises:
            NotFoundError: There is no such head, or for ``fused`` its model is gone.
            UsageError: The format or the place cannot be used.
            GateError: The graph does not say what the head does; nothing is written.
            IntegrityError: The head, its model or its table is damaged.
        """
        from featstore.heads.exporting import export_head

        return export_head(self.layout, head, output, format=format, fused=fused)

    # ── look after ──────────────────────────────────────────────────────────────────────────

    def verify(self, addresses_: Sequence[str] = (), *, sample: int = 16) -> VerifyReport:
        """Re-hashes files, checks rows, and embeds a sample again.

        Args:
            addresses_: Which tables; all when empty.
            sample: Items of each table to embed again from the source; 0 for none.
        """
        from featstore.upkeep.verify import verify

        unread: list[FeatstoreError] = []
        tables = [self.table(a) for a in addresses_] if addresses_ else self.tables(broken=unread.append)
        return verify(self.layout, [t.features for t in tables], sample=sample, unread=unread)

    def gc(self, *, dry_run: bool = False, keep_versions: int = 2, grace_hours: float = 24.0) -> GcReport:
        """Merges small files and removes what no kept version needs.

        Args:
            dry_run: Only say what would go.
            keep_versions: How many of the newest versions of each table and head stay. Those that are published or
                can be gone back to stay as well, and those of a table that its index or a head was made from.
            grace_hours: Files younger than this are left alone: a run may be writing them.
        """
        from featstore.upkeep.gc import gc

        tables = [t.features for t in self.tables()]
        return gc(self.layout, tables, dry_run=dry_run, keep_versions=keep_versions, grace_hours=grace_hours)

    def drop_space(self, address: str, *, dry_run: bool = False) -> DropReport:
        """Removes a table in one space for good; its heads and the model stay.

        Args:
            address: ``NAME@MODEL``.
            dry_run: Only say what would go, and what that breaks.

        Raises:
            UsageError: The address names no model, or a version.
            NotFoundError: There is no such table in such a space.
            GateError: It is published, or a move to another model needs it.
            LockedError: A run is going on; nothing was changed.
        """
        from featstore.upkeep.purge import drop_space

        return drop_space(self.layout, address, dry_run=dry_run)

    def purge(
        self,
        ids: Sequence[str] | str | os.PathLike[str],
        *,
        tables: Sequence[str] | None = None,
        dry_run: bool = False,
    ) -> PurgeReport:
        """Removes items for good from everything that the store holds, and proves it by reading all of it.

        No list of them is kept: an extract brings back what the source still has.

        Args:
            ids: The items, or a file of them: one ``item_id`` a line, or a table with that column.
            tables: Only from the tables of these names and what belongs to them.
            dry_run: Only find them, and say what would go and break.

        Raises:
            UsageError: No item is named.
            NotFoundError: There is no such file, or no table of a name.
            LockedError: A run is going on; nothing was changed.
            IntegrityError: A file is damaged, or still holds an id at the end: the message names it.
        """
        from featstore.upkeep.purge import listed, purge

        wanted = listed(ids) if isinstance(ids, str | os.PathLike) else list(ids)
        return purge(self.layout, wanted, names=tables, dry_run=dry_run)


def _request(model: str, weights: str | os.PathLike[str] | None, options: dict[str, Any]) -> ModelRequest:
    from featstore.models import ModelOptions, ModelRequest

    known = [field.name for field in fields(ModelOptions)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise SettingsError(f"a model has no option '{unknown[0]}'.", hint=f"Options: {', '.join(known)}.")
    return ModelRequest(
        model=model, weights=None if weights is None else Path(weights), options=ModelOptions(**options)
    )
