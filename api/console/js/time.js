/** Time as a dispatcher reads it: local clock time with a relative age that ticks, on the server's clock. */

import { language, t } from "./i18n.js";

const SKEW_FLOOR_MS = 2000; // the Date header counts whole seconds: a smaller difference says nothing
let skewMs = 0;

/** Learn how far this machine's clock is from the server's, from an answer's `Date` header. */
export function learnServerTime(dateHeader) {
  const server = Date.parse(dateHeader ?? "");
  if (Number.isNaN(server)) return;
  const difference = server - Date.now();
  skewMs = Math.abs(difference) > SKEW_FLOOR_MS ? difference : 0;
}

/** The present moment on the server's clock, in milliseconds. */
export const now = () => Date.now() + skewMs;

/** Milliseconds since an RFC 3339 time; never negative, NaN when there is none. */
export const ageMs = (at) => (at ? Math.max(0, now() - Date.parse(at)) : NaN);

/** An age in the two largest units that matter: "8 s", "4 min 12 s", "2 h 5 min", "3 d 4 h". */
export function duration(ms) {
  if (!Number.isFinite(ms)) return t("time.unknown");
  const total = Math.floor(ms / 1000);
  const [days, hours, minutes, seconds] = [
    Math.floor(total / 86400), Math.floor(total / 3600) % 24, Math.floor(total / 60) % 60, total % 60,
  ];
  if (days) return `${days} ${t("time.d")} ${hours} ${t("time.h")}`;
  if (hours) return `${hours} ${t("time.h")} ${minutes} ${t("time.min")}`;
  if (minutes) return `${minutes} ${t("time.min")} ${seconds} ${t("time.s")}`;
  return `${seconds} ${t("time.s")}`;
}

/** "4 min 12 s ago". */
export const ago = (at) => t("time.ago", { age: duration(ageMs(at)) });

/** Local clock time with seconds; with the date when it is not today's. */
export function clockTime(at) {
  const moment = new Date(at);
  if (Number.isNaN(moment.getTime())) return t("time.unknown");
  const time = new Intl.DateTimeFormat("ru", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(moment);
  const today = new Date(now());
  if (moment.toDateString() === today.toDateString()) return time;
  return `${new Intl.DateTimeFormat("ru", { day: "2-digit", month: "2-digit" }).format(moment)} ${time}`;
}

/** A moment as civil time where it counts ("14.05.2026, 18:00 GMT+5"): a deadline is not the reader's local time. */
export function civilTime(at, zone) {
  const moment = new Date(at);
  if (Number.isNaN(moment.getTime())) return t("time.unknown");
  const fields = { day: "2-digit", month: "2-digit", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };
  try {
    return new Intl.DateTimeFormat("ru", { ...fields, timeZone: zone ?? undefined }).format(moment);
  } catch {
    return new Intl.DateTimeFormat("ru", fields).format(moment); // a zone this browser does not know
  }
}

/** How long until a moment; `escalation.due` once it has come. */
const left = (at) => (Date.parse(at) > now() ? duration(Date.parse(at) - now()) : t("escalation.due"));

const TEXTS = { age: (at) => duration(ageMs(at)), ago, left };

/** A `<time>` whose text is an age (or, by `mode`, how long ago or how long yet) and which `tick` keeps right. */
export function ageElement(make, at, mode = "age") {
  const element = make("time", {
    datetime: at, title: `${clockTime(at)}`, class: "age", dataset: { since: at, mode, lang: language() },
  });
  element.textContent = TEXTS[mode](at);
  return element;
}

/** Bring every age on the page up to date; called once a second. */
export function tick(root = document) {
  for (const element of root.querySelectorAll("time[data-since]")) {
    const { since, mode } = element.dataset;
    const text = TEXTS[mode](since);
    if (element.textContent !== text) element.textContent = text;
  }
}
