"""How many text messages a text is: GSM 03.38 (3GPP TS 23.038), and UCS-2 for every other alphabet.

A message has 140 octets: 160 septets, or 70 UTF-16 units. One of several bears a header of six octets, which leaves 153
septets or 67 units. A character of the extension table is two septets; neither it nor a surrogate pair is cut in two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""The default alphabet, one septet each (escape left out: it is no character)."""
EXTENSION: Final = frozenset("\f^{}\\[~]|€")
"""What takes an escape before it, two septets each."""
SINGLE: Final = {"gsm7": 160, "ucs2": 70}
"""Units of a message that stands alone."""
JOINED: Final = {"gsm7": 153, "ucs2": 67}
"""Units of one of several."""
LAST_OF_PLANE: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Segments:
    """What a text costs to send."""

    alphabet: str
    """gsm7 | ucs2"""
    units: int
    """Septets, or UTF-16 units."""
    count: int
    """Messages."""


def count_segments(text: str) -> Segments:
    """The messages that `text` takes; an empty text takes one."""
    if all(letter in BASIC or letter in EXTENSION for letter in text):
        alphabet, sizes = "gsm7", [2 if letter in EXTENSION else 1 for letter in text]
    else:
        alphabet, sizes = "ucs2", [2 if ord(letter) > LAST_OF_PLANE else 1 for letter in text]
    units = sum(sizes)
    if units <= SINGLE[alphabet]:
        return Segments(alphabet, units, 1)
    count, filled = 1, 0
    for size in sizes:
        if filled + size > JOINED[alphabet]:
            count, filled = count + 1, 0
        filled += size
    return Segments(alphabet, units, count)
