/** The console put together: who listens to whom. Everything that can be tested alone lives elsewhere. */

import { AgencySignIn } from "./agency.js";
import { Alarm } from "./sound.js";
import { Board } from "./board.js";
import { Commands, problemWords } from "./commands.js";
import { Desk } from "./desk.js";
import { Feed } from "./feed.js";
import { IncidentPanel } from "./incident.js";
import { LiveLinks } from "./links.js";
import { MapView } from "./map.js";
import { Outages } from "./outages.js";
import { Proofs } from "./proofs.js";
import { Queue } from "./queue.js";
import { Records, shortId } from "./records.js";
import { Session } from "./session.js";
import { Security } from "./security.js";
import { SignIn } from "./signin.js";
import { SharedNames } from "./shared.js";
import { ask, show, toast } from "./dialog.js";
import { breakGlass } from "./sealed.js";
import { drawBanner, drawHealth, drawLink } from "./link.js";
import { byId, h, replace } from "./dom.js";
import * as i18n from "./i18n.js";
import { icon } from "./icons.js";
import { keysOff, listen, setKeysOff } from "./keys.js";
import { metresText } from "./words.js";
import { tick } from "./time.js";
import { toggleTheme } from "./theme.js";

const { t, term } = i18n;
const TICK_MS = 1000;

class Console {
  session = new Session();
  board = new Board();
  records = new Records(this.session);
  links = new LiveLinks(this.session);
  proofs = new Proofs(this.session);
  alarm = new Alarm();
  feed = new Feed(this.session, this.board, globalThis.qorganQuietMs); // tests are less patient
  commands = new Commands(this.session, this.board, (incident) => this.loaded(incident));
  selected = null;
  selectedSealed = false;
  selectedProvisional = false;
  timeline = null;
  failed = null;
  #drawing = false;
  #mapping = false;

  constructor(config) {
    this.queue = new Queue({
      list: byId("rows"), counts: byId("counts"), empty: byId("queue-empty"), records: this.records, board: this.board,
      choose: (id) => this.open(id),
    });
    this.panel = new IncidentPanel({
      root: byId("incident"), records: this.records, board: this.board, commands: this.commands,
      open: (id) => this.openPart(id), close: () => this.close(), me: () => this.session.userId,
      glass: (id) => this.breakGlass(id), role: () => this.session.role, links: this.links, proofs: this.proofs,
    });
    this.desk = new Desk(this.session, this.records);
    this.sharedNames = new SharedNames(this.session, this.board);
    this.outages = new Outages(this.session, byId("outages"));
    this.outages.addEventListener("began", ({ detail }) => this.raiseOutage(detail));
    this.map = new MapView(byId("map"), config.map_style_url ?? null);
    this.map.addEventListener("grid", ({ detail }) => this.drawLegend(detail.step));
    this.board.addEventListener("change", ({ detail }) => this.changed(detail));
    this.board.addEventListener("positions", () => this.drawMap());
    this.board.addEventListener("notice", ({ detail }) => this.tell(detail));
    this.board.addEventListener("alarm", ({ detail }) => this.raise(detail));
    for (const one of [this.records, this.links, this.proofs]) one.addEventListener("change", () => this.draw());
    this.feed.addEventListener("status", ({ detail }) => {
      if (detail === "live" || detail === "forbidden") this.desk.start(); // her role may have been unknown until now
      if (detail === "live") this.outages.start(); // news of them may have been missed
      this.drawStatus();
    });
    this.alarm.addEventListener("change", () => this.drawTools());
    this.session.addEventListener("ended", ({ detail }) => this.leave(detail.asked));
    document.addEventListener("qorgan:language", () => this.redraw());
    document.addEventListener("qorgan:theme", () => this.map.restyle());
    this.signIn = new SignIn(this.session, () => this.enter());
    this.wire();
  }

  // Coming and going -------------------------------------------------------------------------------------------

  async begin() {
    const arriving = location.hash !== "";
    try {
      if (!arriving && (await this.session.restore()) && !this.session.mustEnrol) return this.enter();
    } catch {
      this.enter(); // the API is away, the session may well hold: show the workplace and its banner
      return;
    }
    this.show("signin");
    if (arriving) await this.signIn.arrive();
  }

