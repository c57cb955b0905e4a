"""The command line: one module per panel of commands, each a veneer over the store."""

from featstore.cli.entry import main

__all__ = ["main"]
