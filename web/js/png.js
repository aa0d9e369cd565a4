/*
 * Label masks as PNG: one byte per pixel, the object's number (0 is background). The canvas can neither read palette indices nor write
 * them, so this reads and writes the little of PNG (ISO/IEC 15948) that masks need: grey or palette, 1 to 8 bits, not interlaced.
 */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

const CRC = new Uint32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let c = 0xffffffff;
  for (const b of bytes) c = CRC[(c ^ b) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/* Colours of objects, [r, g, b] by number: the bits of the number spread over the channels, high bits first (PASCAL VOC). */
export const PALETTE = Array.from({ length: 256 }, (_, id) => {
  const rgb = [0, 0, 0];
  for (let bit = 7, n = id; n; bit--, n >>= 3) for (let c = 0; c < 3; c++) rgb[c] |= ((n >> c) & 1) << bit;
  return rgb;
});

async function pipe(bytes, transform) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(transform)).arrayBuffer());
}

function chunk(type, data) {
  const out = new Uint8Array(12 + data.length), view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) out[4 + i] = type.charCodeAt(i);
  out.set(data, 8);
  view.setUint32(8 + data.length, crc32(out.subarray(4, 8 + data.length)));
  return out;
}

/* labels: Uint8Array(width * height) -> Blob of an 8-bit palette PNG */
export async function encodeMask(labels, width, height) {
  const header = new Uint8Array(13), view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 3, 0, 0, 0], 8);
  const rows = new Uint8Array((width + 1) * height); /* filter 0 before each row */
  for (let y = 0; y < height; y++) rows.set(labels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  return new Blob([
    new Uint8Array(SIGNATURE), chunk("IHDR", header), chunk("PLTE", new Uint8Array(PALETTE.flat())),
    chunk("IDAT", await pipe(rows, new CompressionStream("deflate"))), chunk("IEND", new Uint8Array(0)),
  ], { type: "image/png" });
}

function paeth(a, b, c) {
  const pa = Math.abs(b - c), pb = Math.abs(a - c), pc = Math.abs(a + b - 2 * c);
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

function unfilter(raw, stride, height) {
  const out = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)], row = y * stride;
    for (let x = 0; x < stride; x++) {
      const v = raw[y * (stride + 1) + 1 + x];
      const a = x ? out[row + x - 1] : 0, b = y ? out[row - stride + x] : 0, c = x && y ? out[row - stride + x - 1] : 0;
      out[row + x] = v + [0, a, b, (a + b) >> 1, paeth(a, b, c)][filter];
    }
  }
  return out;
}

/* ArrayBuffer of a PNG -> {width, height, labels}. A grey 8-bit mask of 0 and 255 becomes 0 and 1. */
export async function decodeMask(buffer) {
  const bytes = new Uint8Array(buffer), view = new DataView(buffer);
  if (!SIGNATURE.every((b, i) => bytes[i] === b)) throw new Error("The mask is not a PNG");
  let header = null;
  const data = [];
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at), type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "IHDR") header = { width: view.getUint32(at + 8), height: view.getUint32(at + 12), depth: bytes[at + 16], colour: bytes[at + 17], interlace: bytes[at + 20] };
    if (type === "IDAT") data.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  if (!header || header.depth > 8 || (header.colour !== 0 && header.colour !== 3) || header.interlace) throw new Error("The mask is not a grey or palette PNG");
  const { width, height, depth, colour } = header, stride = Math.ceil((width * depth) / 8);
  const rows = unfilter(await pipe(new Blob(data), new DecompressionStream("deflate")), stride, height);
  const labels = new Uint8Array(width * height), mask = (1 << depth) - 1;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const bit = x * depth;
      labels[y * width + x] = (rows[y * stride + (bit >> 3)] >> (8 - depth - (bit & 7))) & mask;
    }
  if (colour === 0 && labels.every((v) => v === 0 || v === mask)) for (let i = 0; i < labels.length; i++) labels[i] = labels[i] ? 1 : 0;
  return { width, height, labels };
}
