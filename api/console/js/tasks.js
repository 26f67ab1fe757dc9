/**
 * What somebody has to see to by some time, the due ones first, and saying what was done. Rows are kept while the list
 * is read anew, so that what was chosen in one and where the focus stands stay.
 *
 * People are named only for who asks: an order's reference is enough to choose the next task by.
 */

import { h, replace } from "./dom.js";
import { toast } from "./dialog.js";
import { has, language, t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { problemWords } from "./commands.js";
import { shortId } from "./records.js";
import { civilTime, duration, now } from "./time.js";

export const ROLES = new Set(["caseworker", "supervisor", "admin"]);
const READ_EVERY_MS = 60_000; // a task comes due by the clock, and a caseworker has no feed
const LIMIT = 500;
const OUTCOMES = {
  order_expiring: ["extended", "new_order", "no_longer_needed", "referred", "other"],
  order_expired: ["new_order", "no_longer_needed", "referred", "other"],
  unprotected_gap: ["devices_fitted", "no_longer_needed", "referred", "other"],
  repeat_violation: ["prosecutor_told", "risk_raised", "referred", "other"],
  maintenance: ["repaired", "nothing_wrong", "other"],
};
const ANY = ["extended", "new_order", "no_longer_needed", "devices_fitted", "prosecutor_told", "risk_raised", "referred", "repaired", "nothing_wrong", "other"];
const ICONS = { order_expiring: "clock", order_expired: "note", unprotected_gap: "shield", repeat_violation: "high", maintenance: "unit" };

/** The open tasks of an agency. Emits `change`. */
export class Tasks extends EventTarget {
  list = null;
  failed = null;
  #session;
  #timer = null;
  #soon = null;

  constructor(session) {
    super();
    this.#session = session;
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#timer && this.read());
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

  /** Something was opened or done: read the list again, once for many. */
  hear() {
    if (!this.running) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = null;
      this.read();
    }, 300);
  }

  async read() {
    try {
      const { tasks } = await this.#session.request(`/v1/tasks?limit=${LIMIT}`);
      if (!this.running) return;
      this.list = tasks.toSorted((left, right) => Date.parse(left.due_at) - Date.parse(right.due_at));
      this.failed = null;
    } catch (error) {
      this.failed = problemWords(error);
    }
    this.#changed();
  }

  async done(task, outcome) {
    await this.#session.request(`/v1/tasks/${task.id}/done`, { method: "POST", body: { outcome } });
    this.list = (this.list ?? []).filter((one) => one.id !== task.id);
    this.#changed();
  }

  /** How many should have been seen to by now. */
  get due() {
    return (this.list ?? []).filter(isDue).length;
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("change"));
  }
}

const isDue = (task) => Date.parse(task.due_at) <= now();

/** The list on the screen, in whatever element it is given. */
export class TaskList {
  #tasks;
  #records;
  #root;
  #rows = new Map();
  #named = new Set(); // tasks whose people were asked for
  #parts;

  constructor(tasks, records, root) {
    this.#tasks = tasks;
    this.#records = records;
    this.#root = root;
  }

  draw() {
    if (this.#parts?.language !== language()) this.#frame();
    const { due, later, said } = this.#parts;
    const list = this.#tasks.list;
    replace(said, !list && !this.#tasks.failed && h("span", { class: "spinner" }),
      this.#tasks.failed && h("p", { class: "notice bad", role: "alert" }, this.#tasks.failed),
      list?.length === 0 && h("div", { class: "empty" }, icon("check", "icon-large"), h("strong", {}, t("tasks.empty")), h("p", {}, t("tasks.empty.more"))));
    this.#group(due, (list ?? []).filter(isDue), "tasks.due");
    this.#group(later, (list ?? []).filter((task) => !isDue(task)), "tasks.later");
  }

  #frame() {
    this.#rows.clear();
    this.#parts = { language: language(), said: h("div", { class: "tasks-said" }), due: group("tasks-due"), later: group("tasks-later") };
    this.#root.replaceChildren(h("p", { class: "muted" }, t("tasks.lead")), this.#parts.said, this.#parts.due, this.#parts.later);
  }

