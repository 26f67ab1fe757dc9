/**
 * A QR code (ISO/IEC 18004) of a short text: byte mode, error correction M, versions 1 to 13, the mask of least
 * penalty. Enough for an authenticator app's address; made here, so that its secret goes to no one else's service.
 */

// Per version: error correction bytes a block, blocks of the first kind, their data bytes, blocks of the second kind.
const VERSIONS = [
  [10, 1, 16, 0], [16, 1, 28, 0], [26, 1, 44, 0], [18, 2, 32, 0], [24, 2, 43, 0], [16, 4, 27, 0], [18, 4, 31, 0],
  [22, 2, 38, 2], [22, 3, 36, 2], [26, 4, 43, 1], [30, 1, 50, 4], [22, 6, 36, 2], [22, 8, 37, 1],
];
const ALIGNED = [
  [], [6, 18], [6, 22], [6, 26], [6, 30], [6, 34], [6, 22, 38], [6, 24, 42], [6, 26, 46], [6, 28, 50], [6, 30, 54],
  [6, 32, 58], [6, 34, 62],
];
const MASKS = [
  (x, y) => (x + y) % 2 === 0, (x, y) => y % 2 === 0, (x) => x % 3 === 0, (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0, (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0, (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

/** Rows of booleans, true for dark, without the quiet zone. Throws RangeError for a text that is too long. */
export function qrMatrix(text) {
  const bytes = [...new TextEncoder().encode(text)];
  const version = VERSIONS.findIndex(([, first, data, second]) => bytes.length + 3 <= first * data + second * (data + 1)) + 1;
  if (!version) throw new RangeError("the text is too long for a QR code");
  const stream = interleaved(dataBytes(bytes, version), version);
  let best = null;
  for (const mask of MASKS.keys()) {
    const rows = drawn(stream, version, mask);
    const cost = penalty(rows);
    if (!best || cost < best.cost) best = { cost, rows };
  }
  return best.rows;
}

/** The dark squares as one SVG path, each a unit wide, with a quiet zone of four around; and the side of it all. */
export function qrPath(text) {
  const rows = qrMatrix(text);
  const path = rows.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x + 4} ${y + 4}h1v1h-1z`] : []))).join("");
  return { path, side: rows.length + 8 };
}

function dataBytes(bytes, version) {
  const [, first, data, second] = VERSIONS[version - 1];
  const capacity = first * data + second * (data + 1);
  const bits = [];
  const put = (value, length) => { for (let place = length - 1; place >= 0; place -= 1) bits.push((value >> place) & 1); };
  put(4, 4);
  put(bytes.length, version < 10 ? 8 : 16);
  for (const byte of bytes) put(byte, 8);
  put(0, Math.min(4, capacity * 8 - bits.length));
  while (bits.length % 8) bits.push(0);
  const packed = [];
  for (let at = 0; at < bits.length; at += 8) packed.push(bits.slice(at, at + 8).reduce((sum, bit) => sum * 2 + bit, 0));
  for (let pad = 0xec; packed.length < capacity; pad ^= 0xec ^ 0x11) packed.push(pad);
  return packed;
}

function interleaved(packed, version) {
  const [ecc, first, data, second] = VERSIONS[version - 1];
  const blocks = [];
  for (let index = 0, at = 0; index < first + second; index += 1) {
    const length = data + (index >= first ? 1 : 0);
    blocks.push(packed.slice(at, at + length));
    at += length;
  }
  const generator = generatorOf(ecc);
  const corrections = blocks.map((block) => remainder(block, generator));
  const out = [];
  for (let at = 0; at <= data; at += 1) for (const block of blocks) if (at < block.length) out.push(block[at]);
  for (let at = 0; at < ecc; at += 1) for (const correction of corrections) out.push(correction[at]);
  return out;
}

function times(a, b) {
  let product = 0;
  for (let place = 7; place >= 0; place -= 1) {
    product = (product << 1) ^ ((product >> 7) * 0x11d);
    product ^= ((b >> place) & 1) * a;
  }
  return product & 0xff;
}

function generatorOf(degree) {
  const found = [...Array(degree - 1).fill(0), 1];
  let root = 1;
  for (let round = 0; round < degree; round += 1) {
    for (let at = 0; at < degree; at += 1) found[at] = times(found[at], root) ^ (found[at + 1] ?? 0);
    root = times(root, 2);
  }
  return found;
}

function remainder(block, generator) {
  const rest = generator.map(() => 0);
  for (const byte of block) {
    const factor = byte ^ rest.shift();
    rest.push(0);
    generator.forEach((part, at) => { rest[at] ^= times(part, factor); });
  }
  return rest;
}

function drawn(stream, version, mask) {
  const size = version * 4 + 17;
  const rows = Array.from({ length: size }, () => Array(size).fill(false));
  const fixed = Array.from({ length: size }, () => Array(size).fill(false));
  const set = (x, y, dark) => {
    if (x < 0 || y < 0 || x >= size || y >= size) return;
    rows[y][x] = dark;
    fixed[y][x] = true;
  };
  for (let at = 0; at < size; at += 1) {
    set(6, at, at % 2 === 0);
    set(at, 6, at % 2 === 0);
  }
  for (const [cx, cy] of [[3, 3], [size - 4, 3], [3, size - 4]]) {
    for (let dy = -4; dy <= 4; dy += 1) for (let dx = -4; dx <= 4; dx += 1) {
      const ring = Math.max(Math.abs(dx), Math.abs(dy));
      set(cx + dx, cy + dy, ring !== 2 && ring !== 4);
    }
  }
  const places = ALIGNED[version - 1];
  const last = places.length - 1;
  places.forEach((cx, i) => places.forEach((cy, j) => {
    if ((i === 0 && j === 0) || (i === 0 && j === last) || (i === last && j === 0)) return;
    for (let dy = -2; dy <= 2; dy += 1) for (let dx = -2; dx <= 2; dx += 1) set(cx + dx, cy + dy, Math.max(Math.abs(dx), Math.abs(dy)) !== 1);
  }));
  drawFormat(set, size, mask);
  drawVersion(set, size, version);
  drawStream(rows, fixed, stream, MASKS[mask]);
  return rows;
}

function drawFormat(set, size, mask) {
  let rest = mask; // level M is 00
  for (let round = 0; round < 10; round += 1) rest = (rest << 1) ^ ((rest >> 9) * 0x537);
  const bits = ((mask << 10) | rest) ^ 0x5412;
  const bit = (place) => ((bits >> place) & 1) === 1;
  for (let at = 0; at <= 5; at += 1) set(8, at, bit(at));
  set(8, 7, bit(6));
  set(8, 8, bit(7));
  set(7, 8, bit(8));
  for (let at = 9; at < 15; at += 1) set(14 - at, 8, bit(at));
  for (let at = 0; at < 8; at += 1) set(size - 1 - at, 8, bit(at));
  for (let at = 8; at < 15; at += 1) set(8, size - 15 + at, bit(at));
  set(8, size - 8, true);
}

function drawVersion(set, size, version) {
  if (version < 7) return;
  let rest = version;
  for (let round = 0; round < 12; round += 1) rest = (rest << 1) ^ ((rest >> 11) * 0x1f25);
  const bits = (version << 12) | rest;
  for (let at = 0; at < 18; at += 1) {
    const [far, near] = [size - 11 + (at % 3), Math.floor(at / 3)];
    set(far, near, ((bits >> at) & 1) === 1);
    set(near, far, ((bits >> at) & 1) === 1);
  }
}

function drawStream(rows, fixed, stream, masked) {
  const size = rows.length;
  let at = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step += 1) for (const x of [right, right - 1]) {
      const y = ((right + 1) & 2) === 0 ? size - 1 - step : step;
      if (fixed[y][x]) continue;
      const dark = at < stream.length * 8 && ((stream[at >> 3] >> (7 - (at & 7))) & 1) === 1;
      rows[y][x] = dark !== masked(x, y);
      at += 1;
    }
  }
}

function penalty(rows) {
  const size = rows.length;
  const columns = rows.map((_, x) => rows.map((row) => row[x]));
  let cost = 0;
  for (const lines of [rows, columns]) for (const line of lines) {
    const text = line.map((dark) => (dark ? "1" : "0")).join("");
    for (const run of text.match(/1+|0+/g)) if (run.length >= 5) cost += run.length - 2;
    for (let at = 0; at + 11 <= size; at += 1) if (["10111010000", "00001011101"].includes(text.slice(at, at + 11))) cost += 40;
  }
  for (let y = 0; y + 1 < size; y += 1) for (let x = 0; x + 1 < size; x += 1) {
    if (rows[y][x] === rows[y][x + 1] && rows[y][x] === rows[y + 1][x] && rows[y][x] === rows[y + 1][x + 1]) cost += 3;
  }
  const dark = rows.flat().filter(Boolean).length / (size * size);
  return cost + Math.floor(Math.abs(dark - 0.5) * 20) * 10;
}
