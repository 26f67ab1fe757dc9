"""The words of one language, out of gettext catalogs: `words.pot` in English, `{kk,ru}/LC_MESSAGES/words.po` from it.

A text is found by its key, which is the message's context (`msgctxt`): `panic_contact.short`. A translation that is
missing or fuzzy is not used; English stands in for it, which a test does not let pass.
"""

from __future__ import annotations

import functools
import gettext
import importlib.resources
import io
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LANGUAGES: Final = ("kk", "ru", "en")
DEFAULT_LANGUAGE: Final = "ru"
SOURCE_LANGUAGE: Final = "en"
LOCALES: Final = {"kk": "kk_KZ", "ru": "ru_KZ", "en": "en_GB"}
"""How times and numbers are written."""

Pieces = tuple[tuple[str, str | None], ...]
"""A text in its order: (what stands before, name of the placeholder or None)."""


@dataclass(frozen=True)
class Words:
    """One language's texts."""

    language: str
    locale: Locale
    _source: Mapping[str, tuple[str, ...]] = field(repr=False)
    """By key: the English text, or its singular and plural."""
    _translations: gettext.NullTranslations = field(repr=False)

    def has(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in self._source

    def text(self, key: str) -> str:
        """The text of `key`. KeyError when there is none."""
        return self._translations.pgettext(key, self._source[key][0])

    def plural(self, key: str, count: int) -> str:
        """The form of `key` that `count` takes in this language."""
        one, many = self._source[key]
        return self._translations.npgettext(key, one, many, count)

    @functools.cache  # noqa: B019 - there are three of these, for as long as the process lives
    def pieces(self, key: str) -> Pieces:
        """The text of `key`, cut at its placeholders."""
        return cut(self.text(key))

    def __hash__(self) -> int:
        return hash(self.language)


def cut(text: str) -> Pieces:
    """A text, cut at its `{placeholders}`; ValueError when one is more than a name."""
    found = []
    for before, name, form, conversion in string.Formatter().parse(text):
        if form or conversion or (name is not None and not name.isidentifier()):
            raise ValueError(f"a placeholder is a name and nothing else: {text!r:.80}")
        found.append((before, name))
    return tuple(found)


def language_of(tag: str) -> str:
    """The language we have for a tag such as `kk`, `ru-RU` or `kk_Cyrl_KZ`; the default for any other."""
    language = tag.replace("_", "-").split("-", 1)[0].lower()
    return language if language in LANGUAGES else DEFAULT_LANGUAGE


@functools.cache
def words_of(language: str) -> Words:
    """The words of one of LANGUAGES, read once."""
    source = read_catalog(SOURCE_LANGUAGE)
    texts = {
        message.context: (message.id,) if isinstance(message.id, str) else tuple(message.id)
        for message in source
        if message.context is not None
    }
    translations = gettext.NullTranslations()
    if language != SOURCE_LANGUAGE:
        compiled = io.BytesIO()
        write_mo(compiled, read_catalog(language))
        compiled.seek(0)
        translations = gettext.GNUTranslations(compiled)
    return Words(language, Locale.parse(LOCALES[language]), texts, translations)


def read_catalog(language: str) -> Catalog:
    """A language's catalog as its file has it; English is the one that the others are translated from."""
    name = "words.pot" if language == SOURCE_LANGUAGE else f"{language}/LC_MESSAGES/words.po"
    with importlib.resources.files("notifier.templates").joinpath("locale", name).open("rb") as stream:
        return read_po(stream, locale=None if language == SOURCE_LANGUAGE else language, abort_invalid=True)
