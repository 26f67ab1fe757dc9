"""Who gives way to whom on one machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

TARGETS: Final = {"ingest": 5, "geo": 5, "historian": 10}
"""Niceness by target: telemetry gives way, for a panic and its messages come first, and history comes last."""
LOAD: Final = 10
"""Niceness of a benchmark's devices: in the world they share no processor with what they send to."""
TRIES: Final = 20
AGAIN_S: Final = 0.11
"""Linux takes one niceness of a group in a tenth of a second, of all its users together: processes that start at the
same moment wait for each other."""


def give_way(nice: int, pid: int | None = None) -> None:
    """Let other processes go first: `nice` of `sched(7)`, 0 (as all) to 19, for this process or the one of `pid`.

    Where Linux groups processes by session, a niceness counts within its session alone, and each of ours has its own:
    there the group is what has to be nice.
    """
    if nice <= 0:
        return
    os.setpriority(os.PRIO_PROCESS, pid or os.getpid(), nice)
    group = Path(f"/proc/{pid or 'self'}/autogroup")
    for _ in range(TRIES):
        try:
            group.write_text(str(nice), encoding="ascii")
        except BlockingIOError:
            time.sleep(AGAIN_S)
        except OSError:  # no Linux, or one that does not group
            return
        else:
            return
