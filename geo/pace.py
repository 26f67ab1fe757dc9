"""How often a worker reads its shards: often while that is cheap, in larger batches when it is not.

Evaluating a batch costs much the same for one record as for a hundred, so a worker that reads at its shortest cycle
whatever happens spends a whole core on cycles long before it has a core's worth of pings, and everything else on
the machine waits. The cycle is lengthened until the process uses no more than its share, and shortened
again as soon as it may.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

CPU_SHARE: Final = 0.3
"""Of one core: what cycles may cost before they are made longer."""
LONGEST_S: Final = 0.04
"""Beyond this, waiting costs more than cycles do."""
LOOK_S: Final = 0.1
"""Time between two looks at the cost."""
STEP: Final = 1.5
"""Most a look changes the cycle by."""


class Pace:
    """The cycle of one worker process, shared by all its shards."""

    def __init__(
        self,
        shortest_s: float,
        *,
        wall_s: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._shortest_s = shortest_s
        self._wall_s = wall_s
        self._cpu_s = cpu_s
        self._cycle_s = shortest_s
        self._looked_s, self._used_s = wall_s(), cpu_s()

    def cycle_s(self) -> float:
        """Shortest time between two reads of a shard, in seconds, as things are now."""
        now_s = self._wall_s()
        elapsed_s = now_s - self._looked_s
        if elapsed_s >= LOOK_S:
            used_s = self._cpu_s()
            share = (used_s - self._used_s) / elapsed_s
            self._looked_s, self._used_s = now_s, used_s
            factor = min(STEP, max(1 / STEP, share / CPU_SHARE))
            longest_s = max(LONGEST_S, self._shortest_s)
            self._cycle_s = min(longest_s, max(self._shortest_s, self._cycle_s * factor))
        return self._cycle_s
