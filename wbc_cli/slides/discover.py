"""Finding the slides under what the user names: files, folders, lists."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from wbc_cli.errors import UsageError
from wbc_cli.slides.file_sets import find_companions, find_parts
from wbc_cli.slides.formats import named_format, read_head
from wbc_cli.slides.lists import LIST_SUFFIXES, read_list
from wbc_cli.slides.marks import MARKED_BYTES, is_product
from wbc_cli.slides.names import field_name, unique_names
from wbc_cli.slides.no_specimens import why_no_specimens
from wbc_cli.slides.unsupported import UNREAD_SUFFIXES
from wbc_cli.slides.watchdog import TIME_LIMIT, call_each

if TYPE_CHECKING:
    from wbc_cli.slides.fields import Contents

T = TypeVar("T")

_UNKNOWN = PurePath()


@dataclass(frozen=True)
class SlideSource:
    """One slide to analyse.

    Attributes:
        name: unique among the slides of the run, safe as a folder name.
        path: the file that opens it.
        field: which of the file's fields it is, from 0, where that has several.
        parts: its other files, where it has several.
        problem: why it cannot even be tried to open, if so: a link to nothing, a folder that may not be read, an entry
            of a list without a file. It is a slide that fails, so that nobody takes it for analysed.
        known_by: its path relative to the folder it was found in, or to that of the list, or its file name.
    """

    name: str
    path: Path
    field: int | None = None
    parts: tuple[Path, ...] = ()
    problem: str = ""
    known_by: PurePath = _UNKNOWN

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the slide, the one that opens it first."""
        return self.path, *self.parts


@dataclass(frozen=True)
class Discovery:
    """What the given paths hold.

    Attributes:
        slides: by name.
        skipped: files and folders left out, and why.
        unread: how many pictures and slides of kinds that the tool does not read were in the folders, by extension.
    """

    slides: tuple[SlideSource, ...]
    skipped: tuple[tuple[Path, str], ...]
    unread: Mapping[str, int] = field(default_factory=dict)


class _Found(NamedTuple):
    path: Path
    known_by: PurePath
    real: str
    problem: str = ""


def discover(
    paths: Sequence[Path],
    known: Mapping[str, str] = MappingProxyType({}),
    time_limit: float = TIME_LIMIT,
    is_copy: Callable[[Sequence[Path], str], bool] = lambda files, name: True,
) -> Discovery:
    """Find the slides in files, folders and list files.

    Folders are walked, links followed, and what is hidden, or holds no specimens (see `why_no_specimens`), is left out,
    as is every picture that this tool made. A file named by the user is taken whatever its extension. For lists (.txt,
    .csv, .tsv) see `read_list`; what they name and is not there is a slide that fails. A slide reached in two ways is
    taken once, a slide of several files (DICOM, MRXS, VMS) too. A file whose first read does not return is a slide that
    fails.

    Of a TIFF that has several fields each is a slide, NAME+1, NAME+2 and so on.

    A slide is known by its path relative to the folder it was found in, or to that of the list, or by its file name.

    Args:
        paths: files, folders and lists.
        known: absolute paths of files that have results, and under which name: they keep it.
        time_limit: seconds that the read of one file's head may take.
        is_copy: tells whether a slide's files are copies of those that have results under a name.

    Returns:
        The slides, sorted by name; none is no error.

    Raises:
        UsageError: a path names nothing that exists, or a list cannot be read, or nothing that it names is there.
    """
    search = _Search(time_limit)
    for path in paths:
        search.look(path)
    known_by = {found.path: found.known_by for found in search.found()}
    for path, opener in find_companions(known_by.keys() - search.problems.keys(), known).items():
        search.skipped.append((path, f"part of {opener}"))
        del known_by[path]
    contents = _contents(search, known_by, known)
    parts = find_parts(known_by.keys() - search.problems.keys())

    def is_copied(path: Path, name: str) -> bool:
        others = contents[path].files - {path} if path in contents else parts.get(path, ())
        if path in search.problems:
            return True
        # Reading all of a file may take longer than its head; where it does not end, that is for the worker to say.
        (answer,) = call_each(lambda own: is_copy((own, *sorted(others)), name), [path], time_limit)
        return answer is not False

    slides = []
    for path, name in unique_names(known_by, known, is_copied).items():
        slide = SlideSource(name, path, None, parts.get(path, ()), search.problems.get(path, ""), known_by[path])
        slides += _fields(slide, contents[path]) if path in contents else [slide]
    ordered = tuple(sorted(slides, key=attrgetter("name")))
    return Discovery(ordered, tuple(sorted(search.skipped)), dict(sorted(search.unread.items())))


