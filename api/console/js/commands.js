/**
 * What a dispatcher does with an incident. Every command bears the version that was on the screen; when somebody was
 * faster (409 version_stale) the incident is loaded again and the dispatcher is told, never overruled.
 */

import { ask, toast } from "./dialog.js";
import { h } from "./dom.js";
import { has, t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { sharedPath } from "./shared.js";
import { metresText } from "./words.js";

export const OUTCOMES = [
  "custody", "warned", "victim_safe", "false_alarm", "technical", "duplicate", "suspension", "exercise", "other",
];
const FALSE_CAUSES = ["device_fault", "poor_signal", "charging", "accidental", "permitted_contact", "other"];
const OUTCOMES_WHILE_INSIDE = ["custody", "suspension"];
const LOOK_REASONS = ["welfare_check", "threat_reported", "medical", "missing", "device_fault", "other"];
const NOTE_CHARS_MAX = 2000;

export class Commands {
  #session;
  #board;
  #loaded;
  #unanswered = null;
  busy = null;

  /** `loaded(incident)` is told of every incident that came back whole, with its timeline. */
  constructor(session, board, loaded) {
    this.#session = session;
    this.#board = board;
    this.#loaded = loaded;
  }

  /** Which commands an incident's state allows. */
  static allowed(incident) {
    if (!incident || incident.provisional || incident.sealed) return [];
    if (incident.shared) return incident.acknowledged_at || incident.state === "resolved" ? [] : ["acknowledge"];
    if (incident.state === "resolved") return ["note", "reopen"];
    return [...(incident.state === "open" ? ["acknowledge"] : []), "dispatch", "note", "resolve"];
  }

  /** Whether a role sends help, and so may look at an exact place; the API asks again. */
  static maySend(role) {
    return !role || ["dispatcher", "supervisor"].includes(role);
  }

  async load(id) {
    if (this.#board.get(id)?.shared) return await this.#loadShared(id);
    const incident = await this.#session.request(`/v1/incidents/${id}`);
    this.#board.hold(incident);
    this.#board.holdTimeline(id, incident.timeline);
    this.#loaded(incident);
    this.loadEpisode(id);
    return incident;
  }

  /** What another agency tells of its incident, as it is now; both agencies' audits say that it was read. */
  async #loadShared(id) {
    const incident = await this.#session.request(sharedPath(id)).catch((error) => {
      if (error.status === 404) return { id, state: "resolved" }; // over, or told to this agency no longer
      throw error;
    });
    this.#board.holdShared(incident);
    this.#loaded(incident);
    return incident;
  }

  /** Say that this agency has taken notice; the incident stays the other's. */
  async #takeNotice(incident) {
    this.busy = "acknowledge";
    this.#loaded(null);
    try {
      const answer = await this.#session.request(sharedPath(incident.id, "acknowledge"), { method: "POST" });
      this.#board.holdShared(answer);
      toast(t("done.shared"));
    } finally {
      this.busy = null;
      this.#loaded(null);
    }
  }

  /** Read which incidents belong to the same episode; without an answer those of the board are shown. */
  async loadEpisode(id) {
    const episode = await this.#session.request(`/v1/incidents/${id}/episode`).catch(() => null);
    if (episode) this.#board.holdEpisode(id, episode.incidents);
  }

  async run(name, id) {
    const incident = this.#board.get(id);
    if (!Commands.allowed(incident).includes(name) || this.busy) return;
    if (incident.shared) await this.#tell(() => this.#takeNotice(incident), incident);
    else if (name === "acknowledge" || name === "reopen") await this.#tell(() => this.#send(name, incident, {}), incident);
    else await this[`ask_${name}`](incident);
  }

  async ask_note(incident) {
    await ask({
      title: t("note.title"), confirm: t("command.note"),
      body: noteField({ required: true }),
      submit: (form) => this.#submit("note", incident, { note: noteOf(form, true) }),
    });
  }

  async ask_dispatch(incident) {
    const list = h("div", { class: "choices", role: "group", "aria-label": t("dispatch.units") }, h("span", { class: "spinner" }));
    const show = (units) => list.replaceChildren(...(units.length
      ? units.map((unit, index) => choice("checkbox", "unit", unit.id, [
          h("strong", {}, unit.callsign ?? unit.id),
          h("span", { class: "muted" }, [term("unit_status", unit.status), Number.isFinite(unit.distance_m) && metresText(unit.distance_m), unit.in_conflict && t("dispatch.conflict")].filter(Boolean).join(" · ")),
        ], { checked: index === 0 && !unit.in_conflict && unit.status === "available" && Number.isFinite(unit.distance_m) }))
      : [h("p", { class: "muted" }, t("dispatch.no_units"))]));
    this.#nearest(incident).then(show);
    await ask({
      title: t("dispatch.title"), confirm: t("command.dispatch"),
      body: h("div", { class: "stack" }, h("p", {}, t("dispatch.explain")), list, noteField({})),
      submit: (form) => this.#submit("dispatch", incident, {
        unit_ids: [...form.querySelectorAll("input[name=unit]:checked")].map((input) => input.value),
        ...optionalNote(form),
      }),
    });
  }

  /** See exactly where she is for ten minutes: a reason is wanted, and told. */
  async ask_look(incident) {
    const choices = LOOK_REASONS.map((reason) => choice("radio", "reason_code", reason, [h("span", {}, t(`reason.${reason}`))]));
    await ask({
      title: t("look.title"), confirm: t("command.look"),
      body: h("div", { class: "stack" },
        h("p", { class: "notice warn" }, icon("high"), h("span", {}, t("look.explain"))),
        h("fieldset", { class: "choices two" }, h("legend", {}, t("look.reason_code")), choices),
        h("label", { class: "note-field" }, h("span", {}, t("look.reason")), h("textarea", { name: "reason", rows: 2, maxlength: 1000, required: true }))),
      submit: async (form) => {
        const code = form.querySelector("input[name=reason_code]:checked")?.value;
        const reason = form.querySelector("textarea[name=reason]").value.trim();
        if (!code || !reason) throw worded(t("look.empty"));
        try {
          await this.#session.request(`/v1/people/${incident.victim_id}/look`, { method: "POST", body: { reason_code: code, reason } });
        } catch (error) {
          throw worded(problemWords(error), error);
        }
        toast(t("look.done"));
        await this.load(incident.id).catch(() => {});
      },
    });
  }

  async ask_resolve(incident) {
    const inside = Boolean(incident.inside);
    const choices = OUTCOMES.map((outcome) => choice("radio", "outcome", outcome, [h("span", {}, t(`outcome.${outcome}`))], {
      disabled: inside && !OUTCOMES_WHILE_INSIDE.includes(outcome),
    }));
    const why = h("label", { class: "note-field", hidden: true }, h("span", {}, t("resolve.cause")),
      h("select", { name: "false_alarm_cause" }, h("option", { value: "" }, "—"), FALSE_CAUSES.map((cause) => h("option", { value: cause }, t(`false_cause.${cause}`)))));
    const outcomes = h("fieldset", { class: "choices two", onchange: (event) => {
      why.hidden = event.target.value !== "false_alarm";
    } }, h("legend", {}, t("resolve.outcome")), choices);
    await ask({
      title: t("resolve.title"), confirm: t("command.resolve"),
      body: h("div", { class: "stack" },
        inside && h("p", { class: "notice warn" }, icon("high"), h("span", {}, t("resolve.inside"))),
        outcomes, why, noteField({})),
      submit: (form) => {
        const outcome = form.querySelector("input[name=outcome]:checked")?.value;
        if (!outcome) throw worded(t("resolve.choose"));
        const cause = outcome === "false_alarm" ? form.querySelector("select[name=false_alarm_cause]").value : null;
        if (cause === "") throw worded(t("resolve.choose_cause"));
        return this.#submit("resolve", incident, { outcome, ...(cause && { false_alarm_cause: cause }), ...optionalNote(form) });
      },
    });
  }

  async #nearest(incident) {
    try {
      const answer = await this.#session.request(`/v1/incidents/${incident.id}/nearest-units`);
      const units = Array.isArray(answer) ? answer : answer?.units ?? answer?.items ?? [];
      if (units.length) return units;
    } catch {
      // The units of the board, without distances, are better than none.
    }
    return this.#board.units.filter((unit) => unit.status !== "off_duty");
  }

  /** From a dialog: a stale version closes it, anything else is shown in it. */
  async #submit(name, incident, fields) {
    try {
      await this.#send(name, incident, fields);
    } catch (error) {
      if (error.code === "version_stale" || error.code === "state_forbids") return await this.#reloadAndSay(incident, error);
      throw worded(problemWords(error), error);
    }
  }

  async #tell(run, incident) {
    try {
      await run();
    } catch (error) {
      if (error.code === "version_stale" || error.code === "state_forbids") await this.#reloadAndSay(incident, error);
      else toast(problemWords(error), { bad: true });
    }
  }

  async #reloadAndSay(incident, error) {
    toast(t(`problem.${error.code}`), { bad: true });
    await this.load(incident.id).catch(() => {});
  }

  /** The same command tried again after no answer bears the same id, so that it happens once. */
  #commandId(name, incident, fields) {
    const what = JSON.stringify([name, incident.id, incident.version, fields]);
    if (this.#unanswered?.what !== what) this.#unanswered = { what, id: randomId() };
    return this.#unanswered.id;
  }

  async #send(name, incident, fields) {
    this.busy = name;
    this.#loaded(null);
    try {
      const answer = await this.#session.request(`/v1/incidents/${incident.id}/${name}`, {
        method: "POST", body: { id: this.#commandId(name, incident, fields), version: incident.version, ...fields },
      });
      this.#unanswered = null;
      if (answer?.id) this.#board.hold(answer);
      toast(t(`done.${name}`));
    } finally {
      this.busy = null;
      this.#loaded(null);
    }
    this.load(incident.id).catch(() => {});
  }
}

/** A random UUID; `crypto.randomUUID` is only there on https and localhost. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function noteField({ required = false }) {
  return h("label", { class: "note-field" }, h("span", {}, required ? t("note.label") : t("note.optional")),
    h("textarea", { name: "note", rows: 3, maxlength: NOTE_CHARS_MAX, required }));
}

function noteOf(form, required) {
  const text = form.querySelector("textarea[name=note]").value.trim();
  if (required && !text) throw worded(t("note.empty"));
  return text;
}

const optionalNote = (form) => (noteOf(form) ? { note: noteOf(form) } : {});

function choice(type, name, value, words, { disabled = false, checked = false } = {}) {
  return h("label", { class: `choice${disabled ? " disabled" : ""}` }, h("input", { type, name, value, disabled, checked }), h("span", {}, words));
}

const worded = (words, cause) => Object.assign(new Error(words, { cause }), { words });

/** What to tell a dispatcher of an error: our words for codes we know, else the API's own sentence. */
export function problemWords(error) {
  if (has(`problem.${error.code}`)) return t(`problem.${error.code}`);
  if (error.status >= 500) return t("problem.internal_error");
  return error.message;
}