  show(view) {
    for (const id of ["starting", "signin", "workplace"]) byId(id).hidden = id !== view;
    document.body.dataset.view = view;
    if (view === "signin") this.signIn.show();
  }

  async enter() {
    this.show("workplace");
    replace(byId("who"), icon("person"), h("span", {}, this.session.username ?? ""));
    this.desk.start();
    this.redraw();
    if (this.desk.alone) return;
    this.feed.start();
    if (this.map.started) return;
    this.map.started = true;
    if (!(await this.map.start())) {
      const failed = byId("map-failed");
      failed.hidden = false;
      replace(failed, icon("place", "icon-large"), h("strong", {}, t("map.failed")), h("p", {}, t("map.failed.more")));
    }
    this.drawMap();
  }

  leave(asked) {
    this.feed.stop();
    this.desk.stop();
    this.outages.stop();
    this.alarm.keep(false);
    this.close();
    this.board.clear();
    for (const one of [this.records, this.links, this.proofs]) one.clear();
    byId("dialog").close();
    this.show("signin");
    this.signIn.say(asked ? null : t("signin.ended"));
  }

  /** Her second factors, her password, where she is signed in. */
  security() {
    const agency = this.session.role === "admin" ? () => this.agencySignIn() : null;
    show({ title: t("security.title"), open: (root) => new Security(this.session, root, { agency }).open({ focus: true }) });
  }

  /** Which roles of her agency need a second factor, and its own provider. */
  agencySignIn() {
    show({ title: t("agency.title"), open: (root) => new AgencySignIn(this.session, root).open() });
  }

  // Choosing and acting ----------------------------------------------------------------------------------------

  open(id, { focus = false } = {}) {
    const incident = this.board.get(id);
    if (!incident) return;
    if (this.selected !== id) {
      this.selected = id;
      this.selectedSealed = Boolean(incident.sealed);
      this.selectedProvisional = Boolean(incident.provisional);
      this.timeline = null;
      this.failed = null;
    }
    byId("workplace").dataset.room = "incident";
    this.draw();
    this.map.resize();
    if (focus) this.panel.focus();
    if (incident.provisional || incident.sealed) this.timeline = [];
    else this.refresh(id);
  }

  /** Open an incident that may be over, and then is not on the board. */
  async openPart(id) {
    try {
      if (!this.board.get(id)) await this.commands.load(id);
      this.open(id, { focus: true });
    } catch (error) {
      toast(problemWords(error), { bad: true });
    }
  }

  /** Open a sealed case to see its incident, for a reason that somebody reviews. */
  async breakGlass(id) {
    await breakGlass(this.session, id, async () => {
      this.records.clear(); // what was hidden may have been asked for
      if (this.selected === id) await this.refresh(id);
      else this.open(id);
    });
    if (this.board.get(id)?.sealed === undefined) this.panel.focus();
  }

  async refresh(id) {
    try {
      await this.commands.load(id);
    } catch (error) {
      if (this.selected !== id) return;
      this.failed = this.timeline ? null : problemWords(error);
      this.draw();
    }
  }

  loaded(incident) {
    if (incident && incident.id === this.selected) {
      this.timeline = incident.timeline ?? [];
      this.links.see(incident);
      this.failed = null;
    }
    this.draw();
  }

  close() {
    const was = this.selected;
    this.selected = null;
    this.timeline = null;
    byId("workplace").dataset.room = "queue";
    this.draw();
    if (was) this.queue.reveal(was);
  }

  step(by) {
    const list = this.board.queue();
    if (!list.length) return;
    const focused = document.activeElement?.closest?.("li[data-id]")?.dataset.id ?? this.selected;
    const index = list.findIndex((incident) => incident.id === focused);
    this.queue.reveal(list[Math.min(list.length - 1, Math.max(0, index < 0 ? 0 : index + by))].id);
  }

  act(name) {
    const id = this.selected ?? document.activeElement?.closest?.("li[data-id]")?.dataset.id;
    if (id && name !== "glass") this.commands.run(name, id);
    else if (this.board.get(id)?.sealed) this.breakGlass(id);
    else return false;
  }

  // News -------------------------------------------------------------------------------------------------------

