/**
 * Whether what she would be saved by works: her devices and contacts, and when a drill last proved each. Asked for by
 * a press alone, as each reading stands in the audit.
 */

import { h } from "./dom.js";
import { t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { Commands, problemWords } from "./commands.js";
import { ageElement, ageMs, clockTime } from "./time.js";

const FRESH_MS = 30 * 86_400_000; // as the tasks of what is not proved
const GONE = new Set(["returned", "revoked", "registered"]);
const LEFT = new Set(["refused", "revoked"]);

export class Proofs extends EventTarget {
  #session;
  #held = new Map(); // person id → {busy} | {devices, contacts} | {failed}

  /** Emits `change`. */
  constructor(session) {
    super();
    this.#session = session;
  }

  clear() {
    this.#held.clear();
  }

  of(personId) {
    return this.#held.get(personId) ?? null;
  }

  may() {
    return Commands.maySend(this.#session.role) || this.#session.role === "admin";
  }

  async read(personId) {
    if (this.of(personId)?.busy) return;
    this.#keep(personId, { busy: true });
    try {
      const [devices, contacts] = await Promise.all(["devices", "contacts"].map((name) => this.#session.request(`/v1/${name}?person_id=${personId}`)));
      this.#keep(personId, { devices: devices.items ?? [], contacts: contacts.items ?? [] });
    } catch (error) {
      this.#keep(personId, { failed: problemWords(error) });
    }
  }

  #keep(personId, told) {
    this.#held.set(personId, told);
    this.dispatchEvent(new CustomEvent("change"));
  }
}

/** A button; once pressed, what she has and since when each is known to work. */
export function proofList(incident, proofs) {
  const person = incident.victim_id;
  if (!person || incident.provisional || !proofs.may()) return [];
  const held = proofs.of(person);
  if (!held?.devices) {
    return [
      held?.failed && h("p", { class: "notice bad", role: "alert" }, held.failed),
      h("button", { class: "button small", type: "button", "aria-busy": held?.busy ? "true" : null, dataset: { part: "proofs" }, onclick: () => proofs.read(person) },
        icon("shield"), h("span", {}, t("proofs.show"))),
    ].filter(Boolean);
  }
  const devices = held.devices.filter((device) => !GONE.has(device.status));
  const contacts = held.contacts.filter((contact) => !LEFT.has(contact.state));
  return [
    h("h3", { tabindex: "-1", dataset: { part: "proofs" } }, t("proofs.title")),
    h("ul", { class: "proofs" },
      devices.map((device) => row(device, [h("strong", {}, term("device", device.kind)),
        device.status === "lost" && h("span", { class: "tag nocall" }, t("proofs.lost")),
        Number.isFinite(device.battery_pct) && h("span", { class: "muted" }, `${Math.round(device.battery_pct)} %`)],
      device.last_seen_at && h("span", { class: "muted" }, t("proofs.heard"), " ", ageElement(h, device.last_seen_at, "ago")))),
      contacts.map((contact) => row(contact, [h("strong", {}, contact.name), contact.relation && h("span", { class: "muted" }, contact.relation),
        contact.linked_to_aggressor && h("span", { class: "tag nocall" }, t("proofs.linked"))],
      contact.state !== "active" && h("span", { class: "bad" }, t("proofs.untold"))))),
    !devices.length && h("p", { class: "notice warn" }, icon("high"), h("span", {}, t("proofs.no_device"))),
    !contacts.length && h("p", { class: "muted" }, t("proofs.no_contact")),
  ].filter(Boolean);
}

/** Of days only days: hours would say nothing of a month. */
function provedAgo(at) {
  const days = Math.floor(ageMs(at) / 86_400_000);
  if (days < 2) return ageElement(h, at, "ago");
  return h("time", { datetime: at, title: clockTime(at) }, t("time.ago", { age: `${days} ${t("time.d")}` }));
}

function row(one, words, more) {
  const fresh = one.last_proved_at && ageMs(one.last_proved_at) < FRESH_MS;
  return h("li", { class: fresh ? "good" : "doubt" }, icon(fresh ? "check" : "high"), h("span", { class: "proof-what" }, words),
    h("span", { class: "muted" }, one.last_proved_at ? [t("proofs.proved"), " ", provedAgo(one.last_proved_at)] : t("proofs.never")), more);
}
