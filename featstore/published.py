"""What a table's bare name means: one table version with its index and heads, moved by one swap.

A table that was never published means its newest version, and its heads mean their newest ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from featstore.errors import ConflictError, NotFoundError, StorageError, UsageError
from featstore.layout import Layout
from featstore.records import Published, PublishedState
from featstore.storage import documents

__all__ = ["KEEP", "amend", "back", "every", "find", "head_version", "pins", "swap"]

KEEP = 5
"""How many earlier states are kept to go back to, where nothing else was said."""


def find(layout: Layout, name: str) -> Published | None:
    """What is published of a table; None where nothing ever was.

    Raises:
        IntegrityError: The document is damaged.
    """
    return documents.find(layout.storage, layout.published(name), Published)


def every(layout: Layout) -> Iterator[Published]:
    """What is published of all tables, by name.

    Raises:
        IntegrityError: A document is damaged.
    """
    for path in layout.storage.files("published"):
        if path.endswith(".json"):
            yield documents.read(layout.storage, path, Published)


def head_version(layout: Layout, head: str) -> int | None:
    """The version of a head that is published; None where it is in no published state.

    Raises:
        UsageError: It is published with several tables, at different versions.
        IntegrityError: A document is damaged.
    """
    found = {one.name: one.state.heads[head] for one in every(layout) if head in one.state.heads}
    if len(set(found.values())) > 1:
        named = ", ".join(f"{head}:{version} with '{table}'" for table, version in found.items())
        raise UsageError(
            f"head '{head}' is published with several tables: {named}.",
            hint=f"Say which version: {head}:{next(iter(found.values()))}",
        )
    return next(iter(found.values()), None)


def pins(layout: Layout) -> Iterator[tuple[str, PublishedState]]:
    """Every state that is published or could be gone back to, with its table's name: what ``gc`` must keep."""
    for published in every(layout):
        yield from ((published.name, state) for state in (published.state, *published.previous))


def swap(
    layout: Layout,
    name: str,
    state: PublishedState,
    *,
    expected: Published | None,
    keep: int = KEEP,
    taken_back: Sequence[str] = (),
) -> Published:
    """Lets a table's name mean another state. To be called under the table's lock.

    Args:
        layout: The store.
        name: The table.
        state: What its name shall mean.
        expected: What was published when the decision was made.
        keep: How many earlier states stay to go back to.
        taken_back: Runs that no job is to publish again because this state was chosen over them.

    Raises:
        ConflictError: Something else was published meanwhile.
        StorageError: The disk refused; the old state stands, unless the message says otherwise.
    """
    _same(layout, name, expected)
    if expected is None:
        made = Published(name=name, generation=1, state=state, rolled_back=tuple(dict.fromkeys(taken_back)))
    else:
        back = dict.fromkeys((*expected.rolled_back, *taken_back))
        made = replace(
            expected,
            generation=expected.generation + 1,
            state=state,
            previous=(expected.state, *expected.previous)[: max(1, keep)],
            rolled_back=tuple(run for run in back if run != state.run_id),
            held=False,
        )
    return _write(layout, made)


def back(
    layout: Layout, name: str, *, expected: Published, published_ts: str, reason: str | None, hold: bool
) -> Published:
    """Goes back to the state before, and notes that the run of the present one was taken back.

    Raises:
        NotFoundError: There is no state before.
        ConflictError: Something else was published meanwhile.
        StorageError: The disk refused; the old state stands, unless the message says otherwise.
    """
    _same(layout, name, expected)
    if not expected.previous:
        raise NotFoundError(f"nothing was published of '{name}' before version {expected.state.table_version}.")
    run = expected.state.run_id
    made = replace(
        expected,
        generation=expected.generation + 1,
        state=replace(expected.previous[0], published_ts=published_ts, reason=reason),
        previous=expected.previous[1:],
        rolled_back=tuple(dict.fromkeys((*expected.rolled_back, *([] if run is None else [run])))),
        held=hold or expected.held,
    )
    return _write(layout, made)


def amend(layout: Layout, made: Published, *, expected: Published) -> Published:
    """Says something else of what is published, without a step that could be gone back over.

    Raises:
        ConflictError: Something else was published meanwhile.
        StorageError: The disk refused; the old document stands, unless the message says otherwise.
    """
    _same(layout, expected.name, expected)
    return _write(layout, replace(made, generation=expected.generation + 1))


def _write(layout: Layout, made: Published) -> Published:
    try:
        documents.write(layout.storage, layout.published(made.name), made)
    except StorageError as error:
        if find(layout, made.name) != made:
            raise
        # It took effect and then failed: done again, a rollback would go back twice.
        raise StorageError(
            f"version {made.state.table_version} of '{made.name}' is published, but the disk failed while making that "
            f"last: {error.message}",
            hint=f"Look before you run it again: featstore show {made.name}",
        ) from error
    return made


def _same(layout: Layout, name: str, expected: Published | None) -> None:
    found = find(layout, name)
    if (None if found is None else found.generation) != (None if expected is None else expected.generation):
        raise ConflictError(
            f"another process published '{name}' meanwhile; nothing was moved.", hint="Run the same command again."
        )
