"""The dispatcher's feed in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import Any

import httpx
import msgspec
import websockets
from rich.console import Console
from rich.text import Text

from core.errors import Misconfigured, NotAuthenticated

RECONNECT_DELAY_S = 1.0
SEVERITY_STYLES = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "dim"}
WORDS = {
    "proximity": "is inside the protected distance",
    "approach": "is coming near",
    "zone": "is in a forbidden place",
    "panic": "pressed the panic button",
    "tamper": "device tampered with",
    "silence": "device is silent",
    "battery": "battery is low",
    "separation_unknown": "separation is unknown",
}


class FeedPrinter:
    """Turns feed frames into lines for people; colours only on a terminal (rich decides)."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.connected = asyncio.Event()

    def note(self, text: str) -> None:
        """A line about the connection itself."""
        self._console.print(f"[dim]{text}[/dim]", highlight=False)

    def show(self, frame: dict[str, Any]) -> None:
        """One frame of the feed; positions are left to the map."""
        kind = str(frame.get("kind", ""))
        data = frame.get("data") or {}
        if kind == "position":
            return
        if kind.startswith("incident.") and "severity" in data:
            self._console.print(self._incident(kind, frame, data), soft_wrap=True)
        elif kind == "delivery.updated":
            self._console.print(self._delivery(frame, data), soft_wrap=True)
        elif kind == "provisional":
            self._console.print(Text(f"{_clock(frame)}  PROVISIONAL  {data.get('type', '')} (stores are away)"))
        else:
            self._console.print(Text(f"{_clock(frame)}  {kind}", style="dim"))

    def _incident(self, kind: str, frame: dict[str, Any], data: dict[str, Any]) -> Text:
        severity = str(data["severity"])
        line = Text(f"{_clock(frame)}  ")
        line.append(f" {severity.upper()} ", style=SEVERITY_STYLES.get(severity, ""))
        line.append(f"  {kind.removeprefix('incident.'):<12}", style="bold")
        line.append(f"{data['type']}: {WORDS.get(str(data['type']), '')}")
        if data.get("distance_m") is not None and data["type"] != "panic":
            line.append(f"  {data['distance_m']:,.0f} m", style="bold")
        place = data.get("place") or {}
        if "lat" in place:
            line.append(f"  at {place['lat']:.4f}, {place['lon']:.4f}")
        line.append(f"  [{data['state']}]", style="dim")
        return line

    def _delivery(self, frame: dict[str, Any], data: dict[str, Any]) -> Text:
        text = (
            f"{_clock(frame)}  told  {data.get('audience', '')} by {data.get('channel', '')}: {data.get('state', '')}"
        )
        return Text(text, style="green" if data.get("state") == "sent" else "dim")


def _clock(frame: dict[str, Any]) -> str:
    try:
        return datetime.fromisoformat(str(frame["at"])).astimezone().strftime("%H:%M:%S")
    except (KeyError, ValueError):
        return "--:--:--"


async def sign_in(api_url: str, username: str, password: str) -> str:
    """An access token for a user; raises NotAuthenticated or Misconfigured."""
    try:
        async with httpx.AsyncClient(timeout=10) as client:
            answer = await client.post(
                f"{api_url}/v1/auth/token",
                data={"grant_type": "password", "username": username, "password": password},
            )
    except httpx.HTTPError as error:
        raise Misconfigured(f"No Qorgan answers at {api_url}; is `qorgan run` running there?") from error
    if answer.status_code != 200:
        raise NotAuthenticated(f"Signing in as {username} was refused; check the user name and the password.")
    return str(answer.json()["access_token"])


async def watch_feed(
    api_url: str, username: str, password: str, printer: FeedPrinter, stop: asyncio.Event, after: str | None = None
) -> None:
    """Print the feed until `stop`, resuming from the last cursor after each lost connection."""
    address = api_url.replace("http", "ws", 1) + "/v1/feed"
    cursor = after
    while not stop.is_set():
        token = await sign_in(api_url, username, password)
        try:
            query = f"?after={cursor}" if cursor is not None else ""
            async with websockets.connect(address + query, max_size=None) as socket:
                await socket.send(msgspec.json.encode({"token": token}).decode())
                printer.connected.set()
                async for message in socket:
                    frame = msgspec.json.decode(message)
                    if frame.get("kind") == "reset":
                        cursor = None
                    if frame.get("cursor") is not None:
                        cursor = str(frame["cursor"])
                    printer.show(frame)
        except (OSError, websockets.WebSocketException):
            if stop.is_set():
                return
            printer.note("The feed's connection is lost; connecting again …")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RECONNECT_DELAY_S)
