"""No hidden count can be worked out: every table is attacked with all that is shown, by trying all there could be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.domain.suppression import Counts, Shown, protect, small, steps

K = 3
"""Small, so that all there could be can be tried."""

CELLS = st.lists(st.integers(0, 9), min_size=1, max_size=4).map(lambda counts: dict(zip("abcd", counts, strict=False)))


def could_be(shown: Mapping[str, int | None], total: int, *, withheld: bool) -> Iterator[dict[str, int]]:
    """Every table that looks like this and adds up."""
    hidden = [value for value, count in shown.items() if count is None]
    rest = total - sum(count for count in shown.values() if count is not None)
    least = 0 if withheld else 1
    for counts in itertools.product(range(least, rest + 1), repeat=max(0, len(hidden) - 1)):
        last = rest - sum(counts)
        if hidden and last >= least:
            yield {
                **{v: c for v, c in shown.items() if c is not None},
                **dict(zip(hidden, (*counts, last), strict=True)),
            }
    if not hidden:
        yield {value: count for value, count in shown.items() if count is not None}


def is_withheld(shown: Mapping[str, int | None]) -> bool:
    return all(count is None for count in shown.values())


@settings(max_examples=400)
@given(CELLS)
def test_in_one_table_every_hidden_count_may_be_one_of_k(cells: dict[str, int]) -> None:
    shown = protect(Counts(sum(cells.values()), {"by": cells}), k=K)
    assert all(not small(count, K) for count in shown.tables["by"].values() if count is not None)
    assert all(count in (None, cells[value]) for value, count in shown.tables["by"].items())
    if shown.total is None:
        assert small(sum(cells.values()), K) or is_withheld(shown.tables["by"])
        assert is_withheld(shown.tables["by"])
        return
    tables = list(could_be(shown.tables["by"], shown.total, withheld=is_withheld(shown.tables["by"])))
    assert cells in tables
    for value, count in shown.tables["by"].items():
        if count is None:
            assert len({table[value] for table in tables}) >= K, "what is shown gives it away"


PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=3)


@settings(max_examples=400, deadline=None)
@given(PAIRS)
def test_a_part_and_its_whole_give_neither_away_nor_what_remains(pairs: list[tuple[int, int]]) -> None:
    whole = dict(zip("abc", (max(pair) for pair in pairs), strict=False))
    part = dict(zip("abc", (min(pair) for pair in pairs), strict=False))
    of_whole, of_part = Counts(sum(whole.values()), {"by": whole}), Counts(sum(part.values()), {"by": part})
    whole_shown = protect(of_whole, k=K)
    part_shown = protect(of_part, of_whole, whole_shown, k=K)
    for value in whole:
        upper, lower = whole_shown.tables["by"][value], part_shown.tables["by"][value]
        if upper is not None and lower is not None:
            assert not small(upper - lower, K)
        if lower:
            assert upper is not None, "a part that is shown would bound a whole that is not"
    assume(whole_shown.total is not None)
    both = [
        (upper, lower)
        for upper in tables_of(whole_shown, of_whole.total)
        for lower in tables_of(part_shown, of_whole.total)
        if all(lower[value] <= upper[value] for value in upper)
    ]
    assert (whole, part) in both
    for value in whole:
        if whole_shown.tables["by"][value] is None:
            assert len({upper[value] for upper, _ in both}) > 1
        if part_shown.tables["by"][value] is None and whole[value]:  # of nobody there is no part: that is no secret
            assert len({lower[value] for _, lower in both}) > 1


def tables_of(shown: Shown, most: int) -> list[dict[str, int]]:
    table = shown.tables["by"]
    totals = [shown.total] if shown.total is not None else range(most + 1)
    return [one for total in totals for one in could_be(table, total, withheld=is_withheld(table))]


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 40), min_size=1), st.integers(1, 4))
def test_tables_of_other_dimensions_share_nothing_but_the_total(cells: dict[str, int], parts: int) -> None:
    total = sum(cells.values())
    other = {str(part): total // parts + (part < total % parts) for part in range(parts)}
    alone = protect(Counts(total, {"by": cells}))
    beside = protect(Counts(total, {"by": cells, "other": other}))
    if beside.total is not None:
        assert beside.tables["by"] == alone.tables["by"]
    else:
        assert all(is_withheld(table) for table in beside.tables.values()), "a sum of any table would be the total"


@given(st.lists(st.integers(0, 60), min_size=1, max_size=6))
def test_a_funnel_shows_no_step_that_is_small_or_leaves_few(counts: list[int]) -> None:
    falling = sorted(counts, reverse=True)
    shown = steps({str(number): count for number, count in enumerate(falling)})
    told = [count for count in shown.values() if count is not None]
    assert not any(small(count) for count in told)
    assert not any(small(above - below) for above, below in itertools.combinations(told, 2))


def test_nothing_is_hidden_where_nothing_is_small() -> None:
    counts = Counts(60, {"region": {"Almaty": 30, "Astana": 30, "Aqtau": 0}})
    assert protect(counts) == Shown(60, counts.tables)


def test_one_small_cell_takes_the_next_smallest_with_it() -> None:
    shown = protect(Counts(52, {"region": {"Almaty": 30, "Astana": 20, "Aqtau": 2, "Oral": 0}}))
    assert shown.tables["region"] == {"Almaty": 30, "Astana": None, "Aqtau": None, "Oral": 0}
