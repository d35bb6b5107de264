// One run of the page: a source of audio, a session with the server, a loudspeaker, and what is counted meanwhile.

import { AudioGraph, toFloat32, toInt16 } from "./audio.js";
import { Connection } from "./connection.js";
import { delayParts, median, total, withRest } from "./delay.js";
import { OPEN } from "./session.js";

const STREAM_PATH = "v1/stream"; // beside the page
const PACKET_SECONDS = 0.01; // of audio in a packet: short, so that capture waits little
const SHARE = 0.5; // of the messages that the server allows, for audio
const STATISTICS_SECONDS = 2;
const CAPTURED_KEPT = 2000; // blocks whose time is remembered: 20 s
const MEASURED_KEPT = 20; // reports of the playback: 2 s

export function streamUrl(page) {
  const url = new URL(STREAM_PATH, page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.hash = url.search = "";
  return url.href;
}

export class Live {
  // hello: of the session, without pcm. rate: Hz of the sound context, or null for the browser's own.
  // on: { event, state, levels(name, rms, peak), ended() when a file is over, failed(code), notice(code, details): see
  // AudioGraph }.
  static async open({ hello, rate = null }, on) {
    const live = new Live(on);
    live.graph = await AudioGraph.open(
      {
        block: (block) => live._block(block),
        report: (report) => live._report(report),
        ended: () => live._sourceEnded(),
        played: (played) => live.record?.played.push(played),
        failed: on.failed,
        notice: on.notice,
      },
      { rate },
    );
    live.hello = { ...hello, pcm: { format: "s16le", sample_rate: live.graph.rate, channels: 1 } };
    return live;
  }

  constructor(on) {
    this.on = on;
    this.bandwidth = this.codebooks = 0;
    this.members = new Map(); // id: member
    this.report = null; // the last one of the playback worklet
    this.statistics = null; // the last one of the server
    this.record = null; // { sent, received, played }: see debug.js
    this.skipped = 0; // samples that were not sent, since the server did not take them
    this.lost = 0; // samples that the server left out
    this._captured = []; // { index, end }: where on the audio clock a block ended
    this._measured = []; // ms from capture to playback, lately
    this._fills = []; // seconds in the jitter buffer, lately
    this._known = new Set(); // streams that were heard
    this._asked = null;
    this._rates = { at: performance.now(), sent: 0, received: 0, up: 0, down: 0 };
    this._flushed = false; // the file is over, and the server knows
    this._draining = false; // all has come, and is played out
    this.connection = new Connection(streamUrl(document.baseURI), {
      event: (event) => this._event(event),
      state: (state) => this._state(state),
    });
  }

  get session() {
    return this.connection.session;
  }

  get welcome() {
    return this.session.welcome;
  }

  connect() {
    this.connection.open(this.hello);
  }

  async stop() {
    clearInterval(this._asked);
    this.connection.stop();
    await this.graph.close();
  }

  changeBandwidth(bandwidth) {
    if (!this.welcome || !this.session.writable) return;
    this.session.changeBandwidth(bandwidth);
    this.connection.flush();
  }

  // Figures

  // kbit/s of the codes.
  get bitrate() {
    const { codec } = this.welcome;
    return (this.codebooks * codec.bits * codec.sample_rate) / codec.hop_length / 1000;
  }

  // Frames that were lost on either way; silence stands for them.
  get lostFrames() {
    const { codec } = this.welcome;
    const missing = this.statistics?.missing ?? 0;
    const frame = (codec.hop_length * this.graph.rate) / codec.sample_rate;
    return Math.ceil((this.lost + this.skipped + missing) / frame);
  }

  // kbit/s over the network since the last call: [up, down].
  linkRates() {
    const now = performance.now(), { at, sent, received } = this._rates;
    if (now - at > 900) {
      const { sentBytes, receivedBytes } = this.session;
      const up = (8 * (sentBytes - sent)) / (now - at), down = (8 * (receivedBytes - received)) / (now - at);
      this._rates = { at: now, sent: sentBytes, received: receivedBytes, up, down };
    }
    return [this._rates.up, this._rates.down];
  }

  // Of what the delay is made: parts of { name, ms, what }, and whether their sum was measured.
  delay() {
    const { graph } = this, { rate } = graph;
    const parts = delayParts({
      rtt: median(this.connection.rtts), delays: this.welcome.delays, block: (1000 * graph.block) / rate,
      input: graph.inputLatency, output: graph.outputLatency, cushion: 1000 * median(this._fills),
      room: this.hello.mode === "room",
    });
    const path = median(this._measured);
    if (!path) return { parts, measured: false };
    return { parts: withRest(parts, graph.inputLatency + path + graph.outputLatency), measured: true };
  }

  // Seconds by which what comes back trails what went in.
  get pathSeconds() {
    return (median(this._measured) || total(this.delay().parts)) / 1000;
  }

  // Audio to the server

  _block({ samples, rms, peak, position }) {
    this.on.levels("input", rms, peak);
    // While the server is away what is said is lost: it would come late otherwise, and stay late.
    if (this.session.state !== OPEN || !this.session.writable || this._flushed) {
      if (this.welcome && !this._flushed) this.skipped += samples.length;
      return;
    }
    const wire = toInt16(samples);
    const index = this.session.sendPcm(wire);
    this.record?.sent.push({ index, samples: wire });
    this._captured.push({ index: index + samples.length, end: position });
    if (this._captured.length > CAPTURED_KEPT) this._captured.shift();
    this.connection.flush();
  }

  // A file is over: what is still in the codec comes out, and then `flushed`.
  _sourceEnded() {
    this._flushed = true;
    this.graph.pause();
    if (!this.session.writable) return this.on.ended();
    this.session.flush();
    this.connection.flush();
  }

  // Audio from the server

  _packet({ stream, index, samples, gap, last }) {
    const first = !this._known.has(stream);
    this._known.add(stream);
    if (!(first && this.hello.mode === "room")) this.lost += gap;
    this.record?.received.push({ stream, index, samples });
    this.graph.play(toFloat32(samples), { stream, index, gap, last });
  }

  _report(report) {
    this.report = report;
    this._fills = [...this._fills, report.fill].slice(-MEASURED_KEPT);
    this.on.levels("output", report.rms, report.peak);
    if (this._draining && report.streams === 0) return this.on.ended();
    if (report.playing && this.hello.mode !== "room") this._measure(report);
  }

  // Where on the audio clock the sample that is played now was captured.
  _measure({ source, position }) {
    const block = this._captured.find(({ index }) => index > source);
    if (!block) return;
    const captured = block.end - (block.index - source);
    this._measured = [...this._measured, (1000 * (position - captured)) / this.graph.rate].slice(-MEASURED_KEPT);
  }

  // The session

  _event(event) {
    switch (event.type) {
      case "pcm":
        this._packet(event);
        return;
      case "welcome":
        this._welcomed(event);
        break;
      case "bandwidth":
        this.bandwidth = event.bandwidth;
        this.codebooks = event.codebooks;
        break;
      case "statistics":
        this.statistics = event;
        break;
      case "joined":
        this.members.set(event.member.id, event.member);
        break;
      case "left":
        this.members.delete(event.id);
        this._known.delete(event.stream);
        this.graph.end(event.stream);
        break;
      case "flushed":
        this._draining = true;
        break;
    }
    this.on.event(event);
  }

  _welcomed(welcome) {
    this.bandwidth = welcome.bandwidth;
    this.codebooks = welcome.codebooks;
    for (const member of welcome.room?.members ?? []) this.members.set(member.id, member);
    this.graph.run(Math.max(PACKET_SECONDS, 1 / (SHARE * welcome.limits.messages_per_second)));
    this._asked = setInterval(() => {
      if (this.session.state !== OPEN) return;
      this.session.askStatistics();
      this.connection.flush();
    }, 1000 * STATISTICS_SECONDS);
  }

  _state(state) {
    this.on.state(state);
  }
}
