"""The exit codes, and the one hierarchy of errors that lead to them.

Every message names the file or option, says what is wrong, and what to do about it.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes, by which the shell, cron or the scheduler learns how a command ended."""

    OK = 0
    BUG = 1
    USAGE = 2
    SOME_FAILED = 3
    NOTHING_TO_DO = 4
    ENVIRONMENT = 5
    STOPPED = 75
    INTERRUPTED = 130


class WbcError(Exception):
    """Base of every error this tool raises on purpose."""

    exit_code = ExitCode.BUG


class UsageError(WbcError):
    """The command line or a file given on it (manifest, list, config) is wrong."""

    exit_code = ExitCode.USAGE


class NothingToAnalyseError(WbcError):
    """The paths hold no image that the tool can read."""

    exit_code = ExitCode.NOTHING_TO_DO


class SetupError(WbcError):
    """Weights, device or disk are not as needed; nothing is wrong with the input."""

    exit_code = ExitCode.ENVIRONMENT


class StoppedError(WbcError):
    """A signal asked to stop before there was anything to keep."""

    exit_code = ExitCode.STOPPED


class SlideError(WbcError):
    """One slide cannot be read or analysed; the run goes on without it."""

    exit_code = ExitCode.SOME_FAILED
