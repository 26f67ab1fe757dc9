"""The way in for pings: authenticated from memory, checked, packed, appended with others, answered once durable.

Model: `registry` knows every device and token; `decode` makes pings of bytes and `records` makes records of pings;
`appender` packs them into one buffer a shard and appends all buffers in one round trip every few milliseconds.
`stream` serves the devices' WebSockets, each a `connection` with a `ledger` of what it may be told;
`api/routes/pings.py` serves the HTTP batches. `rates` bounds what one device sends; `health` says when nothing
more may be taken.

Guarantees: what was answered as durable is on disk in the log of every shard the device belongs to. A ping
may be appended twice (a device that got no answer sends it again); the engine takes it once.

Failure: Redis away or full, or the disk below its mark: pings are refused and devices keep them. PostgreSQL away:
nothing changes here but that new devices and revocations are not seen. One bad ping is answered by its error
and harms no other.
"""
