"""Third-party libraries told to be quiet for a while: stdout is the result's, stderr the progress's."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator

__all__ = ["libraries"]

_LOGGERS = ("torch", "torch.onnx", "onnxscript", "onnx_ir", "transformers", "timm")


@contextlib.contextmanager
def libraries() -> Iterator[None]:
    """No warnings, log lines, progress bars or prints of the libraries that load and export models."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    hf = sys.modules.get("transformers.utils.logging")
    bars = hf is not None and hf.is_progress_bar_enabled()
    try:
        if hf is not None:
            hf.disable_progress_bar()
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if hf is not None and bars:
            hf.enable_progress_bar()
