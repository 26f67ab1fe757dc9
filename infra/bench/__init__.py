"""Benchmarks: a whole Qorgan of its own, measured over the public contract, beside bare baselines of the same run.

Absolute figures drift from machine to machine; a ratio against what the bare store or socket does at the same
moment drifts far less. So a run prints both, and writes both.

    ingest   pings a second end to end (open loop, one ping a frame), and bytes of Redis a device
    panic    panic → frame on a dispatcher's feed, alone and beside pings
    detect   ping → breach frame on a dispatcher's feed, the engine alone, and how well it detects

A run starts PostgreSQL, Valkey and every target in a directory that it removes again, and sends its load from a
process of its own. It leaves a running Qorgan alone.
"""

from __future__ import annotations

from infra.bench.run import NAMES, run_bench

__all__ = ["NAMES", "run_bench"]
