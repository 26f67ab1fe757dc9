/** One incident: what it is, what to mind, what to do, who was told, and everything that happened to it. */

import { Commands } from "./commands.js";
import { h, replace } from "./dom.js";
import { episodeList, othersOf, pairsInDark } from "./episode.js";
import { has, t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { linkList } from "./links.js";
import { orderFacts } from "./order.js";
import { proofList } from "./proofs.js";
import { shortId } from "./records.js";
import { sealedCard } from "./sealed.js";
import { sharedFacts, sharedFlags } from "./shared.js";
import { ageElement, clockTime, duration } from "./time.js";
import { hazardNotice, metresText, percentText, placeText, speedText } from "./words.js";

const KEYS = { acknowledge: "A", dispatch: "D", note: "N", resolve: "R", reopen: "O" };
const ICONS = { acknowledge: "check", dispatch: "unit", note: "note", resolve: "shield", reopen: "back" };
const TELLING = new Set(["entered", "past"]); // what happened says more than the state it led to
const DELIVERED = new Set(["sent", "delivered", "seen", "acknowledged"]);
const FAILED = new Set(["dead", "failed"]);

export class IncidentPanel {
  #root;
  #records;
  #commands;
  #close;
  #me;
  #role;
  #board;
  #open;
  #glass;
  #links;
  #proofs;
  #parts;

  /** `me()` is the id of whoever is signed in, `role()` her role; `open(id)` chooses another incident, `glass(id)` asks to open a sealed one; `links` and `proofs` are those of its panic and of her. */
  constructor({ root, records, board, commands, open, close, me, glass, role, links, proofs }) {
    this.#links = links;
    this.#proofs = proofs;
    this.#glass = glass;
    this.#me = me;
    this.#role = role;
    this.#board = board;
    this.#open = open;
    this.#root = root;
    this.#records = records;
    this.#commands = commands;
    this.#close = close;
  }

  /** Draw an incident; `timeline` is null while it is on its way. Null for the incident: say that none is chosen. */
  draw(incident, { timeline = null, failed = null } = {}) {
    if (!incident) {
      this.#parts = null;
      this.#root.dataset.id = "";
      replace(this.#root, h("div", { class: "empty" }, icon("shield", "icon-large"), h("strong", {}, t("incident.none")), h("p", {}, t("incident.none.more"))));
      return;
    }
    if (incident.sealed) {
      this.#parts = null;
      this.#root.dataset.id = incident.id;
      this.#keepFocus(this.#root, () => replace(this.#root, sealedCard(incident, { close: this.#close, open: this.#glass })));
      return;
    }
    if (this.#root.dataset.id !== incident.id || !this.#parts) this.#frame(incident);
    const { head, flags, facts, links, episode, pairs, actions, told, proofs, lines } = this.#parts;
    head.className = `incident-head sev-${incident.severity}`;
    replace(head, this.#head(incident));
    if (incident.shared) {
      this.#drawActions(actions, incident);
      replace(flags, sharedFlags(incident, failed));
      replace(facts, sharedFacts(incident, failed));
      return;
    }
    replace(flags, this.#flags(incident));
    replace(facts, this.#facts(incident));
    this.#keepFocus(episode, () => replace(episode, episodeList(othersOf(incident, this.#board.incidents.values()), this.#open)));
    replace(pairs, pairsInDark(incident, this.#records));
    this.#keepFocus(links, () => replace(links, linkList(incident, this.#links, this.#records)));
    this.#keepFocus(proofs, () => replace(proofs, proofList(incident, this.#proofs)));
    this.#drawActions(actions, incident);
    replace(told, this.#told(timeline));
    replace(lines, this.#lines(timeline, failed));
  }

  /** Draw a list of buttons anew without taking the focus from whoever stands in it. */
  #keepFocus(root, draw) {
    const part = root.contains(document.activeElement) ? document.activeElement.dataset.part : null;
    draw();
    if (part) root.querySelector(`[data-part="${part}"]`)?.focus({ preventScroll: true });
  }

  focus() {
    this.#root.focus({ preventScroll: true });
  }

  #frame(incident) {
    this.#root.dataset.id = incident.id;
    this.#parts = {
      head: h("header"), flags: h("div", { class: "flags" }), facts: h("dl", { class: "facts" }),
      episode: h("nav", { class: "episode-parts", "aria-label": t("episode.title") }), pairs: h("div", { class: "dark" }),
      links: h("section", { class: "links" }), proofs: h("section", { class: "proofs-of" }),
      actions: h("div", { class: "actions" }), told: h("div", { class: "told" }), lines: h("div", { class: "lines" }),
    };
    const { head, flags, facts, links, episode, pairs, actions, told, proofs, lines } = this.#parts;
    this.#root.replaceChildren(head, actions, h("div", { class: "incident-body" }, flags, facts, links, pairs, episode, told, proofs, lines));
  }

  #head(incident) {
    return [
      h("button", { class: "tool incident-back", type: "button", "aria-label": t("incident.back"), title: t("incident.back"), onclick: this.#close }, icon("back")),
      h("span", { class: "row-mark" }, icon(incident.severity)),
      h("div", { class: "incident-title" },
        h("h2", {}, term("type", incident.type)),
        h("p", {},
          h("span", { class: "tag severity" }, term("severity", incident.severity)),
          incident.provisional
            ? h("span", { class: "tag provisional-tag" }, t("provisional"))
            : h("span", { class: `tag state ${incident.state}` }, term("state", incident.state)),
          incident.shared && incident.exercise && h("span", { class: "tag exercise" }, t("exercise")),
          incident.shared && h("span", { class: "tag shared-tag" }, icon("agency"), t("shared")),
          incident.outcome && h("span", { class: "tag" }, term("outcome", incident.outcome)))),
      h("div", { class: "incident-age" }, ageElement(h, incident.opened_at), h("span", { class: "muted" }, clockTime(incident.opened_at))),
    ];
  }

  #flags(incident) {
    return [
      incident.provisional && h("p", { class: "notice provisional-note" }, icon("clock"), h("span", {}, t("provisional.explain"))),
      incident.detail?.untold && incident.state !== "resolved" && h("p", { class: "notice bad" }, icon("clock"), h("span", {}, t("untold"))),
      ...this.#panicFlags(incident.detail ?? {}, incident.state !== "resolved"),
      incident.do_not_call && h("p", { class: "notice bad" }, icon("nocall"), h("span", {}, t("do_not_call"))),
      incident.inside && incident.state !== "resolved" && h("p", { class: "notice warn" }, icon("aggressor"), h("span", {}, t("inside"))),
      hazardNotice(incident.hazards),
      incident.retrospective && h("p", { class: "notice" }, icon("clock"), h("span", {}, t("retrospective.explain"))),
      incident.detail?.welfare_check_at && incident.state !== "resolved" && h("p", { class: "notice warn" }, icon("high"), h("span", {}, t("notice.welfare_check"))),
      incident.detail?.signals_on?.length === 0 && incident.family === "tamper" && incident.state !== "resolved" && h("p", { class: "notice" }, icon("shield"), h("span", {}, t("tamper.over"))),
      incident.detail?.acknowledged_by_agency && incident.state !== "resolved" && h("p", { class: "notice" }, icon("agency"), h("span", {}, t("shared.taken", { agency: incident.detail.acknowledged_by_agency.name ?? "" }))),
      incident.detail?.outage_id && h("p", { class: "notice" }, icon("linkLost"), h("span", {}, t("outage.folded"))),
    ];
  }

  /** What was said on her phone since she pressed, and what is doubtful about where. */
  #panicFlags(detail, open) {
    if (!open) return [];
    const cancel = detail.duress ? "duress" : detail.cancel_unverified ? "cancel_unverified" : detail.cancel_pin === "right" && "cancel_right";
    const doubts = (detail.place_doubts ?? []).filter((doubt) => has(`panic.place.${doubt}`));
    return [
      cancel && h("p", { class: `notice ${cancel === "cancel_right" ? "warn" : "bad"}` }, icon(cancel === "cancel_right" ? "phone" : "nocall"), h("span", {}, t(`panic.${cancel}`))),
      detail.presses > 1 && h("p", { class: "notice warn" }, icon("bell"), h("span", {}, t("panic.presses", { times: detail.presses, time: clockTime(detail.pressed_at ?? detail.pressed_again_at) }))),
      doubts.length > 0 && h("p", { class: "notice" }, icon("place"), h("span", {}, doubts.map((doubt) => t(`panic.place.${doubt}`)).join(" "))),
    ];
  }

  #facts(incident) {
    const ages = incident.fix_age_s ?? {};
    const order = this.#records.order(incident.order_id);
    const person = (role) => incident[`${role}_id`] && fact(t(`role.${role}`),
      h("span", { class: `person ${role}` }, icon(role), h("span", { class: "person-name" }, this.#records.name(incident[`${role}_id`]))),
      Number.isFinite(ages[role]) && h("span", { class: "muted" }, t("fact.fix_age", { age: duration(ages[role] * 1000) })));
    const place = placeText(incident.place);
    const detail = incident.detail ?? {};
    const until = detail.until && t("line.until", { time: clockTime(detail.until) });
    return [
      person("victim"), person("aggressor"),
      incident.retrospective && fact(t("fact.happened"), ageElement(h, incident.occurred_at, "ago"),
        h("span", { class: "muted" }, [clockTime(incident.occurred_at), until].filter(Boolean).join(" "))),
      incident.state !== "resolved" && (incident.next_deadline_at || incident.escalation_step > 0) && fact(t("fact.escalation"),
        incident.escalation_step > 0 && h("strong", {}, t("escalation.step", { n: incident.escalation_step })),
        incident.next_deadline_at && [ageElement(h, incident.next_deadline_at, "left"), h("span", { class: "muted" }, t("escalation.next"))]),
      incident.inside && incident.inside_since && incident.state !== "resolved" && fact(t("fact.inside_since"), ageElement(h, incident.inside_since)),
      incident.type === "separation_unknown" && detail.silent && fact(t("fact.silent"), term("silent", detail.silent)),
      incident.type === "outage" && fact(t("fact.silent_devices"), t("fact.silent_of", { silent: detail.silent ?? 0, taken: detail.taken ?? 0, live: detail.live ?? 0 })),
      Number.isFinite(incident.distance_m) && fact(t("fact.distance"), h("strong", { class: "big" }, incident.place?.cell ? `≈ ${metresText(incident.distance_m)}` : metresText(incident.distance_m)),
        order?.alert_m && h("span", { class: "muted" }, t("fact.alert", { radius: metresText(order.alert_m) }))),
      Number.isFinite(incident.closing_mps) && fact(t("fact.closing"), t(incident.closing_mps > 0.05 ? "fact.nearer" : incident.closing_mps < -0.05 ? "fact.farther" : "fact.steady"),
        Math.abs(incident.closing_mps) > 0.05 && h("span", { class: "muted" }, speedText(Math.abs(incident.closing_mps)))),
      Number.isFinite(incident.time_to_zone_s) && fact(t("fact.time_to_zone"), duration(incident.time_to_zone_s * 1000)),
      Number.isFinite(incident.p_within) && fact(t("fact.p_within"), percentText(incident.p_within)),
      place && !incident.place.cell && fact(t("fact.place"), place, incident.place.at && ageElement(h, incident.place.at, "ago")),
      incident.place?.cell && fact(t("fact.place"), h("strong", {}, place), this.#lookButton(incident), h("span", { class: "muted" }, t("place.cell"))),
      detail.probing && fact(term("type", incident.type), t("fact.probing", { turns: detail.probing.turns })),
      order?.reference && fact(t("fact.order"), order.reference),
      orderFacts(incident, order).map(([name, values]) => fact(name, values)),
      incident.units?.length > 0 && fact(t("fact.units"), incident.units.map((unit) => unit.callsign ?? shortId(unit.unit_id ?? unit.id)).join(", ")),
      incident.attribution && incident.attribution !== "unknown" && fact(t("fact.attribution"), term("attribution", incident.attribution)),
      incident.assurance && fact(t("fact.assurance"), term("assurance", incident.assurance)),
      fact(t("fact.id"), h("span", { class: "mono", title: incident.id }, shortId(incident.id))),
    ].filter(Boolean).flat(2);
  }

  #drawActions(root, incident) {
    const allowed = Commands.allowed(incident);
    root.hidden = !allowed.length;
    replace(root, allowed.map((name, index) => h("button", {
      type: "button", class: `button${index === 0 && name !== "note" ? " primary" : ""}`, dataset: { command: name },
      "aria-keyshortcuts": KEYS[name], "aria-busy": this.#commands.busy === name ? "true" : null, disabled: Boolean(this.#commands.busy),
    }, icon(ICONS[name]), h("span", {}, t(`command.${name}`)), h("kbd", {}, KEYS[name]))));
    root.onclick = (event) => {
      const name = event.target.closest("[data-command]")?.dataset.command;
      if (name) this.#commands.run(name, incident.id);
    };
  }

  /** Where her place is coarse: the way to the exact one, for a reason. */
  #lookButton(incident) {
    if (incident.provisional || !incident.victim_id || !Commands.maySend(this.#role())) return null;
    return h("button", { class: "button look", type: "button", dataset: { part: "look" }, onclick: () => this.#commands.ask_look(incident) },
      icon("place"), h("span", {}, t("look.button")));
  }

  #told(timeline) {
    const made = new Map((timeline ?? []).filter((line) => line.kind === "delivery").map((line) => [line.data.delivery_id ?? line.id, line]));
    if (!made.size) return [];
    return [
      h("h3", {}, t("deliveries.title")),
      h("ul", { class: "deliveries" }, [...made.values()].map(({ at, data }) => {
        const good = DELIVERED.has(data.state);
        return h("li", { class: good ? "good" : FAILED.has(data.state) ? "bad" : "" },
          icon(good ? "check" : FAILED.has(data.state) ? "cross" : "clock"),
          h("span", {}, `${term("audience", data.audience)} · ${term("channel", data.channel)}`),
          h("span", { class: "muted" }, term("delivery", data.state)), h("time", { class: "muted", datetime: at }, clockTime(at)),
          data.reason && h("span", { class: "reason" }, data.reason));
      })),
    ];
  }

  #lines(timeline, failed) {
    const title = h("h3", {}, t("timeline.title"));
    if (failed) return [title, h("p", { class: "notice bad" }, failed)];
    if (!timeline) return [title, h("div", { class: "skeleton" }, h("i"), h("i"), h("i"))];
    const shown = timeline.filter((line) => line.kind !== "delivery").toReversed();
    return [title, h("ol", { class: "timeline" }, shown.map((line) => h("li", {},
      h("time", { datetime: line.at, title: line.at }, clockTime(line.at)),
      h("div", {}, h("span", { class: "line-what" }, lineWords(line)),
        this.#actor(line), lineDetail(line) && h("p", { class: "line-detail" }, lineDetail(line))))))];
  }

  #actor(line) {
    const name = line.data?.actor_name ?? line.data?.username ?? line.actor_name;
    if (line.actor_id && line.actor_id === this.#me()) return h("span", { class: "muted" }, ` · ${t("timeline.you")}`);
    if (name || line.actor_id) return h("span", { class: "muted" }, ` · ${name ?? t("timeline.user", { id: shortId(line.actor_id) })}`);
    return null;
  }
}

const fact = (name, ...values) => [h("dt", {}, name), h("dd", {}, values)];

function lineWords(line) {
  const data = line.data ?? {};
  for (const key of [TELLING.has(data.what) && `timeline.${line.kind}.${data.what}`, data.why && `timeline.${line.kind}.${data.why}`, `timeline.${line.kind}.${data.to}`, `timeline.${line.kind}.${data.what}`, `timeline.${line.kind}`]) {
    if (key && has(key)) return t(key);
  }
  return term("type", line.kind);
}

function lineDetail(line) {
  const data = line.data ?? {};
  return [
    data.unreadable ? t("line.unreadable") : data.text ?? data.note,
    line.kind === "acknowledge" && data.agency,
    data.outcome && term("outcome", data.outcome),
    data.what === "stays_open" && t("line.stays_open"),
    data.what === "past" && data.until && t("line.until", { time: clockTime(data.until) }),
    data.silent && ["victim", "aggressor", "both"].includes(data.silent) && `${t("fact.silent")}: ${term("silent", data.silent)}`,
    line.kind === "prompt" && `${term("role", data.role)} · ${t(data.pushes ? "line.prompted" : "line.no_channel")}`,
    data.false_alarm_cause && term("false_cause", data.false_alarm_cause),
    data.severity && ["opened", "escalated"].includes(data.what) && term("severity", data.severity),
    Number.isFinite(data.distance_m) && metresText(data.distance_m),
    data.mode && term("panic_mode", data.mode),
    line.kind === "cancel_asked" && data.pin && term("pin", data.pin),
    line.kind === "escalated" && data.callsign,
    data.units?.length > 0 && data.units.map((unit) => unit.callsign ?? unit).join(", "),
  ].filter(Boolean).join(" · ");
}
