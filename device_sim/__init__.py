"""Simulated bracelets and phones: real clients of the public contract, and nothing else.

Model: a *route* says where somebody truly is at a moment, *noise* what a receiver makes of it, a *radio* when
and how late it gets out. A *device* keeps every ping until the service has acknowledged it, over any number of
connections, as a real bracelet does; a *phone* has a panic button that is pressed until it is answered. A
*scenario* plays a story of them from a TOML file; a *fleet* plays thousands at a steady rate.

Guarantees: the same seed gives the same movement, noise and dropouts. A ping leaves a device's memory only
when it was acknowledged, refused for its content, or pushed out at a stated bound (and then counted).

Failure: an unreachable service is retried with growing pauses, never a busy loop; a refused token ends the
device with `TokenRefused`. This package imports nothing of Qorgan: it knows the wire only.
"""
