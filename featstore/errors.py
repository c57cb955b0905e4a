"""The exceptions featstore raises, and the exit code each one ends the command line with.

FeatstoreError                 1    a bug, or an error nobody foresaw
├── UsageError                 2    the request cannot be carried out as it stands
│   ├── SettingsError          2    a setting is unknown, of the wrong type or out of range
│   ├── NotFoundError          2    no such store, table, model, run or file
│   └── SpaceMismatchError     2    vectors of two spaces were about to meet
├── TooManyRejectsError        3    the good items were stored, too many others were not
├── IntegrityError             4    stored bytes are not what was written
├── GateError                  5    a check refused; nothing was published
├── ConflictError              6    another writer was there first
│   └── LockedError            6    another run holds the lock
├── RetryableError             7    the same command may succeed later
│   ├── DeadlineError          7    the time it was given is up; run it again to go on
│   ├── StorageError           7    a disk or bucket failed (full, unreachable, denied)
│   └── HubError               7    a model hub cannot be reached
└── ItemError                  –    one item is refused; it becomes a row of the rejects table
InterruptedRunError            130  stopped by Ctrl-C (143: by SIGTERM); run again to resume

An interrupt is no ``Exception``, as Python's own is none: what goes on after an error, here or in a library, must not
go on after it. Both are a ``StatedError``: message, hint, context and exit code.

Third-party exceptions are wrapped where they enter; ``__cause__`` keeps the original.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ConflictError",
    "DeadlineError",
    "FeatstoreError",
    "GateError",
    "HubError",
    "IntegrityError",
    "InterruptedRunError",
    "ItemError",
    "LockedError",
    "NotFoundError",
    "RetryableError",
    "SettingsError",
    "SpaceMismatchError",
    "StatedError",
    "StorageError",
    "TooManyRejectsError",
    "UsageError",
]


class StatedError(BaseException):
    """Whatever featstore ends with on purpose.

    Args:
        message: What happened and where: file, row or key; got against allowed.
        hint: What to do next, as one sentence or command.
        context: Machine-readable details, shown by ``--json`` and ``-v``.
    """

    exit_code: int = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        context: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = dict(context or {})

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class FeatstoreError(StatedError, Exception):
    """Base of every error that featstore raises on purpose."""


class UsageError(FeatstoreError):
    """The request cannot be carried out as it stands."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is unknown, of the wrong type or out of range."""


class NotFoundError(UsageError):
    """No such store, table, model, run or file."""


class SpaceMismatchError(UsageError):
    """Vectors of two spaces were about to meet."""


class TooManyRejectsError(FeatstoreError):
    """The good items were stored, but the share of rejected ones is above the limit."""

    exit_code = 3


class IntegrityError(FeatstoreError):
    """Stored bytes are not what was written; nothing of them is returned."""

    exit_code = 4


class GateError(FeatstoreError):
    """A check refused; everything is as it was."""

    exit_code = 5


class ConflictError(FeatstoreError):
    """Another writer was there first; nothing of this one is visible."""

    exit_code = 6


class LockedError(ConflictError):
    """Another run holds the lock."""


class RetryableError(FeatstoreError):
    """The same command may succeed later."""

    exit_code = 7


class DeadlineError(RetryableError):
    """The time that a run was given is up; what is done is kept, and running it again goes on from there."""


class StorageError(RetryableError):
    """A disk or bucket failed: full, unreachable or denied."""


class HubError(RetryableError):
    """A model hub cannot be reached or does not know the model."""


class InterruptedRunError(StatedError):
    """The run was stopped by a signal; running it again resumes it.

    Args:
        signum: The signal's number; the exit code is 128 + signum.
    """

    def __init__(self, message: str, *, signum: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signum


class ItemError(FeatstoreError):
    """One item is refused. The run goes on; the item becomes a row of the rejects table.

    Args:
        stage: Where it failed: ``scan``, ``read``, ``decode``, ``tokenise`` or ``infer``.
        code: A short, stable name of the reason, such as ``truncated_image``.
        message: The reason in words.
    """

    def __init__(self, stage: str, code: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.code = code

    def __reduce__(self) -> tuple[type[ItemError], tuple[str, str, str]]:
        return (ItemError, (self.stage, self.code, self.message))
