"""The pages for developers are true: modules, imports, examples and words are as they say."""

from __future__ import annotations

import ast
import importlib
import re
from graphlib import TopologicalSorter

from documents import PACKAGE, page, rows, section


def test_the_modules_that_the_architecture_and_the_recipes_name_exist():
    for topic in ("architecture", "contributing"):
        for name in re.findall(r"(?<![\w/.])(?:wbc_cli/)?((?:[a-z_]+/)*[a-z_]+\.py)\b", page(topic)):
            root = PACKAGE.parent if name.startswith("tests/") else PACKAGE
            assert (root / name).is_file(), name


def test_the_examples_of_style_stand_in_the_code():
    examples = re.findall(r"^```python\n(.*?)^```", page("contributing"), flags=re.MULTILINE | re.DOTALL)
    code = [
        path.read_text(encoding="utf-8")
        for part in ("wbc_cli", "tests")
        for path in (PACKAGE.parent / part).rglob("*.py")
    ]
    assert len(examples) >= 2
    for example in examples:
        assert any(example in text for text in code), example


def test_what_the_packages_import_of_each_other_is_as_drawn():
    listed = {
        row[0].strip("`"): set(re.findall(r"`([^`]+)`", row[2]))
        for row in rows(section(page("architecture"), "Packages"))
    }
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert listed.keys() == packages
    for name in packages:
        imported = {
            node.module.split(".")[1]
            for path in (PACKAGE / name).rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wbc_cli.")
        }
        assert imported & packages - {name} == listed[name]
    assert list(TopologicalSorter(listed).static_order())  # no arrow runs back: a cycle raises an error


def test_the_words_of_the_glossary_are_in_the_code():
    for _, _, where in rows(section(page("architecture"), "Glossary")):
        module, _, name = where.strip("`").rpartition(".")
        assert hasattr(importlib.import_module(f"wbc_cli.{module}"), name), where
