/**
 * What the console knows: a snapshot of the board plus every event since, in order, none twice.
 *
 * Pure of screen and network, so that an old snapshot with the events since can be compared to a fresh one.
 * Emits `change` after anything that the screen shows, `alarm` for an incident that became critical (one that is in hand
 * already as well), or critical and open again, and `notice` for what somebody should know and that is no incident.
 */

export const SEVERITIES = ["critical", "high", "medium", "low"];
const STATES = ["open", "acknowledged", "dispatched", "resolved"];
const TRAIL_POINTS_MAX = 900; // a quarter of an hour at a fix a second
const TRAIL_STEP_MS = 900;
const TRAILS_MAX = 2000;
const RESOLVED_MAX = 200; // kept after their end, for whoever still reads one
const PROVISIONAL_MATCH_MS = 300_000;
const PROVISIONAL_AFTER_MS = 30_000; // how long one stays once the rows can be made again
const OTHER_DEVICE_MS = 30_000; // a person's other device is believed once the first is this much older

export class Board extends EventTarget {
  loaded = false;
  cursor = null;
  incidents = new Map();
  provisional = new Map();
  shared = new Map(); // other agencies' incidents, as little of them as they tell
  sealed = new Map(); // what may be known of grave incidents in cases sealed from this user
  units = [];
  health = {};
  positions = new Map(); // person id → newest fix
  trails = new Map(); // device id → [[lon, lat, ms], …]
  #dropping = null;
  deliveries = new Map(); // incident id → Map of delivery id → state

  /** Start anew from `GET /v1/board`. Trails are kept: they are only ever drawn. */
  load(snapshot) {
    const known = this.loaded ? new Map([...this.shared, ...this.sealed, ...this.incidents]) : null;
    this.cursor = String(snapshot.cursor ?? "0");
    this.units = snapshot.units ?? [];
    this.health = snapshot.health ?? {};
    this.incidents = new Map((snapshot.incidents ?? []).map((incident) => [incident.id, incident]));
    this.provisional = new Map((snapshot.provisional ?? []).map((item) => [item.id, item]));
    this.sealed = new Map((snapshot.sealed ?? []).map((incident) => [incident.id, sealedIncident(incident)]));
    this.shared = new Map((snapshot.shared ?? []).map((told) => [told.id, { ...this.shared.get(told.id), ...told, shared: true }]));
    for (const incident of this.incidents.values()) this.#forgetPlace(incident);
    this.deliveries = new Map(Object.entries(snapshot.deliveries ?? {}).map(([id, states]) => [id, new Map(Object.entries(states))]));
    for (const position of snapshot.positions ?? []) this.#place(position);
    this.loaded = true;
    // After a gap, what is new and critical has to be heard as well.
    if (known) {
      for (const incident of [...this.incidents.values(), ...this.sealed.values(), ...this.shared.values()]) this.#alarmIfNew(known.get(incident.id), incident);
    }
    this.#changed();
  }

  /** Forget everything, for whoever signs in next. */
  clear() {
    Object.assign(this, { loaded: false, cursor: null, units: [], health: {} });
    for (const held of [this.incidents, this.provisional, this.sealed, this.shared, this.positions, this.trails, this.deliveries]) held.clear();
    this.#changed();
  }

  /** Take one frame of the feed. Events already held are dropped by their cursor; answers whether it was news. */
  apply(frame) {
    if (frame.cursor !== undefined && frame.cursor !== null) {
      if (!isAfter(frame.cursor, this.cursor)) return false;
      this.cursor = String(frame.cursor);
    }
    const { kind, data } = frame;
    if (kind === "position") {
      for (const position of data?.positions ?? [data].flat()) this.#place(position, frame.at);
      this.dispatchEvent(new CustomEvent("positions"));
      return true;
    }
    if (kind === "health") this.holdHealth(data);
    else if (kind === "provisional") this.#holdProvisional(data, frame.at);
    else if (kind === "incident.sealed") this.#holdSealed(data);
    else if (kind === "shared.incident") this.holdShared(data);
    else if (kind?.startsWith("incident.")) this.hold(data);
    else if (kind === "delivery.updated") this.holdDelivery(data?.incident_id, data);
    else if (kind?.startsWith("unit.")) this.#holdUnit(data);
    else if (kind?.startsWith("notice.")) this.dispatchEvent(new CustomEvent("notice", { detail: { kind, data: data ?? {} } }));
    this.#changed({ kind, id: data?.incident_id ?? data?.id, orderId: data?.order_id });
    return true;
  }

