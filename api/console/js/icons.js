/** Icons as shapes of their own: severity is never told by colour alone. 24 × 24, drawn in the current colour. */

import { s } from "./dom.js";

const SHAPES = {
  critical: { solid: "M8 2h8l6 6v8l-6 6H8l-6-6V8z", cut: "M12 6.5v7M12 16.6v1.4" },
  high: { solid: "M12 2.5 23 21.5H1z", cut: "M12 9.5v6M12 17.6v1.2" },
  medium: { solid: "M12 1.5 22.5 12 12 22.5 1.5 12z", cut: "M7.5 12h9" },
  low: { line: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v5.5M12 7.2v1.2" },
  victim: { solid: "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z" },
  aggressor: { solid: "M12 1 23 12 12 23 1 12z" },
  check: { line: "m4.5 12.5 5 5 10-11" },
  cross: { line: "m6 6 12 12M18 6 6 18" },
  clock: { line: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7.5V12l3.2 2" },
  place: { line: "M12 21.5c-4-4.6-7-8-7-11.5a7 7 0 0 1 14 0c0 3.5-3 6.9-7 11.5zM12 12.3a2.3 2.3 0 1 0 0-4.6 2.3 2.3 0 0 0 0 4.6z" },
  distance: { line: "M3 12h18M3 12l3.5-3.5M3 12l3.5 3.5M21 12l-3.5-3.5M21 12l-3.5 3.5" },
  bell: { line: "M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 2h-15zM10 21h4" },
  mute: { line: "M6 16.5V11a6 6 0 0 1 9.5-4.9M18 11v5.5l1.5 2h-12M10 21h4M3 3l18 18" },
  sent: { line: "m3 11.5 18-8-6 17.5-3.5-7z" },
  phone: { line: "M5 4h4l1.5 5-2.5 1.5a12 12 0 0 0 5.5 5.5l1.5-2.5 5 1.5v4c0 1-1 1-1 1C11 20 4 13 4 5c0 0 0-1 1-1z" },
  nocall: { line: "M5 4h4l1.5 5-2.5 1.5a12 12 0 0 0 5.5 5.5l1.5-2.5 5 1.5v4c0 1-1 1-1 1C11 20 4 13 4 5c0 0 0-1 1-1zM21 3 3 21" },
  note: { line: "M5 4h14v11l-5 5H5zM14 20v-5h5M8.5 9h7M8.5 12.5h4" },
  unit: { line: "M4 16.5V12l2-5.5h12l2 5.5v4.5zM4 12h16M6.5 16.5V19M17.5 16.5V19" },
  back: { line: "m14.5 5-7 7 7 7" },
  theme: { line: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18" },
  help: { line: "M9 9a3 3 0 1 1 4.2 2.7c-.8.4-1.2 1-1.2 2v.8M12 17.6v1.2" },
  exit: { line: "M14 4H5v16h9M10 12h11M17 8l4 4-4 4" },
  link: { line: "M3 12h4l2.5-6 4 12 2.5-6h5" },
  linkLost: { line: "M3 12h4l2-5M21 12h-5l-1.5 3.5M4 20 20 4" },
  fit: { line: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5" },
  key: { line: "M14.5 9.5a4.5 4.5 0 1 0-4.2 4.5l1.7 1.7h2v2h2v2h3.5v-3l-5.3-5.3c.2-.6.3-1.2.3-1.9zM8.8 8.3h.1" },
  agency: { line: "M3.5 20.5h17M6 20.5V8.5h12v12M6 8.5 12 3.5l6 5M10 12.5v4M14 12.5v4" },
  screen: { line: "M3.5 5h17v11h-17zM9 20h6M12 16v4" },
  person: { line: "M12 12.2a4.1 4.1 0 1 0 0-8.2 4.1 4.1 0 0 0 0 8.2zM4.5 20.5c.8-3.6 3.8-5.4 7.5-5.4s6.7 1.8 7.5 5.4" },
  lock: { line: "M6 11h12v9.5H6zM8.5 11V7.5a3.5 3.5 0 0 1 7 0V11M12 14.8v2" },
  glass: { line: "M4 4h16v16H4zM4 13l5-2 2-7M9 11l4 3 7-2M13 14l-1 6" },
  tasks: { line: "M4 6.5 5.7 8.2 8.7 5M11.5 7H20M4 13.5l1.7 1.7 3-3.2M11.5 14H20M4.5 20h4M11.5 20H20" },
  eye: { line: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 14.7a2.7 2.7 0 1 0 0-5.4 2.7 2.7 0 0 0 0 5.4z" },
  shield: { line: "M12 2.5 20 5.5v6c0 5-3.5 8.5-8 10-4.5-1.5-8-5-8-10v-6z" },
};

/** An icon by name; it is decoration beside a word, so screen readers pass over it. */
export function icon(name, className = "") {
  const shape = SHAPES[name];
  return s(
    "svg",
    { viewBox: "0 0 24 24", class: `icon ${className}`.trim(), "aria-hidden": "true", focusable: "false" },
    shape.solid && s("path", { d: shape.solid, class: "icon-solid" }),
    shape.cut && s("path", { d: shape.cut, class: "icon-cut" }),
    shape.line && s("path", { d: shape.line, class: "icon-line" }),
  );
}
