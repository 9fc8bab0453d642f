"""Libraries that only an export needs, loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from wbc_cli.errors import SetupError


def load(module: str, package: str) -> ModuleType:
    """Import a module of an optional library.

    Args:
        module: its name.
        package: the name under which pip knows the library.

    Raises:
        SetupError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise SetupError(
            f"this format needs the library {package}, which cannot be loaded ({error}); install it with: "
            "pip install 'wbc-cli[export]'"
        ) from error
