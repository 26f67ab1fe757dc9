"""Inserts that wait: sent as one statement, in order, with their own arguments; reads go at once."""

from __future__ import annotations

from typing import Any

from core.postgres.later import ARGUMENTS_MAX, ROWS_MAX, Later


class Wire:
    """A connection that remembers what it was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, tuple[Any, ...]]] = []
        self.many: list[tuple[str, int]] = []

    async def execute(self, query: str, *args: Any) -> None:
        self.sent.append((query, args))

    async def executemany(self, query: str, rows: list[Any]) -> None:
        self.many.append((query, len(rows)))

    async def fetchval(self, query: str) -> int:
        self.sent.append((query, ()))
        return 7


async def test_what_waits_goes_as_one_statement_with_its_own_arguments() -> None:
    wire = Wire()
    later = Later(wire)
    await later.execute("INSERT INTO a (x, y) VALUES ($1, $2)", 1, 2)
    await later.executemany("INSERT INTO b (z) VALUES ($1) ON CONFLICT (z) DO NOTHING", [(3,), (4,)])
    await later.execute("SELECT pg_notify('delivery', '')")
    assert wire.sent == []
    await later.send()
    assert wire.sent == [
        (
            (
                "WITH part_0 AS (INSERT INTO a (x, y) VALUES ($1, $2)),"
                " part_1 AS (INSERT INTO b (z) VALUES ($3), ($4) ON CONFLICT (z) DO NOTHING)"
                " SELECT (SELECT pg_notify('delivery', ''))"
            ),
            (1, 2, 3, 4),
        )
    ]
    await later.send()
    assert len(wire.sent) == 1


async def test_one_alone_goes_as_it_is_and_reads_and_updates_go_at_once() -> None:
    wire = Wire()
    later = Later(wire)
    await later.execute("INSERT INTO a (x) VALUES ($1)", 1)
    assert await later.fetchval("SELECT 7") == 7
    await later.execute("UPDATE a SET x = 2")
    assert [query for query, _ in wire.sent] == ["SELECT 7", "UPDATE a SET x = 2"]
    await later.send()
    assert wire.sent[-1] == ("INSERT INTO a (x) VALUES ($1)", (1,))


async def test_many_rows_go_as_a_batch_and_many_arguments_as_several_statements() -> None:
    wire = Wire()
    later = Later(wire)
    await later.executemany("INSERT INTO a (x) VALUES ($1)", [(n,) for n in range(ROWS_MAX + 1)])
    assert wire.many == [("INSERT INTO a (x) VALUES ($1)", ROWS_MAX + 1)]
    wide = ", ".join(f"${n + 1}" for n in range(ARGUMENTS_MAX - 1))
    for _ in range(2):
        await later.execute(f"INSERT INTO a VALUES ({wide})", *range(ARGUMENTS_MAX - 1))
    await later.send()
    assert [len(args) for _, args in wire.sent] == [ARGUMENTS_MAX - 1] * 2