  #group(root, tasks, title) {
    const list = root.querySelector("ul");
    const ids = new Set(tasks.map((task) => task.id));
    root.hidden = !tasks.length;
    root.querySelector("h3").textContent = `${t(title)} · ${tasks.length}`;
    for (const row of [...list.children]) if (!ids.has(row.dataset.id)) row.remove();
    tasks.forEach((task, index) => {
      const row = this.#row(task);
      if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
    });
  }

  #row(task) {
    let row = this.#rows.get(task.id);
    if (!row) {
      row = h("li", { class: "task", dataset: { id: task.id } }, h("div", { class: "task-what" }), h("div", { class: "task-people" }), this.#form(task));
      this.#rows.set(task.id, row);
    }
    row.classList.toggle("due", isDue(task));
    const order = this.#records.order(task.order_id);
    const zone = order?.time_zone;
    const left = Date.parse(task.due_at) - now();
    replace(row.children[0],
      h("div", { class: "task-head" }, icon(ICONS[task.kind] ?? "note"), h("strong", {}, has(`task.${task.kind}`) ? t(`task.${task.kind}`) : task.kind)),
      h("p", {}, h("span", { class: "task-order" }, t("tasks.order", { order: order?.reference ?? (task.order_id ? shortId(task.order_id) : "—") })), this.#detail(task)),
      h("p", { class: "task-due" }, icon("clock"), h("time", { datetime: task.due_at }, t("tasks.by", { time: civilTime(task.due_at, zone) })),
        h("span", {}, left > 0 ? t("order.left", { age: rough(left) }) : t("tasks.late", { age: rough(-left) }))));
    replace(row.children[1], this.#people(task, order));
    if (!row.children[1].onclick) row.children[1].onclick = (event) => this.#name(event, task);
    return row;
  }

  #detail({ kind, detail = {} }) {
    const words = [
      kind === "repeat_violation" && Number.isFinite(detail.violations) && t("order.violations.of", { n: detail.violations }),
      kind === "unprotected_gap" && Number.isFinite(detail.limit_s) && t("tasks.gap_limit", { age: rough(detail.limit_s * 1000) }),
      kind === "maintenance" && detail.causes && (Array.isArray(detail.causes) ? detail.causes : Object.keys(detail.causes)).map((cause) => term("false_cause", cause)).join(", "),
    ].filter(Boolean);
    return words.length ? ` · ${words.join(" · ")}` : null;
  }

  #people(task, order) {
    if (!task.order_id || !order) return [];
    if (!this.#named.has(task.id)) return [h("button", { class: "link", type: "button", dataset: { part: "people" } }, t("tasks.people"))];
    return ["victim", "aggressor"].map((role) => h("span", { class: `person ${role}`, title: t(`role.${role}`) },
      icon(role), h("span", { class: "sr-only" }, `${t(`role.${role}`)}: `), h("span", { class: "person-name" }, this.#records.name(order[`${role}_id`]))));
  }

  #name(event, task) {
    if (!event.target.closest("button")) return;
    this.#named.add(task.id);
    this.draw();
    this.#rows.get(task.id)?.querySelector("select")?.focus();
  }

  #form(task) {
    const choices = OUTCOMES[task.kind] ?? ANY;
    const select = h("select", { name: "outcome", "aria-label": t("tasks.outcome") },
      h("option", { value: "" }, t("tasks.choose")), choices.map((outcome) => h("option", { value: outcome }, t(`task_outcome.${outcome}`))));
    const button = h("button", { class: "button small", type: "submit" }, icon("check"), t("tasks.done"));
    const failed = h("p", { class: "notice bad", role: "alert", hidden: true });
    const form = h("form", { class: "task-form", novalidate: true }, select, button, failed);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      failed.hidden = true;
      if (!select.value) {
        select.focus();
        return say(failed, t("tasks.choose_first"));
      }
      button.disabled = true;
      try {
        const next = this.#after(task.id);
        await this.#tasks.done(task, select.value);
        toast(t("tasks.saved"));
        this.#focus(next);
      } catch (error) {
        say(failed, error.code === "state_forbids" ? t("tasks.done_already") : problemWords(error));
        if (error.code === "state_forbids" || error.status === 404) this.#tasks.hear();
      } finally {
        button.disabled = false;
      }
    });
    return form;
  }

  /** The task below, else the one above: where the focus goes when this one is done. */
  #after(id) {
    const list = this.#tasks.list ?? [];
    const index = list.findIndex((task) => task.id === id);
    return (list[index + 1] ?? list[index - 1])?.id;
  }

  #focus(id) {
    this.draw();
    (this.#rows.get(id)?.querySelector("select") ?? this.#root.closest("[tabindex], dialog"))?.focus();
  }
}

const group = (name) => h("section", { class: name }, h("h3"), h("ul", { class: "task-list" }));

/** An age to the hour or the minute: seconds would make every row restless. */
const rough = (ms) => duration(Math.floor(ms / 60_000) * 60_000).replace(/ 0 \S+$/, "");

function say(element, words) {
  element.textContent = words;
  element.hidden = false;
}

