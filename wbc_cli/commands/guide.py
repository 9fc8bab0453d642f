"""`guide`: the documents, in the terminal and without network."""

from __future__ import annotations

from typing import Annotated

import typer

from wbc_cli.commands.options import terminal_of


def _topics(incomplete: str) -> list[str]:
    from wbc_cli.guide import pages  # noqa: PLC0415

    return [page.topic for page in pages() if page.topic.startswith(incomplete)]


def guide(
    topic: Annotated[
        str | None, typer.Argument(help="A page; without it the pages are listed.", autocompletion=_topics)
    ] = None,
) -> None:
    """Show a page of the guide, or list the pages."""
    from rich.table import Table  # noqa: PLC0415

    from wbc_cli.guide import find_page, pages  # noqa: PLC0415
    from wbc_cli.guide.terminal import WholeMarkdown  # noqa: PLC0415

    terminal = terminal_of(False, False)
    if topic is not None:
        terminal.out.print(WholeMarkdown(find_page(topic).read()))
        return
    listed = Table(show_header=False, box=None)
    for page in pages():
        listed.add_row(f"wbc-cli guide {page.topic}", page.about)
    terminal.out.print(listed)
