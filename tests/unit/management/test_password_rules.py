"""Which passwords may be chosen."""

from __future__ import annotations

import pytest

from core.domain.password_rules import weakness


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery", "тау мен теңіз арасы", "a quiet green teapot", "Zk7#mPq9!xLw", "1 2 3 собака бежит",
        "password of my aunt", "jxuwvohyqkbn",
    ],
)  # fmt: skip
def test_what_is_long_and_one_s_own_may_be_chosen(password: str) -> None:
    assert weakness(password, "dispatcher") is None


@pytest.mark.parametrize(
    "password",
    [
        "", "short", "elevenchars", "x" * 257, "password1234", "Password2026!", "P@ssw0rd2026!!", "123456789012",
        "abcdefghijkl", "lkjihgfedcba", "qwertyuiopas", "йцукенгшщзхъ", "aaaaaaaaaaaa", "abcabcabcabc", "admin-admin-1",
        "QorganPolice1", "қазақстан2026", "1q2w3e4r5t6y", "dispatcher12", "12dispatcher!", "summer.2026..",
        "!!!!!!!!!!!!",
    ],
)  # fmt: skip
def test_what_is_guessed_first_is_refused_without_repeating_it(password: str) -> None:
    words = weakness(password, "dispatcher")
    assert words is not None
    assert not password or password not in words
