// The page's packets against the golden bytes, and against themselves. Run by `node --test`, and by test_golden.py.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { CODES, PCM, PacketError, crc32, decodePacket, encodePacket, packCodes, unpackCodes } from
  "../../streamcodec/server/page/wire.js";

const golden = JSON.parse(readFileSync(new URL("golden.json", import.meta.url), "utf-8"));
const bytesOf = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const hexOf = (bytes) => Buffer.from(bytes).toString("hex");

// A golden entry as wire.js has it.
function packetOf(entry) {
  const { sequence, index, stream, last, discontinuity, crc } = entry;
  const common = { sequence, index, stream, last, discontinuity, crc };
  if (entry.kind === "pcm") {
    const width = entry.format === "s16le" ? 16 : 32;
    const samples = (width === 16 ? Int16Array : Float32Array).from(entry.samples.flat());
    return { ...common, kind: PCM, count: entry.samples.length, depth: entry.channels, width, samples };
  }
  return {
    ...common, kind: CODES, count: entry.codes[0].length, depth: entry.codes.length, width: entry.bits,
    codes: Uint16Array.from(entry.codes.flat()), reduced: entry.reduced, length: entry.length,
    scale: entry.scale && Float32Array.from(entry.scale),
  };
}

assert.ok(golden.packets.length >= 20 && golden.refused.length >= 20);

for (const { name, hex, packet } of golden.packets) {
  test(`written: ${name}`, () => assert.equal(hexOf(encodePacket(packetOf(packet))), hex));
  test(`read: ${name}`, () => assert.deepEqual(decodePacket(bytesOf(hex)), packetOf(packet)));
  test(`cut short: ${name}`, () => {
    for (let size = 0; size < hex.length / 2; size++) {
      assert.throws(() => decodePacket(bytesOf(hex).subarray(0, size)), PacketError);
    }
  });
}

for (const { name, hex, code } of golden.refused) {
  test(`refused: ${name}`, () => {
    assert.throws(() => decodePacket(bytesOf(hex)), (error) => error instanceof PacketError && error.code === code);
  });
}

test("bytes in the middle of a buffer, at an odd place", () => {
  for (const { hex, packet } of golden.packets) {
    const wide = new Uint8Array(hex.length / 2 + 9).fill(255);
    wide.set(bytesOf(hex), 3);
    assert.deepEqual(decodePacket(wide.subarray(3, 3 + hex.length / 2)), packetOf(packet));
  }
});

test("an ArrayBuffer, as a WebSocket gives it", () => {
  const { hex, packet } = golden.packets[0];
  assert.deepEqual(decodePacket(bytesOf(hex).buffer), packetOf(packet));
});

test("codes of every width come back", () => {
  let seed = 1;
  const next = () => (seed = (seed * 48271) % 2147483647);
  for (let bits = 1; bits <= 16; bits++) {
    for (let count = 0; count < 40; count++) {
      const codes = Uint16Array.from({ length: count }, () => next() % 2 ** bits);
      const bytes = packCodes(codes, bits);
      assert.equal(bytes.length, Math.ceil((count * bits) / 8));
      assert.deepEqual(unpackCodes(bytes, count, bits), codes);
    }
  }
});

test("the CRC-32 of the check string of the catalogues", () => {
  assert.equal(crc32(new TextEncoder().encode("123456789")), 0xcbf43926);
});

test("what does not fit is refused", () => {
  const good = packetOf(golden.packets[0].packet);
  const wrong = [
    { sequence: -1 }, { sequence: 2 ** 32 }, { index: 2 ** 53 }, { index: 0.5 }, { stream: 65536 }, { depth: 0 },
    { count: 3 }, { width: 17 }, { width: 9 }, { kind: 3 }, { length: 5 }, { scale: new Float32Array(2) },
  ];
  for (const change of wrong) assert.throws(() => encodePacket({ ...good, ...change }), PacketError);
});
