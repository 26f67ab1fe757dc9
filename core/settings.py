"""Settings: read once from the environment, frozen, and handed to whoever needs them.

Every setting is an environment variable `QORGAN_<NAME>`; `docs/configuration.md` lists them all and a test
holds the page complete. Units are last in a name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_args
from uuid import UUID

from pydantic import Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from core.errors import Misconfigured

INNER_NETWORKS = (
    "0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,127.0.0.0/8,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,192.168.0.0/16,"
    "198.18.0.0/15,224.0.0.0/3,::/127,fc00::/7,fe80::/10,fec0::/10,ff00::/8"
)
"""Loopback, private, link-local (with the metadata services of clouds), shared, multicast and reserved addresses."""


class SecretFiles(PydanticBaseSettingsSource):
    """Secrets out of files: `QORGAN_TOKEN_KEY_FILE=/run/secrets/token_key` instead of the value in the environment."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The file's text less the last line's end, if there is one for this secret. Raises Misconfigured."""
        variable = f"{self.config.get('env_prefix', '')}{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        if not path or SecretStr not in (field.annotation, *get_args(field.annotation)):
            return None, field_name, False
        try:
            return Path(path).read_text().rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise Misconfigured(f"{variable} names a file that cannot be read: {reason}.") from None

    def __call__(self) -> dict[str, Any]:
        """Every secret that has a file."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """All of Qorgan's settings with their defaults."""

    model_config = SettingsConfigDict(env_prefix="QORGAN_", frozen=True, extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """A secret may also stand in a file that `QORGAN_<NAME>_FILE` names; the variable itself comes first."""
        return init_settings, env_settings, dotenv_settings, SecretFiles(settings_cls), file_secret_settings

    # stores
    data_dir: Path = Field(Path(".qorgan"), description="Where embedded stores, journals and logs live.")
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL to use instead of the embedded one (postgresql://…)."
    )
    device_database_url: SecretStr | None = Field(
        None, description="The same database as the api's device side connects to it (role qorgan_device)."
    )
    sealer_database_url: SecretStr | None = Field(
        None,
        description="The same database as the notifier's sealer of the audit connects to it (role qorgan_sealer); "
        "a notifier without it seals nothing.",
    )
    retention_database_url: SecretStr | None = Field(
        None,
        description="The same database as the historian's retention connects to it (role qorgan_retention); "
        "a historian without it erases nothing.",
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey to use instead of the embedded one (redis:// or unix://)."
    )
    redis_cluster: bool = Field(False, description="Whether `redis_url` names a node of a cluster.")
    redis_replicas: int = Field(0, ge=0, description="Replicas that must have a ping on disk before its answer.")
    shard_count: int = Field(8, ge=1, le=1024, description="Shards; fixed at the first migration.")
    postgres_pool_size: int = Field(10, ge=2, le=200, description="Connections a process holds to PostgreSQL.")

    # addresses
    host: str = Field("127.0.0.1", description="Address the API and the device stream listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the API; the device stream takes the next one.")
    stream_port: int | None = Field(None, description="Port of the device stream, if not the API's next.")
    public_url: str | None = Field(None, description="Address of the API as clients see it.")
    public_stream_url: str | None = Field(None, description="Address of the device stream as clients see it.")
    tls_certificate_file: Path | None = Field(
        None, description="Certificate chain (PEM) to serve TLS with; none: plain."
    )
    tls_key_file: Path | None = Field(None, description="Private key (PEM) of that certificate.")
    trusted_proxies: str = Field(
        "", description="Addresses or networks, comma-separated, whose X-Forwarded-For and -Proto are believed."
    )
    cors_origins: str = Field(
        "", description="Origins, comma-separated, whose pages may call the API; none: only its own."
    )
    processes: int = Field(1, ge=1, le=64, description="Processes for each of the api and ingest targets.")

    # bounds
    max_body_bytes: int = Field(1_048_576, description="Largest request body.")
    max_frame_bytes: int = Field(262_144, description="Largest device stream frame.")
    max_pings_per_call: int = Field(1000, description="Most pings in one call or frame.")
    max_stream_connections: int = Field(50_000, description="Device stream connections a process takes.")
    max_feed_connections: int = Field(2_000, description="Live sockets a process takes; of devices' own news half.")
    login_attempts_per_minute: int = Field(
        10, ge=1, description="Wrong sign-ins an address and user name, or a browser known to the user, has a minute."
    )
    login_failures_per_user: int = Field(
        30, ge=1, description="Wrong sign-ins a user name has a minute from everywhere but browsers known to the user."
    )
    login_failures_per_address: int = Field(60, ge=1, description="Wrong sign-ins an address has a minute.")
    address_requests_per_second: float = Field(
        100.0, gt=0, description="Sustained requests a second an address may make; ten seconds' worth at once."
    )
    token_requests_per_second: float = Field(
        20.0, gt=0, description="Sustained requests a second a user or device may make; ten seconds' worth at once."
    )
    device_pings_per_second: float = Field(50.0, description="Sustained pings a second a device may send.")
    request_timeout_s: float = Field(10.0, description="Longest a management request may take.")

    # ping log
    ping_flush_ms: int = Field(5, ge=0, le=1000, description="Longest a ping waits to be appended with others.")
    ping_log_max_bytes: int = Field(
        4_294_967_296, description="Redis memory beyond which pings are refused (503) rather than lost."
    )
    free_disk_floor_mb: int = Field(512, description="Free disk below which pings are refused; 0 looks at none.")
    ping_max_age_days: int = Field(30, description="Pings older than this are refused as too old.")
    ping_max_future_s: int = Field(86_400, description="Pings dated further ahead are refused; nearer is skew.")

    # geo
    engine_cycle_ms: int = Field(
        10, ge=1, le=1000, description="Shortest time between two reads of a shard's log; longer by itself under load."
    )
    state_commit_ms: int = Field(250, ge=10, le=5000, description="Longest engine state waits to be written.")
    lease_ttl_s: float = Field(3.0, gt=0.5, description="How long a shard's lease holds without renewal.")
    history_batch_rows: int = Field(6000, description="Pings copied to history at once.")
    history_interval_ms: int = Field(200, description="Longest a ping waits to be copied to history.")
    victim_ping_days: int = Field(
        7, ge=1, le=365, description="Most days a victim's pings are kept in history, whatever an agency's rule says."
    )
    aggressor_ping_days: int = Field(
        455, ge=1, le=3650, description="The same for an aggressor's; enough for an order of a year and 90 days."
    )
    feed_days: int = Field(7, description="Days of feed a cursor can resume from.")

    # who may enter
    token_key: SecretStr | None = Field(
        None, description="Key that signs access tokens; made and kept in the data directory when absent."
    )
    key_file: Path | None = Field(
        None, description="File of key-encryption keys; none: `vault.keys` in the data directory, made when absent."
    )
    keys: SecretStr | None = Field(
        None, description="Key-encryption keys instead of a file: id:base64, comma-separated, the current one first."
    )
    kms_url: str | None = Field(
        None, description="Key service instead of keys of our own: address of its Transit engine (…/v1/transit)."
    )
    kms_key: str = Field("qorgan", description="Name of the key in the key service.")
    kms_token: SecretStr | None = Field(None, description="Token that the key service lets in.")
    kms_ca_file: Path | None = Field(None, description="Certificates (PEM) that the key service is known by.")
    ledger_dir: Path | None = Field(
        None,
        description="Where the erasure ledger is kept, apart from database and backups; none: in the data directory.",
    )
    ledger: Literal["if_any", "required"] = Field(
        "if_any",
        description="Whether there has to be an erasure ledger before anything is shown: `required` always, as"
        " production wants it; `if_any` when the database knows of an erasure.",
    )
    default_agency: UUID | None = Field(
        None,
        description="Id of the agency that answers a panic of which neither sender nor place says whose it is; none:"
        " the police agency that was there first. Taken over by `qorgan migrate` and `qorgan run`.",
    )
    break_glass_s: int = Field(
        3600, ge=60, le=86_400, description="How long a sealed case stays open to who broke its glass."
    )
    access_token_s: int = Field(900, description="Life of an access token.")
    refresh_token_s: int = Field(43_200, description="Life of a refresh token.")
    enrolment_code_s: int = Field(86_400, description="Life of a device enrolment code.")
    password_code_s: int = Field(86_400, description="Life of a code with which a user sets her password.")
    confirmed_s: int = Field(
        600, description="How long after proving who she is a user may change her password and second factors."
    )
    oidc_secrets_dir: Path | None = Field(
        None, description="Directory with agencies' OpenID Connect client secrets, a file named by the agency's id."
    )
    oidc_plain_http: bool = Field(
        False, description="Whether a sign-in provider on the loopback address may be spoken to without TLS (tests)."
    )
    signing_key_file: Path | None = Field(
        None,
        description="Ed25519 key (PEM) that signs checkpoints and evidence; made in the data directory when absent.",
    )

    # audit
    checkpoint_dir: Path | None = Field(
        None, description="Where signed checkpoints of the audit are kept; a folder of the data directory when absent."
    )
    look_unwritten_s: float = Field(
        900.0, ge=10, description="Longest that live positions are shown while it cannot be written who looks at them."
    )

    # drills
    self_drill_s: float = Field(
        300.0, ge=0, description="Time between the server's own drills of the way of a panic; 0: none."
    )

    # notifier
    delivery_batch: int = Field(50, description="Deliveries claimed at once by a channel.")
    delivery_lease_s: float = Field(30.0, description="How long a claimed delivery is another's to leave alone.")
    delivery_attempts: int = Field(12, description="Attempts before a delivery is a dead letter.")
    delivery_timeout_s: float = Field(10.0, description="Longest one attempt may take.")
    forbidden_networks: str = Field(
        INNER_NETWORKS,
        description="Networks, comma-separated, to which no webhook and no Apprise message goes, whatever a route says;"
        " held to at each connection, as the name is resolved then. Empty: none.",
    )
    smtp_host: str | None = Field(None, description="SMTP server; no host, no e-mail channel.")
    smtp_port: int = Field(25, description="SMTP port.")
    smtp_username: str | None = Field(None, description="SMTP user.")
    smtp_password: SecretStr | None = Field(None, description="SMTP password.")
    smtp_starttls: bool = Field(False, description="Whether to upgrade the SMTP connection to TLS.")
    smtp_from: str = Field("qorgan@localhost", description="Sender of e-mails.")
    fcm_credentials_file: Path | None = Field(None, description="Firebase service account; none, no push.")
    fcm_api_url: str | None = Field(None, description="Address of the FCM API, for a test server or a proxy.")
    inbound_sms_secret: SecretStr | None = Field(
        None, description="Standard Webhooks secret (whsec_…) of the gateway that brings text messages in."
    )
    inbound_sms_twilio_token: SecretStr | None = Field(
        None, description="Twilio's auth token, when Twilio brings text messages in."
    )
    email_receipts_secret: SecretStr | None = Field(
        None, description="Standard Webhooks secret (whsec_…) of what tells which letters came back."
    )
    sms_gateways_file: Path | None = Field(
        None, description="File (TOML or JSON) of SMS gateways; none, no text messages. See notifications."
    )
    vapid_private_key: SecretStr | None = Field(
        None,
        description="Web Push key (P-256, PEM or base64url); else it follows from the token key that is set,"
        " else one is made in the data directory.",
    )
    vapid_subject: str = Field(
        "mailto:qorgan@localhost", description="Whom push services write to about our pushes: mailto: or https:."
    )
    webpush_hosts: str = Field(
        "fcm.googleapis.com,push.services.mozilla.com,notify.windows.com,push.apple.com",
        description="Push services browsers may name, comma-separated, with what lies below them; no others are asked.",
    )
    channel_rates: str = Field(
        "", description="Most messages a second by channel, comma-separated: email=10,sms=5; others have their own."
    )
    operator: str = Field(
        "",
        description="Who runs the installation, and is told by the api itself when a part of it is missing for 30 s,"
        " also PostgreSQL: channel:address, comma-separated (email:ops@example.org,sms:+77001234567; also apprise,"
        " log). Empty: nobody.",
    )
    operator_language: Literal["kk", "ru", "en"] = Field("ru", description="In which language.")

    # geocoding
    geocoder: Literal["nominatim", "photon"] | None = Field(
        None, description="Service that is asked for the street of an incident's place; none: nobody is asked."
    )
    geocoder_url: str | None = Field(
        None, description="Its address (https://geocoder.example.org), if not the public one: prefer one of your own."
    )
    geocoder_user_agent: str = Field("qorgan", description="How it is told who asks; public services want one.")
    geocoder_language: str = Field("ru", description="Language of the addresses, where the service knows several.")
    geocoder_timeout_s: float = Field(5.0, gt=0, le=60, description="Longest it may take.")
    geocoder_per_s: float = Field(1.0, gt=0, le=100, description="Most times a second it is asked.")

    # screens and logs
    map_style_url: str | None = Field(None, description="MapLibre style of the console's map; none: a plain one.")
    metrics_port: int | None = Field(
        None, description="Port where a process other than the API serves its own metrics; none: it serves none."
    )
    log_level: str = Field("info", description="debug, info, warning or error.")
    log_format: str = Field("auto", description="json, text, or auto: text on a terminal.")

    @property
    def resolved_stream_port(self) -> int:
        """The device stream's port: its own setting, else the one after the API's (0, any free one, for 0)."""
        if self.stream_port is not None:
            return self.stream_port
        return self.port + 1 if self.port else 0
