/** One modal question at a time, in a native dialog: Escape closes it and focus goes back to where it was. */

import { byId, h } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";

/**
 * Ask something. `body` is what stands between title and buttons; `confirm` are the words of the button that does it;
 * `submit(form)` does it and may throw: its words are shown and the dialog stays. Answers when the dialog has closed.
 */
export function ask({ title, body, confirm, submit, danger = false }) {
  const dialog = byId("dialog");
  const failed = h("p", { class: "notice bad", role: "alert", hidden: true });
  const button = confirm && h("button", { class: `button ${danger ? "danger" : "primary"}`, type: "submit" }, confirm);
  const form = h("form", { method: "dialog", novalidate: true },
    h("h2", { id: "dialog-title" }, title), body, failed,
    h("div", { class: "dialog-buttons" },
      h("button", { class: "button", type: "button", onclick: () => dialog.close() }, confirm ? t("cancel") : t("close")), button));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!submit) return dialog.close();
    button.disabled = true;
    form.setAttribute("aria-busy", "true");
    failed.hidden = true;
    try {
      await submit(form);
      dialog.close();
    } catch (error) {
      failed.textContent = error.words ?? error.message;
      failed.hidden = false;
    } finally {
      button.disabled = false;
      form.removeAttribute("aria-busy");
    }
  });
  dialog.replaceChildren(form);
  if (!dialog.open) dialog.showModal();
  (form.querySelector("[data-first], input, textarea, .primary") ?? form.querySelector("button")).focus();
  return new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
}

/** Show something that draws itself: `open(root)` fills it. Answers when it has been closed. */
export function show({ title, open }) {
  const dialog = byId("dialog");
  const root = h("div", { class: "stack" });
  dialog.replaceChildren(h("div", { class: "dialog-page" },
    h("div", { class: "dialog-head" }, h("h2", { id: "dialog-title" }, title),
      h("button", { class: "tool", type: "button", "aria-label": t("close"), title: t("close"), onclick: () => dialog.close() }, icon("cross"))),
    root));
  if (!dialog.open) dialog.showModal();
  open(root);
  return new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
}

/** Whether a question is open: keys belong to it then. */
export const asking = () => byId("dialog").open;

/** A short word at the edge of the screen that goes by itself; `bad` ones stay longer. */
export function toast(words, { bad = false } = {}) {
  const element = h("div", { class: `toast${bad ? " bad" : ""}` }, words);
  byId("toasts").append(element);
  setTimeout(() => element.remove(), bad ? 9000 : 4000);
}
