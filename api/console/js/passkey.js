/** Passkeys in the browser: the API's options in, the API's answer out, also where the browser has no JSON for them. */

const toBytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
const toText = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** Whether this page can use passkeys made for `host`. */
export function canUsePasskeys(host) {
  if (!host || !globalThis.PublicKeyCredential || !globalThis.isSecureContext) return false;
  return location.hostname === host || location.hostname.endsWith(`.${host}`);
}

/** Have the person choose one of her passkeys; null when she would rather not. */
export async function usePasskey(options) {
  const publicKey = { ...options, challenge: toBytes(options.challenge), allowCredentials: descriptors(options.allowCredentials) };
  return asked(() => navigator.credentials.get({ publicKey }));
}

/** Have a new passkey made; null when she would rather not. */
export async function makePasskey(options) {
  const publicKey = {
    ...options, challenge: toBytes(options.challenge), user: { ...options.user, id: toBytes(options.user.id) },
    excludeCredentials: descriptors(options.excludeCredentials),
  };
  return asked(() => navigator.credentials.create({ publicKey }));
}

const descriptors = (list) => (list ?? []).map((one) => ({ ...one, id: toBytes(one.id) }));

async function asked(run) {
  try {
    return plain(await run());
  } catch (error) {
    if (error.name === "NotAllowedError" || error.name === "AbortError") return null;
    throw error;
  }
}

function plain(credential) {
  const response = { clientDataJSON: toText(credential.response.clientDataJSON) };
  for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (credential.response[name]) response[name] = toText(credential.response[name]);
  }
  if (credential.response.getTransports) response.transports = credential.response.getTransports();
  return {
    id: credential.id, rawId: toText(credential.rawId), type: credential.type, response,
    clientExtensionResults: {}, authenticatorAttachment: credential.authenticatorAttachment ?? null,
  };
}
