// The page's session against docs/protocol.md: its example byte for byte, resuming, numbering, and what it refuses.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { CLOSED, DETACHED, HANDSHAKE, OPEN, Session } from "../../streamcodec/server/page/session.js";
import { CODES, PCM, decodePacket, encodePacket } from "../../streamcodec/server/page/wire.js";

const hexOf = (bytes) => Buffer.from(bytes).toString("hex");
const shown = (message) => (typeof message === "string" ? message : hexOf(message));

// The lines of the specification's example: [direction, text].
const example = readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf-8")
  .split("## An example")[1].split("```text")[1].split("```")[0].trim().split("\n").map((line) => [line[0], line.slice(2)]);

const WELCOME = JSON.parse(example.find(([way, text]) => way === "<" && text.includes('"welcome"'))[1]);
const PCM16 = { format: "s16le", sample_rate: 48000, channels: 1 };

// An open session; the limits and the rest of the welcome can be changed.
function opened(limits = {}, more = {}, hello = {}) {
  const session = new Session();
  session.hello({ mode: "roundtrip", pcm: PCM16, ...hello });
  const welcome = { ...WELCOME, crc: false, mode: "roundtrip", limits: { ...WELCOME.limits, ...limits }, ...more };
  assert.equal(session.receive(JSON.stringify(welcome))[0].type, "welcome");
  session.takeOutgoing();
  return session;
}

const packet = (sequence, index, samples, more = {}) => encodePacket({
  kind: PCM, sequence, index, stream: 0, count: samples.length, depth: 1, width: 16, samples: Int16Array.from(samples),
  ...more,
});

test("the example of the specification", () => {
  const session = new Session();
  const calls = [
    (hello) => session.hello(JSON.parse(hello)),
    () => session.sendPcm(Int16Array.of(0, 16384, -32768, 32767)),
    () => session.mark("a"),
    () => session.flush(),
    () => session.ping("1"),
    () => session.resume(),
    () => session.goodbye(),
  ];
  const events = [];
  let codes = 0;
  for (const [way, line] of example) {
    if (way === "-") {
      assert.deepEqual(session.disconnected(), [{ type: "lost", code: "lost" }]);
    } else if (way === ">") {
      calls.shift()(line);
      const sent = session.takeOutgoing().map(shown);
      if (line.startsWith("{")) assert.deepEqual(sent.map(JSON.parse), [JSON.parse(line)]);
      else assert.deepEqual(sent, [line]);
    } else if (line.startsWith("{")) {
      events.push(...session.receive(line).map(({ type }) => type));
    } else {
      // The page's sessions take PCM: this packet is one of codes, so only its bytes are read here, and its place kept.
      assert.equal(decodePacket(Buffer.from(line, "hex")).kind, CODES);
      session._take(codes, line.length / 2);
      codes += 1;
    }
  }
  assert.deepEqual(calls, []);
  assert.equal(codes, 1);
  assert.deepEqual(events, ["welcome", "pong", "resumed", "marker", "flushed", "ended"]);
  assert.equal(session.state, CLOSED);
});

test("packets follow one another, and a flush begins a new stream", () => {
  const session = opened();
  assert.equal(session.sendPcm(new Int16Array(480)), 0);
  assert.equal(session.sendPcm(new Int16Array(480)), 480);
  session.flush();
  assert.equal(session.sendPcm(new Int16Array(480)), 0);
  const [first, second, flush, third] = session.takeOutgoing();
  assert.deepEqual([first, second, third].map((bytes) => decodePacket(bytes).sequence), [0, 1, 3]);
  assert.deepEqual(JSON.parse(flush), { type: "flush", sequence: 2 });
  assert.ok(![first, second, third].some((bytes) => decodePacket(bytes).discontinuity));
});

test("audio is acknowledged by number and by bytes", () => {
  const session = opened({ acknowledge_every: 4 });
  for (let n = 0; n < 10; n++) session.receive(packet(n, n, [n]));
  assert.deepEqual(session.takeOutgoing().map(JSON.parse), [3, 7].map((sequence) => ({ type: "ack", sequence })));
  const heavy = opened({ acknowledge_every: 1000, unacknowledged_bytes: 4096 });
  for (let n = 0; n < 3; n++) heavy.receive(packet(n, 500 * n, new Array(500).fill(1)));
  assert.deepEqual(heavy.takeOutgoing().map(JSON.parse), [0, 1, 2].map((sequence) => ({ type: "ack", sequence })));
});

