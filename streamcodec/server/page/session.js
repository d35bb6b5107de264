// The client's end of one session of docs/protocol.md. It knows no socket, clock or page: messages in, events out.
//
//   const session = new Session();
//   session.hello({ mode: "roundtrip", pcm: { format: "s16le", sample_rate: 48000, channels: 1 } });
//   for (const message of session.takeOutgoing()) socket.send(message);      // after each call
//   for (const event of session.receive(message)) ...                        // after each message of the socket
//
// When the connection is lost call `disconnected`; if `state` is DETACHED then, connect again and call `resume`.
//
// Events are objects with a type. Texts of the server that a host must see are events as they came. Besides:
//   { type: "pcm", stream, index, samples, gap, last }   gap: samples that are missing before it
//   { type: "lost", code }                               the connection is of no more use; the session waits
//   { type: "ended", code, message, allowed?, retry_after? }

import { PCM, PacketError, VERSION, decodePacket, encodePacket } from "./wire.js";

export const START = "start", HANDSHAKE = "handshake", OPEN = "open", DETACHED = "detached", CLOSED = "closed";

const MODULUS = 2 ** 32;
const MAX_HELD = 8192; // messages that wait for an acknowledgement
const NUMBERED = new Set(["bandwidth", "marker", "flushed", "codebooks", "dropped", "joined", "left"]);
const UNNUMBERED = new Set(["welcome", "resumed", "ack", "statistics", "pong", "error", "goodbye"]);
const CLOSES = { bad_message: 4400, bad_state: 4409, bad_crc: 4430, sequence_gap: 4431, unsupported_version: 4426,
  index_gap: 4423, not_finite: 4421, resume_gap: 4452 };
const MENDABLE = new Set(["bad_crc", "sequence_gap"]);

// The server broke the protocol. code: that of the protocol's table.
class Fault extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export class Session {
  constructor() {
    this.state = START;
    this.close = null; // { code, reason }: how the host is to close the connection after the outgoing messages
    this.welcome = null;
    this.sentBytes = this.receivedBytes = 0;
    this._hello = null;
    this._out = [];
    this._held = []; // numbered messages, kept until the server has them
    this._heldBytes = this._heldSamples = 0;
    this._next = 0; // the number of the next message to send
    this._expected = 0; // the number of the next one to receive
    this._holds = false; // whether any has come
    this._sinceAck = this._bytesSinceAck = 0;
    this._indexOut = 0;
    this._indexIn = new Map(); // stream: the index expected
    this._streams = new Map(); // member id: its stream
  }

  // To the server

  hello(values) {
    this._require(START);
    this._hello = { type: "hello", version: VERSION, ...values };
    this.state = HANDSHAKE;
    this._say(this._hello);
  }

  // On a new connection.
  resume() {
    this._require(DETACHED);
    this.close = null;
    this.state = HANDSHAKE;
    const { token } = this.welcome;
    const held = this._holds ? { last_sequence: (this._expected + MODULUS - 1) % MODULUS } : {};
    this._say({ type: "resume", version: VERSION, token, ...held });
  }

  // samples: Int16Array or Float32Array as the format agreed has it, interleaved. gap: samples a channel that were left
  // out before them. Returns the index of the first.
  sendPcm(samples, gap = 0) {
    this._require(OPEN, DETACHED);
    const { format, channels = 1 } = this._hello.pcm;
    const count = samples.length / channels, index = this._indexOut + gap;
    const packet = { kind: PCM, stream: 0, index, count, depth: channels, width: format === "s16le" ? 16 : 32,
      last: false, discontinuity: gap > 0, crc: this.welcome.crc, samples };
    this._number((sequence) => encodePacket({ ...packet, sequence }), count);
    this._indexOut = index + count;
    return index;
  }

  changeBandwidth(bandwidth) {
    this._sayNumbered({ type: "bandwidth", bandwidth });
  }

  mark(id) {
    this._sayNumbered({ type: "marker", id });
  }

