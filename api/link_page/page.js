// Asks again and again what the link shows; keeps nothing, and takes the token out of the address at once.

import { draw, forget } from "./ring.js";
import { WORDS } from "./words.js";

const SLOWEST_S = 60;
const FORGET_AFTER_S = 60;
const byId = (id) => document.getElementById(id);

const token = location.hash.slice(1) || null;
if (token) history.replaceState(null, "", location.pathname);

let words = WORDS.kk;
let chosen = null;
let answer = null;
let answeredAt = 0;
let skewMs = 0;
let failures = 0;
let first = true;
let timer = 0;
let asking = false;

function fill(text, values) {
  return Object.entries(values).reduce((filled, [name, value]) => filled.replace(`{${name}}`, value), text);
}

function ago(moment) {
  const seconds = Math.max(0, Math.round((Date.now() + skewMs - moment) / 1000));
  if (seconds < 90) return fill(words.seconds_ago, { n: seconds });
  const minutes = Math.round(seconds / 60);
  return minutes < 90
    ? fill(words.minutes_ago, { n: minutes })
    : fill(words.hours_ago, { n: Math.round(minutes / 60) });
}

function clock(text) {
  return new Date(text).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

/** Set a text only when it is another: a screen reader speaks each change. */
function say(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function distance(metres) {
  return metres < 950
    ? fill(words.metres, { n: Math.round(metres / (metres < 100 ? 1 : 10)) * (metres < 100 ? 1 : 10) })
    : fill(words.kilometres, { n: (metres / 1000).toFixed(metres < 9500 ? 1 : 0) });
}

function speak(language) {
  words = WORDS[language] ?? WORDS.kk;
  const spoken = WORDS[language] ? language : "kk";
  document.documentElement.lang = spoken;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = words[node.dataset.word];
  for (const button of document.querySelectorAll("[data-language]"))
    button.setAttribute("aria-pressed", String(button.dataset.language === spoken));
  show();
}

function showPlace(place) {
  byId("place").hidden = !place;
  byId("unplaced").hidden = Boolean(place);
  if (!place) return;
  draw(byId("ring"), place, words, distance);
  byId("seen").textContent = fill(words.seen, { t: `${clock(place.at)} (${ago(Date.parse(place.at))})` });
  byId("accuracy").textContent = place.accuracy_m
    ? fill(words.accuracy, { d: distance(place.accuracy_m) })
    : words.accuracy_unknown;
  byId("coordinates").textContent = `${place.lat.toFixed(5)}, ${place.lon.toFixed(5)}`;
}

function show() {
  const state = answer?.state;
  for (const name of ["live", "ended", "elsewhere"]) byId(name).hidden = state !== name;
  const status = byId("status");
  status.classList.toggle("stale", failures > 0);
  if (failures > 0) status.textContent = words.away;
  else if (!answer) status.textContent = words.loading;
  else status.textContent = state === "live" ? fill(words.updated, { t: ago(answeredAt) }) : "";
  if (state !== "live") {
    forget();
    showPlace(null);
    byId("coordinates").textContent = "";
    byId("ring").replaceChildren(byId("ring").querySelector("title"));
    return;
  }
  const seen = answer.seen_by_police_at;
  const police = byId("police");
  police.classList.toggle("seen", Boolean(seen));
  say("police", seen ? fill(words.police_seen, { t: clock(seen) }) : words.police_told);
  showPlace(answer.position);
}

async function post(path, body) {
  return fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    credentials: "same-origin",
    cache: "no-store",
    referrerPolicy: "no-referrer",
    signal: AbortSignal.timeout(10_000),
  });
}

async function ask(code) {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  let wait = SLOWEST_S;
  try {
    const response = await post("/v1/live-link", { token, first, code });
    if (!response.ok) {
      const retry = Number(response.headers.get("retry-after"));
      throw Object.assign(new Error(String(response.status)), { retry });
    }
    const date = Date.parse(response.headers.get("date") ?? "");
    if (!Number.isNaN(date)) skewMs = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
    answer = await response.json();
    answeredAt = Date.now() + skewMs;
    first = false;
    failures = 0;
    if (!chosen && answer.language) {
      chosen = answer.language;
      speak(chosen);
    }
    wait = answer.refresh_s;
  } catch (error) {
    failures += 1;
    wait = Math.max(error.retry || 0, Math.min(SLOWEST_S, 2 ** Math.min(failures, 6)));
    // It may be over by now: what cannot be asked for is not shown for long.
    if (answer?.state === "live" && Date.now() + skewMs - answeredAt > FORGET_AFTER_S * 1000)
      answer = { ...answer, position: null };
  }
  asking = false;
  show();
  if (!document.hidden) timer = setTimeout(ask, wait * 1000);
}

byId("languages").addEventListener("click", (event) => {
  const language = event.target.dataset?.language;
  if (language) speak((chosen = language));
});

byId("copy").addEventListener("click", async () => {
  const button = byId("copy");
  try {
    await navigator.clipboard.writeText(byId("coordinates").textContent);
    button.textContent = words.copied;
    setTimeout(() => (button.textContent = words.copy), 2000);
  } catch {
    getSelection().selectAllChildren(byId("coordinates"));
  }
});

byId("ask-code").addEventListener("click", async () => {
  byId("code-form").hidden = false;
  byId("code").focus();
  try {
    await post("/v1/live-link/code", { token });
  } catch {
    failures += 1;
    show();
  }
});

byId("code-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  await ask(byId("code").value);
  byId("code-wrong").hidden = answer?.state !== "elsewhere";
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else void ask();
});

window.addEventListener("hashchange", () => location.reload());
setInterval(show, 1000);
const wished = (navigator.language ?? "kk").slice(0, 2);
speak(WORDS[wished] ? wished : "kk");
void ask();