  changed({ id, kind, orderId } = {}) {
    this.desk.hear(kind);
    this.outages.hear(kind);
    this.sharedNames.look();
    if (/^(order|suspension)\./.test(kind)) this.records.forget(`/v1/orders/${orderId}`);
    const selected = this.selected && this.board.get(this.selected);
    if (this.selected && !selected) {
      // A provisional alert became an incident of its own: go on with that one.
      const next = this.selectedProvisional && this.board.queue().find((incident) => !incident.provisional && !incident.shared);
      if (byId("workplace").dataset.room === "incident" && next) this.open(next.id);
      else this.close();
    } else if (selected && Boolean(selected.sealed) !== this.selectedSealed) {
      this.selectedSealed = Boolean(selected.sealed);
      this.timeline = selected.sealed ? [] : null;
      if (!selected.sealed) this.refresh(this.selected);
    } else if (selected?.shared) {
      // Read again what it is now, also after everything was loaded anew; what is over tells nothing more.
      const told = id === this.selected || kind === undefined;
      if (told && selected.state !== "resolved" && !this.commands.busy) this.later(() => this.refreshQuietly(selected.id));
    } else if (selected && id === this.selected && !selected.provisional && !selected.sealed && !this.commands.busy) {
      this.later(() => this.refreshQuietly(id));
    }
    this.draw();
  }

  /** Read the open incident's timeline again, at most once a second however much happens to it. */
  later(run) {
    this.waiting ??= setTimeout(() => {
      this.waiting = null;
      run();
    }, 400);
  }

  async refreshQuietly(id) {
    try {
      if (this.board.get(id)?.shared) return void (await this.commands.load(id));
      const incident = await this.session.request(`/v1/incidents/${id}`);
      if (this.selected !== id) return;
      this.timeline = incident.timeline ?? [];
      this.links.see(incident);
      this.commands.loadEpisode(id);
      for (const line of this.timeline) if (line.kind === "delivery") this.board.holdDelivery(id, line.data);
      this.draw();
    } catch {
      // the next event, or the banner, will tell
    }
  }

  raise(incident) {
    this.alarm.ring();
    const words = [term("severity", incident.severity), term("type", incident.type), incident.sealed && t("sealed"), incident.shared && t("shared"), this.records.name(incident.victim_id),
      Number.isFinite(incident.distance_m) && metresText(incident.distance_m)];
    byId("announcer").textContent = words.filter(Boolean).join(", ");
  }

  /** A part of the service is missing: heard once, and said. */
  raiseOutage(outage) {
    this.alarm.ring();
    byId("announcer").textContent = `${term("outages", outage.what)}. ${t(`outages.more.${outage.what}`)}`;
  }

  /** What somebody should know and that is no incident. */
  tell({ kind, data }) {
    const key = `notice.${kind.slice("notice.".length)}`;
    if (!i18n.has(key)) return;
    const words = t(key, { user: data.username ?? "", order: this.records.order(data.order_id)?.reference ?? (data.order_id ? shortId(data.order_id) : "—") });
    toast(words, { bad: kind === "notice.welfare_check" || Boolean(data.user_id) });
    byId("announcer").textContent = words;
  }

  // Drawing ----------------------------------------------------------------------------------------------------

  redraw() {
    this.drawTools();
    this.draw();
    this.drawStatus();
    this.desk.draw();
    this.outages.draw();
  }

