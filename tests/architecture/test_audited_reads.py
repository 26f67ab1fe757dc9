"""Whoever adds a route that reads decides whether it tells who somebody is or where: then it writes that down."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROUTES = Path(__file__).parents[2] / "api" / "routes"
NOTES = ("note(", "fetch(unit, actor")
"""What a route that writes its row calls: the row itself, or the action that writes it."""
TELLS_NOBODY = {
    # the asker's own
    "auth.read_options", "erasure.read_own", "live_links.list_own_links", "retention.read_own_hold", "me.read_me",
    "drills.read_drill", "me.read_own_looks", "me.read_protection", "own_contacts.list_own_contacts", "panic.status",
    "panic_timers.list_timers", "panic_timers.read_own_pins", "panic_timers.read_timer",
    "second_factors.list_passkeys", "second_factors.read_factors", "sessions.list_own_sessions",
    # the agency's, its staff's and its units'
    "dead_letters.list_dead_letters", "push_subscriptions.list_subscriptions", "receipts.ask_seen",
    "escalation_policies.list_policies", "escalation_policies.read_on_call", "user_channels.list_channels",
    "agencies.list_agencies", "agencies.list_routes", "agencies.read_agency", "gateways.list_gateways",
    "oidc.callback", "oidc.read_provider", "oidc.start", "policies.read_agency_policy", "sessions.list_sessions",
    "sign_in_policy.read_sign_in_policy", "units.list_units", "units.read_unit", "users.list_users", "users.read_user",
    # counts, words, machines and proofs
    "audit.read_chain", "audit.read_publication", "gaps.report_gaps", "legal_grounds.list_grounds",
    "maintenance.report_maintenance", "drills.read_watchdog",
    "outages.list_outages", "operations.healthz", "operations.metrics", "operations.readyz",
    "reports.report_deliveries", "retention.read_retention", "retention.report_retention", "reports.report_devices",
    "reports.report_incidents",
    # ids of cases, orders and people, and nothing of theirs
    "access.list_broken_glass", "access.list_conflicts", "access.list_named_users", "erasure.read_for",
    "evidence.list_evidence", "evidence.read_evidence", "handovers.list_handovers", "sight.list_looks",
    "shared_incidents.list_shared", "suspensions.list_suspensions", "suspensions.read_suspension", "tasks.list_tasks",
}  # fmt: skip


def reading_routes() -> Iterator[tuple[str, str]]:
    """(module.function, source) of every route that answers GET."""
    for path in sorted(ROUTES.glob("*.py")):
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                if (
                    isinstance(decorator, ast.Call)
                    and isinstance(decorator.func, ast.Attribute)
                    and decorator.func.attr == "get"
                ):
                    yield f"{path.stem}.{node.name}", ast.get_source_segment(source, node) or ""


def test_every_reading_of_people_is_written_down() -> None:
    silent = {name for name, source in reading_routes() if not any(note in source for note in NOTES)}
    assert silent <= TELLS_NOBODY, f"call records.note with people=…, or say here why not: {silent - TELLS_NOBODY}"
