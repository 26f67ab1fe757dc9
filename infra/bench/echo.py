"""A bare WebSocket echo in a process of its own: `python -m infra.bench.echo` prints its port and serves."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

from infra.run import new_loop


class Echo(WSListener):  # type: ignore[misc, unused-ignore]  # a compiled class
    """Sends every frame back."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame, there and back."""
        if frame.msg_type is WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())
        elif frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()


async def serve() -> None:
    """Serve on a free port until the process is ended."""
    server: Any = await ws_create_server(lambda _: Echo(), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve())