test("what is unacknowledged is bounded, and an acknowledgement makes room", () => {
  const session = opened({ unacknowledged_bytes: 3000 });
  let sent = 0;
  for (; session.writable; sent++) session.sendPcm(new Int16Array(488)); // 1000 bytes each
  assert.equal(sent, 3);
  session.receive(JSON.stringify({ type: "ack", sequence: 1 }));
  assert.equal(session.unacknowledgedBytes, 1000);
  assert.ok(session.writable);
  session.receive(JSON.stringify({ type: "ack", sequence: 0 })); // an old one changes nothing
  assert.equal(session.unacknowledgedBytes, 1000);
  session.receive(JSON.stringify({ type: "ack", sequence: 7 })); // one that was never sent
  assert.equal(session.state, CLOSED);
});

test("what is left out is told, and the audio that is unacknowledged is counted", () => {
  const session = opened();
  assert.equal(session.sendPcm(new Int16Array(480)), 0);
  assert.equal(session.sendPcm(new Int16Array(480), 1000), 1480);
  session.mark("a");
  const [first, second] = session.takeOutgoing().slice(0, 2).map(decodePacket);
  assert.deepEqual([first, second].map(({ index, discontinuity }) => [index, discontinuity]), [[0, false], [1480, true]]);
  assert.equal(session.unacknowledgedSamples, 960);
  session.receive(JSON.stringify({ type: "ack", sequence: 0 }));
  assert.equal(session.unacknowledgedSamples, 480);
  session.receive(JSON.stringify({ type: "ack", sequence: 2 }));
  assert.equal(session.unacknowledgedSamples, 0);
});

// A server that keeps what it has, numbered, and what the client has of it.
class Server {
  constructor() {
    this.held = [];
    this.out = [];
    this.audio = [];
  }

  take(message) {
    if (typeof message === "string" && JSON.parse(message).type === "ack") return;
    const sequence = typeof message === "string" ? JSON.parse(message).sequence : decodePacket(message).sequence;
    assert.equal(sequence, this.held.length, "a number that does not follow");
    this.held.push(shown(message));
    if (typeof message === "string") return;
    const { samples, index } = decodePacket(message);
    this.audio.push(...samples);
    this.out.push(packet(this.out.length, index, samples));
  }
}

test("nothing is lost and nothing comes twice over any pattern of cuts", () => {
  for (let seed = 1; seed <= 40; seed++) {
    let state = seed;
    const random = (below) => (state = (state * 48271) % 2147483647) % below;
    const session = opened({ acknowledge_every: 3 }), server = new Server(), heard = [], said = [];
    let given = 0; // of the server's messages, how many the client got
    for (let step = 0; step < 120; step++) {
      if (session.state === OPEN && random(6) === 0) {
        for (const message of session.takeOutgoing().slice(0, random(4))) server.take(message);
        assert.equal(session.disconnected()[0].type, "lost");
      }
      const samples = Int16Array.from({ length: 1 + random(5) }, () => random(60000) - 30000);
      said.push(...samples);
      session.sendPcm(samples);
      if (session.state === DETACHED && random(2) === 0) {
        session.resume();
        const [request] = session.takeOutgoing().map(JSON.parse);
        assert.equal(request.last_sequence, given === 0 ? undefined : given - 1);
        assert.equal(session.state, HANDSHAKE);
        const last = server.held.length === 0 ? null : server.held.length - 1;
        session.receive(JSON.stringify({ type: "resumed", session: "s1", last_sequence: last, server_time: 1 }));
      }
      if (session.state !== OPEN) continue;
      for (const message of session.takeOutgoing()) server.take(message);
      for (const end = given + random(server.out.length - given + 1); given < end; given++) {
        for (const event of session.receive(server.out[given])) heard.push(...event.samples);
      }
    }
    if (session.state === DETACHED) {
      session.resume();
      session.takeOutgoing();
      const last = server.held.length === 0 ? null : server.held.length - 1;
      session.receive(JSON.stringify({ type: "resumed", session: "s1", last_sequence: last, server_time: 1 }));
    }
    for (const message of session.takeOutgoing()) server.take(message);
    for (; given < server.out.length; given++) {
      for (const event of session.receive(server.out[given])) heard.push(...event.samples);
    }
    assert.deepEqual(server.audio, said, `seed ${seed}`);
    assert.deepEqual(heard, said, `seed ${seed}`);
  }
});

