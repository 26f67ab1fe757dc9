/**
 * The way in: password, then a second factor where there is one; a passkey alone; an agency's own sign-in; a code of the
 * administrator. Draws the card's steps; what holds the session is `session.js`.
 */

import { problemWords } from "./commands.js";
import { byId, h, replace } from "./dom.js";
import { has, t } from "./i18n.js";
import { icon } from "./icons.js";
import { canUsePasskeys, usePasskey } from "./passkey.js";
import { Security } from "./security.js";

export class SignIn {
  #session;
  #entered;
  #options = { agencies: [], passkey_host: null };
  #step = "password";
  #second = null;

  /** `entered()` is called when there is a session that may do everything. */
  constructor(session, entered) {
    this.#session = session;
    this.#entered = entered;
    byId("signin-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#password();
    });
    document.addEventListener("qorgan:language", () => this.draw());
  }

  /** What the address brings from an agency's own sign-in; answers whether a sign-in was finished. */
  async arrive() {
    const { hash } = location;
    if (!hash) return;
    history.replaceState(null, "", location.pathname);
    const failed = hash.match(/^#sign-in-failed=(\w+)$/)?.[1];
    if (failed) this.say(t(has(`signin.failed.${failed}`) ? `signin.failed.${failed}` : "signin.failed.refused"), { bad: true });
    if (hash !== "#signed-in") return;
    await this.#try((second) => this.#session.exchange(second));
  }

  async show() {
    this.#step = "password";
    this.draw();
    byId("username").focus();
    this.#options = await this.#session.options().catch(() => this.#options);
    this.draw();
  }

  say(words, { bad = false } = {}) {
    const notice = byId("signin-notice");
    notice.hidden = !words;
    notice.textContent = words ?? "";
    notice.classList.toggle("bad", bad);
  }

  draw() {
    const first = this.#step === "password";
    byId("signin-form").hidden = !first;
    const other = byId("signin-step");
    other.hidden = first;
    if (first) this.#drawMore();
    else if (!other.childElementCount || this.#step !== "enrol") replace(other, this[`draw_${this.#step}`]());
  }

  #drawMore() {
    const more = [];
    if (canUsePasskeys(this.#options.passkey_host)) {
      more.push(h("button", { class: "button", type: "button", onclick: () => this.#passkey() }, icon("key"), t("signin.passkey")));
    }
    for (const agency of this.#options.agencies) {
      more.push(h("a", { class: "button", href: `/v1/auth/oidc/${agency.id}/start` }, icon("exit"), t("signin.agency", { label: agency.label })));
    }
    byId("signin-more").replaceChildren(
      ...(more.length ? [h("div", { class: "rule" }, h("span", {}, t("signin.or"))), ...more] : []),
      h("button", { class: "link", type: "button", onclick: () => this.#go("code") }, t("signin.have_code")),
    );
  }

  #go(step) {
    this.#step = step;
    this.say(null);
    byId("signin-step").replaceChildren();
    this.draw();
    (byId("signin-step").querySelector("input") ?? byId("username")).focus();
  }

  // Password, then perhaps a second factor -------------------------------------------------------------------------

  async #password() {
    const [username, password] = [byId("username"), byId("password")];
    if (!username.value.trim() || !password.value) {
      this.say(t("signin.incomplete"), { bad: true });
      (username.value.trim() ? password : username).focus();
      return;
    }
    const [name, secret] = [username.value.trim(), password.value];
    if (await this.#try((second) => this.#session.signIn(name, secret, second), byId("signin-button"))) password.value = "";
    else if (this.#step === "password") password.select();
  }

  /** Run a sign-in; where it wants a second factor, show that step, which runs it again with one. */
  async #try(run, button) {
    if (button) button.disabled = true;
    this.say(null);
    try {
      await run({});
    } catch (error) {
      if (error.code === "second_factor_required") {
        this.#second = { run, factors: error.problem.factors ?? [], options: error.problem.passkey_options };
        this.#go("second");
        return true;
      }
      this.say(error.status === 401 || error.status === 400 ? t("signin.wrong") : problemWords(error), { bad: true });
      return false;
    } finally {
      if (button) button.disabled = false;
    }
    return this.#done();
  }

  #done() {
    if (this.#session.mustEnrol) this.#go("enrol");
    else {
      this.#step = "password";
      this.#second = null;
      byId("signin-step").replaceChildren();
      this.#entered();
    }
    return true;
  }

  draw_second() {
    const code = h("input", { id: "code", autocomplete: "one-time-code", autocapitalize: "none", spellcheck: "false", required: true });
    const passkey = this.#second.options && canUsePasskeys(this.#options.passkey_host ?? this.#second.options.rpId);
    const submit = h("button", { class: "button primary", type: "submit" }, t("signin.second.button"));
    const finish = async (second) => {
      submit.disabled = true;
      this.say(null);
      try {
        await this.#second.run(second);
      } catch (error) {
        submit.disabled = false;
        if (error.code === "second_factor_required") this.#second.options = error.problem.passkey_options;
        this.say(error.code === "second_factor_invalid" ? t("signin.second.wrong") : problemWords(error), { bad: true });
        code.select();
        return;
      }
      this.#done();
    };
    const onlyPasskey = passkey && !this.#second.factors.includes("totp") && !this.#second.factors.includes("recovery");
    return h("form", { class: "stack", novalidate: true, onsubmit: (event) => {
      event.preventDefault();
      if (code.value.trim()) finish({ otp: code.value.trim() });
      else code.focus();
    } },
      h("h1", {}, t("signin.second.title")),
      h("p", { class: "muted" }, t(passkey ? "signin.second.lead_passkey" : "signin.second.lead")),
      passkey && h("button", { class: `button${onlyPasskey ? " primary" : ""}`, type: "button", onclick: async () => {
        const answer = await usePasskey(this.#second.options).catch(() => null);
        if (answer) finish({ passkey: answer });
      } }, icon("key"), t("signin.passkey")),
      !onlyPasskey && [h("label", {}, h("span", {}, t("signin.second.code")), code), submit],
      this.#backButton());
  }

  #backButton() {
    return h("button", { class: "link", type: "button", onclick: () => {
      this.#second = null;
      this.#session.forget();
      this.#go("password");
    } }, t("signin.back"));
  }

  // Other ways in --------------------------------------------------------------------------------------------------

  async #passkey() {
    try {
      const answer = await usePasskey(await this.#session.passkeyOptions());
      if (!answer) return;
      await this.#session.signInByPasskey(answer);
    } catch (error) {
      this.say(error.status === 401 ? t("signin.passkey.failed") : problemWords(error), { bad: true });
      return;
    }
    this.#done();
  }

  draw_code() {
    const name = h("input", { autocomplete: "username", autocapitalize: "none", spellcheck: "false", value: byId("username").value });
    const code = h("input", { autocomplete: "one-time-code", autocapitalize: "none", spellcheck: "false" });
    const fresh = h("input", { type: "password", autocomplete: "new-password", "aria-describedby": "new-password-hint" });
    const submit = h("button", { class: "button primary", type: "submit" }, t("signin.code.button"));
    return h("form", { class: "stack", novalidate: true, onsubmit: async (event) => {
      event.preventDefault();
      const empty = [name, code, fresh].find((input) => !input.value.trim());
      if (empty) return empty.focus();
      submit.disabled = true;
      try {
        await this.#session.setPassword(name.value.trim(), code.value, fresh.value);
      } catch (error) {
        submit.disabled = false;
        this.say(problemWords(error), { bad: true });
        return;
      }
      byId("username").value = name.value.trim();
      this.#go("password");
      this.say(t("signin.code.done"));
      byId("password").focus();
    } },
      h("h1", {}, t("signin.code.title")),
      h("p", { class: "muted" }, t("signin.code.lead")),
      h("label", {}, h("span", {}, t("signin.username")), name),
      h("label", {}, h("span", {}, t("signin.code.code")), code),
      h("label", {}, h("span", {}, t("signin.code.new")), fresh, h("small", { id: "new-password-hint", class: "muted" }, t("signin.code.hint"))),
      submit, this.#backButton());
  }

  /** Nothing but a second factor may be added yet; with one she is in. */
  draw_enrol() {
    const root = h("div", { class: "stack" });
    const security = new Security(this.#session, root, { enrolling: true, changed: async () => {
      await this.#session.renew();
      if (!this.#session.mustEnrol) this.#done();
    } });
    security.open();
    return h("div", { class: "stack" }, h("h1", {}, t("signin.enrol.title")), h("p", { class: "muted" }, t("signin.enrol.lead")), root, this.#backButton());
  }
}
