"""Small counts kept from whoever adds and subtracts: what of a table may be shown.

A table is the counts of one measure by one dimension, with their total. A count from 1 to k − 1 is *small*, and so is
what remains of a measure's count in the measure it is part of (20 orders, 18 served: 2 not). Zero is shown: it is of
nobody.

    1. Small cells are hidden, and cells whose counterpart in the whole is hidden.
    2. While what is shown would leave a hidden cell fewer than k possible counts, the smallest shown cell that is not
       zero is hidden too.
    3. Where no cell is left for that, the whole table is withheld, its zeros too; where even then the total tells, the
       measure is withheld in every table.

Each measure is shown only in tables of one dimension. Two of them share nothing but the total, so nothing of one
follows from another; a table of two dimensions is never shown, since its margins would tie the others together. What is
possible is reckoned as an onlooker would who knows this page: a hidden cell of a table that is shown is at least 1, and
at most what the whole shows in the same place. (Step 2 is what the literature calls complementary suppression.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

K: Final = 5
"""Counts below it are small."""


@dataclass(frozen=True)
class Counts:
    """A measure as it is: its total and its tables, `{dimension: {value: count}}`, each adding up to the total."""

    total: int
    tables: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Shown:
    """A measure as it may be shown; None: hidden."""

    total: int | None
    tables: Mapping[str, Mapping[str, int | None]]


def small(count: int, k: int = K) -> bool:
    """Whether a count is of so few that somebody may be known by it."""
    return 0 < count < k


def protect(own: Counts, whole: Counts | None = None, whole_shown: Shown | None = None, k: int = K) -> Shown:
    """What of a measure may be shown; `whole` is the measure it is part of, and what of that is shown already."""
    withheld = Shown(None, {name: dict.fromkeys(table) for name, table in own.tables.items()})
    if small(own.total, k):
        return withheld
    total_tells = whole is not None and small(whole.total - own.total, k)
    if own.total and (total_tells or (whole_shown is not None and whole_shown.total is None)):
        return withheld
    tables: dict[str, Mapping[str, int | None]] = {}
    for name, table in own.tables.items():
        of_whole = whole.tables.get(name, {}) if whole is not None else {}
        of_shown = whole_shown.tables.get(name, {}) if whole_shown is not None else {}
        shown = _protect_table(own.total, table, of_whole, of_shown, k)
        if shown is None:
            return withheld
        tables[name] = shown
    return Shown(own.total, tables)


def _protect_table(
    total: int,
    table: Mapping[str, int],
    whole: Mapping[str, int],
    whole_shown: Mapping[str, int | None],
    k: int,
) -> Mapping[str, int | None] | None:
    """The table as it may be shown beside its total; None: it cannot be, not even wholly hidden."""
    hidden = {
        value
        for value, count in table.items()
        if small(count, k)
        or (count > 0 and value in whole and (small(whole[value] - count, k) or whole_shown[value] is None))
    }
    if not hidden:
        return table
    most = {value: shown for value, shown in whole_shown.items() if shown is not None}
    while not _vague({value: table[value] for value in hidden}, 1, most, k):
        more = [value for value, count in table.items() if count > 0 and value not in hidden]
        if not more:
            break
        hidden.add(min(more, key=lambda value: (table[value], value)))
    else:
        return {value: None if value in hidden else count for value, count in table.items()}
    if total and _vague(table, 0, most, k):
        return dict.fromkeys(table)
    return None


def _vague(hidden: Mapping[str, int], least: int, most: Mapping[str, int], k: int) -> bool:
    """Whether each hidden cell may be one of at least k counts, by what is known: their sum, and bounds of each."""
    total = sum(hidden.values())
    highest = {value: min(total, most.get(value, total)) for value in hidden}
    for value in hidden:
        low = max(least, total - (sum(highest.values()) - highest[value]))
        high = min(highest[value], total - least * (len(hidden) - 1))
        if high - low + 1 < k:
            return False
    return True


def steps(counts: Mapping[str, int], k: int = K) -> dict[str, int | None]:
    """A funnel as it may be shown: steps each part of the one before; one that is small, or leaves few, is hidden."""
    shown: dict[str, int | None] = {}
    above: int | None = None
    for name, count in counts.items():
        hide = small(count, k) or (above is not None and small(above - count, k))
        shown[name] = None if hide else count
        if not hide:
            above = count
    return shown
