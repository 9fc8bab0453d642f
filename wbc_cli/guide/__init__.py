"""The documents that travel with the package: Markdown pages in this folder, and the model card of the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from wbc_cli.errors import SetupError, UsageError
from wbc_cli.model.files import default_folder

MODEL_CARD = "model-card"
"""The topic of the one page that belongs to the weights and lies beside them."""


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        topic: what it is called on the command line.
        about: one sentence on what it is about.
        path: the Markdown file.
    """

    topic: str
    about: str
    path: Path

    def read(self) -> str:
        """Return the page's Markdown.

        Raises:
            SetupError: the file cannot be read.
        """
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise SetupError(f"{self.path}: cannot be read ({error.strerror}); reinstall wbc-cli") from error


def pages() -> tuple[Page, ...]:
    """Return every page: those of this folder in the order of their topics, then the model card.

    A page begins with a line `# Title`; its second paragraph is one sentence that says what it is about.

    Raises:
        SetupError: a page cannot be read.
    """
    found = [Page(file.stem, "", file) for file in sorted(Path(__file__).parent.glob("*.md"))]
    card = Page(MODEL_CARD, "What the shipped weights are, and how good.", default_folder() / "MODEL_CARD.md")
    return (*(replace(page, about=_second_paragraph(page.read())) for page in found), card)


def find_page(topic: str) -> Page:
    """Return the page of a topic.

    Raises:
        UsageError: there is none; the message lists the topics.
    """
    found = {page.topic: page for page in pages()}
    if topic not in found:
        raise UsageError(f"{topic}: the guide has no such page; give one of {', '.join(found)}")
    return found[topic]


def _second_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[1].split())
