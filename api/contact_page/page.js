// Shows what an invitation asks and takes the answer. The token leaves the address at once and goes only into bodies.

import { WORDS } from "./words.js";

const KEPT = "invitation";
const PATH = "/v1/contact-invitation";
const LOCALES = { kk: "ru-KZ", ru: "ru-KZ", en: "en-GB" }; // how days are written: browsers know Kazakh ill
const MOMENT = { day: "2-digit", month: "2-digit", year: "numeric", hour: "2-digit", minute: "2-digit" };
const byId = (id) => document.getElementById(id);

let token = location.hash.slice(1) || null;
if (token) {
  sessionStorage.setItem(KEPT, token);
  history.replaceState(null, "", location.pathname);
} else {
  token = sessionStorage.getItem(KEPT);
}

let words = WORDS.kk;
let spoken = "kk";
let chosen = false;
let answer = null;
let ended = "ended";
let wrongWay = null;
let sure = null;
let trouble = null;
let busy = false;

function fill(text, values) {
  return Object.entries(values).reduce((filled, [name, value]) => filled.replace(`{${name}}`, () => value), text);
}

/** Set a text only when it is another: a screen reader speaks each change. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function speak(language) {
  spoken = WORDS[language] ? language : "kk";
  words = WORDS[spoken];
  document.documentElement.lang = spoken;
  document.title = words.page;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = words[node.dataset.word];
  for (const button of document.querySelectorAll("[data-language]"))
    button.setAttribute("aria-pressed", String(button.dataset.language === spoken));
  show();
}

async function ask(step, body = {}) {
  if (busy) return null;
  busy = true;
  trouble = null;
  show();
  try {
    const response = await fetch(PATH + step, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token, ...body }),
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
    if (response.status === 422) return { state: "ended", ways: [] };
    if (!response.ok) {
      trouble = response.status === 429 ? "slow" : "trouble";
      return null;
    }
    return await response.json();
  } catch {
    trouble = "trouble";
    return null;
  } finally {
    busy = false;
  }
}

async function take(step, body) {
  const found = await ask(step, body);
  if (found) {
    answer = found;
    if (!chosen && found.language) speak(found.language);
  }
  show();
  return found;
}

function showWay(way) {
  const item = byId("way").content.firstElementChild.cloneNode(true);
  const [send, form] = [item.querySelector(".send"), item.querySelector("form")];
  item.dataset.way = String(way.way);
  item.querySelector(".masked").textContent = way.masked;
  item.querySelector(".mark").textContent = way.verified ? words.confirmed : "";
  item.querySelector(".label").textContent = words.code_label;
  form.querySelector("button").textContent = words.confirm;
  send.textContent = way.code_sent ? words.send_again : words.send;
  send.classList.toggle("strong", !way.code_sent);
  send.hidden = way.verified;
  form.hidden = way.verified || !way.code_sent;
  const wrong = form.querySelector(".wrong");
  wrong.hidden = wrongWay !== way.way;
  wrong.textContent = words.code_wrong;
  send.addEventListener("click", async () => {
    wrongWay = null;
    await take("/code", { way: way.way });
    document.querySelector(`[data-way="${way.way}"] input`)?.focus();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const found = await take("/verify", { way: way.way, code: form.elements.code.value.trim() });
    wrongWay = found?.code_wrong ? way.way : null;
    show();
    if (wrongWay !== null) document.querySelector(`[data-way="${way.way}"] input`)?.focus();
    else byId("asked-title").scrollIntoView();
  });
  return item;
}

function show() {
  byId("trouble").hidden = trouble === null;
  if (trouble !== null) say(byId("trouble"), words[trouble]);
  byId("ended").hidden = answer?.state !== "ended";
  byId("asked").hidden = !answer || answer.state === "ended";
  document.body.setAttribute("aria-busy", String(busy));
  if (!answer) return;
  if (answer.state === "ended") {
    say(byId("ended-title"), words[ended]);
    say(byId("ended-why"), words[`${ended}_why`]);
    return;
  }
  const [known, active] = [answer.state !== "invited", answer.state === "active"];
  say(byId("asked-title"), active ? words.active : words.asked);
  const by = answer.inviter ? fill(words.invited_by, { name: answer.inviter }) : words.unnamed;
  say(byId("who"), active ? words.active_text : known ? by : words.nobody_yet);
  say(byId("rule"), known ? words.rule : words.hush);
  byId("meaning").hidden = !known;
  byId("place").hidden = !answer.may_see.includes("position");
  say(byId("addresses-title"), known ? words.confirm_another : words.confirm_address);
  say(byId("addresses-why"), active ? words.active_why : known ? words.another_why : words.confirm_why);
  const typed = document.activeElement?.name === "code" && !document.activeElement.closest("[hidden]");
  const value = typed ? document.activeElement.value : "";
  const way = typed ? document.activeElement.closest("[data-way]").dataset.way : null;
  byId("ways").replaceChildren(...answer.ways.map(showWay));
  const input = way !== null ? document.querySelector(`[data-way="${way}"] input`) : null;
  if (input) {
    input.value = value;
    input.focus();
  }
  byId("answers").hidden = !known || active || sure !== null;
  byId("leaving").hidden = !active || sure !== null;
  byId("sure").hidden = sure === null;
  if (sure !== null) say(byId("sure-text"), words[sure]);
  const until = answer.expires_at && new Date(answer.expires_at);
  byId("until").hidden = !until;
  if (until) say(byId("until"), fill(words.until, { date: until.toLocaleString(LOCALES[spoken], MOMENT) }));
}

function doubt(what) {
  sure = what;
  show();
  byId(sure === null ? "agree" : "no").focus();
}

for (const button of document.querySelectorAll("[data-language]"))
  button.addEventListener("click", () => {
    chosen = true;
    speak(button.dataset.language);
  });
byId("agree").addEventListener("click", async () => {
  await take("/consent", { language: spoken });
  scrollTo(0, 0);
});
byId("refuse").addEventListener("click", () => doubt("sure_refuse"));
byId("leave").addEventListener("click", () => doubt("sure_leave"));
byId("no").addEventListener("click", () => doubt(null));
byId("yes").addEventListener("click", async () => {
  ended = "refused";
  const found = await take("/refuse", {});
  sure = null;
  if (found) sessionStorage.removeItem(KEPT);
  else ended = "ended";
  show();
});

speak((navigator.language || "kk").slice(0, 2));
if (token) await take("", {});
else answer = { state: "ended", ways: [] };
show();