  // The stream ends; the next packet begins another one.
  flush() {
    this._sayNumbered({ type: "flush" });
    this._indexOut = 0;
  }

  askStatistics() {
    this._require(OPEN);
    this._say({ type: "statistics" });
  }

  ping(id) {
    this._require(OPEN);
    this._say({ type: "ping", id });
  }

  goodbye() {
    this._require(OPEN);
    this._say({ type: "goodbye" });
  }

  // Whether more packets may be sent. While detached they wait for the resume.
  get writable() {
    if (this.state !== OPEN && this.state !== DETACHED) return false;
    return this._heldBytes < this.welcome.limits.unacknowledged_bytes && this._held.length < MAX_HELD;
  }

  get unacknowledgedBytes() {
    return this._heldBytes;
  }

  // Samples a channel in them.
  get unacknowledgedSamples() {
    return this._heldSamples;
  }

  // What has to go out now, in order: strings and Uint8Arrays, each once.
  takeOutgoing() {
    const out = this._out;
    this._out = [];
    return out;
  }

  // From the server

  // message: a string, an ArrayBuffer or a Uint8Array. Never throws for what a server sent.
  receive(message) {
    if (this.close || (this.state !== HANDSHAKE && this.state !== OPEN)) return [];
    const size = typeof message === "string" ? message.length : message.byteLength;
    this.receivedBytes += size;
    try {
      return typeof message === "string" ? this._receiveText(message, size) : this._receivePacket(message, size);
    } catch (error) {
      if (!(error instanceof Fault || error instanceof PacketError)) throw error;
      this.close = { code: CLOSES[error.code] ?? 4400, reason: error.code };
      return MENDABLE.has(error.code) ? this._lose(error.code, error.message) : [this._end(error.code, error.message)];
    }
  }

  // The connection is gone, whoever closed it.
  disconnected() {
    this._out = [];
    this.close = null;
    if (this.state === HANDSHAKE || this.state === OPEN) return this._lose("lost", "The connection was lost.");
    if (this.state !== DETACHED) this.state = CLOSED;
    return [];
  }

  // Nobody will resume it.
  abandon() {
    this.state = CLOSED;
  }

  // Inside

  _require(...states) {
    if (!states.includes(this.state)) throw new Error(`the session is ${this.state}`);
  }

  _send(message) {
    this.sentBytes += message.length;
    this._out.push(message);
  }

  _say(values) {
    this._send(JSON.stringify(values));
  }

  _number(make, samples = 0) {
    const message = make(this._next);
    this._next = (this._next + 1) % MODULUS;
    if (this.welcome.token != null) {
      this._held.push({ message, samples });
      this._heldBytes += message.length;
      this._heldSamples += samples;
    }
    if (this.state === OPEN) this._send(message);
  }

  _sayNumbered({ type, ...values }) {
    this._require(OPEN, DETACHED);
    this._number((sequence) => JSON.stringify({ type, sequence, ...values }));
  }

  _take(sequence, size) {
    if (sequence !== this._expected) {
      throw new Fault("sequence_gap", `message ${sequence} came where ${this._expected} was expected`);
    }
    this._expected = (sequence + 1) % MODULUS;
    this._holds = true;
    this._sinceAck += 1;
    this._bytesSinceAck += size;
  }

  _acknowledge() {
    const { token, limits } = this.welcome;
    const due = this._sinceAck >= limits.acknowledge_every || this._bytesSinceAck >= limits.unacknowledged_bytes / 4;
    if (token == null || !due || this.state !== OPEN) return;
    this._sinceAck = this._bytesSinceAck = 0;
    this._say({ type: "ack", sequence: (this._expected + MODULUS - 1) % MODULUS });
  }

  // The server has all up to this number. False if that was never sent.
  _acknowledged(sequence) {
    const behind = (this._next - 1 - sequence + 2 * MODULUS) % MODULUS;
    if (behind >= MODULUS / 2) return false;
    while (this._held.length > behind) {
      const { message, samples } = this._held.shift();
      this._heldBytes -= message.length;
      this._heldSamples -= samples;
    }
    return true;
  }

