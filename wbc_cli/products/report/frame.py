"""What every page of ours is made of: templates, the style, the security policy, pictures that stand in the page.

Nothing in a page is fetched, and its policy allows no other style and script than its own.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from wbc_cli.classes import BY_NAME
from wbc_cli.products.drawing import NOTICE


def write_page(path: Path, package: str, template: str, script: str = "", **values: Any) -> None:  # noqa: ANN401
    """Fill a template that extends frame.html, and write the page.

    Args:
        path: of the page.
        package: in whose folder the template is.
        template: its name.
        script: of the page.
        values: what the template shows, beside `notice`.

    Raises:
        OSError: the disk is full or read-only.
    """
    look = _style()
    page = _templates(package).get_template(template)
    text = page.stream(notice=NOTICE, policy=_policy(look, script), style=look, script=script, **values)
    # file names that are not UTF-8 reach us as surrogates, which no encoding takes as they are
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(text)


def part(name: str) -> str:
    """Read a file of this folder: the style, or a script."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def image(svg: str | None) -> str | None:
    """Return a chart as the source of an image: by itself, so that its ids and styles meet no others."""
    return svg and "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def _templates(package: str) -> Environment:
    """Load the templates in the folder of a package, and those here; whatever a file name holds comes out escaped."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("wbc_cli.products.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters["url"] = lambda name: quote(name.encode("utf-8", "surrogateescape"))
    environment.filters["fixed"] = lambda value, decimals=1: "" if value is None else f"{value:.{decimals}f}"
    environment.filters["thousands"] = lambda number: f"{number:,}"
    return environment


def _style() -> str:
    """Return the style of every page, with the colours of the classes: the policy allows no style in an element."""
    colours = (".c-{}{{background:rgb({},{},{})}}\n".format(kind.name, *kind.colour) for kind in BY_NAME.values())
    return part("page.css") + "".join(colours)


def _policy(style: str, script: str = "") -> str:
    """Allow this style, this script and what stands in the page, and nothing else."""

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; img-src data:; style-src {source(style)}; script-src {source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