def _contents(search: _Search, known_by: dict[Path, PurePath], known: Container[str]) -> dict[Path, Contents]:
    """Find what each file is made of that may hold several fields; of a set of files all but one go out of `known_by`.

    The first by name stands for its set, or the one that has done so before.
    """
    formats = ((path, named_format(path)) for path in known_by.keys() - search.problems.keys())
    counts = {path: own.contents_of for path, own in formats if own and own.contents_of}
    contents: dict[Path, Contents] = {}
    for path in sorted(counts, key=lambda path: (str(path.absolute()) not in known, path)):
        if path in known_by and (found := search.watched(counts[path], path)):
            contents[path] = found
            for part in found.files - {path}:
                if part in counts and part in known_by:
                    search.skipped.append((part, f"part of {path}"))
                    del known_by[part]
    return contents


def _fields(slide: SlideSource, contents: Contents) -> list[SlideSource]:
    """Return each field of a TIFF as a slide of its own."""
    whole = replace(slide, parts=tuple(sorted(contents.files - {slide.path})))
    if contents.fields == 1:
        return [whole]
    return [
        replace(whole, name=field_name(slide.name, number, contents.fields), field=number)
        for number in range(contents.fields)
    ]


def file_size(path: Path) -> int:
    """Return the size of a file in bytes; 1 for what cannot be asked, as opening it will say what is wrong."""
    try:
        return max(1, path.stat().st_size)
    except OSError:
        return 1


