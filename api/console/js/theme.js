/** Dark or light: as the system says, unless the dispatcher chose. Loaded first, so that nothing flashes. */

const STORED = "qorgan.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

const chosen = () => localStorage.getItem(STORED);

export const theme = () => chosen() ?? (system.matches ? "dark" : "light");

function apply() {
  document.documentElement.dataset.theme = theme();
  document.dispatchEvent(new CustomEvent("qorgan:theme"));
}

export function toggleTheme() {
  const wanted = theme() === "dark" ? "light" : "dark";
  if (wanted === (system.matches ? "dark" : "light")) localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, wanted);
  apply();
}

system.addEventListener("change", apply);
apply();
