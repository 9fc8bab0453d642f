"""The records of a run's slides, of which there may be a hundred thousand."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256

from wbc_cli.differential import Differential, of_counts
from wbc_cli.products.tables import DONE, SlideRecord, add_counts


class Records:
    """Records of slides by name, which are iterated over in the order of their names.

    Each is kept as the text of its JSON, compressed after the pattern of the first, as they are much alike: that takes
    300 bytes, where the record itself takes 11,000, and 20 us each time that it is looked at.
    """

    def __init__(self, records: Iterable[SlideRecord] = ()) -> None:
        """Keep some records; of those of one name the last."""
        self._pattern: bytes | None = None
        self._texts: dict[str, bytes] = {}
        self._statuses: dict[str, str] = {}
        self._counts = Counter[str]()
        for record in records:
            self.add(record)

    @classmethod
    def of(cls, records: Records | Iterable[SlideRecord]) -> Records:
        """Take records as they are, or keep those that come in another form."""
        return records if isinstance(records, Records) else cls(records)

    def copy(self) -> Records:
        """Make a second collection of the same records."""
        other = Records()
        other._pattern = self._pattern
        other._texts, other._statuses, other._counts = self._texts.copy(), self._statuses.copy(), self._counts.copy()
        return other

    def add(self, record: SlideRecord) -> None:
        """Keep a record in place of an earlier one of its name."""
        name, status = str(record["name"]), str(record["status"])
        if name in self:
            self.remove(name)
        text = json.dumps(record, separators=(",", ":")).encode()
        if self._pattern is None:
            self._pattern = text
        packer = zlib.compressobj(1, zdict=self._pattern)
        self._texts[name], self._statuses[name] = packer.compress(text) + packer.flush(), status
        if status == DONE:
            add_counts(self._counts, record)

    def remove(self, name: str) -> None:
        """Let go of the record of a slide.

        Raises:
            KeyError: there is none.
        """
        if self._statuses[name] == DONE:
            counts = Counter[str]()
            add_counts(counts, self[name])
            self._counts.subtract(counts)
        del self._texts[name], self._statuses[name]

    def get(self, name: str) -> SlideRecord | None:
        """Return the record of a slide; None where there is none."""
        try:
            return self[name]
        except KeyError:
            return None

    def __getitem__(self, name: str) -> SlideRecord:
        record: SlideRecord = json.loads(self._text(name))
        return record

    def names(self, *statuses: str) -> list[str]:
        """List the slides in their order: those of some statuses, or all."""
        return sorted(name for name, status in self._statuses.items() if not statuses or status in statuses)

    @property
    def differential(self) -> Differential:
        """The cells of all slides that are done and not refused, counted as those of one."""
        return of_counts(self._counts)

    @property
    def checksum(self) -> str:
        """SHA-256 of all that is kept."""
        whole = sha256()
        for name in self.names():
            whole.update(self._text(name))
        return whole.hexdigest()

    def _text(self, name: str) -> bytes:
        return zlib.decompressobj(zdict=self._pattern or b"").decompress(self._texts[name])

    def __contains__(self, name: str) -> bool:
        return name in self._texts

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[SlideRecord]:
        return map(self.__getitem__, self.names())