test("gaps are told, and LAST begins anew", () => {
  const session = opened();
  assert.equal(session.receive(packet(0, 0, [1, 2]))[0].gap, 0);
  assert.equal(session.receive(packet(1, 10, [3], { discontinuity: true }))[0].gap, 8);
  assert.equal(session.receive(packet(2, 11, [], { last: true }))[0].last, true);
  assert.equal(session.receive(packet(3, 0, [4]))[0].gap, 0);
});

test("each speaker has a stream, whose number may be given anew", () => {
  const members = [{ id: 2, member: "Ada", role: "both", stream: 5 }];
  const session = opened({}, { room: { name: "lobby", id: 1, members } });
  session.receive(packet(0, 1000, [1], { stream: 5, discontinuity: true }));
  assert.equal(session.receive(packet(1, 1001, [2], { stream: 5 }))[0].stream, 5);
  const left = JSON.stringify({ type: "left", sequence: 2, id: 2, reason: "goodbye" });
  assert.equal(session.receive(left)[0].stream, 5);
  const member = { id: 3, member: "Bo", role: "both", stream: 5 };
  session.receive(JSON.stringify({ type: "joined", sequence: 3, member }));
  assert.equal(session.receive(packet(4, 0, [3], { stream: 5 }))[0].index, 0);
  assert.equal(session.state, OPEN);
});

const damaged = packet(0, 0, [1, 2, 3], { crc: true });
damaged[25] ^= 1;
for (const [what, message, code, close, state] of [
  ["a number that does not follow", packet(1, 0, [1]), "sequence_gap", 4431, DETACHED],
  ["a damaged packet", damaged, "bad_crc", 4430, DETACHED],
  ["an index that does not follow", packet(0, 7, [1]), "index_gap", 4423, CLOSED],
  ["stereo", packet(0, 0, [1, 2], { count: 1, depth: 2 }), "bad_message", 4400, CLOSED],
  ["bytes that are no packet", new Uint8Array(5), "bad_message", 4400, CLOSED],
  ["a text of no type", '{"type":"surprise"}', "bad_message", 4400, CLOSED],
  ["a text that is no JSON", "{", "bad_message", 4400, CLOSED],
  ["a second welcome", JSON.stringify(WELCOME), "bad_state", 4409, CLOSED],
]) {
  test(`refused: ${what}`, () => {
    const session = opened();
    const event = session.receive(message).at(-1);
    assert.equal(event.code, code);
    assert.equal(event.type, state === CLOSED ? "ended" : "lost");
    assert.equal(session.state, state);
    assert.equal(session.close.code, close);
    assert.deepEqual(session.receive(packet(0, 0, [1])), []); // nothing is heard after that
  });
}

test("an error's scope says what it ends", () => {
  const error = (scope) => JSON.stringify({ type: "error", code: "new_code", scope, message: "why", retry_after: 2 });
  const session = opened();
  assert.deepEqual(session.receive(error("message")).map(({ type }) => type), ["error"]);
  assert.equal(session.state, OPEN);
  assert.deepEqual(session.receive(error("connection")).map(({ type }) => type), ["error", "lost"]);
  assert.equal(session.state, DETACHED);
  const other = opened();
  const [ended] = other.receive(error("session"));
  assert.deepEqual([ended.type, ended.code, ended.retry_after], ["ended", "new_code", 2]);
  const unresumable = opened({}, { token: null });
  assert.equal(unresumable.disconnected()[0].type, "ended");
});

test("an error before welcome ends the session", () => {
  const session = new Session();
  session.hello({ mode: "roundtrip", pcm: PCM16 });
  const error = { type: "error", code: "unauthorised", scope: "session", message: "no" };
  const [ended] = session.receive(JSON.stringify(error));
  assert.deepEqual([ended.type, ended.code, session.state], ["ended", "unauthorised", CLOSED]);
});
