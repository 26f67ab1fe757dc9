/**
 * Keys for hands that stay on the keyboard. Letters go by their place on the keyboard, so they work in a Kazakh or
 * Russian layout too. They rest while somebody types or answers a question, and can be switched off (WCAG 2.1.4).
 */

import { asking } from "./dialog.js";

const STORED = "qorgan.keys_off";

export const keysOff = () => Boolean(localStorage.getItem(STORED));
export const setKeysOff = (off) => (off ? localStorage.setItem(STORED, "1") : localStorage.removeItem(STORED));

/** Call the action for a key: `actions` by `KeyboardEvent.code`, and `?` by what it types. */
export function listen(actions) {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat && !/^(KeyJ|KeyK|Arrow)/.test(event.code)) return;
    if (asking() || event.target.closest?.("input, textarea, select")) return;
    const help = event.key === "?" || (event.code === "Slash" && event.shiftKey);
    if (keysOff() && event.code.startsWith("Key")) return;
    if (event.target.closest?.(".maplibregl-canvas") && event.code.startsWith("Arrow")) return;
    const action = help ? actions["?"] : event.shiftKey ? null : actions[event.code];
    if (!action) return;
    if (action() !== false) event.preventDefault();
  });
}
