/**
 * What the service is without (`GET /v1/outages`): a banner nobody can miss until somebody of the agency has said that
 * she acts by the plan, then a quiet line with who did and when, until it is over. Outages of many devices are
 * incidents and stand in the queue.
 */

import { h } from "./dom.js";
import { toast } from "./dialog.js";
import { language, t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { problemWords } from "./commands.js";
import { shortId } from "./records.js";
import { ageElement, clockTime } from "./time.js";

const WATCHERS = new Set(["dispatcher", "supervisor", "admin", "officer"]);
const ACKNOWLEDGERS = new Set(["dispatcher", "supervisor", "admin"]);
const READ_EVERY_MS = 60_000;
const AGENCIES_NAMED_MAX = 3;

export class Outages extends EventTarget {
  list = []; // those that are on, the oldest first
  #session;
  #root;
  #rows = new Map(); // outage id → {key, element}
  #timer = null;
  #soon = null;
  #busy = null;

  /** Emits `began` (detail: the outage) for each that is new and that nobody has acknowledged. */
  constructor(session, root) {
    super();
    this.#session = session;
    this.#root = root;
  }

  /** Start, if this user's role hears of outages; again, when her role or the feed has come back. */
  start() {
    if (!may(WATCHERS, this.#session.role)) return;
    this.#timer ??= setInterval(() => this.read(), READ_EVERY_MS);
    this.read();
  }

  stop() {
    clearInterval(this.#timer);
    clearTimeout(this.#soon);
    this.#timer = this.#soon = this.#busy = null;
    this.list = [];
    this.draw();
  }

  /** An event of the feed. */
  hear(kind = "") {
    if (!kind.startsWith("outage.") || this.#timer === null) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = null;
      this.read();
    }, 200);
  }

  async read() {
    try {
      const { items } = await this.#session.request("/v1/outages");
      if (this.#timer !== null) this.#take((items ?? []).filter((one) => one.what !== "devices"));
    } catch {
      // what was known stays; the link's banner and the next look tell the rest
    }
  }

  /** The first that waits for somebody of this agency; null when none does, or her role does not decide it. */
  get waiting() {
    return (may(ACKNOWLEDGERS, this.#session.role) && this.list.find((one) => !one.acknowledged_at)) || null;
  }

  async acknowledge(outage = this.waiting) {
    if (!outage || this.#busy) return;
    this.#busy = outage.id;
    this.draw();
    try {
      await this.#session.request(`/v1/outages/${outage.id}/acknowledge`, { method: "POST" });
      toast(t("outages.done"));
    } catch (error) {
      if (error.status !== 404) toast(problemWords(error), { bad: true });
    }
    this.#busy = null;
    await this.read();
    this.draw();
  }

  #take(items) {
    const before = new Map(this.list.map((one) => [one.id, one]));
    this.list = items.filter((one) => !one.ended_at).toSorted((left, right) => Date.parse(left.started_at) - Date.parse(right.started_at));
    for (const outage of this.list) {
      if (!before.delete(outage.id) && !outage.acknowledged_at) this.dispatchEvent(new CustomEvent("began", { detail: outage }));
    }
    for (const { what } of before.values()) toast(t(`outages.over.${what}`));
    this.draw();
  }

  /** Rows are kept while they say the same, so that focus stays and ages only tick. */
  draw() {
    const focused = this.#root.contains(document.activeElement);
    this.#root.hidden = !this.list.length;
    const ids = new Set(this.list.map(({ id }) => id));
    for (const [id, { element }] of this.#rows) {
      if (ids.has(id)) continue;
      element.remove();
      this.#rows.delete(id);
    }
    for (const outage of this.list) {
      const key = JSON.stringify([outage.acknowledged_at, outage.heard, language(), this.#busy, this.#session.role, this.#session.userId]);
      const held = this.#rows.get(outage.id);
      if (held?.key === key) continue;
      const element = outage.acknowledged_at ? this.#heard(outage) : this.#loud(outage);
      if (held) held.element.replaceWith(element);
      else this.#root.append(element);
      this.#rows.set(outage.id, { key, element });
    }
    if (focused && document.activeElement === document.body) (this.#root.querySelector("button:enabled") ?? this.#root).focus();
  }

  #loud(outage) {
    const button = may(ACKNOWLEDGERS, this.#session.role) && h("button", {
      class: "button", type: "button", "aria-keyshortcuts": "U", "aria-busy": this.#busy ? "true" : null, disabled: Boolean(this.#busy),
      onclick: () => this.acknowledge(outage),
    }, icon("check"), h("span", {}, t("outages.acknowledge")), h("kbd", {}, "U"));
    return h("div", { class: "outage", dataset: { outage: outage.id } }, icon("linkLost"),
      h("div", { class: "banner-words" },
        h("strong", {}, term("outages", outage.what)),
        h("span", {}, since(outage), ". ", h("span", { class: "outage-more" }, t(`outages.more.${outage.what}`)))),
      button);
  }

  #heard(outage) {
    const who = outage.acknowledged_by === this.#session.userId ? t("timeline.you")
      : outage.acknowledged_by_name ?? t("timeline.user", { id: shortId(outage.acknowledged_by) });
    const own = (outage.heard ?? []).findIndex((one) => one.at === outage.acknowledged_at);
    const others = (outage.heard ?? []).filter((_, index) => index !== own).map((one) => one.agency);
    const more = others.length - AGENCIES_NAMED_MAX;
    return h("div", { class: "outage heard", dataset: { outage: outage.id } }, icon("linkLost"),
      h("strong", {}, term("outages", outage.what)), since(outage),
      h("span", {}, icon("check"), t("outages.heard", { who, time: clockTime(outage.acknowledged_at) })),
      others.length > 0 && h("span", { class: "muted" }, t("outages.also", {
        agencies: others.slice(0, AGENCIES_NAMED_MAX).join(", ") + (more > 0 ? ` +${more}` : ""),
      })));
  }
}

/** Before her role is known she may be anybody; the API asks again. */
const may = (roles, role) => !role || roles.has(role);

const since = (outage) => h("span", { class: "outage-since" }, t("outages.since", { time: clockTime(outage.started_at) }), " (", ageElement(h, outage.started_at), ")");
