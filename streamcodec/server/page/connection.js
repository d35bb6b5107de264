// Carries a Session over WebSockets: opens, pings, and opens again where the connection was lost.

import { CLOSED, DETACHED, OPEN, Session } from "./session.js";
import { SUBPROTOCOL } from "./wire.js";

const PING_SECONDS = 2;
const SILENT_SECONDS = 12; // without a pong: the connection is dead, though nobody said so
const FIRST_WAIT = 0.25, MOST_WAIT = 4; // seconds between attempts
// For the answer to an attempt: a proxy whose server is away may take a connection and never say a word.
const FIRST_ANSWER = 5, MOST_ANSWER = 10; // seconds
const RTT_KEPT = 5;

export class Connection {
  // url: ws: or wss:. on: { event(event), state(state) }. WebSocket, now, setTimeout, clearTimeout: of the browser.
  constructor(url, on, env = globalThis) {
    this.url = url;
    this.session = new Session();
    this.rtts = []; // ms, the last few
    this._on = on;
    this._env = env;
    this._socket = this._timer = this._pinger = this._limit = null;
    this._pings = new Map(); // id: when it was sent
    this._pingCount = 0;
    this._wait = FIRST_WAIT;
    this._answer = FIRST_ANSWER;
    this._lostAt = 0;
    this._done = false;
  }

  // Milliseconds of the last ping, or for which one has been waiting in vain.
  get roundTrip() {
    const [oldest] = this._pings.values();
    return Math.max(this.rtts.at(-1) ?? 0, oldest === undefined ? 0 : this._now() - oldest);
  }

  open(hello) {
    this._connect(() => this.session.hello(hello), MOST_ANSWER);
  }

  // Says goodbye. Events of what comes after are not given.
  stop() {
    if (this._done) return;
    if (this.session.state === OPEN && this._socket?.readyState === 1) {
      this.session.goodbye();
      this.flush();
    }
    this._finish();
  }

  // Sends what the session has to say. Call after each call of the session.
  flush() {
    for (const message of this.session.takeOutgoing()) {
      if (this._socket?.readyState === 1) this._socket.send(message);
    }
    const { close } = this.session;
    if (close) this._socket?.close(close.code, close.reason);
  }

  // Breaks the connection as a network would. For tests of resuming.
  cut() {
    this._socket?.close(4000, "cut");
  }

  _now() {
    return this._env.performance.now();
  }

  // seconds: until the server must have answered `begin`.
  _connect(begin, seconds) {
    const socket = new this._env.WebSocket(this.url, [SUBPROTOCOL]);
    socket.binaryType = "arraybuffer";
    this._socket = socket;
    const current = (call) => (event) => this._socket === socket && call(event); // one that was given up may still speak
    socket.onopen = current(() => {
      begin();
      this.flush();
    });
    socket.onmessage = current(({ data }) => this._receive(data));
    socket.onclose = current(() => this._closed());
    this._limit = this._env.setTimeout(() => this._giveUp(), 1000 * seconds);
  }

  // Closing a dead socket takes a minute, so it is not waited for.
  _giveUp() {
    const dead = this._socket;
    this._closed();
    dead?.close(4000, "silent");
  }

  _receive(data) {
    const before = this.session.state;
    const events = this.session.receive(data);
    this.flush();
    if (before !== OPEN && this.session.state === OPEN) this._opened();
    for (const event of events) this._give(event);
  }

  _give(event) {
    if (this._done) return;
    if (event.type === "pong") this._ponged(event.id);
    if (event.type === "ended") this._finish();
    this._on.event(event);
  }

  _opened() {
    this._env.clearTimeout(this._limit);
    this._wait = FIRST_WAIT;
    this._answer = FIRST_ANSWER;
    this._lostAt = 0;
    this._pings.clear();
    this._ping();
    this._on.state(OPEN);
  }

  _ping() {
    this._env.clearTimeout(this._pinger);
    if (this._done || this.session.state !== OPEN) return;
    const [oldest] = this._pings.values();
    if (oldest !== undefined && this._now() - oldest > 1000 * SILENT_SECONDS) return void this._giveUp();
    const id = String(++this._pingCount);
    this._pings.set(id, this._now());
    this.session.ping(id);
    this.flush();
    this._pinger = this._env.setTimeout(() => this._ping(), 1000 * PING_SECONDS);
  }

  _ponged(id) {
    const sent = this._pings.get(id);
    if (sent === undefined) return;
    this._pings.clear(); // those before it will not come any more
    this.rtts = [...this.rtts, this._now() - sent].slice(-RTT_KEPT);
  }

  _closed() {
    this._env.clearTimeout(this._pinger);
    this._env.clearTimeout(this._limit);
    this._socket = null;
    if (this._done) return;
    const events = this.session.disconnected();
    const { state, welcome } = this.session;
    if (state === DETACHED) {
      this._lostAt ||= this._now();
      this._again(welcome.resume_seconds);
    }
    for (const event of events) {
      const early = event.type === "ended" && !welcome;
      this._give(early ? { ...event, code: "unreachable" } : event);
    }
    if (state === CLOSED && !this._done) this._give({ type: "ended", code: "unreachable", message: "no connection" });
  }

  _again(resumeSeconds) {
    const left = resumeSeconds - (this._now() - this._lostAt) / 1000;
    if (left <= 0) {
      this.session.abandon();
      this._give({ type: "ended", code: "resume_timeout", message: "the server could not be reached in time" });
      return;
    }
    this._on.state(DETACHED);
    const answer = this._answer;
    this._timer = this._env.setTimeout(
      () => this._connect(() => this.session.resume(), answer), 1000 * Math.min(this._wait, left),
    );
    this._wait = Math.min(2 * this._wait, MOST_WAIT);
    this._answer = Math.min(2 * answer, MOST_ANSWER);
  }

  _finish() {
    this._done = true;
    for (const timer of [this._timer, this._pinger, this._limit]) this._env.clearTimeout(timer);
    const socket = this._socket;
    this._socket = null;
    // The goodbye must get out, so an orderly close waits for the server's; one that never comes is not waited for.
    if (socket) this._env.setTimeout(() => socket.close(1000, "goodbye"), 500);
  }
}
