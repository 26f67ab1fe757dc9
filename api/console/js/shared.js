/**
 * Incidents of other agencies: on this one's ground, or its help was asked. Little is told of them, and what is sent is
 * agreed with their own agency by voice. Where she is is asked for when one is opened: both agencies' audits say so.
 */

import { h } from "./dom.js";
import { language, t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { shortId } from "./records.js";
import { ageElement, clockTime } from "./time.js";
import { hazardNotice, placeText } from "./words.js";

const LIST = "/v1/shared-incidents";
const NAMED_SOON_MS = 200;
const NAMED_AGAIN_MS = 30_000;

/** Asks which agency each belongs to and why it is here, once for as many as there are. */
export class SharedNames {
  #session;
  #board;
  #timer = null;
  #asked = new Map(); // incident id → when it was asked for

  constructor(session, board) {
    this.#session = session;
    this.#board = board;
  }

  /** Ask, where anything shared bears no name yet. */
  look() {
    if (this.#timer !== null) return;
    const unnamed = [...this.#board.shared.values()].filter((one) => !one.agency_name && one.state !== "resolved");
    const due = unnamed.filter((one) => Date.now() - (this.#asked.get(one.id) ?? 0) > NAMED_AGAIN_MS);
    if (!due.length) return;
    this.#asked = new Map(unnamed.map((one) => [one.id, Date.now()]));
    this.#timer = setTimeout(() => this.#read(), NAMED_SOON_MS);
  }

  async #read() {
    try {
      const { items } = await this.#session.request(LIST);
      for (const one of items ?? []) this.#board.nameShared(one);
    } catch {
      // it is shown without a name until then
    } finally {
      this.#timer = null;
    }
  }
}

export const sharedPath = (id, command) => [LIST, id, command].filter(Boolean).join("/");

/** What to mind of it; `failed` says why it could not be read. */
export function sharedFlags(incident, failed) {
  return [
    failed && h("p", { class: "notice bad", role: "alert" }, icon("high"), h("span", {}, failed)),
    incident.do_not_call && h("p", { class: "notice bad" }, icon("nocall"), h("span", {}, t("do_not_call"))),
    hazardNotice(incident.hazards),
    h("p", { class: "notice" }, icon("agency"), h("span", {}, t(incident.state === "resolved" ? "shared.over" : "shared.explain"))),
  ];
}

/** What its agency tells of it. */
export function sharedFacts(incident, failed) {
  return [
    fact(t("shared.agency"), h("strong", {}, incident.agency_name ?? shortId(incident.agency_id))),
    incident.reason && fact(t("shared.why"), term("shared.reason", incident.reason)),
    incident.state !== "resolved" && !failed && fact(t("fact.place"), placeWords(incident)),
    incident.language && fact(t("shared.language"), languageName(incident.language)),
    incident.acknowledged_at && fact(t("shared.noticed"), t("shared.by_us", { time: clockTime(incident.acknowledged_at) })),
    fact(t("fact.id"), h("span", { class: "mono", title: incident.id }, shortId(incident.id))),
  ].filter(Boolean).flat(2);
}

function placeWords(incident) {
  if (incident.place === undefined) return h("span", { class: "muted" }, t("queue.loading"));
  const words = placeText(incident.place);
  if (!words) return h("span", { class: "muted" }, t("shared.no_place"));
  return [words, incident.place.at && ageElement(h, incident.place.at, "ago")];
}

function languageName(code) {
  try {
    return new Intl.DisplayNames([language()], { type: "language" }).of(code) ?? code;
  } catch {
    return code;
  }
}

const fact = (name, ...values) => [h("dt", {}, name), h("dd", {}, values)];