  /** Take an incident as the API gives it, unless a newer version of it is held. */
  hold(incident) {
    if (!incident?.id) return;
    const held = this.incidents.get(incident.id);
    if (held && held.version > incident.version) return;
    const { timeline: _, ...rest } = incident;
    const merged = { ...held, ...rest };
    const before = held ?? this.sealed.get(incident.id);
    this.sealed.delete(incident.id);
    this.incidents.set(incident.id, merged);
    this.#forgetPlace(merged);
    for (const [id, item] of this.provisional) if (answers(merged, item)) this.provisional.delete(id);
    if (merged.state !== "resolved") this.#alarmIfNew(before, merged);
    else this.#forgetOldest();
    this.#changed({ kind: "incident.updated", id: incident.id });
  }

  /** Take what is told of another agency's incident; where she was goes with its end. */
  holdShared(told) {
    if (!told?.id) return;
    const before = this.shared.get(told.id);
    const incident = { ...before, ...told, shared: true };
    if (incident.state === "resolved") for (const name of ["place", "hazards", "language"]) delete incident[name];
    this.shared.set(told.id, incident);
    if (incident.state !== "resolved") this.#alarmIfNew(before, incident);
    else this.#forgetOldest();
    this.#changed({ kind: "shared" }); // without the id: what the API just told is not asked again
  }

  /** Take whose it is and why it is told, and nothing newer than the feed has said. */
  nameShared({ id, agency_name, reason, since, acknowledged_at }) {
    const held = this.shared.get(id);
    if (!held) return;
    this.shared.set(id, { ...held, agency_name, reason, since, acknowledged_at: held.acknowledged_at ?? acknowledged_at });
    this.#changed({ kind: "shared" });
  }

  /** Take which incidents an incident's episode has, as the API tells. */
  holdEpisode(id, episode) {
    const held = this.incidents.get(id);
    if (!held || !episode) return;
    this.incidents.set(id, { ...held, episode });
    this.#changed({ kind: "episode" }); // without the id: what the API just told is not asked again
  }

  /** Take what is well and what is not; nothing is known after a resumed connection until the feed says it. */
  holdHealth(health) {
    this.health = health ?? {};
    if (["away", "down"].includes(this.health.postgres)) clearTimeout(this.#dropping);
    else if (this.provisional.size) {
      // The feed tells the truth now; what was only a fold into an incident known already will never be answered.
      clearTimeout(this.#dropping);
      this.#dropping = setTimeout(() => {
        this.provisional.clear();
        this.#changed();
      }, PROVISIONAL_AFTER_MS);
    }
    this.#changed({ kind: "health" });
  }

  /** The trail of the device by which a person's position is known now. */
  trail(personId) {
    const position = this.positions.get(personId);
    return (position && this.trails.get(position.device_id ?? personId)) ?? [];
  }

  /** Take what became of one message: `{delivery_id, state}`. */
  holdDelivery(incidentId, { delivery_id: id, state } = {}) {
    if (!incidentId || !id) return;
    const held = this.deliveries.get(incidentId) ?? new Map();
    held.set(id, state);
    this.deliveries.set(incidentId, held);
  }

  /** Take what a timeline says of messages, and of nothing else. */
  holdTimeline(incidentId, timeline) {
    for (const line of timeline ?? []) if (line.kind === "delivery") this.holdDelivery(incidentId, line.data);
    if (!this.deliveries.has(incidentId)) this.deliveries.set(incidentId, new Map());
    this.#changed({ kind: "delivery.updated", id: incidentId });
  }

  get(id) {
    return this.incidents.get(id) ?? this.provisional.get(id) ?? this.sealed.get(id) ?? this.shared.get(id) ?? null;
  }

  /** What needs somebody, the most urgent first: severity, duress, state, presses, then who has waited longest. */
  queue() {
    const open = [...this.incidents.values(), ...this.shared.values()].filter((incident) => incident.state !== "resolved");
    return [...open, ...this.provisional.values(), ...this.sealed.values()].sort(byUrgency);
  }

