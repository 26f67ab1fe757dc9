/** Making elements: text is always text, so nothing a device or a person sent can become markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with properties and children. `on…` are listeners, `dataset` and `style` are objects (style goes
 * through the CSSOM, which the content security policy allows), everything else is an attribute; null, undefined
 * and false leave the attribute out.
 */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function s(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replace an element's children only when they differ, so that focus, selection and scrolling stay. */
export function replace(element, ...children) {
  const fresh = children.flat(Infinity).filter(Boolean);
  const same =
    fresh.length === element.childNodes.length &&
    fresh.every((node, index) => node instanceof Node && node.isEqualNode(element.childNodes[index]));
  if (!same) element.replaceChildren(...fresh);
}

/** The element with this id; a missing one is a mistake of ours and says so. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no element #${id}`);
  return element;
}
