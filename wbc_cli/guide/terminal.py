"""Markdown in the terminal, with tables that lose nothing where it is narrow."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, TableElement
from rich.table import Table


class _WholeTable(TableElement):
    """A table that breaks words too long for its columns; rich ends them in an ellipsis, which would hide digits."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in super().__rich_console__(console, options):
            if isinstance(part, Table):
                for column in part.columns:
                    column.overflow = "fold"
            yield part


class WholeMarkdown(Markdown):
    """Markdown for `Console.print`, whatever the width."""

    elements = {**Markdown.elements, "table_open": _WholeTable}  # noqa: RUF012 - as the base class has it
