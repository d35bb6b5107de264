// Carries a Session over WebSockets: opens, pings, and opens again where the connection was lost.

import { CLOSED, DETACHED, OPEN, Session } from "./session.js";
import { SUBPROTOCOL } from "./wire.js";

const PING_SECONDS = 2;
const SILENT_SECONDS = 12; // without a pong: the connection is dead, though nobody said so
const FIRST_WAIT = 0.25, MOST_WAIT = 4; // seconds between attempts
const RTT_KEPT = 5;

export class Connection {
  // url: ws: or wss:. on: { event(event), state(state) }. WebSocket, now, setTimeout, clearTimeout: of the browser.
  constructor(url, on, env = globalThis) {
    this.url = url;
    this.session = new Session();
    this.rtts = []; // ms, the last few
    this._on = on;
    this._env = env;
    this._socket = this._timer = this._pinger = null;
    this._pings = new Map(); // id: when it was sent
    this._pingCount = 0;
    this._wait = FIRST_WAIT;
    this._lostAt = 0;
    this._done = false;
  }

  open(hello) {
    this._connect(() => this.session.hello(hello));
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

  _connect(begin) {
    const socket = new this._env.WebSocket(this.url, [SUBPROTOCOL]);
    socket.binaryType = "arraybuffer";
    this._socket = socket;
    socket.onopen = () => {
      begin();
      this.flush();
    };
    socket.onmessage = ({ data }) => this._receive(data);
    socket.onclose = () => {
      if (this._socket === socket) this._closed();
    };
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
    this._wait = FIRST_WAIT;
    this._lostAt = 0;
    this._pings.clear();
    this._ping();
    this._on.state(OPEN);
  }

  _ping() {
    this._env.clearTimeout(this._pinger);
    if (this._done || this.session.state !== OPEN) return;
    const [oldest] = this._pings.values();
    if (oldest !== undefined && this._now() - oldest > 1000 * SILENT_SECONDS) {
      const dead = this._socket;
      this._closed(); // closing a dead socket takes a minute
      dead.close(4000, "silent");
      return;
    }
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
    if ((this._now() - this._lostAt) / 1000 > resumeSeconds) {
      this.session.abandon();
      this._give({ type: "ended", code: "resume_timeout", message: "the server could not be reached in time" });
      return;
    }
    this._on.state(DETACHED);
    this._timer = this._env.setTimeout(() => this._connect(() => this.session.resume()), 1000 * this._wait);
    this._wait = Math.min(2 * this._wait, MOST_WAIT);
  }

  _finish() {
    this._done = true;
    this._env.clearTimeout(this._timer);
    this._env.clearTimeout(this._pinger);
    const socket = this._socket;
    this._socket = null;
    // The goodbye must get out, so an orderly close waits for the server's; one that never comes is not waited for.
    if (socket) this._env.setTimeout(() => socket.close(1000, "goodbye"), 500);
  }
}
