/** The live links of an open panic: which contacts can see where she is, who has opened one, and ending them all. */

import { h } from "./dom.js";
import { ask, toast } from "./dialog.js";
import { t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { Commands, problemWords } from "./commands.js";
import { shortId } from "./records.js";
import { clockTime, now } from "./time.js";

const HELD_MAX = 50;

export class LiveLinks extends EventTarget {
  #session;
  #held = new Map(); // incident id → {seen, items, failed}

  /** Emits `change`. */
  constructor(session) {
    super();
    this.#session = session;
  }

  clear() {
    this.#held.clear();
  }

  /** What is known of an incident's links, or null. */
  of(id) {
    return this.#held.get(id) ?? null;
  }

  /** An incident was read: ask for its links, at first and when its timeline says that something became of them. */
  see(incident) {
    if (!mayHaveLinks(incident) || !mayEnd(this.#session.role)) return;
    const seen = (incident.timeline ?? []).filter((line) => line.kind === "live_link").length;
    if (this.of(incident.id)?.seen === seen) return;
    this.#held.set(incident.id, { ...this.of(incident.id), seen });
    if (this.#held.size > HELD_MAX) this.#held.delete(this.#held.keys().next().value);
    this.read(incident.id);
  }

  async read(id) {
    const told = await this.#session.request(linksPath(id)).then(({ items }) => ({ items: items ?? [], failed: null }), (error) => ({ failed: problemWords(error) }));
    const held = this.of(id);
    if (!held) return;
    this.#held.set(id, { ...held, ...told, ...(told.failed && { seen: null }) });
    this.dispatchEvent(new CustomEvent("change"));
  }

  async end(id) {
    await ask({
      title: t("links.end.title"), confirm: t("links.end"), danger: true, body: h("p", {}, t("links.end.explain")),
      submit: async () => {
        try {
          await this.#session.request(linksPath(id), { method: "DELETE" });
        } catch (error) {
          throw Object.assign(new Error(), { words: problemWords(error) });
        }
        toast(t("links.ended"));
        await this.read(id);
      },
    });
  }
}

/** The list of them; nothing where nobody was sent one. */
export function linkList(incident, links, records) {
  const held = mayHaveLinks(incident) ? links.of(incident.id) : null;
  const title = h("h3", {}, t("links.title"));
  if (held?.failed && !held.items) return [title, h("p", { class: "notice bad" }, held.failed)];
  if (!held?.items?.length) return [];
  const live = held.items.filter(isLive);
  const hushed = Boolean(incident.detail?.cancel_asked_at); // until she presses again
  return [
    title,
    hushed && live.length > 0 && h("p", { class: "muted" }, t("links.hushed")),
    h("ul", { class: "proofs" }, held.items.map((link) => h("li", { class: isLive(link) && !hushed ? "" : "over" },
      icon(isLive(link) && !hushed ? "eye" : "cross"),
      h("span", {}, h("strong", {}, contactName(records, link.contact_id)), ` · ${term("channel", link.channel)}`),
      h("span", { class: "muted" }, linkWords(link))))),
    live.length > 0 && h("button", { class: "button small danger-line", type: "button", dataset: { part: "end-links" }, onclick: () => links.end(incident.id) },
      icon("cross"), h("span", {}, t("links.end"))),
  ].filter(Boolean);
}

function linkWords(link) {
  const words = [
    link.opened_at ? t("links.opened", { time: clockTime(link.opened_at) }) : t("links.unopened"),
    link.openings > 1 && t("links.openings", { n: link.openings }),
    link.revoked_at ? `${t(`links.because.${link.revoked_because ?? "dispatcher"}`)} ${clockTime(link.revoked_at)}` : !isLive(link) && t("links.expired"),
  ];
  return words.filter(Boolean).join(" · ");
}

function contactName(records, id) {
  const contact = records.get(`/v1/contacts/${id}`);
  return contact ? [contact.name, contact.relation].filter(Boolean).join(", ") : shortId(id);
}

const linksPath = (id) => `/v1/incidents/${id}/live-links`;
const isLive = (link) => !link.revoked_at && Date.parse(link.expires_at) > now();
const mayEnd = (role) => Commands.maySend(role) || role === "admin";
const mayHaveLinks = (incident) => incident?.type === "panic" && incident.state !== "resolved" && !incident.provisional && !incident.sealed && !incident.shared;
