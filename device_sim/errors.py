"""Every error the simulator raises on purpose.

SimulatorError
├── ScenarioError    a scenario that is not there or cannot be played
├── FleetError       a load that cannot be started
├── TokenRefused     the service does not know this device's token
└── PanicRefused     the service will not take a panic from this device
"""

from __future__ import annotations


class SimulatorError(Exception):
    """Base of the simulator's errors; the text is one sentence that says what to do."""


class ScenarioError(SimulatorError, ValueError):
    """A scenario that is not there or cannot be played as written."""


class FleetError(SimulatorError):
    """A load that cannot be started: no devices, no connection, or settings that contradict each other."""


class TokenRefused(SimulatorError):  # noqa: N818 - read as a sentence
    """The service does not know this device's token, or knows that it no longer holds."""


class PanicRefused(SimulatorError):  # noqa: N818
    """The service answered that this device has no panic button."""
