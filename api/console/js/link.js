/** Whether news arrive: a quiet word while they do, a banner nobody can miss while they do not. */

import { h, replace } from "./dom.js";
import { t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { duration } from "./time.js";

const GOOD = new Set([true, "up", "ok", "well", "live", "healthy"]);

export function drawLink(element, feed) {
  const live = feed.status === "live";
  element.dataset.status = feed.status;
  replace(element, icon(live ? "link" : "linkLost"), h("span", {}, t(`link.${feed.status}`)));
}

export function drawBanner(element, feed, retry) {
  const shown = feed.status === "lost" || feed.status === "stale";
  element.hidden = !shown;
  if (!shown) return element.replaceChildren();
  const words = h("strong", {}, t(`banner.${feed.status}`));
  // Only the clock changes each second, and screen readers are spared it.
  const since = h("span", { "aria-live": "off" }, t("banner.since", { age: duration(Date.now() - feed.since) }));
  const button = h("button", { class: "button", type: "button" }, t("banner.now"));
  const fresh = h("div", {}, icon("linkLost"), h("div", { class: "banner-words" }, words, since), button);
  if (element.firstChild?.querySelector("strong")?.textContent === words.textContent) {
    element.firstChild.querySelector("span").textContent = since.textContent;
  } else {
    button.addEventListener("click", retry);
    element.replaceChildren(fresh);
  }
}

/** What is not well with the service itself; nothing while all is well. */
export function drawHealth(element, health) {
  const parts = Object.entries(health?.stores ?? health ?? {}).filter(([, value]) => ["boolean", "string"].includes(typeof value) || value?.status);
  const bad = parts.filter(([name, value]) => name !== "status" && name !== "at" && !GOOD.has(value?.status ?? value));
  replace(element, bad.map(([name, value]) => h("span", { class: "pill bad", title: t("health.more") }, icon("high"),
    h("span", {}, `${term("health", name)}: ${term("health_state", String(value?.status ?? value))}`))));
}
