// Where she is, drawn without a map: whoever serves a map's tiles would learn the place.

const METRES_PER_DEGREE = 111195;
const NICE_M = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000];
const RADIUS = 92;
const TRAIL_MAX = 60;

const trail = [];

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** East and south of `from`, metres. */
function offset(from, to) {
  const shrink = Math.cos((from.lat * Math.PI) / 180);
  return [(to.lon - from.lon) * METRES_PER_DEGREE * shrink, (from.lat - to.lat) * METRES_PER_DEGREE];
}

export function forget() {
  trail.length = 0;
}

/** Draw her last place in the middle, how exactly it is known, and the way she came while this page was open. */
export function draw(svg, place, words, distance) {
  const last = trail.at(-1);
  if (!last || last.at !== place.at) trail.push(place);
  if (trail.length > TRAIL_MAX) trail.shift();
  const way = trail.map((one) => offset(place, one));
  const reach = Math.max(place.accuracy_m ?? 0, ...way.map(([x, y]) => Math.hypot(x, y)), 40);
  const outer = NICE_M.find((metres) => metres >= reach * 1.15) ?? NICE_M.at(-1);
  const scale = RADIUS / outer;
  const title = svg.querySelector("title");
  title.textContent = words.ring_title;
  svg.replaceChildren(
    title,
    element("circle", { class: "grid", r: RADIUS }),
    element("circle", { class: "grid", r: RADIUS / 2 }),
    element("line", { class: "grid", x1: -RADIUS, x2: RADIUS, y1: 0, y2: 0 }),
    element("line", { class: "grid", y1: -RADIUS, y2: RADIUS, x1: 0, x2: 0 }),
    element("text", { x: 3, y: -RADIUS + 9 }, words.north),
    element("text", { x: RADIUS - 2, y: -3, "text-anchor": "end" }, distance(outer)),
    element("polyline", { class: "trail", points: way.map(([x, y]) => `${x * scale},${y * scale}`).join(" ") }),
  );
  if (place.accuracy_m) svg.append(element("circle", { class: "accuracy", r: Math.max(place.accuracy_m * scale, 4) }));
  svg.append(element("circle", { class: "her", r: 3.5 }));
}
