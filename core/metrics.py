"""Every metric, in one place; `docs/metrics.md` lists them and a test holds the page complete.

Labels are bounded (shard, channel, code, kind), and nothing here bears a person, a device or a place.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LATENCY_BUCKETS_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)

PINGS_ACCEPTED = Counter("qorgan_pings_accepted_total", "Pings durable in the log.", ["road"])
PINGS_REFUSED = Counter("qorgan_pings_refused_total", "Pings refused, by code.", ["code"])
INGEST_FLUSH_SECONDS = Histogram(
    "qorgan_ingest_flush_seconds", "Time to append a flush and have it on disk.", buckets=LATENCY_BUCKETS_S
)
STREAM_CONNECTIONS = Gauge("qorgan_stream_connections", "Open device streams.", multiprocess_mode="livesum")
FEED_CONNECTIONS = Gauge("qorgan_feed_connections", "Open dispatcher feeds.", multiprocess_mode="livesum")
ENGINE_RECORDS = Counter("qorgan_engine_records_total", "Ping records evaluated.", ["shard"])
ENGINE_BATCH_SECONDS = Histogram(
    "qorgan_engine_batch_seconds", "Time to evaluate one batch.", buckets=LATENCY_BUCKETS_S
)
ENGINE_LAG_SECONDS = Gauge(
    "qorgan_engine_lag_seconds", "Age of the newest record evaluated.", ["shard"], multiprocess_mode="livemax"
)
TRANSITIONS = Counter("qorgan_transitions_total", "Transitions decided.", ["kind", "to"])
SHARDS_OWNED = Gauge("qorgan_shards_owned", "Shards this worker owns.", ["worker"], multiprocess_mode="livesum")
HISTORY_ROWS = Counter("qorgan_history_rows_total", "Pings copied to history.")
HISTORY_LAG_SECONDS = Gauge(
    "qorgan_history_lag_seconds", "Age of the newest ping in history.", ["shard"], multiprocess_mode="livemax"
)
INCIDENTS_OPENED = Counter("qorgan_incidents_opened_total", "Incidents opened.", ["type", "severity"])
PANICS = Counter("qorgan_panics_total", "Panics taken.", ["road"])
PANIC_SECONDS = Histogram(
    "qorgan_panic_seconds", "Time from a panic's arrival to its answer.", buckets=LATENCY_BUCKETS_S
)
PANICS_UNTOLD = Gauge(
    "qorgan_panics_untold",
    "Panics whose incident is open while what she wrote or whom to tell waits for keys.",
    multiprocess_mode="livesum",
)
PANICS_WAITING = Gauge(
    "qorgan_panics_waiting", "Records that wait in a panic journal for PostgreSQL.", multiprocess_mode="livesum"
)
PANICS_STREAMED = Gauge(
    "qorgan_panics_streamed",
    "Records in the panic stream of Redis, by whether a process can open them.",
    ["readable"],
    multiprocess_mode="livemax",
)
OUTAGE_DELIVERIES = Counter(
    "qorgan_outage_deliveries_total", "Attempts to tell of a panic by the routes last known.", ["channel", "result"]
)
LAST_KNOWN_MISSING = Gauge(
    "qorgan_last_known_missing",
    "Contacts beyond the bound of what is kept for an outage.",
    multiprocess_mode="livemax",
)
INBOUND_SMS = Counter("qorgan_inbound_sms_total", "Text messages that came in, by what they were.", ["outcome"])
GEOCODED = Counter("qorgan_geocoded_total", "Addresses looked for, by how it went.", ["outcome"])
ESCALATIONS = Counter(
    "qorgan_escalations_total", "Steps of escalation that were due, by kind and whether anybody was told.",
    ["kind", "outcome"],
)  # fmt: skip
DELIVERIES = Counter("qorgan_deliveries_total", "Delivery attempts, by result.", ["channel", "result"])
DELIVERY_SECONDS = Histogram(
    "qorgan_delivery_seconds",
    "Time from a delivery being due to its being sent.",
    ["channel"],
    buckets=LATENCY_BUCKETS_S,
)
SMS_SEGMENTS = Counter("qorgan_sms_segments_total", "Parts of text messages that gateways took.", ["gateway"])
BREAKERS_OPEN = Gauge(
    "qorgan_breakers_open", "Providers that are left alone after failures.", ["channel"], multiprocess_mode="livesum"
)
DELIVERIES_WAITING = Gauge(
    "qorgan_deliveries_waiting", "Deliveries not yet sent.", ["channel"], multiprocess_mode="livemax"
)
DELIVERY_QUEUE_AGE = Gauge(
    "qorgan_delivery_queue_age_seconds", "Age of the oldest delivery not yet sent.", ["channel"],
    multiprocess_mode="livemax",
)  # fmt: skip
DEAD_LETTERS = Gauge(
    "qorgan_dead_letters", "Deliveries that reached nobody and that nobody has seen to.", multiprocess_mode="livemax"
)
POISON_UNHANDLED = Gauge(
    "qorgan_poison_unhandled", "Messages set aside that nobody has looked at.", multiprocess_mode="livemax"
)
RETROSPECT_ANSWERS = Counter(
    "qorgan_retrospect_answers_total", "Stretches of history looked at again for fixes that came late.", ["shard"]
)
RETROSPECT_DROPPED = Counter(
    "qorgan_retrospect_dropped_total", "Such stretches given up because too many orders waited.", ["shard"]
)
RETROSPECT_WAIT_SECONDS = Gauge(
    "qorgan_retrospect_wait_seconds",
    "How long the oldest of such stretches has waited.",
    ["shard"],
    multiprocess_mode="livemax",
)
AUDIT_SEALED = Counter("qorgan_audit_sealed_total", "Rows of the audit linked into their chains.")
AUDIT_UNSEALED = Gauge("qorgan_audit_unsealed_rows", "Rows of the audit without a link.", multiprocess_mode="livemax")
AUDIT_LAG = Gauge(
    "qorgan_audit_seal_lag_seconds", "How long the oldest such row has waited.", multiprocess_mode="livemax"
)
AUDIT_CHECKPOINT_AGE = Gauge(
    "qorgan_audit_checkpoint_age_seconds", "Time since checkpoints were last signed.", multiprocess_mode="livemax"
)
AUDIT_CONTRADICTED = Gauge(
    "qorgan_audit_contradicted_chains",
    "Chains that are not what was signed before: an old backup, or somebody's hand. Nothing is signed for them.",
    multiprocess_mode="livemax",
)
AUDIT_LOOKS_WAITING = Gauge(
    "qorgan_audit_looks_waiting", "Live looks at people not yet written.", multiprocess_mode="livesum"
)
RETENTION_ERASED = Counter("qorgan_retention_erased_total", "Rows erased by the rules of retention.", ["kind"])
RETENTION_FAILED = Counter("qorgan_retention_failed_total", "Rules of retention that could not be applied.", ["rule"])
RETENTION_PROGRESS = Gauge(
    "qorgan_retention_progress", "How far the present or last run of retention is, 0 to 1.", multiprocess_mode="livemax"
)
RETENTION_RUN_AT = Gauge(
    "qorgan_retention_run_timestamp_seconds",
    "When the newest run of retention that this process made began.",
    multiprocess_mode="livemax",
)
POISON = Counter("qorgan_poison_total", "Messages set aside because they could not be taken.", ["source"])
DRILL_SECONDS = Histogram(
    "qorgan_drill_seconds",
    "Time from the beginning of the server's own drill to each of its parts: journal, commit, feed, sent.",
    ["part"],
    buckets=LATENCY_BUCKETS_S,
)
DRILLS = Counter("qorgan_drills_total", "The server's own drills, by where they ended.", ["result"])
DRILL_PROVED_AT = Gauge(
    "qorgan_drill_proved_timestamp_seconds",
    "When the server's own drill last came through every part.",
    multiprocess_mode="livemax",
)
WATCHDOG_RED = Gauge(
    "qorgan_watchdog_red",
    "1 for a part that does not move, as GET /watchdog says.",
    ["part"],
    multiprocess_mode="livemax",
)
HTTP_SECONDS = Histogram(
    "qorgan_http_seconds",
    "Time of a request by route.",
    ["route", "method", "status"],
    buckets=LATENCY_BUCKETS_S,
)


def panics_waiting() -> float:
    """How many panics wait in this process's journal, as its drain last saw."""
    return float(PANICS_WAITING._value.get())  # noqa: SLF001 - a gauge has no other reader
