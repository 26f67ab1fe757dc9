"""Which passwords people may choose: long enough, and none of those that are guessed first.

Length and a list, no demands on which characters occur (NIST SP 800-63B-4, 3.1.1.2): demands make people write
`Password2026!` and attackers know it. The list is short, because only guesses of twelve characters and more matter.
"""

from __future__ import annotations

import re
from typing import Final

MIN_CHARS: Final = 12
MAX_CHARS: Final = 256
MAX_UNIT_CHARS: Final = 5
"""A password that only repeats so few characters is no longer than they are."""
MIN_OWN_CHARS: Final = 6
"""What has to be left of a password beside the user's own name."""

_WORD_LIST: Final = """
    password passw0rd p@ssw0rd p@ssword parol пароль qwerty qwertyuiop йцукен йцукенгшщз asdfghjkl zxcvbnm admin
    administrator welcome letmein iloveyou dragon monkey football baseball superman batman master sunshine princess
    shadow michael trustno1 starwars changeme secret default login access hello whatever freedom computer internet
    qorgan qazaqstan kazakhstan казахстан қазақстан almaty алматы astana астана police polisia полиция dispatcher
    диспетчер supervisor test testing temp temporary summer winter spring autumn лето зима весна осень
"""
_WORDS: Final = frozenset(_WORD_LIST.split())
"""Words that guessers try with digits and signs around them, alone or one after the other."""

_COMMON_LIST: Final = """
    1q2w3e4r5t6y 1qaz2wsx3edc qazwsxedcrfv q1w2e3r4t5y6 zaq12wsxcde3 1qazxsw23edc !qaz2wsx#edc abcd1234abcd
    correcthorsebatterystaple thisisapassword mypassword123 ilovemyfamily iloveyou1234 nothing12345
"""
_COMMON: Final = frozenset(_COMMON_LIST.split())

_RUNS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890123456789",
    "qwertyuiopasdfghjklzxcvbnm",
    "йцукенгшщзхъфывапролджэячсмитьбю",
    "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
)

_TRIMMINGS: Final = re.compile(r"[\W\d_]+")
_EDGES: Final = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_DISGUISES: Final = str.maketrans("0134@$5", "oieaass")


def weakness(password: str, username: str = "") -> str | None:
    """Why a password is refused, as a sentence that does not repeat it; None when it may be chosen."""
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        return f"A password has {MIN_CHARS} to {MAX_CHARS} characters; a few words in a row are easy to keep in mind."
    plain = password.casefold()
    if plain in _COMMON or _is_words(plain) or _is_run(plain) or _is_repeated(plain):
        return "This password is among the first that are guessed; choose one that is yours alone."
    name = username.casefold().strip()
    if len(name) > 2 and name in plain and len(plain.replace(name, "")) < MIN_OWN_CHARS:
        return "The password is little more than the user name; choose another."
    return None


def _is_words(plain: str) -> bool:
    """Whether it is nothing but one or two words of the list, with digits and signs between and around them."""
    parts = [part for part in _TRIMMINGS.split(plain) if part]
    if _EDGES.sub("", plain).translate(_DISGUISES) in _WORDS:
        return True
    if len(parts) > 2:
        return False
    if all(part in _WORDS for part in parts):
        return True
    whole = "".join(parts)
    return any(whole.startswith(word) and whole[len(word) :] in _WORDS for word in _WORDS)


def _is_run(plain: str) -> bool:
    """Whether it follows the alphabet, the digits or the keyboard, forwards or backwards."""
    return any(plain in run or plain in run[::-1] for run in _RUNS)


def _is_repeated(plain: str) -> bool:
    return any(
        plain == (plain[:unit] * (len(plain) // unit + 1))[: len(plain)] for unit in range(1, MAX_UNIT_CHARS + 1)
    )