  _receiveText(text, size) {
    let values = null;
    try {
      values = JSON.parse(text);
    } catch {
      // told below
    }
    const type = values?.type;
    if (!NUMBERED.has(type) && !UNNUMBERED.has(type)) throw new Fault("bad_message", "a text of no type there is");
    if (NUMBERED.has(type)) {
      if (this.state !== OPEN) throw new Fault("bad_state", `${type} before welcome or resumed`);
      this._take(values.sequence, size);
      this._acknowledge();
    }
    const answer = type === "welcome" || type === "resumed";
    if (type !== "error" && type !== "goodbye" && answer !== (this.state === HANDSHAKE)) {
      throw new Fault("bad_state", `${type} in a session that is ${this.state}`);
    }
    return this[`_on_${type}`]?.(values) ?? [values];
  }

  _on_welcome(values) {
    if (this.welcome) throw new Fault("bad_state", "welcome where resumed is expected");
    this.welcome = values;
    for (const member of values.room?.members ?? []) this._streams.set(member.id, member.stream);
    this.state = OPEN;
  }

  _on_resumed(values) {
    if (!this.welcome) throw new Fault("bad_state", "resumed where welcome is expected");
    const last = values.last_sequence ?? null; // none of this client's
    const lacking = (this._next - (last === null ? 0 : last + 1) + MODULUS) % MODULUS;
    if (lacking > this._held.length) throw new Fault("resume_gap", "the server lacks what is not held here any more");
    if (last !== null) this._acknowledged(last);
    this.state = OPEN;
    for (const { message } of this._held) this._send(message);
  }

  _on_ack(values) {
    if (!this._acknowledged(values.sequence)) throw new Fault("bad_message", "ack of a number that was not sent");
    return [];
  }

  _on_joined({ member }) {
    this._streams.set(member.id, member.stream);
  }

  // The number of its stream may be given to another.
  _on_left(values) {
    const stream = this._streams.get(values.id) ?? null;
    this._indexIn.delete(stream);
    this._streams.delete(values.id);
    return [{ ...values, stream }];
  }

  _on_error(values) {
    if (values.scope === "message") return [values];
    if (values.scope === "connection") return [values, ...this._lose(values.code, values.message)];
    this.close = { code: 1000, reason: values.code };
    return [this._end(values.code, values.message, values)];
  }

  _on_goodbye(values) {
    this.close = { code: 1000, reason: "goodbye" };
    return [this._end(values.reason === "client" ? "goodbye" : values.reason, values.message, values)];
  }

  _receivePacket(data, size) {
    if (this.state !== OPEN) throw new Fault("bad_state", "a packet before welcome or resumed");
    const packet = decodePacket(data);
    this._take(packet.sequence, size);
    this._acknowledge();
    const { format, channels = 1 } = this._hello.pcm;
    if (packet.kind !== PCM || packet.depth !== channels || packet.width !== (format === "s16le" ? 16 : 32)) {
      throw new Fault("bad_message", "a packet of a kind that was not agreed");
    }
    const { stream, index, count, samples, last, discontinuity } = packet;
    const expected = this._indexIn.get(stream) ?? 0;
    if (index < expected || discontinuity !== index > expected) {
      throw new Fault("index_gap", `index ${index} where ${expected} was expected`);
    }
    this._indexIn.set(stream, last ? 0 : index + count);
    return [{ type: "pcm", stream, index, samples, gap: index - expected, last }];
  }

  _lose(code, message) {
    if (this.welcome?.token == null) return [this._end(code, message)];
    this.state = DETACHED;
    return [{ type: "lost", code }];
  }

  _end(code, message, { allowed, retry_after } = {}) {
    this.state = CLOSED;
    this._held = [];
    this._heldBytes = this._heldSamples = 0;
    return { type: "ended", code, message, allowed, retry_after };
  }
}
