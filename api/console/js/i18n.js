/** Words: one flat JSON file a language; a missing word falls back to English, then to its key. */

const STORED = "qorgan.language";
const NAMES = { kk: "Қазақша", ru: "Русский", en: "English" };
const tables = {};
let languages = ["kk", "ru", "en"];
let current = "en";

async function load(code) {
  if (tables[code]) return;
  const answer = await fetch(`/console/locales/${code}.json`);
  if (!answer.ok) throw new Error(`no words for ${code}: ${answer.status}`);
  tables[code] = await answer.json();
}

/** Choose the language: the one chosen before, else the browser's, else the first offered. */
export async function start(offered) {
  languages = offered?.length ? offered : languages;
  const asked = [localStorage.getItem(STORED), ...navigator.languages.map((code) => code.slice(0, 2))];
  const wanted = asked.find((code) => languages.includes(code)) ?? languages[0];
  await load("en");
  await use(wanted, { keep: false });
}

/** Switch the page to a language and tell whoever draws words by a `languagechange` event on the document. */
export async function use(code, { keep = true } = {}) {
  await load(code);
  current = code;
  if (keep) localStorage.setItem(STORED, code);
  document.documentElement.lang = code;
  translate(document);
  document.dispatchEvent(new CustomEvent("qorgan:language"));
}

export const language = () => current;
export const choices = () => languages.map((code) => [code, NAMES[code] ?? code]);

/** Whether there are words for a key in any table. */
export const has = (key) => Boolean(tables[current]?.[key] ?? tables.en?.[key]);

/**
 * The words for a key with `{name}` replaced. With `n` the plural form is chosen: `key.one`, `key.few`, `key.many`
 * or `key.other`, as the language has them.
 */
export function t(key, values = {}) {
  let words = tables[current]?.[key] ?? tables.en?.[key];
  if (values.n !== undefined) {
    const form = new Intl.PluralRules(current).select(values.n);
    words = tables[current]?.[`${key}.${form}`] ?? tables[current]?.[`${key}.other`] ?? words;
  }
  return (words ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Words for a value of a closed list (`type`, `panic`); a value we have no words for is shown as it came. */
export const term = (family, value) => (has(`${family}.${value}`) ? t(`${family}.${value}`) : String(value ?? ""));

/** Fill the static parts of the page: `data-t` is text, `data-t-label` an aria-label and title. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-label]")) {
    const words = t(element.dataset.tLabel);
    element.setAttribute("aria-label", words);
    element.setAttribute("title", words);
  }
}
