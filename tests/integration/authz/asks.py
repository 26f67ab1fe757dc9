"""Requests made out of the OpenAPI document: a path with a world's ids, a body with what its schema wants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from core.clock import rfc3339, utc_now

Json = Any
SAMPLES: Final[dict[str, Json]] = {
    "edition": "defence",
    "geometry": {"type": "Point", "coordinates": [76.91, 43.21]},
    "kind": "exclusion",
    "radius_m": 150.0,
    "reason": "Nobody else of us is on duty tonight.",
    "credential": {"id": "AA", "rawId": "AA", "type": "public-key", "response": {}},
    "outcome": "other",
    "code": "000000",
    "version": 1,
    "severity": "high",
    "duty": "supervisor",
    "channel": "email",
    "issuer": "https://login.example.org",
    "address": "desk",
    "state": "seen",
    "token": "made-up",
    "gateway": "nobody",
}
"""Values of parameters and fields by name, where their schema does not say enough."""
WHOLE: Final[dict[str, Json]] = {
    "POST /v1/incidents/{incident_id}/resolve": {"version": 1, "outcome": "victim_safe"},
    "POST /v1/break-glass": {"case_id": "case_id", "reason_code": "emergency", "reason": SAMPLES["reason"]},
    "POST /v1/people/{person_id}/look": {"reason_code": "missing", "reason": SAMPLES["reason"]},
    "POST /v1/people/search": {"field": "name", "value": "Her"},
    "POST /v1/calls": {"channel": "102", "person_id": "person_id", "order_id": "order_id"},
    "POST /v1/devices": {"kind": "phone", "person_id": "person_id"},
    "POST /v1/incidents/{incident_id}/dispatch": {"version": 1, "unit_ids": ["unit_id"]},
    "POST /v1/incidents/{incident_id}/accept": {"version": 1, "unit_id": "unit_id"},
    "POST /v1/incidents/{incident_id}/decline": {"version": 1, "unit_id": "unit_id"},
    "PUT /v1/users/{user_id}/channels/{channel}": {"address": "clerk@example.org"},
    "POST /v1/handovers": {"consent_id": "consent_id", "order_id": "order_id"},
    "PUT /v1/sign-in-policy": {"second_factor_roles": []},
    "POST /v1/audit/holds": {
        "person_id": "person_id", "user_id": "user_id", "reason": "court_order", "reference": "A-1", "ends_at": "later",
    },
    "POST /v1/holds": {"person_id": "aggressor_id", "reason": "inquiry", "reference": "A-1"},
    "POST /v1/suspensions": {"order_id": "order_id", "reason": "hearing", "ends_at": "later"},
    "POST /v1/units": {"callsign": "One more", "conflicts": ["person_id"]},
    "PATCH /v1/units/{unit_id}": {"conflicts": ["person_id"]},
}  # fmt: skip
"""Operation → its body, ids by the name of a world's thing, where the smallest by the schema would say too little."""


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    who: tuple[str, ...]
    parameters: tuple[str, ...]
    filters: tuple[str, ...]
    schema: Json
    form: bool
    document: Json

    @property
    def name(self) -> str:
        """As the tables of the tests call it."""
        return f"{self.method} {self.path}"

    def address(self, places: Mapping[str, str]) -> str:
        """Its path with a world's ids."""
        path = self.path
        for name in self.parameters:
            path = path.replace(f"{{{name}}}", str(places.get(name, SAMPLES.get(name, ""))))
        return path

    def body(self, places: Mapping[str, str]) -> Json:
        """The smallest body its schema takes, with a world's ids; None: it takes none."""
        if self.name in WHOLE:
            return _filled(WHOLE[self.name], places)
        return None if self.schema is None else _sample(self.document, self.schema, places, "")

    def names_things(self) -> bool:
        """Whether its body bears ids."""
        first, second = _Marks("a"), _Marks("b")
        return bool(self.body(first) != self.body(second))


class _Marks(dict[str, str]):
    """Places whose every id is one and the same, to see which bodies bear ids."""

    def __init__(self, letter: str) -> None:
        super().__init__()
        self._letter = letter

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> str:
        return f"{self._letter * 8}-0000-7000-8000-000000000000"

    def get(self, name: str, default: Any = None) -> Any:
        """The same id for whatever ends like one."""
        return self[name] if name.endswith("_id") else default


def operations(document: Json) -> Iterator[Operation]:
    """Every operation of an OpenAPI document."""
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            content = told.get("requestBody", {}).get("content", {})
            kind = next(iter(content), None)
            parameters = told.get("parameters", [])
            yield Operation(
                method.upper(),
                path,
                tuple(told.get("x-qorgan-roles", ())),
                tuple(one["name"] for one in parameters if one["in"] == "path"),
                tuple(one["name"] for one in parameters if one["in"] == "query"),
                content[kind]["schema"] if kind else None,
                kind == "application/x-www-form-urlencoded",
                document,
            )


def _filled(value: Json, places: Mapping[str, str]) -> Json:
    if isinstance(value, dict):
        return {name: _filled(member, places) for name, member in value.items()}
    if isinstance(value, list):
        return [_filled(member, places) for member in value]
    if value == "later":
        return rfc3339(utc_now() + timedelta(hours=1))
    return places.get(value, value) if isinstance(value, str) and value.endswith("_id") else value


def _sample(document: Json, schema: Json, places: Mapping[str, str], name: str) -> Json:
    """The smallest value a schema takes; a field's name chooses ids and known samples."""
    if "$ref" in schema:
        return _sample(document, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], places, name)
    if "const" in schema:
        return schema["const"]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return _sample(document, schema[choice][0], places, name)
    if name.endswith("_id") and name in places:
        return places[name]
    if name in SAMPLES and "enum" not in schema:
        return SAMPLES[name]
    if "enum" in schema:
        return SAMPLES[name] if SAMPLES.get(name) in schema["enum"] else schema["enum"][0]
    return _of_type(document, schema, places, name)


def _of_type(document: Json, schema: Json, places: Mapping[str, str], name: str) -> Json:
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        return {field: _sample(document, properties[field], places, field) for field in schema.get("required", ())}
    if kind == "array":
        wanted = max(schema.get("minItems", 0), 0)
        return [_sample(document, schema["items"], places, name) for _ in range(wanted)]
    if kind in {"number", "integer"}:
        return schema.get("minimum", 1)
    if kind == "boolean":
        return False
    if schema.get("format") == "date-time":
        return rfc3339(utc_now() + timedelta(hours=1))
    return "sample" + "x" * max(0, schema.get("minLength", 0) - 6)
