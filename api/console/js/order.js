/** What an incident's card says of its order: until when it holds, whether both devices watch, how often it was violated. */

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { ageMs, civilTime, duration, now } from "./time.js";

const SOON_MS = 72 * 3_600_000;
const OVER = new Set(["expired", "revoked"]);

/** Pairs of a name and what to say, for the incident's facts; an order that is not known says nothing. */
export function orderFacts(incident, order) {
  const repeated = incident.violations ?? order?.violations;
  return [
    order?.status && ["order.until", until(order)],
    order && "protected_at" in order && ["order.watched", watched(order)],
    repeated && ["order.violations", violations(repeated, order)],
  ].filter(Boolean).map(([key, values]) => [t(key), values]);
}

function until(order) {
  if (order.status === "revoked") return bad(t("order.revoked"));
  const ends = order.valid_until && civilTime(order.valid_until, order.time_zone);
  const left = order.valid_until ? Date.parse(order.valid_until) - now() : Infinity;
  if (order.status === "expired" || left <= 0) return bad(ends ? t("order.expired", { time: ends }) : t("order.expired.plain"));
  return [
    h("span", {}, ends ?? t("order.no_end")),
    left < SOON_MS && h("span", { class: "soon" }, t("order.left", { age: duration(left) })),
    order.status === "suspended" && bad(t("order.suspended")),
    order.status === "issued" && bad(t("order.issued")),
  ];
}

function watched(order) {
  if (order.protected_at) return h("span", {}, t("order.since", { time: civilTime(order.protected_at, order.time_zone) }));
  const since = order.gap?.since ?? order.issued_at ?? order.valid_from;
  if (OVER.has(order.status)) return bad(t("order.never_watched"));
  return bad(t("order.gap", { age: duration(ageMs(since)) }));
}

function violations({ order: ofOrder, aggressor, last_at: last }, order) {
  return [
    ofOrder > 0 ? h("strong", { class: "bad" }, t("order.violations.of", { n: ofOrder })) : h("span", {}, t("order.violations.none")),
    aggressor > ofOrder && h("span", { class: "muted" }, t("order.violations.by", { n: aggressor })),
    last && h("span", { class: "muted" }, t("order.violations.last", { time: civilTime(last, order?.time_zone) })),
  ];
}

const bad = (words) => h("strong", { class: "bad with-icon" }, icon("high"), h("span", {}, words));
