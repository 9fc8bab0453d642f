"""The one place where an error of one file, whatever it is, is kept from the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wbc_cli.errors import SlideError, WbcError
from wbc_cli.run.lazy_analyser import LazyAnalyser

log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """The outcome of the work on a file.

    Attributes:
        failure: why it failed; None where it did not.
    """

    failure: str | None = None


@contextmanager
def isolated(path: Path, network: LazyAnalyser) -> Iterator[Outcome]:
    """Work on one file, whose failure is noted and not raised; what nobody has thought of is logged as well.

    Args:
        path: the file.
        network: of the worker; once it is closed, errors are not the file's fault, and are not noted.

    Yields:
        The outcome, to be looked at afterwards.

    Raises:
        SetupError, UsageError: what no other file would be spared either.
        CancelledError: the work is being stopped.
    """
    outcome = Outcome()
    try:
        yield outcome
    except SlideError as error:
        outcome.failure = str(error)
    except (WbcError, CancelledError):
        raise
    except Exception as error:
        if network.closed:
            raise CancelledError from error
        log.exception("%s", path)
        outcome.failure = f"internal error ({type(error).__name__}: {error}); please report it"