class _Search:
    """What has been found so far.

    Args:
        time_limit: seconds that a read may take.

    Attributes:
        problems: of what cannot be opened, by its path.
        skipped, unread: see Discovery.
    """

    def __init__(self, time_limit: float) -> None:
        self._time_limit = time_limit
        self._taken: list[_Found] = []
        self.problems: dict[Path, str] = {}
        self.skipped: list[tuple[Path, str]] = []
        self.unread: Counter[str] = Counter()

    def look(self, path: Path) -> None:
        """Look at what the user names.

        Raises:
            UsageError: see `discover`.
        """
        if path.suffix.lower() in LIST_SUFFIXES and not _is_folder(path):
            self._look_at_list(path)
        else:
            self._look_at(path, None)

    def _look_at_list(self, file: Path) -> None:
        entries = read_list(file)
        gone = [entry for entry in entries if not os.path.lexists(entry.path)]
        if gone and len(gone) == len(entries):
            raise UsageError(
                f"{file}, line {gone[0].line}: {gone[0].path}: No such file, nor any other of those that it lists. "
                "Is it a list of slides? Its paths count from its own folder."
            )
        for line, path in entries:
            inside = path.is_relative_to(file.parent) and ".." not in path.relative_to(file.parent).parts
            known_by = path.relative_to(file.parent) if inside else PurePath(path.name)
            try:
                self._look_at(path, known_by)
            except UsageError as error:
                self._take(path, known_by, f"{file}, line {line}: {error}")

    def _look_at(self, path: Path, known_by: PurePath | None) -> None:
        if _is_folder(path):
            real = os.path.realpath(path)
            self._walk(path, known_by or PurePath(), real, {real})
        else:
            self._take(path, known_by or PurePath(path.name))

    def found(self) -> list[_Found]:
        """Return the slides: each file once, by its real path, and no picture that this tool made."""
        read = [found.path for found in self._taken if not found.problem and _is_read_at_once(found.path)]
        heads = dict(zip(read, call_each(_begins_as_product, read, self._time_limit), strict=True))
        first: dict[str, _Found] = {}
        for found in self._taken:
            is_product = heads.get(found.path, False)
            if found.problem:
                self.problems[found.path] = found.problem
            elif isinstance(is_product, TimeoutError):
                self.problems[found.path] = _hung(found.path, is_product)
            elif is_product:
                self.skipped.append((found.path, "a picture that wbc-cli made"))
                continue
            other = first.setdefault(found.real, found)
            if other.path != found.path:
                self.skipped.append((found.path, f"the same file as {other.path}"))
        return list(first.values())

    def watched(self, function: Callable[[Path], T], path: Path) -> T | None:
        """Call a function on a file; return None, and note a problem of the file, where its read does not return."""
        (answer,) = call_each(function, [path], self._time_limit)
        if isinstance(answer, TimeoutError):
            self.problems[path] = _hung(path, answer)
            return None
        return answer

    def _take(self, path: Path, known_by: PurePath, problem: str = "", real: str | None = None) -> None:
        self._taken.append(_Found(path, known_by, real or os.path.realpath(path), problem))

    def _walk(self, folder: Path, known_by: PurePath, real: str, seen: set[str]) -> None:
        """Look at all that a folder holds.

        Args:
            folder: what it is called.
            known_by: the same from where the walk began.
            real: its real path, by which no folder is entered twice.
            seen: real paths of all that have been entered.
        """
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=attrgetter("name"))
        except OSError as error:
            why = f"{folder}: the folder cannot be read: {error.strerror}. Whatever it holds is not analysed."
            self._take(folder, known_by if known_by.parts else PurePath(folder.absolute().name), why)
            return
        inner, files = list[os.DirEntry[str]](), list[os.DirEntry[str]]()
        for entry in entries:
            (inner if _leads_to_folder(entry) else files).append(entry)
        for entry in files:
            if not entry.name.startswith("."):
                self._look_at_file(entry, folder / entry.name, known_by / entry.name, real)
        beside = {entry.name for entry in files}
        for entry in inner:
            path, place = folder / entry.name, _real(entry, real)
            if entry.name.startswith(".") or place in seen:
                continue
            seen.add(place)
            if why_not := why_no_specimens(path, beside):
                self.skipped.append((path, why_not))
            else:
                self._walk(path, known_by / entry.name, place, seen)

    def _look_at_file(self, entry: os.DirEntry[str], path: Path, known_by: PurePath, folder: str) -> None:
        suffix = path.suffix.lower()
        if suffix and named_format(path) is None:
            if suffix in UNREAD_SUFFIXES:
                self.unread[suffix] += 1
            return
        try:
            regular = stat.S_ISREG(entry.stat().st_mode) if entry.is_symlink() else entry.is_file()
        except OSError as error:
            what = f"a link to {_target(path)}, which cannot be followed" if entry.is_symlink() else "cannot be read"
            self._take(path, known_by, f"{path}: {what}: {error.strerror}.")
        else:
            if suffix and regular:
                self._take(path, known_by, real=_real(entry, folder))


def _real(entry: os.DirEntry[str], folder: str) -> str:
    """Return the real path of what lies in a folder, whose own is known: only a link has to be followed for it."""
    return os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(folder, entry.name)  # noqa: PTH118


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_read_at_once(path: Path) -> bool:
    own = named_format(path)
    return bool(own and own.is_read_at_once)


def _begins_as_product(path: Path) -> bool:
    return is_product(read_head(path, MARKED_BYTES))


def _hung(path: Path, error: TimeoutError) -> str:
    return f"{path}: cannot be read: {error}. Look at its disk, or allow more with --time-limit."


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return "something"


def _is_folder(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}. Check the path and that you may read it.") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UsageError(f"{path}: neither a file nor a folder. Name an image, a folder of images or a list of them.")
    return stat.S_ISDIR(mode)
