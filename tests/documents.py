"""The README and the pages of the guide, and what stands in their sections and tables."""

from __future__ import annotations

import re
from pathlib import Path

import wbc_cli
from wbc_cli.classes import CLASS_NAMES, CLASSES, DIFFERENTIAL_NAMES
from wbc_cli.morphology import ATTRIBUTES

PACKAGE = Path(wbc_cli.__file__).parent
README = PACKAGE.parent / "README.md"
GUIDE = PACKAGE / "guide"
PAGES = sorted(GUIDE.glob("*.md"))
DOCUMENTS = [README, *PAGES]
OTHER_NAMES = tuple(name for name in CLASS_NAMES if name not in DIFFERENTIAL_NAMES)
WORDS = {
    "TYPE": DIFFERENTIAL_NAMES,
    "CLASS": CLASS_NAMES,
    "OTHER": OTHER_NAMES,
    "ATTRIBUTE": tuple(ATTRIBUTES),
    "LABEL": tuple(kind.label for kind in CLASSES),
}


def page(topic):
    return (GUIDE / f"{topic}.md").read_text(encoding="utf-8")


def section(text, title):
    """What stands below a heading, up to the next one of any depth."""
    after = re.split(rf"^#+ {re.escape(title)}$", text, flags=re.MULTILINE)
    assert len(after) == 2, f"one heading {title}"
    return re.split(r"^#+ ", after[1], flags=re.MULTILINE)[0]


def rows(text):
    """The cells of each row of the tables in a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    heads = {i for i, row in enumerate(table) if set("".join(row)) <= set("- ")}
    return [row for i, row in enumerate(table) if i not in heads and i + 1 not in heads]


def names(text):
    """What the first columns of the tables in a text name, with the words that stand for several spelled out."""
    found = []
    for row in rows(text):
        listed = re.findall(r"`([^`]+)`", row[0])
        word = next((word for word in WORDS if any(word in name for name in listed)), "")
        found += [name.replace(word, each) for each in WORDS.get(word, ()) for name in listed if word in name]
        found += [name for name in listed if not word or word not in name]
    return found
