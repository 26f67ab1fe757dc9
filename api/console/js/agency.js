/**
 * How an agency's people sign in, for its administrators: which roles need a second factor, and its own provider
 * (OpenID Connect). A component that draws into `root`, one view at a time; the client secret is never told again.
 */

import { problemWords } from "./commands.js";
import { h } from "./dom.js";
import { toast } from "./dialog.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";

const POLICY = "/v1/sign-in-policy";
const PROVIDER = "/v1/sign-in-provider";
const ROLES = ["admin", "supervisor", "dispatcher", "officer", "caseworker", "auditor"];
const SWITCHES = ["provision", "trusts_second_factor", "enabled"];
const WORDS = { provider_unavailable: "agency.unanswered", validation_failed: "agency.refused" };

export class AgencySignIn {
  #session;
  #root;
  #required = [];
  #provider = null;
  #redirect = "";

  constructor(session, root) {
    this.#session = session;
    this.#root = root;
  }

  /** Read how it is and show it. */
  async open() {
    this.#root.replaceChildren(h("div", { class: "empty" }, h("span", { class: "spinner" })));
    try {
      const [policy, provider, me] = await Promise.all([
        this.#session.request(POLICY),
        this.#session.request(PROVIDER).catch((error) => (error.status === 404 ? null : Promise.reject(error))),
        this.#session.request("/v1/me"),
      ]);
      this.#required = policy.second_factor_roles;
      this.#provider = provider;
      this.#redirect = provider?.redirect_uri ?? `${location.origin}/v1/auth/oidc/${me.agency_id}/callback`;
    } catch (error) {
      this.#root.replaceChildren(h("p", { class: "notice bad", role: "alert" }, problemWords(error)));
      return;
    }
    this.#overview();
    this.#root.querySelector("input, button")?.focus();
  }

