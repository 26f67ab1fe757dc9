"""How often a live link may be asked for: by link, and by address for tokens that are none.

Kept in the memory of one process: what it bounds is the work of this process. A token has 192 random bits; nobody
guesses one at any rate.
"""

from __future__ import annotations

from typing import Final

from core.errors import TooMany
from core.redis.rates import OwnRates, Rate, longest

LINK_RATE: Final = Rate(1.0, 20.0)
"""One link's requests: a page asks every five seconds, and a family may have it open in several tabs."""
ADDRESS_RATE: Final = Rate(5.0, 60.0)
"""One address's requests to live links: a village may share one."""
CODE_RATE: Final = Rate(1 / 60, 5.0)
"""One address's wishes for a code."""


class LinkGate:
    """Counts requests to live links."""

    def __init__(self) -> None:
        self._rates = OwnRates()

    def check(self, address: str, link: bytes | None) -> None:
        """Take a request; raises TooMany with the time to wait. `link`: digest of the token or of the browser."""
        waits = [self._rates.wait_ms(f"address:{address}", ADDRESS_RATE)]
        if link is not None:
            waits.append(self._rates.wait_ms(f"link:{link.hex()}", LINK_RATE))
        self._refuse(longest(waits))

    def check_code(self, address: str) -> None:
        """Take a wish for a code; raises TooMany."""
        self._refuse(self._rates.wait_ms(f"code:{address}", CODE_RATE))

    @staticmethod
    def _refuse(wait_ms: float) -> None:
        if wait_ms > 0:
            raise TooMany("This link is asked for too often; wait as Retry-After says.", retry_after_s=wait_ms / 1000)
