/** The live queue: one row an incident, the most urgent on top. Rows are kept and moved, so focus never jumps. */

import { h, replace } from "./dom.js";
import { language, t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { SEVERITIES } from "./board.js";
import { ageElement } from "./time.js";
import { deliveryCounts, deliveryText, metresText, placeText } from "./words.js";

export class Queue {
  #list;
  #counts;
  #empty;
  #rows = new Map();
  #episodes = new Map(); // episode id → how many of its incidents are in the queue
  #records;
  #board;
  #choose;

  constructor({ list, counts, empty, records, board, choose }) {
    this.#list = list;
    this.#counts = counts;
    this.#empty = empty;
    this.#records = records;
    this.#board = board;
    this.#choose = choose;
  }

  /** Draw these incidents in this order; `selected` is an id or null. */
  draw(incidents, selected) {
    const focused = document.activeElement?.closest?.("li[data-id]")?.dataset.id;
    const ids = new Set(incidents.map((incident) => incident.id));
    this.#episodes.clear();
    for (const { episode_id: id } of incidents) if (id) this.#episodes.set(id, (this.#episodes.get(id) ?? 0) + 1);
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    incidents.forEach((incident, index) => {
      const row = this.#row(incident, incident.id === selected);
      if (this.#list.children[index] !== row) this.#list.insertBefore(row, this.#list.children[index] ?? null);
    });
    if (focused && document.activeElement === document.body) this.#rows.get(focused)?.firstChild.focus({ preventScroll: true });
    this.#drawCounts(incidents);
  }

  /** Say why there is nothing in the list: `loading`, `empty`, `failed`, or null when there is. */
  say(why, action) {
    this.#empty.hidden = !why;
    if (!why) return;
    replace(this.#empty,
      why === "loading" ? h("span", { class: "spinner" }) : icon(why === "failed" ? "linkLost" : "shield", "icon-large"),
      h("strong", {}, t(`queue.${why}`)),
      h("p", {}, t(`queue.${why}.more`)),
      action && h("button", { class: "button", type: "button", onclick: action.run }, action.words));
  }

  /** Bring a row into view and focus it. */
  reveal(id) {
    const row = this.#rows.get(id);
    row?.scrollIntoView({ block: "nearest" });
    row?.firstChild.focus({ preventScroll: true });
  }

  #row(incident, selected) {
    let row = this.#rows.get(incident.id);
    if (!row) {
      row = h("li", { dataset: { id: incident.id } }, h("button", { type: "button", onclick: () => this.#choose(incident.id) }));
      this.#rows.set(incident.id, row);
    }
    row.className = `row sev-${incident.severity} state-${incident.state}${incident.provisional ? " provisional" : ""}${incident.sealed ? " sealed" : ""}${incident.shared ? " shared" : ""}`;
    Object.assign(row.dataset, { severity: incident.severity, state: incident.state });
    const button = row.firstChild;
    if (selected) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    replace(button, this.#inside(incident));
    return row;
  }

  #inside(incident) {
    const names = ["victim", "aggressor"].filter((role) => incident[`${role}_id`]);
    const place = incident.shared ? null : placeText(incident.place); // what was read of another's is as old as the reading
    const others = (this.#episodes.get(incident.episode_id) ?? 1) - 1;
    const told = deliveryCounts(this.#board.deliveries.get(incident.id)?.values());
    return [
      h("span", { class: "row-mark" }, icon(incident.severity)),
      h("span", { class: "row-main" },
        h("span", { class: "row-top" },
          h("strong", { class: "row-type" }, term("type", incident.type)),
          ageElement(h, incident.opened_at)),
        h("span", { class: "row-tags" },
          h("span", { class: "tag severity" }, term("severity", incident.severity)),
          incident.provisional
            ? h("span", { class: "tag provisional-tag" }, t("provisional"))
            : h("span", { class: `tag state ${incident.state}` }, term("state", incident.state)),
          incident.sealed && h("span", { class: "tag sealed-tag" }, icon("lock"), t("sealed")),
          incident.shared && h("span", { class: "tag shared-tag" }, icon("agency"), t("shared")),
          incident.exercise && h("span", { class: "tag exercise" }, t("exercise")),
          incident.retrospective && h("span", { class: "tag" }, t("retrospective")),
          incident.escalation_step > 0 && incident.state !== "resolved" && h("span", { class: "tag escalated" }, t("escalation.step", { n: incident.escalation_step })),
          others > 0 && h("span", { class: "tag" }, t("episode.more", { n: others })),
          incident.detail?.duress && h("span", { class: "tag nocall" }, t("panic.duress.short")),
          incident.detail?.presses > 1 && h("span", { class: "tag" }, `×${incident.detail.presses}`),
          incident.detail?.cancel_asked_at && !incident.detail.duress && h("span", { class: "tag" }, t("panic.cancel.short")),
          incident.do_not_call && h("span", { class: "tag nocall" }, icon("nocall"), t("do_not_call.short"))),
        incident.sealed && h("span", { class: "row-facts" }, t("sealed.row")),
        incident.shared && h("span", { class: "row-facts" }, incident.agency_name && h("span", {}, incident.agency_name), h("span", {}, incident.reason ? term("shared.reason", incident.reason) : t("shared.row"))),
        names.length > 0 && h("span", { class: "row-people" }, names.map((role) =>
          h("span", { class: `person ${role}`, title: t(`role.${role}`), lang: language() },
            icon(role), h("span", { class: "sr-only" }, `${t(`role.${role}`)}: `), h("span", { class: "person-name" }, this.#records.name(incident[`${role}_id`]))))),
        h("span", { class: "row-facts" },
          Number.isFinite(incident.distance_m) && h("span", { class: "fact distance" }, icon("distance"), `${incident.place?.cell ? "≈ " : ""}${metresText(incident.distance_m)}`),
          place && h("span", { class: "fact place" }, icon("place"), place),
          told.total > 0 && h("span", { class: `fact told${told.failed ? " bad" : ""}` }, icon("sent"), deliveryText(told)))),
    ];
  }

  #drawCounts(incidents) {
    replace(this.#counts, SEVERITIES.map((severity) => {
      const count = incidents.filter((incident) => incident.severity === severity).length;
      return h("li", { class: `count sev-${severity}${count ? "" : " none"}`, title: term("severity", severity) },
        icon(severity), h("b", {}, String(count)), h("span", { class: "sr-only" }, term("severity", severity)));
    }));
  }
}
