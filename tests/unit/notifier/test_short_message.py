"""How many text messages a text is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.short_message import BASIC, EXTENSION, Segments, count_segments


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", Segments("gsm7", 0, 1)),
        ("a" * 160, Segments("gsm7", 160, 1)),
        ("a" * 161, Segments("gsm7", 161, 2)),
        ("a" * 306, Segments("gsm7", 306, 2)),
        ("a" * 307, Segments("gsm7", 307, 3)),
        ("€" * 80, Segments("gsm7", 160, 1)),
        ("a" * 152 + "€" + "a" * 152, Segments("gsm7", 306, 3)),  # the pair is not cut: one septet is lost
        ("ж" * 70, Segments("ucs2", 70, 1)),
        ("ж" * 71, Segments("ucs2", 71, 2)),
        ("ж" * 134, Segments("ucs2", 134, 2)),
        ("ж" * 135, Segments("ucs2", 135, 3)),
        ("a" * 69 + "ә", Segments("ucs2", 70, 1)),
        ("😀" * 35, Segments("ucs2", 70, 1)),
        ("😀" * 67, Segments("ucs2", 134, 3)),  # 33 pairs a message of 67 units
        ("Ä\u00a0", Segments("ucs2", 2, 1)),
    ],
)
def test_a_text_takes_as_many_messages_as_the_standard_says(text: str, segments: Segments) -> None:
    assert count_segments(text) == segments


def test_the_default_alphabet_is_whole() -> None:
    assert len(BASIC) == 127  # 128 places, one of them the escape
    assert len(EXTENSION) == 10
    assert not BASIC & EXTENSION


@given(st.text(max_size=400), st.text(max_size=50))
def test_the_count_is_what_the_units_need_and_at_most_the_pairs_that_would_be_cut_more(text: str, more: str) -> None:
    segments = count_segments(text + more)
    joined = {"gsm7": 153, "ucs2": 67}[segments.alphabet]
    if segments.count > 1:
        assert -(-segments.units // joined) <= segments.count <= -(-segments.units // (joined - 1))


@given(st.text(alphabet=st.sampled_from(sorted(BASIC | EXTENSION)), max_size=500))
def test_the_latin_alphabet_never_costs_more_than_any_other(text: str) -> None:
    assert count_segments(text).count <= count_segments(text + "ж").count
