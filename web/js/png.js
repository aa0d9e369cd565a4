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
  for (let i = 0; i < bytes.length; i++) c = CRC[(c ^ bytes[i]) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/* Colours of objects in the file, r g b by number: the bits of the number spread over the channels, high bits first (PASCAL VOC). */
function vocPalette() {
  const out = new Uint8Array(768);
  for (let id = 0; id < 256; id++)
    for (let bit = 7, n = id; n; bit--, n >>= 3) for (let c = 0; c < 3; c++) out[id * 3 + c] |= ((n >> c) & 1) << bit;
  return out;
}

async function pipe(blob, transform) {
  return new Uint8Array(await new Response(blob.stream().pipeThrough(transform)).arrayBuffer());
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
    new Uint8Array(SIGNATURE), chunk("IHDR", header), chunk("PLTE", vocPalette()),
    chunk("IDAT", await pipe(new Blob([rows]), new CompressionStream("deflate"))), chunk("IEND", new Uint8Array(0)),
  ], { type: "image/png" });
}

function paeth(a, b, c) {
  const pa = Math.abs(b - c), pb = Math.abs(a - c), pc = Math.abs(a + b - 2 * c);
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/* Undoes the filter of each row; a pixel here is at most one byte, so the left neighbour is the byte before. */
function unfilter(raw, stride, height) {
  const out = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const from = y * (stride + 1) + 1, row = y * stride, filter = raw[from - 1];
    if (filter > 4) throw new Error("The mask's PNG is damaged");
    if (filter === 0) { out.set(raw.subarray(from, from + stride), row); continue; }
    for (let x = 0; x < stride; x++) {
      const a = x ? out[row + x - 1] : 0, b = y ? out[row - stride + x] : 0;
      let guess = a;
      if (filter === 2) guess = b;
      else if (filter === 3) guess = (a + b) >> 1;
      else if (filter === 4) guess = paeth(a, b, x && y ? out[row - stride + x - 1] : 0);
      out[row + x] = raw[from + x] + guess;
    }
  }
  return out;
}

/* The header and the compressed rows of a PNG. */
function parse(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), data = [];
  if (!SIGNATURE.every((b, i) => bytes[i] === b)) throw new Error("The mask is not a PNG");
  let header = null;
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at), type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "IHDR")
      header = { width: view.getUint32(at + 8), height: view.getUint32(at + 12), depth: bytes[at + 16], colour: bytes[at + 17], interlace: bytes[at + 20] };
    if (type === "IDAT") data.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  if (!header || header.depth > 8 || (header.colour !== 0 && header.colour !== 3) || header.interlace)
    throw new Error("The mask is not a grey or palette PNG");
  return { ...header, data: new Blob(data) };
}

function unpack(rows, stride, { width, height, depth }) {
  if (depth === 8) return rows;
  const labels = new Uint8Array(width * height), mask = (1 << depth) - 1;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const bit = x * depth;
      labels[y * width + x] = (rows[y * stride + (bit >> 3)] >> (8 - depth - (bit & 7))) & mask;
    }
  return labels;
}

/* ArrayBuffer of a PNG -> {width, height, labels}. A grey mask of black and white only becomes 0 and 1. */
export async function decodeMask(buffer) {
  const png = parse(new Uint8Array(buffer)), stride = Math.ceil((png.width * png.depth) / 8);
  const raw = await pipe(png.data, new DecompressionStream("deflate"));
  if (raw.length < (stride + 1) * png.height) throw new Error("The mask's PNG is cut off");
  const labels = unpack(unfilter(raw, stride, png.height), stride, png), white = (1 << png.depth) - 1;
  if (png.colour === 0 && labels.every((v) => v === 0 || v === white)) for (let i = 0; i < labels.length; i++) labels[i] = labels[i] ? 1 : 0;
  return { width: png.width, height: png.height, labels };
}