  #forgetOldest() {
    const ended = [...this.incidents.values(), ...this.shared.values()].filter((incident) => incident.state === "resolved");
    for (const { id } of ended.slice(0, Math.max(0, ended.length - RESOLVED_MAX))) {
      this.incidents.delete(id);
      this.shared.delete(id);
      this.deliveries.delete(id);
    }
  }

  #alarmIfNew(before, after) {
    const critical = (incident) => incident?.severity === "critical" && incident.state !== "resolved";
    const loud = (incident) => critical(incident) && incident.state === "open";
    // Whoever took an approach in hand has to hear that it became a breach.
    const rose = before && critical(after) && before.severity !== "critical";
    if (rose || (loud(after) && !loud(before))) this.dispatchEvent(new CustomEvent("alarm", { detail: after }));
  }

  #holdProvisional(data, at) {
    if (!data) return;
    const source = data.incident ?? data;
    const item = {
      severity: "critical", state: "open", type: "panic", opened_at: at, occurred_at: at, ...source,
      id: source.id ?? data.transition_id ?? data.panic_id, provisional: true,
    };
    if (!item.id || this.provisional.has(item.id)) return;
    if (this.incidents.has(item.id) || [...this.incidents.values()].some((incident) => answers(incident, item))) return;
    this.provisional.set(item.id, item);
    this.#alarmIfNew(null, item);
  }

  /** Something grave waits in a case sealed from this user, or is over. */
  #holdSealed(data) {
    if (!data?.id) return;
    const before = this.incidents.get(data.id) ?? this.sealed.get(data.id);
    this.incidents.delete(data.id); // the glass has shut again
    this.sealed.delete(data.id);
    if (data.state === "resolved") return;
    const incident = sealedIncident(data);
    this.sealed.set(data.id, incident);
    this.#alarmIfNew(before, incident);
  }

  /** Nothing shows her exactly any more: what was on the map of her goes. Who may still see it is sent it again. */
  #forgetPlace({ victim_id: victim, place }) {
    if (!place?.cell || [...this.incidents.values()].some((one) => one.victim_id === victim && Number.isFinite(one.place?.lat))) return;
    const carrier = this.positions.get(victim)?.device_id ?? victim;
    this.positions.delete(victim);
    this.trails.delete(carrier);
  }

  #holdUnit(unit) {
    if (!unit?.id) return;
    this.units = [...this.units.filter((other) => other.id !== unit.id), unit];
  }

  #place(position, frameAt) {
    const person = position?.person_id;
    if (!person || !Number.isFinite(position.lat) || !Number.isFinite(position.lon)) return;
    const at = position.at ?? frameAt;
    const held = this.positions.get(person);
    const ms = Date.parse(at);
    const lead = held && held.device_id !== position.device_id ? OTHER_DEVICE_MS : 0;
    if (!held || ms >= Date.parse(held.at) + lead) this.positions.set(person, { ...position, at });
    const carrier = position.device_id ?? person;
    const trail = this.trails.get(carrier) ?? [];
    const last = trail.at(-1);
    if (Number.isFinite(ms) && (!last || ms - last[2] >= TRAIL_STEP_MS)) trail.push([position.lon, position.lat, ms]);
    if (trail.length > TRAIL_POINTS_MAX) trail.splice(0, trail.length - TRAIL_POINTS_MAX);
    this.trails.set(carrier, trail);
    if (this.trails.size > TRAILS_MAX) this.trails.delete(this.trails.keys().next().value);
  }

  #changed(detail = {}) {
    this.dispatchEvent(new CustomEvent("change", { detail }));
  }
}

/** An incident as far as it may be known while its case is sealed. */
export const sealedIncident = ({ id, type, severity, state, opened_at }) => ({ id, type, severity, state, opened_at, occurred_at: opened_at, sealed: true });

/** Cursors are numbers too large for JavaScript's own, written as strings. */
export function isAfter(left, right) {
  if (right === null || right === undefined) return true;
  try {
    return BigInt(left) > BigInt(right);
  } catch {
    return String(left) !== String(right);
  }
}

/** Whether an incident is what a provisional alert announced. */
function answers(incident, item) {
  const ids = [item.id, item.incident_id, item.transition_id, item.panic_id].filter(Boolean);
  const names = [incident.id, incident.detail?.transition_id, incident.detail?.panic_id, incident.external_ref];
  if (names.some((name) => ids.includes(name))) return true;
  const same = (key) => item[key] && item[key] === incident[key];
  if (!same("type") && !same("family")) return false;
  if (!same("order_id") && !same("device_id") && !same("victim_id")) return false;
  return Math.abs(Date.parse(incident.updated_at ?? incident.opened_at) - Date.parse(item.opened_at)) < PROVISIONAL_MATCH_MS;
}

export function byUrgency(left, right) {
  return (
    SEVERITIES.indexOf(left.severity) - SEVERITIES.indexOf(right.severity) ||
    Boolean(right.detail?.duress) - Boolean(left.detail?.duress) ||
    STATES.indexOf(left.state) - STATES.indexOf(right.state) ||
    (right.detail?.presses ?? 1) - (left.detail?.presses ?? 1) ||
    Date.parse(left.opened_at) - Date.parse(right.opened_at) ||
    String(left.id).localeCompare(String(right.id))
  );
}