  /** Draw once before the next frame, however many events ask for it. */
  draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    queueMicrotask(() => {
      this.#drawing = false;
      this.drawNow();
    });
  }

  drawNow() {
    const list = this.board.queue();
    this.queue.draw(list, this.selected);
    const failed = !this.board.loaded && this.feed.status === "failed";
    const forbidden = this.feed.status === "forbidden";
    this.queue.say(
      forbidden ? "forbidden" : failed ? "failed" : !this.board.loaded ? "loading" : list.length ? null : "empty",
      forbidden ? { words: t("signout"), run: () => this.session.signOut() } : failed && { words: t("banner.now"), run: () => this.feed.hurry() },
    );
    const incident = this.selected && this.board.get(this.selected);
    this.panel.draw(incident, { timeline: this.timeline, failed: this.failed });
    const waiting = list.filter((item) => item.severity === "critical" && item.state === "open").length;
    this.alarm.keep(waiting > 0);
    this.drawTitle(waiting);
    this.drawMap();
    drawHealth(byId("health"), this.board.health);
  }

  drawTitle(waiting = 0) {
    const lost = this.feed.status === "lost" || this.feed.status === "stale";
    document.title = `${lost ? `⚠ ${t("link.lost")} · ` : ""}${waiting ? `(${waiting}) ` : ""}Qorgan`;
  }

  drawMap() {
    if (this.#mapping) return;
    this.#mapping = true;
    requestAnimationFrame(() => {
      this.#mapping = false;
      const incident = this.selected && this.board.get(this.selected);
      if (incident) this.map.showIncident(this.view(incident));
      else this.map.showOverview(this.overview(), this.overviewCells(), (id) => this.open(id));
    });
  }

  /** Where the parties are as far as known: the live fix, else the one the incident was decided on. */
  view(incident) {
    const told = { victim: incident.place, aggressor: incident.detail?.aggressor_place };
    const parties = ["victim", "aggressor"].flatMap((role) => {
      const person = incident[`${role}_id`];
      const live = this.board.positions.get(person);
      const known = told[role];
      const fix = live && !(known && Date.parse(known.at) > Date.parse(live.at)) ? live : known;
      if (!Number.isFinite(fix?.lat)) return [];
      return [{ role, name: this.records.name(person), lat: fix.lat, lon: fix.lon, accuracy_m: fix.accuracy_m, at: fix.at, trail: this.board.trail(person) }];
    });
    const shown = new Set(parties.map(({ role }) => role));
    const cells = ["victim", "aggressor"].flatMap((role) => (told[role]?.cell && !shown.has(role) ? [{ role, cell: told[role].cell }] : []));
    return { incident, parties, cells, order: { ...this.records.order(incident.order_id), ...radii(incident.detail) }, zones: this.records.zones(incident.order_id) };
  }

  overview() {
    return this.board.queue().flatMap((incident) => {
      if (incident.shared) return []; // shown while it is open, by the reading that was asked for
      const fixes = [this.board.positions.get(incident.victim_id), incident.place];
      if (!incident.place?.cell) fixes.push(incident.detail?.aggressor_place, this.board.positions.get(incident.aggressor_id));
      const fix = fixes.find((one) => Number.isFinite(one?.lat));
      return Number.isFinite(fix?.lat) ? [{ incident, lat: fix.lat, lon: fix.lon }] : [];
    });
  }

  /** The cells of those of whom nothing exact is known. */
  overviewCells() {
    const exact = new Set(this.overview().map(({ incident }) => incident.id));
    return this.board.queue().flatMap((incident) =>
      (incident.place?.cell && !exact.has(incident.id) ? [{ incident, role: "victim", cell: incident.place.cell }] : []));
  }

  drawLegend(step) {
    this.gridStep = step ?? this.gridStep;
    const incident = this.selected && this.board.get(this.selected);
    const order = incident && this.records.order(incident.order_id);
    const ring = (name) => order?.[`${name}_m`] > 0 && h("span", { class: `legend ring-${name}` }, h("i"), `${t(`ring.${name}`)} ${metresText(order[`${name}_m`])}`);
    replace(byId("map-legend"),
      incident && (incident.place?.cell
        ? h("span", { class: "legend cell" }, h("i"), t("map.cell"))
        : [ring("alert"), order?.warning_m > order?.alert_m && ring("warning")]),
      this.gridStep && h("span", { class: "legend" }, t("map.grid", { step: metresText(this.gridStep) })));
  }

  drawStatus() {
    drawLink(byId("link"), this.feed);
    drawBanner(byId("banner"), this.feed, () => this.feed.hurry());
    byId("workplace").dataset.link = this.feed.status;
    this.drawTitle(this.board.queue().filter((item) => item.severity === "critical" && item.state === "open").length);
    if (!this.board.loaded || this.feed.status === "forbidden") this.draw();
  }

  drawTools() {
    const sound = byId("sound");
    const state = this.alarm.state;
    Object.assign(sound.dataset, { state, rings: this.alarm.rings });
    sound.setAttribute("aria-pressed", String(state !== "muted"));
    sound.title = t(`sound.${state}.title`);
    replace(sound, icon(state === "on" ? "bell" : "mute"), h("span", {}, t(`sound.${state}`)));
    for (const [id, name] of [["theme", "theme"], ["help", "help"], ["signout", "exit"], ["map-fit", "fit"]]) replace(byId(id), icon(name));
    for (const group of document.querySelectorAll(".languages")) {
      replace(group, i18n.choices().map(([code, name]) => h("button", {
        type: "button", lang: code, title: name, "aria-label": name, "aria-pressed": String(code === i18n.language()), dataset: { language: code },
      }, code === "kk" ? "Қаз" : code === "ru" ? "Рус" : "Eng")));
    }
  }

  help() {
    const keys = [["J K ↑ ↓", "move"], ["Enter", "open"], ["A", "acknowledge"], ["D", "dispatch"], ["N", "note"], ["R", "resolve"], ["B", "glass"], ["U", "outage"],
      ["F", "fit"], ["M", "mute"], ["T", "theme"], ["Esc", "close"], ["?", "help"]];
    ask({
      title: t("help.title"),
      body: h("div", { class: "stack" },
        h("div", { class: "settings" }, h("div", { class: "languages", role: "group", "aria-label": t("language") }),
          h("button", { class: "button", type: "button", onclick: () => this.security() }, icon("shield"), t("security.title")),
          h("button", { class: "button", type: "button", onclick: toggleTheme }, icon("theme"), t("theme.toggle"))),
        h("h3", { class: "wide" }, t("help.keys")),
        h("dl", { class: "keys wide" }, keys.flatMap(([key, what]) => [h("dt", {}, key.split(" ").map((one) => h("kbd", {}, one))), h("dd", {}, t(`key.${what}`))])),
        h("label", { class: "choice wide" }, h("input", { type: "checkbox", checked: !keysOff(), onchange: (event) => setKeysOff(!event.target.checked) }), h("span", {}, t("help.keys_on")))),
    });
    this.drawTools();
  }

  wire() {
    document.addEventListener("click", (event) => {
      const code = event.target.closest?.("[data-language]")?.dataset.language;
      if (!code) return;
      byId("dialog").close();
      i18n.use(code);
    });
    byId("sound").addEventListener("click", () => (this.alarm.state === "locked" ? this.alarm.unlock() : this.alarm.toggle()));
    byId("theme").addEventListener("click", toggleTheme);
    byId("help").addEventListener("click", () => this.help());
    byId("who").addEventListener("click", () => this.security());
    byId("signout").addEventListener("click", () => this.session.signOut());
    byId("map-fit").addEventListener("click", () => this.map.fit());
    new ResizeObserver(() => this.map.resize()).observe(byId("map"));
    const here = (run) => () => (byId("workplace").hidden ? false : run());
    const actions = {
      KeyJ: () => this.step(1), KeyK: () => this.step(-1), ArrowDown: () => this.step(1), ArrowUp: () => this.step(-1),
      KeyA: () => this.act("acknowledge"), KeyD: () => this.act("dispatch"), KeyN: () => this.act("note"), KeyR: () => this.act("resolve"),
      KeyO: () => this.act("reopen"), KeyB: () => this.act("glass"), KeyU: () => (this.outages.waiting ? void this.outages.acknowledge() : false), KeyF: () => this.map.fit(), KeyM: () => this.alarm.toggle(), KeyT: toggleTheme,
      Escape: () => this.selected ? this.close() : false, "?": () => this.help(),
    };
    listen(Object.fromEntries(Object.entries(actions).map(([key, run]) => [key, here(run)])));
    setInterval(() => {
      tick();
      if (this.desk.alone) return;
      if (this.feed.status !== "live") this.drawStatus();
      else this.drawLegend();
    }, TICK_MS);
  }
}

const radii = (detail) => Object.fromEntries(["alert_m", "warning_m"].filter((name) => detail?.[name] > 0).map((name) => [name, detail[name]]));

async function start() {
  const config = await fetch("/console/config.json").then((answer) => answer.json()).catch(() => ({}));
  await i18n.start(config.languages);
  const workplace = new Console(config);
  workplace.drawTools();
  await workplace.begin();
}

/** Without words nothing else can be said in any language: say that, and try again when asked. */
function failed(error) {
  console.warn("The console could not start:", error);
  const again = h("button", { class: "button primary", type: "button", onclick: () => location.reload() }, "Қайталау · Повторить · Try again");
  byId("starting").replaceChildren(h("div", { class: "empty", role: "alert" }, icon("linkLost", "icon-large"),
    h("strong", {}, "Пульт жүктелмеді · Пульт не загрузился · The console did not load"), again));
}

start().catch(failed);
