/**
 * A case that is sealed from whoever looks: that something grave waits there, and how its glass is broken.
 *
 * Nothing of whom is known here, and nothing may be typed of it: others read the reason when they review it.
 */

import { h } from "./dom.js";
import { ask, toast } from "./dialog.js";
import { t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { problemWords } from "./commands.js";
import { ageElement, clockTime } from "./time.js";

export const REASONS = ["emergency", "handover", "supervision", "court", "complaint", "technical"];
const REASON_CHARS = { min: 10, max: 1000 };

/** What stands in the incident's place while it is sealed. */
export function sealedCard(incident, { close, open }) {
  return [
    h("header", { class: `incident-head sev-${incident.severity}` },
      h("button", { class: "tool incident-back", type: "button", "aria-label": t("incident.back"), title: t("incident.back"), onclick: close }, icon("back")),
      h("span", { class: "row-mark" }, icon(incident.severity)),
      h("div", { class: "incident-title" },
        h("h2", {}, term("type", incident.type)),
        h("p", {},
          h("span", { class: "tag severity" }, term("severity", incident.severity)),
          h("span", { class: `tag state ${incident.state}` }, term("state", incident.state)),
          h("span", { class: "tag sealed-tag" }, icon("lock"), t("sealed")))),
      h("div", { class: "incident-age" }, ageElement(h, incident.opened_at), h("span", { class: "muted" }, clockTime(incident.opened_at)))),
    h("div", { class: "incident-body sealed-card" },
      icon("lock", "icon-large"),
      h("h3", {}, t("sealed.title")),
      h("p", {}, t("sealed.explain")),
      h("p", { class: "muted" }, t("sealed.told")),
      h("button", { class: "button danger-line", type: "button", "aria-keyshortcuts": "B", dataset: { part: "glass", id: incident.id }, onclick: () => open(incident.id) },
        icon("glass"), h("span", {}, t("glass.break")), h("kbd", {}, "B"))),
  ];
}

/** Ask why, and break the glass of one incident's case; `opened()` is awaited once it is open. */
export async function breakGlass(session, id, opened) {
  const reasons = REASONS.map((code) => h("label", { class: "choice" },
    h("input", { type: "radio", name: "reason_code", value: code }), h("span", {}, t(`glass.reason.${code}`))));
  await ask({
    title: t("glass.title"), confirm: t("glass.break"), danger: true,
    body: h("div", { class: "stack" },
      h("p", { class: "notice warn" }, icon("high"), h("span", {}, t("glass.warning"))),
      h("fieldset", { class: "choices two" }, h("legend", {}, t("glass.why")), reasons),
      h("label", { class: "note-field" }, h("span", {}, t("glass.reason")),
        h("textarea", { name: "reason", rows: 3, maxlength: REASON_CHARS.max, required: true, "aria-describedby": "glass-nobody" }),
        h("small", { id: "glass-nobody", class: "nobody" }, t("glass.nobody")))),
    submit: async (form) => {
      const code = form.querySelector("input[name=reason_code]:checked")?.value;
      const reason = form.querySelector("textarea[name=reason]").value.trim();
      if (!code) throw worded("glass.choose");
      if (reason.length < REASON_CHARS.min) throw worded("glass.short");
      try {
        await session.request("/v1/break-glass", { method: "POST", body: { incident_id: id, reason_code: code, reason } });
      } catch (error) {
        throw Object.assign(new Error(), { words: error.status === 404 ? t("glass.gone") : problemWords(error) });
      }
      toast(t("glass.done"));
      await opened();
    },
  });
}

const worded = (key) => Object.assign(new Error(key), { words: t(key) });
