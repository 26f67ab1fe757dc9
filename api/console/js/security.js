/**
 * Sign-in and security: second factors, password, and where she is signed in. A component that draws into `root`, one
 * view at a time. What the API wants a fresh proof for (`confirmation_required`) asks for it here and goes on.
 */

import { problemWords } from "./commands.js";
import { h, s } from "./dom.js";
import { t, term } from "./i18n.js";
import { icon } from "./icons.js";
import { canUsePasskeys, makePasskey, usePasskey } from "./passkey.js";
import { qrPath } from "./qr.js";
import { ageElement } from "./time.js";

const API = "/v1/me";
const WORDS = { second_factor_invalid: "security.wrong", state_forbids: "security.kept" };

export class Security {
  #session;
  #root;
  #enrolling;
  #changed;
  #agency;
  #factors = null;
  #sessions = [];

  /** `changed()` is called when she has another second factor than before; `enrolling` leaves all else out; `agency()` leads to how her agency signs in, where she decides it. */
  constructor(session, root, { enrolling = false, changed = () => {}, agency = null } = {}) {
    this.#agency = agency;
    this.#session = session;
    this.#root = root;
    this.#enrolling = enrolling;
    this.#changed = changed;
  }

  /** Read what there is and show it. */
  async open({ focus = false } = {}) {
    this.#put(h("div", { class: "empty" }, h("span", { class: "spinner" })));
    try {
      await this.#read();
    } catch (error) {
      this.#put(h("p", { class: "notice bad", role: "alert" }, problemWords(error)));
      return;
    }
    this.#overview();
    if (focus) this.#root.querySelector("button")?.focus();
  }

  async #read() {
    this.#factors = await this.#session.request(`${API}/second-factors`);
    if (!this.#enrolling) this.#sessions = (await this.#session.request(`${API}/sessions`)).items;
  }

