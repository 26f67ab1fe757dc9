/** Shapes on the ground, in degrees, good to what a dispatcher sees on a map. */

const METRES_A_DEGREE = 111_195;
const CIRCLE_POINTS = 96;

const metresPerLongitude = (lat) => METRES_A_DEGREE * Math.max(0.01, Math.cos((lat * Math.PI) / 180));

/** A circle of `radius` metres around [lon, lat], as a closed ring. */
export function circle([lon, lat], radius) {
  const ring = [];
  for (let index = 0; index <= CIRCLE_POINTS; index += 1) {
    const angle = (2 * Math.PI * index) / CIRCLE_POINTS;
    ring.push([
      lon + (radius * Math.cos(angle)) / metresPerLongitude(lat),
      lat + (radius * Math.sin(angle)) / METRES_A_DEGREE,
    ]);
  }
  return ring;
}

/** Metres between two [lon, lat] points, by the haversine. */
export function metres([lon1, lat1], [lon2, lat2]) {
  const rad = Math.PI / 180;
  const a =
    Math.sin(((lat2 - lat1) * rad) / 2) ** 2 +
    Math.cos(lat1 * rad) * Math.cos(lat2 * rad) * Math.sin(((lon2 - lon1) * rad) / 2) ** 2;
  return 2 * 6_371_008.8 * Math.asin(Math.min(1, Math.sqrt(a)));
}

/** A round number of metres near `wanted`: 1, 2 or 5 times a power of ten. */
export function roundMetres(wanted) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, wanted)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= wanted) ?? 10 * power;
}

/** Grid lines `step` metres apart over the box [[west, south], [east, north]]; at most 200 lines. */
export function grid([[west, south], [east, north]], step) {
  const lat = (south + north) / 2;
  const dLat = step / METRES_A_DEGREE;
  const dLon = step / metresPerLongitude(lat);
  const lines = [];
  if ((east - west) / dLon + (north - south) / dLat > 200) return lines;
  for (let x = Math.ceil(west / dLon) * dLon; x <= east; x += dLon) lines.push([[x, south], [x, north]]);
  for (let y = Math.ceil(south / dLat) * dLat; y <= north; y += dLat) lines.push([[west, y], [east, y]]);
  return lines;
}

/** The box around points, as [[west, south], [east, north]]; null without any. */
export function bounds(points) {
  if (!points.length) return null;
  const lons = points.map(([lon]) => lon);
  const lats = points.map(([, lat]) => lat);
  return [[Math.min(...lons), Math.min(...lats)], [Math.max(...lons), Math.max(...lats)]];
}

/** The cell of a coarse place as a closed ring of [lon, lat]. */
export const cellRing = ({ south, north, west, east }) => [[west, south], [east, south], [east, north], [west, north], [west, south]];