  #overview() {
    const provider = this.#provider;
    this.#root.replaceChildren(
      this.#form(t("agency.factors"), [
        h("p", { class: "muted" }, t("agency.factors.lead")),
        h("fieldset", { class: "choices roles" }, h("legend", { class: "sr-only" }, t("agency.factors")), ROLES.map((role) => h("label", { class: "choice" },
          h("input", { type: "checkbox", name: "role", value: role, checked: this.#required.includes(role) }), h("span", {}, t(`user_role.${role}`))))),
      ], t("security.save"), async (form) => {
        const roles = [...form.querySelectorAll("input[name=role]:checked")].map((input) => input.value);
        this.#required = (await this.#session.request(POLICY, { method: "PUT", body: { second_factor_roles: roles } })).second_factor_roles;
        toast(t("agency.saved"));
      }),
      h("section", { class: "stack" }, h("h3", {}, t("agency.provider")),
        provider
          ? h("ul", { class: "things" }, h("li", {}, icon("key"),
              h("div", {}, h("strong", {}, provider.label), h("span", { class: "muted" }, [provider.issuer, t(provider.enabled ? "agency.on" : "agency.off"), !provider.has_secret && t("agency.no_secret")].filter(Boolean).join(" · "))),
              h("div", { class: "things-actions" },
                h("button", { class: "button small", type: "button", onclick: () => this.#edit() }, t("agency.change")),
                h("button", { class: "button small danger-quiet", type: "button", onclick: () => this.#remove() }, t("security.remove")))))
          : [h("p", { class: "muted" }, t("agency.provider.lead")),
             h("div", { class: "acts" }, h("button", { class: "button small", type: "button", onclick: () => this.#edit() }, icon("key"), t("agency.set_up")))]));
  }

  /** The provider's form, with what stands now. */
  #edit() {
    const now = { scopes: "openid profile email", role_map: {}, email_domains: [], enabled: true, ...this.#provider };
    const field = (name, value, { hint = null, ...more } = {}) => h("label", {}, h("span", {}, t(`agency.${name}`)),
      h("input", { name, value: value ?? "", autocomplete: "off", spellcheck: "false", ...more }), hint && h("small", { class: "muted" }, hint));
    this.#root.replaceChildren(this.#form(t("agency.provider"), [
      h("p", { class: "muted" }, t("agency.redirect")),
      h("p", { class: "secret" }, h("code", {}, this.#redirect)),
      field("label", now.label, { maxlength: 100, hint: t("agency.label.hint") }),
      field("issuer", now.issuer, { type: "url", maxlength: 500, placeholder: "https://" }),
      field("client_id", now.client_id, { maxlength: 500 }),
      field("client_secret", "", { type: "password", autocomplete: "new-password", maxlength: 1000, hint: now.has_secret && t("agency.client_secret.hint") }),
      field("scopes", now.scopes, { maxlength: 500 }),
      field("role_claim", now.role_claim, { maxlength: 200, placeholder: "realm_access.roles" }),
      h("label", {}, h("span", {}, t("agency.role_map")), h("textarea", { name: "role_map", rows: 3, spellcheck: "false", placeholder: "qorgan-desk = dispatcher" },
        Object.entries(now.role_map).map(([value, role]) => `${value} = ${role}`).join("\n")), h("small", { class: "muted" }, t("agency.role_map.hint", { roles: ROLES.join(", ") }))),
      h("label", {}, h("span", {}, t("agency.default_role")), h("select", { name: "default_role" }, h("option", { value: "" }, t("agency.nobody")),
        ROLES.map((role) => h("option", { value: role, selected: now.default_role === role }, t(`user_role.${role}`))))),
      field("email_domains", now.email_domains.join(", "), { hint: t("agency.email_domains.hint") }),
      h("div", { class: "choices" }, SWITCHES.map((name) => h("label", { class: "choice" },
        h("input", { type: "checkbox", name, checked: Boolean(now[name]) }), h("span", {}, t(`agency.${name}`))))),
    ], t("security.save"), async (form) => {
      this.#provider = await this.#session.request(PROVIDER, { method: "PUT", body: bodyOf(form) });
      toast(t("agency.saved"));
      await this.open();
    }, { back: true }));
    this.#root.querySelector("input")?.focus();
  }

  #remove() {
    this.#root.replaceChildren(this.#form(t("agency.remove"), [h("p", {}, t("agency.remove.explain"))], t("security.remove"), async () => {
      await this.#session.request(PROVIDER, { method: "DELETE" });
      await this.open();
    }, { back: true, danger: true }));
    this.#root.querySelector("button")?.focus();
  }

  #form(title, children, words, submit, { back = false, danger = false } = {}) {
    const failed = h("p", { class: "notice bad", role: "alert", hidden: true });
    const button = h("button", { class: `button ${danger ? "danger" : "primary"}`, type: "submit" }, words);
    const form = h("form", { class: "stack", novalidate: true }, h("h3", {}, title), children, failed,
      h("div", { class: "acts" }, button, back && h("button", { class: "button", type: "button", onclick: () => this.#overview() }, t("cancel"))));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      failed.hidden = true;
      try {
        await submit(form);
      } catch (error) {
        failed.textContent = error.words ?? (WORDS[error.code] ? t(WORDS[error.code]) : problemWords(error));
        failed.hidden = false;
      } finally {
        button.disabled = false;
      }
    });
    return form;
  }
}

/** What the form says, as the API takes it; throws with words where it cannot be read. */
function bodyOf(form) {
  const said = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));
  for (const name of ["label", "issuer", "client_id"]) if (!said[name]) throw worded(t("agency.missing", { field: t(`agency.${name}`) }));
  const lines = said.role_map.split("\n").map((line) => line.trim()).filter(Boolean);
  const roles = lines.map((line) => {
    const cut = line.lastIndexOf("="); // a value may hold one itself: CN=desk,OU=police = dispatcher
    const [value, role] = [line.slice(0, Math.max(0, cut)).trim(), line.slice(cut + 1).trim()];
    if (!value || !ROLES.includes(role)) throw worded(t("agency.role_map.wrong", { line }));
    return [value, role];
  });
  return {
    label: said.label, issuer: said.issuer, client_id: said.client_id, ...(said.client_secret && { client_secret: said.client_secret }),
    scopes: said.scopes || "openid profile email", role_claim: said.role_claim || null, role_map: Object.fromEntries(roles),
    default_role: said.default_role || null, email_domains: said.email_domains.split(/[\s,;]+/).filter(Boolean),
    ...Object.fromEntries(SWITCHES.map((name) => [name, name in said])),
  };
}

const worded = (words) => Object.assign(new Error(words), { words });
