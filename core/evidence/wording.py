"""How a language writes figures and moments; its words stand in `words/`."""

from __future__ import annotations

import tomllib
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from core.clock import to_ms
from core.evidence import pictures

WORDS: Final = Path(__file__).parent / "words"
LANGUAGES: Final = ("kk", "ru", "en")

Json = dict[str, Any]


@cache
def words_of(language: str) -> Json:
    """The report's words in a language."""
    return tomllib.loads((WORDS / f"{language}.toml").read_text(encoding="utf-8"))


class Wording:
    """Figures and moments in one language and one civil time zone."""

    def __init__(self, language: str, zone: str) -> None:
        self.words = words_of(language)
        self.zone = zone

    def number(self, value: float, digits: int = 0) -> str:
        """A number as the language writes it."""
        return f"{value:.{digits}f}".replace(".", str(self.words["decimal"]))

    def metres(self, value: float | None) -> str:
        """A length."""
        return str(self.words["unknown"] if value is None else self.words["metres"].format(m=self.number(value)))

    def likelihood(self, p: float | None) -> str:
        """A probability in per cent, never rounded up to certainty."""
        if p is None:
            return str(self.words["unknown"])
        least, most = 0.001, 0.999
        shown = self.number(100 * min(max(p, least), most), 1)
        shown = f"> {shown}" if p > most else f"< {shown}" if p < least else shown
        return str(self.words["percent"].format(n=shown))

    def moment(self, value: Any, seconds: bool = True) -> str:
        """A moment in civil time: ms, or RFC 3339."""
        if value is None:
            return str(self.words["unknown"])
        ms = value if isinstance(value, int) else to_ms(datetime.fromisoformat(value))
        at = pictures.in_zone(ms, self.zone)
        date = self.words["date"].format(day=at.day, month=self.words["months"][at.month - 1], year=at.year)
        time = f"{at:%H:%M:%S}" if seconds else f"{at:%H:%M}"
        return str(self.words["moment"].format(date=date, time=time))

    def clock(self, ms: int) -> str:
        """Only the time of day."""
        return f"{pictures.in_zone(ms, self.zone):%H:%M:%S}"

    def length(self, ms: float) -> str:
        """How long something lasted."""
        seconds = ms / 1000
        if seconds < 120:
            return str(self.words["seconds"].format(n=self.number(seconds)))
        return str(self.words["minutes"].format(n=self.number(seconds / 60)))

    def word(self, name: Any) -> str:
        """A state or a kind."""
        return str(self.words["word"].get(str(name), name))
