"""The hours in which a protected person may be reached over her safe contact, as they were written down."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

SPAN: Final = re.compile(r"(\d{1,2})(?:[:.](\d{2}))?\s*[-–—]\s*(\d{1,2})(?:[:.](\d{2}))?")
MINUTES_A_DAY: Final = 1440


def is_within(hours: str | None, local: datetime) -> bool:
    """Whether a moment of her local time lies in hours such as `09:00-17:00` or `8-12, 20-22`; over midnight too.

    No hours: any time. Words that are no hours: no time, since a message at the wrong one may hurt her.
    """
    if hours is None or not hours.strip():
        return True
    now = local.hour * 60 + local.minute
    for begin_h, begin_m, end_h, end_m in SPAN.findall(hours):
        begin, end = int(begin_h) * 60 + int(begin_m or 0), int(end_h) * 60 + int(end_m or 0)
        if begin > MINUTES_A_DAY or end > MINUTES_A_DAY:
            continue
        if begin <= now < end or (end <= begin and (now >= begin or now < end)):
            return True
    return False