  #put(...children) {
    this.#root.replaceChildren(...children.flat(Infinity).filter(Boolean));
    this.#root.querySelector("input")?.focus();
  }

  /** Run a step; a fresh proof that it wants is asked for first. Its failure is told above the view. */
  async #run(step) {
    try {
      return await step();
    } catch (error) {
      if (error.code === "confirmation_required") this.#confirm(step);
      else this.#fail(WORDS[error.code] ? t(WORDS[error.code]) : problemWords(error));
      return undefined;
    }
  }

  #fail(words) {
    this.#root.querySelector(".notice.bad")?.remove();
    this.#root.prepend(h("p", { class: "notice bad", role: "alert" }, words));
    this.#root.querySelector("input")?.select();
  }

  async #again() {
    await this.open({ focus: true });
  }

  // What there is ------------------------------------------------------------------------------------------------

  #overview() {
    const factors = this.#factors;
    const passkeys = canUsePasskeys(factors.passkey_host);
    this.#put(h("section", { class: "stack" },
      !this.#enrolling && h("h3", {}, t("security.factors")),
      !factors.totp && !factors.passkeys.length && !this.#enrolling && h("p", { class: factors.required ? "notice warn" : "muted" }, t(factors.required ? "security.required" : "security.none")),
      h("ul", { class: "things" },
        factors.passkeys.map((passkey) => this.#passkeyRow(passkey)),
        factors.totp && this.#thing("phone", t("security.totp"), t("security.totp.on"), this.#act(t("security.remove"), () => this.#remove(`${API}/totp`), { danger: true })),
        factors.totp && this.#thing("note", t("security.codes"), t("security.codes.left", { n: factors.recovery_codes }), this.#act(t("security.codes.make"), () => this.#newCodes()))),
      h("div", { class: "acts" },
        passkeys && this.#act(t("security.passkey.add"), () => this.#addPasskey(), { primary: this.#enrolling, name: "key" }),
        !factors.totp && this.#act(t("security.totp.add"), () => this.#beginTotp(), { primary: this.#enrolling && !passkeys, name: "phone" }),
        !this.#enrolling && factors.password && this.#act(t("security.password.change"), () => this.#password()))),
      !this.#enrolling && this.#sessionList(),
      this.#agency && h("section", { class: "stack" }, h("h3", {}, t("agency.yours")), h("div", { class: "acts" }, this.#act(t("agency.title"), this.#agency))));
  }

  #thing(name, title, more, ...actions) {
    return h("li", {}, icon(name), h("div", {}, h("strong", {}, title), h("span", { class: "muted" }, more)), h("div", { class: "things-actions" }, actions));
  }

  #act(words, run, { danger = false, primary = false, name = null, label = null } = {}) {
    return h("button", {
      class: `button small${danger ? " danger-quiet" : ""}${primary ? " primary" : ""}`, type: "button", onclick: run, "aria-label": label,
    }, name && icon(name), words);
  }

  #passkeyRow(passkey) {
    const used = passkey.last_used_at ? [t("security.used"), " ", ageElement(h, passkey.last_used_at, "ago")] : t("security.unused");
    return this.#thing("key", passkey.name, [used, passkey.backed_up && ` · ${t("security.backed_up")}`],
      this.#act(t("security.rename"), () => this.#rename(passkey), { label: `${t("security.rename")}: ${passkey.name}` }),
      this.#act(t("security.remove"), () => this.#remove(`${API}/passkeys/${passkey.id}`), { danger: true, label: `${t("security.remove")}: ${passkey.name}` }));
  }

  #sessionList() {
    const others = this.#sessions.filter((session) => !session.current);
    return h("section", { class: "stack" }, h("h3", {}, t("security.sessions")),
      h("ul", { class: "things" }, this.#sessions.map((session) => {
        const where = [session.user_agent, session.address].filter(Boolean).join(" · ") || t("security.somewhere");
        const how = [term("method", session.method), session.second_factor && session.method !== "passkey" && term("factor", session.second_factor)].filter(Boolean).join(" + ");
        return this.#thing("screen", where,
          session.current ? [h("span", { class: "tag" }, t("security.this")), ` ${how}`] : [how, " · ", ageElement(h, session.last_seen_at, "ago")],
          !session.current && this.#act(t("security.end"), () => this.#end(`${API}/sessions/${session.id}`), { danger: true, label: `${t("security.end")}: ${where}` }));
      })),
      others.length > 1 && h("div", { class: "acts" }, this.#act(t("security.end_others"), () => this.#end(`${API}/sessions`), { danger: true })));
  }

  #end(path) {
    return this.#run(async () => {
      await this.#session.request(path, { method: "DELETE" });
      await this.#again();
    });
  }

  #remove(path) {
    return this.#run(async () => {
      await this.#session.request(path, { method: "DELETE" });
      await this.#again();
      this.#changed();
    });
  }

  // Steps ---------------------------------------------------------------------------------------------------------

  /** A view with fields: Enter does what its first button does. */
  #form(title, children, words, submit, { back = true } = {}) {
    const button = h("button", { class: "button primary", type: "submit" }, words);
    this.#put(h("form", { class: "stack", novalidate: true, onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      await this.#run(submit);
      button.disabled = false;
    } },
      h("h3", {}, title), children,
      h("div", { class: "acts" }, button, back && h("button", { class: "button", type: "button", onclick: () => this.#again() }, t("cancel")))));
  }

  #addPasskey() {
    return this.#run(async () => {
      const options = await this.#session.request(`${API}/passkeys/options`, { method: "POST" });
      const credential = await makePasskey(options);
      if (!credential) return;
      const name = `${t("security.passkey")} ${this.#factors.passkeys.length + 1}`;
      const made = await this.#session.request(`${API}/passkeys`, { method: "POST", body: { name, credential } });
      if (!this.#enrolling) {
        await this.#read();
        this.#rename(made);
      }
      this.#changed();
    });
  }

  #rename(passkey) {
    const name = h("input", { value: passkey.name, maxlength: "200", autocomplete: "off" });
    this.#form(t("security.passkey.name"), h("label", {}, h("span", {}, t("security.name")), name), t("security.save"), async () => {
      if (name.value.trim()) await this.#session.request(`${API}/passkeys/${passkey.id}`, { method: "PATCH", body: { name: name.value.trim() } });
      await this.#again();
    });
    name.select();
  }

  #beginTotp() {
    return this.#run(async () => {
      const begun = await this.#session.request(`${API}/totp`, { method: "POST" });
      const { path, side } = qrPath(begun.uri);
      const code = h("input", { inputmode: "numeric", autocomplete: "one-time-code", maxlength: "10" });
      this.#form(t("security.totp.add"), [
        h("p", { class: "muted" }, t("security.totp.scan")),
        s("svg", { viewBox: `0 0 ${side} ${side}`, class: "qr", role: "img", "aria-label": t("security.totp.qr"), "shape-rendering": "crispEdges" },
          s("rect", { width: side, height: side, class: "qr-ground" }), s("path", { d: path, class: "qr-dark" })),
        h("p", { class: "secret" }, h("span", { class: "muted" }, t("security.totp.key")), h("code", {}, begun.secret.match(/.{1,4}/g).join(" "))),
        h("label", {}, h("span", {}, t("security.totp.code")), code),
      ], t("security.confirm.button"), async () => {
        const { recovery_codes } = await this.#session.request(`${API}/totp/confirm`, { method: "POST", body: { code: code.value.trim() } });
        this.#showCodes(recovery_codes);
      });
    });
  }

  #newCodes() {
    return this.#run(async () => {
      const { recovery_codes } = await this.#session.request(`${API}/recovery-codes`, { method: "POST" });
      this.#showCodes(recovery_codes);
    });
  }

  /** Recovery codes are shown once; only then does she go on. */
  #showCodes(codes) {
    const copied = h("span", { class: "muted", role: "status" });
    this.#form(t("security.codes"), [
      h("p", { class: "notice warn" }, t("security.codes.keep")),
      h("ul", { class: "codes" }, codes.map((code) => h("li", {}, h("code", {}, code)))),
      h("div", { class: "acts" }, h("button", { class: "button small", type: "button", onclick: async () => {
        await navigator.clipboard?.writeText(codes.join("\n")).catch(() => {});
        copied.textContent = t("security.copied");
      } }, t("security.copy")), copied),
    ], t("security.codes.done"), async () => {
      await this.#again();
      this.#changed();
    }, { back: false });
  }

  #password() {
    const fresh = h("input", { type: "password", autocomplete: "new-password", "aria-describedby": "own-password-hint" });
    this.#form(t("security.password.change"), h("label", {}, h("span", {}, t("signin.code.new")), fresh, h("small", { id: "own-password-hint", class: "muted" }, t("signin.code.hint"))), t("security.save"), async () => {
      await this.#session.request(`${API}/password`, { method: "PUT", body: { password: fresh.value } });
      await this.#again();
      this.#root.prepend(h("p", { class: "notice", role: "status" }, t("security.password.done")));
    });
  }

  // Proving again who she is ---------------------------------------------------------------------------------------

  #confirm(step) {
    const factors = this.#factors;
    const passkeys = factors.passkeys.length > 0 && canUsePasskeys(factors.passkey_host);
    const secret = h("input", factors.password ? { type: "password", autocomplete: "current-password" } : { autocomplete: "one-time-code" });
    const send = async (body) => {
      await this.#session.request(`${API}/confirm`, { method: "POST", body });
      await this.open();
      await this.#run(step);
    };
    this.#form(t("security.confirm.title"), [
      h("p", { class: "muted" }, t("security.confirm.lead")),
      passkeys && h("button", { class: "button", type: "button", onclick: () => this.#run(async () => {
        const answer = await usePasskey(await this.#session.request(`${API}/confirm/options`, { method: "POST" }));
        if (answer) await send({ passkey: answer });
      }) }, icon("key"), t("signin.passkey")),
      h("label", {}, h("span", {}, t(factors.password ? "signin.password" : "signin.second.code")), secret),
    ], t("security.confirm.button"), () => send(factors.password ? { password: secret.value } : { otp: secret.value.trim() }));
  }
}
