/** How facts of an incident are said: distances, places, deliveries. */

import { h } from "./dom.js";
import { language, t, term } from "./i18n.js";
import { icon } from "./icons.js";

const number = (value, digits = 0) =>
  new Intl.NumberFormat(language() === "en" ? "en-GB" : "ru", { maximumFractionDigits: digits }).format(value);

/** "320 m", "1.4 km"; an em dash when it is not known. */
export function metresText(value) {
  if (!Number.isFinite(value)) return "—";
  if (value < 1000) return `${number(value < 100 ? Math.round(value) : Math.round(value / 10) * 10)} ${t("unit.m")}`;
  return `${number(value / 1000, value < 10_000 ? 1 : 0)} ${t("unit.km")}`;
}

/** "43.23895, 76.94560 ±12 m"; of a place that is shown coarsely that it is. */
export function placeText(place) {
  if (place?.cell) return t("place.district");
  if (!Number.isFinite(place?.lat) || !Number.isFinite(place?.lon)) return null;
  if (place.name) return place.name;
  const around = place.accuracy_m > 0 ? ` ±${metresText(place.accuracy_m)}` : "";
  return `${place.lat.toFixed(5)}, ${place.lon.toFixed(5)}${around}`;
}

/** "1.2 m/s · 4 km/h". */
export const speedText = (mps) => `${number(mps * 3.6)} ${t("unit.kmh")}`;

/** What awaits who goes there, as a warning; nothing when nothing is known. */
export function hazardNotice(hazards) {
  const known = Object.entries(hazards ?? {}).filter(([, value]) => value && (!Array.isArray(value) || value.length));
  return known.length > 0 && h("p", { class: "notice warn" }, icon("high"), h("span", {}, known.map(([name, value]) =>
    value === true ? term("hazard", name) : `${term("hazard", name)}: ${[value].flat().join(", ")}`).join(" · ")));
}

export const percentText = (share) => `${number(share * 100)} %`;

/** How many messages were made, failed or wait, from the states of an incident's deliveries. */
export function deliveryCounts(states) {
  const counts = { made: 0, failed: 0, waiting: 0, total: 0 };
  for (const state of states ?? []) {
    counts.total += 1;
    if (["sent", "delivered", "seen", "acknowledged"].includes(state)) counts.made += 1;
    else if (["dead", "failed"].includes(state)) counts.failed += 1;
    else counts.waiting += 1;
  }
  return counts;
}

/** Told in one line: "3 messages sent, 1 failed". */
export function deliveryText(counts) {
  const words = t("deliveries.made", { n: counts.made });
  return counts.failed ? `${words}, ${t("deliveries.failed", { n: counts.failed })}` : words;
}
