// A client written from docs/protocol.md alone, with npm's `ws` and nothing of streamcodec's.
//
//   node client.js URL SAMPLES.s16le RATE
//
// Mode encode: sends the samples in packets, breaks the connection in the middle, resumes, sends the rest, a marker and a
// flush. Prints one JSON object: codes [K][T], index and length, the order of what came, and the error that a bad
// message earned.

"use strict";

const fs = require("fs");
const WebSocket = require("ws");

const [url, path, rateText] = process.argv.slice(2);
const rate = Number(rateText);
const bytes = fs.readFileSync(path);
const samples = bytes.length / 2;

const SAMPLES_A_PACKET = 240;
const LAST = 1, LENGTH = 16, CRC = 32;

const result = { codes: [], frames: 0, length: null, order: [], refused: null, welcome: null, resumed: 0, sequences: [] };
let token = null;
let acknowledgeEvery = 16;
let nextOut = 0; // number of our next numbered message
const kept = []; // [number, message], until the server acknowledges
let lastIn = null; // number of the last numbered message that is here
let sinceAck = 0;
let place = 0; // samples sent
let broken = false;
let socket;

// CRC-32 of zlib: polynomial 0x04C11DB7, reflected.
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});
function crc32(data) {
  let crc = 0xffffffff;
  for (const byte of data) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function numbered(make) {
  const message = make(nextOut);
  kept.push([nextOut, message]);
  nextOut += 1;
  socket.send(message);
}

function say(values) {
  socket.send(JSON.stringify(values));
}

function pcmPacket(sequence, start, count) {
  const packet = Buffer.alloc(24 + 2 * count + 4);
  packet.writeUInt8(1, 0); // version
  packet.writeUInt8(1, 1); // kind: PCM
  packet.writeUInt16LE(CRC, 2);
  packet.writeUInt32LE(sequence, 4);
  packet.writeBigUInt64LE(BigInt(start), 8);
  packet.writeUInt16LE(0, 16); // stream
  packet.writeUInt16LE(count, 18);
  packet.writeUInt8(1, 20); // channels
  packet.writeUInt8(16, 21);
  bytes.copy(packet, 24, 2 * start, 2 * (start + count));
  packet.writeUInt32LE(crc32(packet.subarray(0, packet.length - 4)), packet.length - 4);
  return packet;
}

function sendUntil(end) {
  while (place < end) {
    const count = Math.min(SAMPLES_A_PACKET, end - place);
    numbered((sequence) => pcmPacket(sequence, place, count));
    place += count;
  }
}

function readCodes(packet) {
  const flags = packet.readUInt16LE(2);
  const count = packet.readUInt16LE(18), depth = packet.readUInt8(20), width = packet.readUInt8(21);
  if (packet.readUInt8(0) !== 1 || packet.readUInt8(1) !== 2) throw new Error("not a packet of codes, version 1");
  if (flags & CRC && crc32(packet.subarray(0, -4)) !== packet.readUInt32LE(packet.length - 4)) throw new Error("CRC");
  const index = Number(packet.readBigUInt64LE(8));
  if (index !== result.frames) throw new Error(`index ${index}, expected ${result.frames}`);
  let body = 24;
  if (flags & LENGTH) {
    result.length = Number(packet.readBigUInt64LE(body));
    body += 8;
  }
  const codeBytes = Math.ceil((count * depth * width) / 8);
  if (body + codeBytes + (flags & CRC ? 4 : 0) !== packet.length) throw new Error("length of the packet");
  const bit = (p) => (packet[body + (p >> 3)] >> (p & 7)) & 1;
  for (let k = 0; k < depth; k++) {
    result.codes[k] = result.codes[k] || [];
    for (let t = 0; t < count; t++) {
      let code = 0;
      for (let i = 0; i < width; i++) code |= bit((k * count + t) * width + i) << i;
      result.codes[k].push(code);
    }
  }
  result.frames += count;
  result.order.push(flags & LAST ? "last" : "codes");
}

function count(sequence) {
  const expected = lastIn === null ? 0 : lastIn + 1;
  if (sequence !== expected) throw new Error(`sequence ${sequence}, expected ${expected}`);
  lastIn = sequence;
  sinceAck += 1;
  if (sinceAck >= acknowledgeEvery) {
    sinceAck = 0;
    say({ type: "ack", sequence });
  }
}

function forget(upTo) {
  while (kept.length && kept[0][0] <= upTo) kept.shift();
}

function breakOff() {
  broken = true;
  socket.terminate();
}

function onText(message) {
  if ("sequence" in message && !["ack", "error"].includes(message.type)) count(message.sequence);
  switch (message.type) {
    case "welcome":
      result.welcome = message;
      token = message.token;
      acknowledgeEvery = message.limits.acknowledge_every;
      sendUntil(Math.floor(samples / 2));
      numbered((sequence) => JSON.stringify({ type: "marker", sequence, id: "half" }));
      break;
    case "resumed":
      result.resumed += 1;
      forget(message.last_sequence === null || message.last_sequence === undefined ? -1 : message.last_sequence);
      for (const [, text] of kept) socket.send(text);
      numbered((sequence) => JSON.stringify({ type: "bandwidth", sequence, bandwidth: 12345 })); // refused: no such one
      sendUntil(samples);
      numbered((sequence) => JSON.stringify({ type: "marker", sequence, id: "end" }));
      numbered((sequence) => JSON.stringify({ type: "flush", sequence }));
      break;
    case "ack":
      forget(message.sequence);
      break;
    case "marker":
      result.order.push(message.id);
      if (message.id === "half") {
        // More goes out whose fate we do not wait for.
        sendUntil(Math.floor(samples / 2) + 3 * SAMPLES_A_PACKET);
        breakOff();
      }
      break;
    case "flushed":
      result.order.push("flushed");
      say({ type: "goodbye" });
      break;
    case "goodbye":
      result.order.push("goodbye");
      break;
    case "error":
      result.refused = { code: message.code, scope: message.scope, allowed: message.allowed };
      if (message.scope !== "message") throw new Error(message.message);
      break;
    default:
  }
}

function open() {
  socket = new WebSocket(url, "streamcodec.v1");
  socket.on("open", () => {
    if (token === null) {
      const pcm = { format: "s16le", sample_rate: rate };
      say({ type: "hello", version: 1, mode: "encode", pcm, crc: true, frames_per_packet: 3 });
    } else {
      say({ type: "resume", version: 1, token, last_sequence: lastIn });
    }
  });
  socket.on("message", (data, isBinary) => {
    if (broken) return;
    if (isBinary) {
      count(data.readUInt32LE(4));
      readCodes(data);
    } else {
      onText(JSON.parse(data.toString()));
    }
  });
  socket.on("close", (code) => {
    if (broken) {
      broken = false;
      setTimeout(open, 100);
    } else {
      result.close = code;
      console.log(JSON.stringify(result));
    }
  });
  socket.on("error", (error) => {
    console.error(String(error));
    process.exitCode = 1;
  });
}

open();
setTimeout(() => { console.error("no end within 30 s"); process.exit(1); }, 30000).unref();
