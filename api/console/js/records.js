/**
 * What incidents refer to (people, orders, zones), asked for once and kept. What may not be seen, or cannot be had
 * now, is shown as its short id. Emits `change` when an answer arrives.
 */

const ASKED_AT_ONCE_MAX = 4;
const RETRY_MS = 30_000;
const HELD_MAX = 5000; // a night's people and orders; the oldest go first

export class Records extends EventTarget {
  #session;
  #held = new Map(); // path → {value} | {until}
  #waiting = [];
  #asking = 0;

  constructor(session) {
    super();
    this.#session = session;
  }

  clear() {
    this.#held.clear();
    this.#waiting.length = 0;
  }

  /** The record at a path if it is here; otherwise null, and it is asked for. */
  get(path) {
    const held = this.#held.get(path);
    if (held?.value !== undefined) return held.value;
    if (held && (held.until === Infinity || Date.now() < held.until)) return null;
    this.#held.set(path, { until: Infinity });
    if (this.#held.size > HELD_MAX) this.#held.delete(this.#held.keys().next().value);
    this.#waiting.push(path);
    this.#next();
    return null;
  }

  /** Forget a record, so that the next look asks for it anew. */
  forget(path) {
    this.#held.delete(path);
  }

  person(id) {
    return id ? this.get(`/v1/people/${id}`) : null;
  }

  order(id) {
    return id ? this.get(`/v1/orders/${id}`) : null;
  }

  /** The zones of an order, as GeoJSON features. */
  zones(orderId) {
    const answer = orderId ? this.get(`/v1/zones?order_id=${orderId}`) : null;
    const list = Array.isArray(answer) ? answer : answer?.features ?? answer?.items ?? answer?.zones ?? [];
    return list.filter((zone) => zone?.geometry && !zone.properties?.removed_at);
  }

  /** Somebody's name as far as this user may know it, else the end of the id. */
  name(id) {
    if (!id) return null;
    const identity = this.person(id)?.identity ?? {};
    const parts = [identity.family_name ?? identity.last_name, identity.given_name ?? identity.first_name];
    return identity.name ?? identity.full_name ?? (parts.filter(Boolean).join(" ") || shortId(id));
  }

  async #next() {
    if (this.#asking >= ASKED_AT_ONCE_MAX || !this.#waiting.length) return;
    const path = this.#waiting.shift();
    this.#asking += 1;
    try {
      this.#held.set(path, { value: await this.#session.request(path) });
      this.dispatchEvent(new CustomEvent("change"));
    } catch (error) {
      const lasting = error.status === 403 || error.status === 404;
      this.#held.set(path, { until: lasting ? Infinity : Date.now() + RETRY_MS });
    } finally {
      this.#asking -= 1;
      this.#next();
    }
  }
}

/** The end of an id, where UUIDv7s of one moment differ. */
export const shortId = (id) => `…${String(id).slice(-6)}`;
