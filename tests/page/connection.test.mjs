// The carrier of a session, over sockets and a clock of its own.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Connection } from "../../streamcodec/server/page/connection.js";
import { DETACHED, OPEN } from "../../streamcodec/server/page/session.js";

const WELCOME = { type: "welcome", version: 1, session: "s", token: "t", resume_seconds: 5, crc: false,
  limits: { acknowledge_every: 16, unacknowledged_bytes: 1e6 } };

// A browser of which only clock and sockets are there.
function world() {
  const env = { sockets: [], clock: 0, timers: [], performance: { now: () => env.clock } };
  env.setTimeout = (call, ms) => {
    env.timers.push({ call, at: env.clock + ms });
    return env.timers.at(-1);
  };
  env.clearTimeout = (timer) => (env.timers = env.timers.filter((one) => one !== timer));
  env.run = (seconds) => {
    const end = env.clock + 1000 * seconds;
    for (;;) {
      const next = env.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      env.clearTimeout(next);
      env.clock = next.at;
      next.call();
    }
    env.clock = end;
  };
  env.WebSocket = class {
    constructor(url, protocols) {
      Object.assign(this, { url, protocols, readyState: 0, sent: [] });
      env.sockets.push(this);
    }
    send(message) {
      this.sent.push(message);
    }
    close(code) {
      this.code = code;
      if (this.readyState !== 3) this.break();
    }
    open() {
      this.readyState = 1;
      this.onopen();
    }
    say(values) {
      this.onmessage({ data: JSON.stringify(values) });
    }
    break() {
      this.readyState = 3;
      this.onclose();
    }
  };
  return env;
}

function started(more = {}) {
  const env = world(), events = [], states = [];
  const on = { event: (event) => events.push(event), state: (state) => states.push(state) };
  const connection = new Connection("ws://here/v1/stream", on, env);
  connection.open({ mode: "roundtrip", pcm: { format: "s16le", sample_rate: 48000, channels: 1 } });
  env.sockets[0].open();
  env.sockets[0].say({ ...WELCOME, ...more });
  return { env, events, states, connection };
}

test("the subprotocol, hello first, and pings", () => {
  const { env, connection, states } = started();
  assert.deepEqual(env.sockets[0].protocols, ["streamcodec.v1"]);
  assert.equal(JSON.parse(env.sockets[0].sent[0]).type, "hello");
  assert.deepEqual(states, [OPEN]);
  const ping = JSON.parse(env.sockets[0].sent[1]);
  env.clock += 30;
  env.sockets[0].say({ type: "pong", id: ping.id, server_time: 1 });
  assert.deepEqual(connection.rtts, [30]);
});

test("a lost connection is opened again and resumed", () => {
  const { env, states, events, connection } = started();
  connection.session.sendPcm(new Int16Array(4));
  connection.flush();
  env.sockets[0].break();
  env.run(1);
  assert.deepEqual(states, [OPEN, DETACHED]);
  env.sockets[1].open();
  assert.equal(JSON.parse(env.sockets[1].sent[0]).type, "resume");
  env.sockets[1].say({ type: "resumed", session: "s", last_sequence: null, server_time: 1 });
  assert.equal(env.sockets[1].sent.length, 3); // resume, the packet again, a ping
  assert.equal(states.at(-1), OPEN);
  assert.deepEqual(events.map(({ type }) => type), ["welcome", "lost", "resumed"]);
});

test("it gives up when the server has forgotten the session", () => {
  const { env, events } = started();
  env.sockets[0].break();
  for (let n = 1; n < 40; n++) {
    env.run(0.5);
    if (env.sockets.at(-1).readyState === 0) env.sockets.at(-1).break();
  }
  assert.deepEqual(events.slice(-1).map(({ type, code }) => [type, code]), [["ended", "resume_timeout"]]);
  assert.ok(env.sockets.length > 3 && env.sockets.length < 12);
  const count = env.sockets.length;
  env.run(60);
  assert.equal(env.sockets.length, count);
});

test("a server that says nothing for long is taken for lost", () => {
  const { env, states } = started();
  env.run(20);
  assert.equal(states[1], DETACHED);
  assert.equal(env.sockets.length, 2);
});

test("an attempt to connect that is not answered ends: unreachable", () => {
  for (const upgraded of [false, true]) {
    const env = world(), events = [];
    const connection = new Connection("ws://here/", { event: (event) => events.push(event), state: () => {} }, env);
    connection.open({ mode: "roundtrip", pcm: { format: "s16le", sample_rate: 48000, channels: 1 } });
    if (upgraded) env.sockets[0].open();
    env.run(9);
    assert.deepEqual(events, []);
    env.run(60);
    assert.deepEqual(events.map(({ type, code }) => [type, code]), [["ended", "unreachable"]]);
    assert.equal(env.sockets.length, 1);
    assert.equal(env.sockets[0].readyState, 3);
  }
});

test("an attempt to resume that is not answered ends, the next may take longer, and what was given up is not heard", () => {
  for (const upgraded of [false, true]) {
    const { env, states, events, connection } = started({ resume_seconds: 30 });
    env.sockets[0].break();
    env.run(1);
    if (upgraded) env.sockets[1].open();
    assert.equal(env.sockets.length, 2);
    env.run(5);
    assert.equal(env.sockets.length, 3);
    if (!upgraded) env.sockets[1].onopen(); // the one that was given up, late
    env.sockets[1].say({ type: "resumed", session: "s", last_sequence: null, server_time: 1 });
    assert.equal(connection.session.state, DETACHED);
    env.run(7); // a slow link
    env.sockets[2].open();
    env.sockets[2].say({ type: "resumed", session: "s", last_sequence: null, server_time: 1 });
    assert.equal(states.at(-1), OPEN);
    assert.deepEqual(events.map(({ type }) => type).filter((type) => type !== "lost"), ["welcome", "resumed"]);
    env.run(1);
    assert.equal(env.sockets.length, 3);
  }
});

test("no server: unreachable, once", () => {
  const env = world(), events = [];
  const connection = new Connection("ws://here/", { event: (event) => events.push(event), state: () => {} }, env);
  connection.open({ mode: "roundtrip", pcm: { format: "s16le", sample_rate: 48000, channels: 1 } });
  env.sockets[0].break();
  env.run(60);
  assert.deepEqual(events.map(({ type, code }) => [type, code]), [["ended", "unreachable"]]);
  assert.equal(env.sockets.length, 1);
});

test("an error of the session ends it, and nothing is opened again", () => {
  const { env, events } = started();
  env.sockets[0].say({ type: "error", code: "too_slow", scope: "session", message: "slow" });
  env.run(60);
  assert.deepEqual(events.map(({ type }) => type), ["welcome", "ended"]);
  assert.equal(env.sockets.length, 1);
});

test("stopping says goodbye and closes", () => {
  const { env, events, connection } = started();
  connection.stop();
  assert.equal(JSON.parse(env.sockets[0].sent.at(-1)).type, "goodbye");
  env.sockets[0].say({ type: "goodbye", reason: "client", message: "goodbye" });
  env.run(60);
  assert.equal(env.sockets[0].readyState, 3);
  assert.equal(env.sockets.length, 1);
  assert.deepEqual(events.map(({ type }) => type), ["welcome"]);
});
