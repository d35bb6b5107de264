// Media packets of docs/protocol.md: bytes to values and back. No dependencies; runs in pages, workers and node.
//
// A packet here is an object:
//   { kind: PCM | CODES, sequence, index, stream, count, depth, width, last, discontinuity, crc }
// and, for PCM, samples: Int16Array or Float32Array of count * depth, interleaved (width 16: integers, 32: floats);
// for codes, codes: Uint16Array of depth * count, codebook after codebook; scale: Float32Array of count, or null;
// length: samples of the whole stream, or null; reduced.

export const VERSION = 1;
export const SUBPROTOCOL = "streamcodec.v1";
export const PCM = 1;
export const CODES = 2;
export const HEADER_BYTES = 24;

const LAST = 1, DISCONTINUITY = 2, REDUCED = 4, SCALE = 8, LENGTH = 16, CRC = 32;
const FLAGS = { [PCM]: LAST | DISCONTINUITY | CRC, [CODES]: 63 };
const MAX_SEQUENCE = 0xffffffff;

// What is wrong with a packet. code: the protocol's error code.
export class PacketError extends Error {
  constructor(message, code = "bad_message") {
    super(message);
    this.name = "PacketError";
    this.code = code;
  }
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

// CRC-32 of bytes (a Uint8Array), as in zlib, gzip and PNG.
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

// Codes below 2 ** bits (bits 1 to 16) as bytes, least significant bit first; the last byte is filled up with zeros.
export function packCodes(codes, bits) {
  const bytes = new Uint8Array(Math.ceil((codes.length * bits) / 8));
  let waiting = 0, filled = 0, at = 0; // at most 7 + 16 bits wait
  for (const code of codes) {
    waiting |= code << filled;
    for (filled += bits; filled >= 8; filled -= 8, waiting >>>= 8) bytes[at++] = waiting;
  }
  if (filled) bytes[at] = waiting;
  return bytes;
}

// The inverse: `count` codes as a Uint16Array.
export function unpackCodes(bytes, count, bits) {
  const codes = new Uint16Array(count);
  const mask = 2 ** bits - 1;
  let waiting = 0, filled = 0, at = 0;
  for (let n = 0; n < count; n++) {
    for (; filled < bits; filled += 8) waiting |= bytes[at++] << filled;
    codes[n] = waiting & mask;
    waiting >>>= bits;
    filled -= bits;
  }
  return codes;
}

function whole(value, most, name) {
  if (!Number.isInteger(value) || value < 0 || value > most) {
    throw new PacketError(`${name} is ${value}; it must be a whole number from 0 to ${most}`);
  }
  return value;
}

function setU64(view, at, value) {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

// Above 2 ** 53 - 1 a number would be rounded, so it is refused.
function getU64(view, at, name) {
  const value = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
  if (!Number.isSafeInteger(value)) throw new PacketError(`${name} is past 2**53 - 1`);
  return value;
}

function flagsOf(packet) {
  let flags = (packet.last ? LAST : 0) | (packet.discontinuity ? DISCONTINUITY : 0) | (packet.crc ? CRC : 0);
  if (packet.kind === CODES) {
    flags |= (packet.reduced ? REDUCED : 0) | (packet.scale ? SCALE : 0) | (packet.length != null ? LENGTH : 0);
  }
  return flags;
}

function checkFields(packet) {
  const { kind, count, depth, width } = packet;
  if (kind !== PCM && kind !== CODES) throw new PacketError(`packet of kind ${kind}; there are 1 (PCM) and 2 (codes)`);
  whole(packet.sequence, MAX_SEQUENCE, "sequence");
  whole(packet.stream ?? 0, 0xffff, "stream");
  whole(count, 0xffff, "count");
  whole(packet.index, Number.MAX_SAFE_INTEGER - count, "index");
  if (whole(depth, 255, "depth") === 0) throw new PacketError("depth is 0");
  if (count === 0 && !packet.last) throw new PacketError("only a last packet may be empty");
  if (kind === PCM ? width !== 16 && width !== 32 : !(Number.isInteger(width) && width >= 1 && width <= 16)) {
    throw new PacketError(`width ${width}: PCM has 16 or 32 bits, a code 1 to 16`);
  }
}

function checkContent(packet) {
  const { kind, count, depth, width, scale, length, last } = packet;
  const values = kind === PCM ? packet.samples : packet.codes;
  if (values.length !== count * depth) throw new PacketError(`${values.length} values; ${count} x ${depth} were told`);
  if (kind === PCM) {
    const wanted = width === 16 ? Int16Array : Float32Array;
    if (!(values instanceof wanted)) throw new PacketError(`samples of ${width} bits must be a ${wanted.name}`);
    return;
  }
  for (const code of values) whole(code, 2 ** width - 1, "code");
  if (scale && scale.length !== count) throw new PacketError(`${scale.length} scales for ${count} frames`);
  if (length != null && !last) throw new PacketError("only the last packet has a length");
}

// The packet's bytes, a Uint8Array. Throws PacketError for a field that does not fit.
export function encodePacket(packet) {
  checkFields(packet);
  checkContent(packet);
  const { kind, count, depth, width } = packet;
  const flags = flagsOf(packet);
  const scales = HEADER_BYTES + (flags & LENGTH ? 8 : 0);
  const body = scales + (flags & SCALE ? 4 * count : 0);
  const end = body + Math.ceil((count * depth * width) / 8);
  const bytes = new Uint8Array(end + (flags & CRC ? 4 : 0));
  const view = new DataView(bytes.buffer);
  view.setUint8(0, VERSION);
  view.setUint8(1, kind);
  view.setUint16(2, flags, true);
  view.setUint32(4, packet.sequence, true);
  setU64(view, 8, packet.index);
  view.setUint16(16, packet.stream ?? 0, true);
  view.setUint16(18, count, true);
  view.setUint8(20, depth);
  view.setUint8(21, width);
  if (flags & LENGTH) setU64(view, HEADER_BYTES, whole(packet.length, Number.MAX_SAFE_INTEGER, "length"));
  if (flags & SCALE) packet.scale.forEach((value, n) => view.setFloat32(scales + 4 * n, value, true));
  if (kind === CODES) bytes.set(packCodes(packet.codes, width), body);
  else if (width === 16) packet.samples.forEach((value, n) => view.setInt16(body + 2 * n, value, true));
  else packet.samples.forEach((value, n) => view.setFloat32(body + 4 * n, value, true));
  if (flags & CRC) view.setUint32(end, crc32(bytes.subarray(0, end)), true);
  return bytes;
}

function decodeHeader(view) {
  if (view.byteLength < HEADER_BYTES) throw new PacketError(`${view.byteLength} bytes are no packet`);
  const version = view.getUint8(0), kind = view.getUint8(1), flags = view.getUint16(2, true);
  if (version !== VERSION) throw new PacketError(`packet version ${version}; this is ${VERSION}`, "unsupported_version");
  if (!(kind in FLAGS)) throw new PacketError(`packet of kind ${kind}; there are 1 (PCM) and 2 (codes)`);
  if (flags & ~FLAGS[kind] || view.getUint16(22, true)) throw new PacketError("flags or reserved bits that do not exist");
  if (flags & LENGTH && !(flags & LAST)) throw new PacketError("a length in a packet that is not the last");
  const packet = {
    kind,
    sequence: view.getUint32(4, true),
    index: getU64(view, 8, "index"),
    stream: view.getUint16(16, true),
    count: view.getUint16(18, true),
    depth: view.getUint8(20),
    width: view.getUint8(21),
    last: Boolean(flags & LAST),
    discontinuity: Boolean(flags & DISCONTINUITY),
    crc: Boolean(flags & CRC),
  };
  checkFields(packet);
  return [packet, flags];
}

// The packet of these bytes (ArrayBuffer or Uint8Array). Throws PacketError. Nothing is shared with the bytes.
export function decodePacket(data) {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [packet, flags] = decodeHeader(view);
  const { kind, count, depth, width } = packet;
  const scales = HEADER_BYTES + (flags & LENGTH ? 8 : 0);
  const body = scales + (flags & SCALE ? 4 * count : 0);
  const end = body + Math.ceil((count * depth * width) / 8);
  if (bytes.length !== end + (packet.crc ? 4 : 0)) throw new PacketError(`${bytes.length} bytes; the header says ${end}`);
  if (packet.crc && crc32(bytes.subarray(0, end)) !== view.getUint32(end, true)) {
    throw new PacketError("the CRC-32 is wrong: the packet was damaged", "bad_crc");
  }
  if (kind === PCM) {
    const integers = width === 16;
    packet.samples = (integers ? Int16Array : Float32Array).from({ length: count * depth }, (_, n) =>
      integers ? view.getInt16(body + 2 * n, true) : view.getFloat32(body + 4 * n, true),
    );
    return packet;
  }
  const used = (count * depth * width) % 8;
  if (used && bytes[end - 1] >> used) throw new PacketError("the bits after the last code are not 0");
  packet.reduced = Boolean(flags & REDUCED);
  packet.length = flags & LENGTH ? getU64(view, HEADER_BYTES, "length") : null;
  packet.scale =
    flags & SCALE ? Float32Array.from({ length: count }, (_, n) => view.getFloat32(scales + 4 * n, true)) : null;
  packet.codes = unpackCodes(bytes.subarray(body, end), count * depth, width);
  return packet;
}
