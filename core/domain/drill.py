"""Drills: that the pipe of a panic works is proved, not believed, and everybody may see when it last was.

A *device* drill is pressed on her phone; it is proved once its push message came back to that phone, or, for a device
that takes no messages, once it was committed. A *contact* drill is a message marked as a test; it is proved once the
contact opened its link. The *server's* own goes through every part every few minutes, with nobody in it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from core.ids import derived_id

DEVICE_EVERY: Final = timedelta(days=30)
"""How often a device has to be proved."""
CONTACT_EVERY: Final = timedelta(days=30)
"""How often a contact is sent a test at most, and by when the next one is due."""
CONTACT_ANSWERS: Final = timedelta(days=3)
"""How long a contact has to open the link of a test; then somebody sees to it."""
DEVICE_ANSWERS: Final = timedelta(minutes=2)
"""How long a phone has to get the message of its drill."""
AGAIN_AFTER: Final = timedelta(minutes=1)
"""A drill pressed again within this is the same one."""
DAY_HOURS: Final = (10, 18)
"""Hours of the agency's day in which contacts are sent tests."""

SELF_AGENCY: Final = derived_id("self-drill", "agency")
AGENCY_NAME: Final = "Qorgan self-test"
"""Of the agency that has nobody: what the server's own drill belongs to."""
TEMPLATES: Final = {"device": "drill_device", "contact": "drill_contact"}


def in_the_day(local: datetime) -> bool:
    """Whether a moment of an agency's local time is one at which people may be sent a test."""
    return DAY_HOURS[0] <= local.hour < DAY_HOURS[1]
