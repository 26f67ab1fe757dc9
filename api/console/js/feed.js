/**
 * The road by which news arrives: the board once, then the feed, resumed from the last cursor for ever.
 *
 * `status` is one of `connecting` (nothing shown yet), `live`, `stale` (connected, but what is shown may be old),
 * `lost`, `failed` (lost before anything was shown) and `forbidden`. A socket that stays silent is checked against the board: an open socket is no proof that news come through it.
 * Emits `status`.
 */

import { isAfter } from "./board.js";

const BACKOFF_MS = [250, 1000, 2000, 4000, 8000, 10_000];
const RESETS_AT_ONCE_MAX = 3;
const OPEN_TIMEOUT_MS = 8000;
const QUIET_MS = 15_000; // silence after which the board is asked
const PROBE_TIMEOUT_MS = 5000;
const CATCH_UP_MS = 2000; // how long the feed may lag behind the board
const PROVE_MS = 400; // an open socket counts as live after this, or with its first frame
const STEADY_MS = 5000; // a connection this old starts the backoff anew
const CLOSE = { unauthorised: new Set([1008, 4401]), forbidden: 4403, cursor: 4400 };

export class Feed extends EventTarget {
  status = "connecting";
  since = Date.now(); // when news last arrived, for "lost 12 s ago"
  attempt = 0;
  error = null;
  #session;
  #board;
  #socket = null;
  #running = false;
  #wake = null;
  #quietMs;

  constructor(session, board, quietMs = QUIET_MS) {
    super();
    this.#session = session;
    this.#board = board;
    this.#quietMs = quietMs;
    addEventListener("online", () => this.hurry());
    addEventListener("offline", () => this.#socket?.close());
  }

  start() {
    if (this.#running) return;
    this.#running = true;
    this.attempt = 0;
    this.#set("connecting");
    this.#run();
  }

  stop() {
    this.#running = false;
    this.#socket?.close();
    this.hurry();
  }

  /** Try again now instead of after the pause. */
  hurry() {
    this.#wake?.();
  }

  /** Read the board again; the feed goes on from its cursor. */
  async reload(options) {
    this.#board.load(await this.#session.request("/v1/board", options));
  }

  async #run() {
    let fresh = false;
    while (this.#running) {
      try {
        if (!fresh) await this.reload();
        const answer = await this.#listen(!fresh);
        if (answer === "forbidden") return this.#refused();
        fresh = answer !== "reset";
        this.error = null;
        if (!fresh && this.attempt++ < RESETS_AT_ONCE_MAX) continue;
      } catch (error) {
        if (error.status === 403) return this.#refused();
        this.error = error;
      }
      if (!this.#running) return;
      this.#set(this.#board.loaded ? "lost" : this.error ? "failed" : "connecting");
      const pause = BACKOFF_MS[Math.min(this.attempt, BACKOFF_MS.length - 1)];
      this.attempt += 1;
      await this.#pause(pause * (0.75 + Math.random() / 2));
    }
  }

  /** This user may not see the feed: trying again would change nothing. */
  #refused() {
    this.#running = false;
    this.#set("forbidden");
  }

  /** Hold one socket until it ends; answers "reset" when the board has to be read anew. */
  async #listen(loaded) {
    const token = await this.#session.token();
    const address = new URL(`/v1/feed?after=${encodeURIComponent(this.#board.cursor)}`, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    this.#socket = socket;
    return await new Promise((resolve) => {
      let opened = 0;
      let answer = "closed";
      let checking = false;
      const tooLong = setTimeout(() => socket.close(), OPEN_TIMEOUT_MS);
      const watch = setInterval(async () => {
        if (!opened || checking || Date.now() - this.since < this.#quietMs) return;
        checking = true;
        if ((await this.#probe(socket)) === "deaf") {
          answer = "reset";
          socket.close();
        }
        checking = false;
      }, Math.min(1000, this.#quietMs));
      socket.addEventListener("open", () => {
        clearTimeout(tooLong);
        opened = Date.now();
        socket.send(JSON.stringify({ token }));
        if (!loaded) this.#board.holdHealth({}); // changes of it were missed; what is not well is told at once
        setTimeout(() => socket.readyState === WebSocket.OPEN && this.#set("live"), PROVE_MS);
      });
      socket.addEventListener("message", (message) => {
        const frame = parse(message.data);
        if (!frame) return;
        if (opened && Date.now() - opened > STEADY_MS) this.attempt = 0;
        this.#set("live");
        if (frame.kind === "reset") {
          answer = "reset";
          socket.close();
        } else if (socket === this.#socket) {
          this.#board.apply(frame);
        }
      });
      socket.addEventListener("close", (event) => {
        clearTimeout(tooLong);
        clearInterval(watch);
        if (CLOSE.unauthorised.has(event.code)) this.#session.distrust();
        if (event.code === CLOSE.cursor) answer = "reset";
        if (event.code === CLOSE.forbidden) answer = "forbidden";
        if (opened && Date.now() - opened > STEADY_MS) this.attempt = 0;
        this.#socket = null;
        resolve(answer);
      });
    });
  }

  /** After a silence: whether the board knows more than the feed has told. */
  async #probe(socket) {
    try {
      const snapshot = await this.#session.request("/v1/board", { timeoutMs: PROBE_TIMEOUT_MS });
      if (!isAfter(snapshot.cursor ?? "0", this.#board.cursor)) {
        this.#set("live");
        return "well";
      }
      await new Promise((resolve) => setTimeout(resolve, CATCH_UP_MS));
      return isAfter(snapshot.cursor, this.#board.cursor) ? "deaf" : "well";
    } catch {
      if (socket.readyState === WebSocket.OPEN) this.#set("stale");
      return "unanswered";
    }
  }

  #set(status) {
    if (status === "live") this.since = Date.now();
    const changed = status !== this.status;
    this.status = status;
    if (changed || status !== "live") this.dispatchEvent(new CustomEvent("status", { detail: status }));
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms);
      this.#wake = done;
      function done() {
        clearTimeout(timer);
        resolve();
      }
    });
  }
}

function parse(text) {
  try {
    const frame = JSON.parse(text);
    return frame && typeof frame === "object" ? frame : null;
  } catch {
    return null;
  }
}
