"""What an agency sets of the rules, and what one order sets otherwise: bounds and meanings as `docs/policy.md` has."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import Body, View
from core.domain.policy import BOUNDS


def bounded(name: str, meaning: str) -> Any:
    """The field of a policy value: its bounds and what it means."""
    least, most = BOUNDS[name]
    return Field(ge=least, le=most, allow_inf_nan=False, description=meaning)


AlertRadius = Annotated[float, bounded("alert_m", "Alert radius of an order that names none, metres.")]
WarningRadius = Annotated[
    float, bounded("warning_m", "Warning radius of an order that names none, metres; not below the alert radius.")
]
Grace = Annotated[float, bounded("grace_s", "How long separation may be unknown before an incident, seconds.")]
Enter = Annotated[float, bounded("p_enter", "Probability of being within the alert radius that makes a breach.")]
EnterHighRisk = Annotated[float, bounded("p_enter_high_risk", "The same for orders of high or extreme risk.")]
Exit = Annotated[
    float, bounded("p_exit", "A state falls only while the probability of being inside is at most this; below p_enter.")
]
ExitMargin = Annotated[float, bounded("exit_margin_m", "How far beyond the radius a state falls, metres.")]
Hold = Annotated[float, bounded("hold_s", "Least time outside before a state falls, seconds.")]
Horizon = Annotated[float, bounded("horizon_s", "How far ahead an approach is looked for, seconds.")]
Approach = Annotated[
    float, bounded("p_approach", "Probability of being inside within the horizon that makes an approach.")
]
Unknown = Annotated[
    float, bounded("p_unknown", "Probability of being inside, unseen, that makes separation unknown without grace.")
]
GapLimit = Annotated[
    float, bounded("gap_limit_s", "How long an order may hold before both devices work without a task, seconds.")
]
ProbingCount = Annotated[
    float, bounded("probing_count", "From how many turns in a day he is taken to test where the edge is.")
]
ProbingSpread = Annotated[
    float, bounded("probing_spread_deg", "From how far apart the sides may be from which he came, degrees.")
]
RepeatCount = Annotated[float, bounded("repeat_count", "From which violation by one man on each is a task.")]

ORDER_EXAMPLE: Final[dict[str, Any]] = {"p_enter": 0.4, "hold_s": 120}
IN_FORCE_EXAMPLE: Final[dict[str, Any]] = {
    "alert_m": 500, "warning_m": None, "grace_s": 300, "p_enter": 0.5, "p_enter_high_risk": 0.2, "p_exit": 0.05,
    "exit_margin_m": 100, "hold_s": 60, "horizon_s": 300, "p_approach": 0.7, "p_unknown": 0.3,
    "gap_limit_s": 86400, "repeat_count": 2,
    "probing_count": 3, "probing_spread_deg": 120,
}  # fmt: skip


class OrderPolicyBody(Body):
    """What this order sets otherwise than the agency; what it does not name is as the agency has it."""

    model_config = ConfigDict(json_schema_extra={"examples": [ORDER_EXAMPLE]})

    p_enter: Enter | None = None
    p_exit: Exit | None = None
    exit_margin_m: ExitMargin | None = None
    hold_s: Hold | None = None
    horizon_s: Horizon | None = None
    p_approach: Approach | None = None
    p_unknown: Unknown | None = None


class PolicyBody(Body):
    """An agency's own radii, probabilities and times; what is not set is at its default."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"preset": "dense_city", "p_enter_high_risk": 0.2}]})

    preset: Literal["standard", "dense_city", "rural"] | None = Field(
        None, description="Radii for where people live: 1,000 m, 500 m or 2,000 m; what is set beside it wins."
    )
    alert_m: AlertRadius | None = None
    warning_m: WarningRadius | None = None
    grace_s: Grace | None = None
    p_enter: Enter | None = None
    p_enter_high_risk: EnterHighRisk | None = None
    p_exit: Exit | None = None
    exit_margin_m: ExitMargin | None = None
    hold_s: Hold | None = None
    horizon_s: Horizon | None = None
    p_approach: Approach | None = None
    p_unknown: Unknown | None = None
    gap_limit_s: GapLimit | None = None
    repeat_count: RepeatCount | None = None
    probing_count: ProbingCount | None = None
    probing_spread_deg: ProbingSpread | None = None


class Bounds(View):
    """Smallest and largest value allowed."""

    least: float
    most: float


class PolicyView(View):
    """The policy in force, defaults filled in, with what of it was set; `warning_m` null: alert + max(alert, 1,000)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **IN_FORCE_EXAMPLE,
                    "set": {"alert_m": 500, "p_enter_high_risk": 0.2},
                    "defaults": {**IN_FORCE_EXAMPLE, "alert_m": 1000, "p_enter_high_risk": 0.3},
                    "bounds": {"alert_m": {"least": 10, "most": 100000}, "p_exit": {"least": 0.001, "most": 0.5}},
                    "reached_all_cases": True,
                }
            ]
        }
    )

    alert_m: float
    warning_m: float | None
    grace_s: float
    p_enter: float
    p_enter_high_risk: float
    p_exit: float
    exit_margin_m: float
    hold_s: float
    horizon_s: float
    p_approach: float
    p_unknown: float
    gap_limit_s: float
    repeat_count: float
    probing_count: float
    probing_spread_deg: float
    set: dict[str, float | None] = Field(
        description="What the agency set; as it is a file for `qorgan replay --policy`."
    )
    defaults: dict[str, float | None] = Field(description="What holds where nothing is set.")
    bounds: dict[str, Bounds]
    reached_all_cases: bool = Field(description="False while some cases still go by the policy before.")
