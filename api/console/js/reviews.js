/**
 * What somebody opened for a reason (a sealed case, where a person is) and a supervisor has to judge. Nobody judges her
 * own. Emits `change`.
 */

import { h, replace } from "./dom.js";
import { toast } from "./dialog.js";
import { language, t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { problemWords } from "./commands.js";
import { shortId } from "./records.js";
import { clockTime } from "./time.js";

export const ROLES = new Set(["supervisor", "admin"]);
const READ_EVERY_MS = 60_000;
const LIMIT = 200;
const SOURCES = { glass: "/v1/break-glass", look: "/v1/looks" };

export class Reviews extends EventTarget {
  list = null;
  failed = null;
  #session;
  #timer = null;
  #soon = null;

  constructor(session) {
    super();
    this.#session = session;
  }

  start() {
    if (this.#timer || !ROLES.has(this.#session.role)) return;
    this.#timer = setInterval(() => this.read(), READ_EVERY_MS);
    this.read();
  }

  stop() {
    clearInterval(this.#timer);
    clearTimeout(this.#soon);
    Object.assign(this, { list: null, failed: null });
    this.#timer = this.#soon = null;
  }

  get running() {
    return this.#timer !== null;
  }

  hear() {
    if (!this.running) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = null;
      this.read();
    }, 300);
  }

  async read() {
    try {
      const answers = await Promise.all(Object.entries(SOURCES).map(async ([kind, path]) =>
        (await this.#session.request(`${path}?reviewed=false&limit=${LIMIT}`)).items.map((use) => ({ ...use, kind }))));
      if (!this.running) return;
      this.list = answers.flat().toSorted((left, right) => Date.parse(left.from_at) - Date.parse(right.from_at));
      this.failed = null;
    } catch (error) {
      this.failed = problemWords(error);
    }
    this.#changed();
  }

  async review(use, verdict, note) {
    await this.#session.request(`${SOURCES[use.kind]}/${use.id}/review`, { method: "POST", body: { verdict, ...(note && { note }) } });
    this.list = (this.list ?? []).filter((one) => one.id !== use.id);
    this.#changed();
  }

  isOwn(use) {
    return use.user_id === this.#session.userId;
  }

  /** How many wait for this user. */
  get due() {
    return (this.list ?? []).filter((use) => !this.isOwn(use)).length;
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("change"));
  }
}

/** The list on the screen; rows stay while it is read anew, so that a note half written is not lost. */
export class ReviewList {
  #reviews;
  #root;
  #rows = new Map();
  #language;

  constructor(reviews, root) {
    this.#reviews = reviews;
    this.#root = root;
  }

  draw() {
    const { list, failed } = this.#reviews;
    if (this.#language !== language()) {
      this.#language = language();
      this.#rows.clear();
      this.#root.replaceChildren(h("p", { class: "muted" }, t("reviews.lead")), h("div"), h("ul", { class: "task-list" }));
    }
    const [, said, rows] = this.#root.children;
    replace(said, !list && !failed && h("span", { class: "spinner" }), failed && h("p", { class: "notice bad", role: "alert" }, failed),
      list?.length === 0 && h("div", { class: "empty" }, icon("check", "icon-large"), h("strong", {}, t("reviews.empty"))));
    const ids = new Set((list ?? []).map((use) => use.id));
    for (const row of [...rows.children]) if (!ids.has(row.dataset.id)) row.remove();
    (list ?? []).forEach((use, index) => {
      const row = this.#rows.get(use.id) ?? this.#make(use);
      if (rows.children[index] !== row) rows.insertBefore(row, rows.children[index] ?? null);
    });
  }

  #make(use) {
    const own = this.#reviews.isOwn(use);
    const row = h("li", { class: `task review${own ? "" : " due"}`, dataset: { id: use.id } },
      h("div", { class: "task-head" }, icon(use.kind === "glass" ? "glass" : "eye"), h("strong", {}, t(`reviews.${use.kind}`)),
        h("span", { class: "tag" }, term(`${use.kind}.reason`, use.reason_code))),
      h("blockquote", {}, use.reason),
      h("p", { class: "muted" }, [
        own ? t("timeline.you") : use.username ?? t("timeline.user", { id: shortId(use.user_id) }),
        t("reviews.from_to", { from: clockTime(use.from_at), to: clockTime(use.until_at) }),
        `${t(`reviews.about.${use.kind === "glass" ? use.asked_kind : "person"}`)} ${shortId(use.asked_id ?? use.person_id)}`,
      ].join(" · ")),
      own ? h("p", { class: "muted" }, t("reviews.own")) : this.#form(use));
    this.#rows.set(use.id, row);
    return row;
  }

  #form(use) {
    const note = h("input", { name: "note", maxlength: 1000, placeholder: t("note.optional"), "aria-label": t("note.optional") });
    const failed = h("p", { class: "notice bad", role: "alert", hidden: true });
    const button = (verdict, className) => h("button", { class: `button small ${className}`, type: "submit", value: verdict }, t(`reviews.${verdict}`));
    const form = h("form", { class: "task-form review-form", novalidate: true }, note, button("justified", ""), button("unjustified", "danger-quiet"), failed);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (!event.submitter?.value) return;
      form.toggleAttribute("inert", true);
      failed.hidden = true;
      try {
        await this.#reviews.review(use, event.submitter.value, note.value.trim());
        toast(t("reviews.saved"));
        (this.#root.querySelector("input[name=note]") ?? this.#root.closest("dialog"))?.focus();
      } catch (error) {
        failed.textContent = error.code === "state_forbids" ? t("reviews.done_already") : problemWords(error);
        failed.hidden = false;
        if (error.code === "state_forbids") this.#reviews.hear();
      } finally {
        form.toggleAttribute("inert", false);
      }
    });
    // Enter in the note judges nothing: a verdict is pressed.
    note.addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
    return form;
  }
}
