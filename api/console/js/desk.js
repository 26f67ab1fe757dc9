/**
 * What is to be done besides the live queue: tasks, and what to review. For dispatching roles each is a button in the
 * bar with a count; a caseworker, who has no live queue, has her tasks in its place.
 */

import { byId, h, replace } from "./dom.js";
import { show, toast } from "./dialog.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { ReviewList, Reviews } from "./reviews.js";
import { TaskList, Tasks } from "./tasks.js";

export class Desk {
  #session;
  #records;
  #open = null; // what is drawn in the dialog now

  constructor(session, records) {
    this.#session = session;
    this.#records = records;
    this.tasks = new Tasks(session);
    this.reviews = new Reviews(session);
    this.room = new TaskList(this.tasks, records, byId("desk-tasks"));
    for (const one of [this.tasks, this.reviews]) one.addEventListener("change", () => this.draw());
    records.addEventListener("change", () => this.drawLists());
    byId("tasks").addEventListener("click", () => this.showTasks());
    byId("reviews").addEventListener("click", () => this.showReviews());
  }

  /** Whether tasks are all that this user's console has. */
  get alone() {
    return this.#session.role === "caseworker";
  }

  /** Start what this user's role has; again, when it has become known. */
  start() {
    byId("workplace").dataset.desk = this.alone ? "alone" : "beside";
    this.tasks.start();
    this.reviews.start();
    this.draw();
  }

  stop() {
    this.tasks.stop();
    this.reviews.stop();
  }

  /** An event of the feed. */
  hear(kind = "") {
    if (kind.startsWith("task.")) this.tasks.hear();
    if (!/^access\.(break_glass|look)/.test(kind) || !this.reviews.running) return;
    this.reviews.hear();
    if (kind === "access.break_glass" || kind === "access.look") {
      const words = t(`notice.${kind.slice("access.".length)}`);
      toast(words, { bad: true });
      byId("announcer").textContent = words;
    }
  }

  showTasks() {
    this.#show("tasks.title", (root) => new TaskList(this.tasks, this.#records, root));
    this.tasks.read();
  }

  showReviews() {
    this.#show("reviews.title", (root) => new ReviewList(this.reviews, root));
    this.reviews.read();
  }

  async #show(title, make) {
    byId("dialog").classList.add("wide-dialog");
    const closed = show({ title: t(title), open: (root) => {
      this.#open = make(root);
      this.#open.draw();
    } });
    await closed;
    this.#open = null;
    byId("dialog").classList.remove("wide-dialog");
  }

  drawLists() {
    this.#open?.draw();
    if (this.alone) this.room.draw();
  }

  draw() {
    badge(byId("tasks"), "tasks", this.tasks.running && !this.alone, this.tasks.due, t("tasks.title"), "tasks.count");
    badge(byId("reviews"), "eye", this.reviews.running, this.reviews.due, t("reviews.title"), "reviews.count");
    this.drawLists();
  }
}

function badge(button, shape, shown, count, title, key) {
  button.hidden = !shown;
  button.dataset.count = String(count);
  const words = count ? `${title}: ${t(key, { n: count })}` : title;
  button.title = words;
  button.setAttribute("aria-label", words);
  replace(button, icon(shape), count > 0 && h("b", { class: "badge" }, count > 99 ? "99+" : String(count)));
}

