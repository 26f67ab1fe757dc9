"""Whose ping a gateway has sent."""

from __future__ import annotations

from typing import Final

from api.ingest.decode import Flaw, Ping
from api.ingest.registry import SHUT_OUT, DeviceIdentity, GatewayIdentity, Registry

NOBODYS: Final = "The device is not assigned to anybody; assign it to a person first."


def owner_through(gateway: GatewayIdentity, registry: Registry, ping: Ping) -> DeviceIdentity | Flaw:
    """Whose ping a gateway has sent, or why it is nobody's."""
    if ping.device_id is None:
        return Flaw("device_id_missing", "A gateway names the device of each ping; add device_id.", ping.seq)
    device = registry.device_by_text(ping.device_id)
    # Another agency's device is as unknown as none at all: a gateway learns nothing by guessing.
    if device is None or device.agency_id != gateway.agency_id:
        return Flaw("device_unknown", "No device of this agency has this device_id.", ping.seq)
    if device.status in SHUT_OUT:
        return Flaw("token_revoked", "This device was revoked or returned.", ping.seq)
    if not device.routes:
        return Flaw("device_forbidden", NOBODYS, ping.seq)
    if device.status == "registered":
        # It is in no case yet: what it sends would be acknowledged, and watched by nobody.
        return Flaw("device_forbidden", "The device is not enrolled; enrol it first.", ping.seq)
    return device
