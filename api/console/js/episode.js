/** What belongs together: the incidents of one episode, and the pairs that an outage leaves in the dark. */

import { h } from "./dom.js";
import { t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { ageElement, duration } from "./time.js";
import { metresText } from "./words.js";

/** The other incidents of an episode, oldest first: those of the board, and those the API told of. */
export function othersOf(incident, incidents) {
  const parts = new Map((incident.episode ?? []).map((part) => [part.id, part]));
  for (const other of incidents) if (other.episode_id && other.episode_id === incident.episode_id) parts.set(other.id, other);
  parts.delete(incident.id);
  return [...parts.values()].sort((left, right) => Date.parse(left.opened_at) - Date.parse(right.opened_at));
}

/** The list of them; choosing one opens it. */
export function episodeList(others, open) {
  if (!others.length) return [];
  return [
    h("h3", {}, t("episode.title")),
    h("ul", { class: "episode" }, others.map((other) => h("li", { class: `sev-${other.severity}` },
      h("button", { type: "button", dataset: { part: other.id }, onclick: () => open(other.id) },
        icon(other.severity),
        h("span", { class: "episode-what" }, term("type", other.type)),
        h("span", { class: "sr-only" }, term("severity", other.severity)),
        h("span", { class: "muted" }, term("state", other.state)),
        ageElement(h, other.opened_at))))),
  ];
}

/** The pairs of an outage by danger, as its detail ranks them. */
export function pairsInDark(incident, records) {
  const pairs = incident.type === "outage" ? incident.detail?.pairs ?? [] : [];
  if (!pairs.length) return [];
  const more = incident.detail.pairs_unlisted ?? 0;
  return [
    h("h3", {}, t("outage.pairs")),
    h("ol", { class: "pairs" }, pairs.map((pair) => h("li", {},
      h("span", { class: "row-people" }, ["victim", "aggressor"].map((role) => h("span", { class: `person ${role}`, title: t(`role.${role}`) },
        icon(role), h("span", { class: "sr-only" }, `${t(`role.${role}`)}: `), h("span", { class: "person-name" }, records.name(pair[`${role}_id`]))))),
      h("span", { class: "pair-facts" },
        pair.state === "breach" && h("span", { class: "tag severity sev-critical" }, t("outage.inside")),
        pair.state === "warning" && h("span", { class: "tag severity sev-high" }, t("outage.warning")),
        h("span", {}, Number.isFinite(pair.distance_m) ? metresText(pair.distance_m) : t("outage.unseen")),
        Number.isFinite(pair.time_to_reach_s) && h("span", {}, pair.time_to_reach_s > 0 ? t("outage.reach", { age: duration(pair.time_to_reach_s * 1000) }) : t("outage.reach_now")),
        h("span", { class: "muted" }, `${t("fact.silent")}: ${term("silent", pair.silent)}`))))),
    more > 0 && h("p", { class: "muted" }, t("outage.unlisted", { n: more })),
  ];
}
