"""Inserts that wait, and go to PostgreSQL as one statement: each round trip of a panic is time she waits.

The driver pipelines nothing, so what a transaction only writes, and never reads again, is collected and sent as parts
of one `WITH`. Reads, and whatever is not a plain INSERT or a NOTIFY, go at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

_PARAMETER: Final = re.compile(r"\$(\d+)")
_VALUES: Final = re.compile(r"\A(.*\bVALUES\s*)(\([^()]*\))(.*)\Z", re.DOTALL)
INSERT: Final = "INSERT INTO"
NOTIFY: Final = "SELECT pg_notify("
ARGUMENTS_MAX: Final = 1_000
"""Parameters of one statement; PostgreSQL takes some 65,000, and plans as many."""
ROWS_MAX: Final = 20
"""Rows of one `executemany` that wait; more of them are better sent as a batch of their own."""


class Later:
    """A connection inside a transaction whose INSERTs wait until `send`.

    What waits must not depend on one another, nor be read in the transaction before it is sent.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._waiting: list[tuple[str, Sequence[Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, query: str, *args: Any) -> None:
        """Keep an INSERT or a NOTIFY for later; anything else goes at once."""
        if query.lstrip().startswith((INSERT, NOTIFY)):
            self._waiting.append((query, args))
        else:
            await self._connection.execute(query, *args)

    async def executemany(self, query: str, rows: Iterable[Sequence[Any]]) -> None:
        """The same of several rows, which keep their order."""
        rows = list(rows)
        found = _VALUES.match(query)
        if len(rows) > ROWS_MAX or found is None or not query.lstrip().startswith(INSERT):
            await self._connection.executemany(query, rows)
        elif rows:
            head, one, tail = found.groups()
            values = ", ".join(_shifted(one, n * len(rows[0])) for n in range(len(rows)))
            self._waiting.append((f"{head}{values}{tail}", [value for row in rows for value in row]))

    async def send(self) -> None:
        """Send what waits."""
        waiting, self._waiting = self._waiting, []
        while waiting:
            some = [waiting.pop(0)]
            while waiting and sum(len(args) for _, args in (*some, waiting[0])) <= ARGUMENTS_MAX:
                some.append(waiting.pop(0))
            query, arguments = _joined(some)
            await self._connection.execute(query, *arguments)


def _shifted(query: str, by: int) -> str:
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + by}", query) if by else query


def _joined(statements: Sequence[tuple[str, Sequence[Any]]]) -> tuple[str, list[Any]]:
    """One statement that does what these do; a statement alone as it is."""
    if len(statements) == 1:
        return statements[0][0], list(statements[0][1])
    arguments: list[Any] = []
    parts: list[str] = []
    told: list[str] = []
    for query, args in statements:
        text = _shifted(query, len(arguments))
        arguments += args
        if text.lstrip().startswith(NOTIFY):
            told.append(f"({text})")
        else:
            parts.append(f"part_{len(parts)} AS ({text})")
    if not parts:
        return f"SELECT {', '.join(told)}", arguments
    return f"WITH {', '.join(parts)} SELECT {', '.join(told) or '1'}", arguments
