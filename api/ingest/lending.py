"""Commands on their way over open connections: lent until the peer has sent something more, returned when it breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from api.ingest.device_commands import Command, DeviceCommands
from api.ingest.ledger import Ledger


class Way(Protocol):
    """An open connection (api.ingest.connection.Connection)."""

    commands: list[Command] | None
    """What goes with its next acknowledgement."""
    ledger: Ledger


class _Lent:
    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.frames: int | None = None
        """What had been received when they had been sent."""


class Lending:
    """What one process's connections were given and may not have heard."""

    def __init__(self, commands: DeviceCommands) -> None:
        self._commands = commands
        self._lent: dict[Way, _Lent] = {}

    def give(self, way: Way, number: int, device_id: str | None = None) -> None:
        """Have a device told what waits for it with the next acknowledgement; by a gateway, which is told its id."""
        given = self._commands.lend(number)
        if not given:
            return
        named: Sequence[Command] = given if device_id is None else [{**one, "device_id": device_id} for one in given]
        way.commands = [*(way.commands or ()), *named]
        self._lent.setdefault(way, _Lent()).commands += given

    def settle(self) -> None:
        """Whoever has sent something since a command was sent has it: it is lent no more."""
        for way, lent in list(self._lent.items()):
            if way.commands is not None:
                lent.frames = None  # it waits for an acknowledgement yet
            elif lent.frames is None:
                lent.frames = way.ledger.frames
            elif way.ledger.frames > lent.frames:
                self._commands.arrived(lent.commands)
                del self._lent[way]

    def broken(self, way: Way) -> None:
        """The connection is gone: what it was lent waits again."""
        lent = self._lent.pop(way, None)
        if lent is not None:
            self._commands.returned(lent.commands)
