/**
 * Who is signed in. The access token lives in memory only; the refresh token in this tab's session storage, so a
 * reload keeps the session and closing the tab ends it. Emits `ended` when the session cannot go on.
 */

import { learnServerTime } from "./time.js";

const STORED = "qorgan.refresh";
const TOKEN_PATH = "/v1/auth/token";
const REQUEST_TIMEOUT_MS = 10_000;
const RENEW_EARLY_MS = 30_000;

/** An answer that was not what was asked for; `code` is the API's stable one, or `network`. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? (status ? "internal_error" : "network");
    this.problem = problem;
  }
}

export class Session extends EventTarget {
  #access = null;
  #accessUntil = 0;
  #renewing = null;
  #timer = null;
  username = null;
  userId = null;

  get #refresh() {
    return sessionStorage.getItem(STORED);
  }

  /** Whether there is something to go on with: a token, or what renews one. */
  get held() {
    return Boolean(this.#access || this.#refresh);
  }

  /** Sign in; `second` is `{ otp }` or `{ passkey }` where one is wanted (the error `second_factor_required` says so). */
  async signIn(username, password, { otp, passkey } = {}) {
    const second = { ...(otp && { otp }), ...(passkey && { passkey: JSON.stringify(passkey) }) };
    await this.#ask({ grant_type: "password", username, password, ...second });
  }

  /** What a sign-in page may offer. */
  options() {
    return plain("/v1/auth/options");
  }

  passkeyOptions() {
    return plain("/v1/auth/passkey/options", { method: "POST" });
  }

  async signInByPasskey(credential) {
    this.#take(await plain("/v1/auth/passkey", { method: "POST", body: { credential } }));
  }

  /** Finish a sign-in at an agency's own provider, whose one-time code is in a cookie no script can read. */
  async exchange(second = {}) {
    this.#take(await plain("/v1/auth/oidc/exchange", { method: "POST", body: second }));
  }

  async setPassword(username, code, password) {
    await plain("/v1/auth/password", { method: "POST", body: { username, code, password } });
  }

  /** Whether all this session may do is to add a second factor. */
  get mustEnrol() {
    return Boolean(this.#access && claims(this.#access).enrol);
  }

  get role() {
    return this.#access ? claims(this.#access).role : null;
  }

  /** Go on with the session of this tab after a reload; false when there is none. */
  async restore() {
    if (!this.#refresh) return false;
    try {
      await this.#renew();
      return true;
    } catch (error) {
      if (error.status === 0 || error.status >= 500) throw error;
      return false;
    }
  }

  signOut() {
    const refresh = this.#refresh;
    if (refresh) send("/v1/auth/logout", { method: "POST", body: new URLSearchParams({ refresh_token: refresh }), keepalive: true }, REQUEST_TIMEOUT_MS).catch(() => {});
    this.#forget();
    this.dispatchEvent(new CustomEvent("ended", { detail: { asked: true } }));
  }

  /** A valid access token, renewed when it is about to end. */
  async token() {
    if (!this.#access || Date.now() > this.#accessUntil - RENEW_EARLY_MS) await this.#renew();
    return this.#access;
  }

  /** Renew the access token now: what it may do has changed. */
  renew() {
    return this.#renew();
  }

  /** Drop the session here without a word; it is not ended. */
  forget() {
    this.#forget();
  }

  /** Forget the access token: the next use renews it. */
  distrust() {
    this.#access = null;
  }

  /** Ask the API; answers the parsed body. A 401 is tried once more with a renewed token. */
  async request(path, { method = "GET", body, timeoutMs = REQUEST_TIMEOUT_MS } = {}) {
    for (const last of [false, true]) {
      const headers = { Accept: "application/json", Authorization: `Bearer ${await this.token()}` };
      if (body !== undefined) headers["Content-Type"] = "application/json";
      const answer = await send(path, { method, headers, body: body && JSON.stringify(body) }, timeoutMs);
      learnServerTime(answer.headers.get("Date"));
      if (answer.status === 401 && !last && !(await isAboutFactors(answer))) {
        this.distrust();
        continue;
      }
      return await parsed(answer);
    }
    throw new ApiError(401, {});
  }

  #renew() {
    this.#renewing ??= this.#renewOnce().finally(() => {
      this.#renewing = null;
    });
    return this.#renewing;
  }

  async #renewOnce() {
    const refresh = this.#refresh;
    if (!refresh) throw this.#end(new ApiError(401, { code: "credentials_missing" }));
    try {
      await this.#ask({ grant_type: "refresh_token", refresh_token: refresh });
    } catch (error) {
      if (error.status >= 400 && error.status < 500 && error.status !== 429) throw this.#end(error);
      throw error;
    }
  }

  async #ask(fields) {
    const answer = await send(TOKEN_PATH, { method: "POST", body: new URLSearchParams(fields) }, REQUEST_TIMEOUT_MS);
    learnServerTime(answer.headers.get("Date"));
    this.#take(await parsed(answer), fields.username);
  }

  #take(token, username) {
    this.#access = token.access_token;
    this.#accessUntil = Date.now() + token.expires_in * 1000;
    if (token.refresh_token) sessionStorage.setItem(STORED, token.refresh_token);
    const { name, sub } = claims(token.access_token);
    this.username = name ?? username ?? this.username;
    this.userId = sub ?? null;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#renew().catch(() => {}), Math.max(5_000, token.expires_in * 800));
  }

  #end(error) {
    const held = this.held;
    this.#forget();
    if (held) this.dispatchEvent(new CustomEvent("ended", { detail: { asked: false } }));
    return error;
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#access = null;
    sessionStorage.removeItem(STORED);
  }
}

/** What an access token says of its bearer; nothing is trusted for it, it is only shown. */
function claims(token) {
  try {
    const body = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0))));
  } catch {
    return {};
  }
}

/** A 401 that speaks of what was typed, not of the token. */
async function isAboutFactors(answer) {
  const problem = await answer.clone().json().catch(() => ({}));
  return String(problem.code ?? "").startsWith("second_factor");
}

/** Ask what needs no session. */
async function plain(path, { method = "GET", body } = {}) {
  const headers = { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) };
  return parsed(await send(path, { method, headers, body: body && JSON.stringify(body) }, REQUEST_TIMEOUT_MS));
}

async function send(path, options, timeoutMs) {
  try {
    return await fetch(path, { ...options, signal: AbortSignal.timeout(timeoutMs), cache: "no-store" });
  } catch {
    throw new ApiError(0, { code: "network" });
  }
}

async function parsed(answer) {
  const text = await answer.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    if (answer.ok) throw new ApiError(answer.status, { code: "malformed_json" });
  }
  if (!answer.ok) throw new ApiError(answer.status, body && typeof body === "object" ? body : {});
  return body;
}
