// One run of the page: a source of audio, a session with the server, a loudspeaker, and what is counted meanwhile.

import { AudioGraph, toFloat32, toInt16 } from "./audio.js";
import { Connection } from "./connection.js";
import { delayParts, median, total, withRest } from "./delay.js";
import { Pacer } from "./pacer.js";
import { OPEN } from "./session.js";

const STREAM_PATH = "v1/stream"; // beside the page
const PACKET_SECONDS = 0.01; // of audio in a packet: short, so that capture waits little
const MOST_DELAY = 2; // seconds that audio may be late, where nothing else is chosen
// Of these seconds, those that audio may be on its way to the server, and as many on its way back.
const WAY = 0.4;
const NOTICE_SECONDS = 5; // after audio was left out
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
  // hello: of the session, without pcm. wire: Hz of the codec, at which audio is sent. maxDelay: seconds. rate: Hz of the sound context, or null for the browser's own.
  // on: { event, state, levels(name, rms, peak, streams), ended() when a file is over, failed(code), notice(code, details): see
  // AudioGraph }.
  static async open({ hello, wire, maxDelay = MOST_DELAY, rate = null }, on) {
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
      { rate, wire, most: WAY * maxDelay },
    );
    const { wireRate } = live.graph;
    live.hello = { ...hello, max_delay: maxDelay, pcm: { format: "s16le", sample_rate: wireRate, channels: 1 } };
    live.pacer = new Pacer(wireRate, WAY * maxDelay);
    return live;
  }

  constructor(on) {
    this.on = on;
    this.bandwidth = this.codebooks = 0;
    this.members = new Map(); // id: member
    this.report = null; // the last one of the playback worklet
    this.statistics = null; // the last one of the server
    this.record = null; // { sent, received, played }: see debug.js
    this.pacer = null; // decides what is sent
    this.lost = 0; // samples that the server left out
    this._droppedAt = -Infinity; // when the server told last that it left something out
    this._told = 0; // samples that were not sent, and for which the server was told to take silence
    this._slow = { cause: null, until: 0 }; // why audio was left out lately: the notice's code
    this._captured = []; // { index, end }: where on the audio clock a block ended
    this._measured = []; // ms from capture to playback, lately
    this._fills = []; // seconds in the jitter buffer, lately
    this._known = new Set(); // streams that were heard
    this._asked = null;
    this._began = performance.now();
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

  // Milliseconds of sound that were lost, by where: never sent; missing at the server; left out by it, or too late.
  get loss() {
    const ms = (samples) => (1000 * samples) / this.graph.wireRate;
    const missing = Math.max(0, (this.statistics?.missing ?? 0) - this._told);
    return { unsent: ms(this.pacer.leftOut), missing: ms(missing), left: ms(this.lost) };
  }

  // Milliseconds in which the sound went on in place of what was lost or late: here, and at the server, which tells of
  // what did not come to it.
  get concealed() {
    const samples = (this.report?.concealed ?? 0) + (this.statistics?.server?.concealed ?? 0);
    return (1000 * samples) / this.graph.wireRate;
  }

  // Frames that were lost on either way.
  get lostFrames() {
    const { codec } = this.welcome, { unsent, missing, left } = this.loss;
    return Math.ceil((unsent + missing + left) / ((1000 * codec.hop_length) / codec.sample_rate));
  }

  // Seconds since it began.
  get seconds() {
    return (performance.now() - this._began) / 1000;
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

  // Seconds of audio that were sent and that the server has not acknowledged.
  get waiting() {
    return this.session.unacknowledgedSamples / this.graph.wireRate;
  }

  // Of what the delay is made: parts of { name, ms, what }, and whether their sum was measured. In a call the other end's
  // way to the server is not known, so the sum is the least that it can be.
  delay() {
    const { graph } = this, room = this.hello.mode === "room", rtt = median(this.connection.rtts);
    const block = (1000 * graph.block) / graph.wireRate;
    const usual = rtt + this.welcome.limits.acknowledge_every * block;
    const parts = delayParts({
      rtt, delays: this.welcome.delays, resampling: graph.resampling, block,
      input: graph.inputLatency, output: graph.outputLatency, waiting: 1000 * this.waiting - usual,
      cushion: 1000 * median(this._fills), room,
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
    if (this._flushed || !this.welcome) return;
    this._noticeSlow();
    // While the server is away what is said is lost: it would come late otherwise, and stay late.
    if (this.session.state !== OPEN || !this.session.writable) return void this.pacer.leave(samples.length);
    const chosen = this.pacer.take(samples, this.waiting + this.graph.age(position));
    if (this.pacer.leaving) this._leftOut(this._slowWay());
    if (chosen) this._send(chosen, position);
  }

  _send({ samples, gap }, position) {
    const wire = toInt16(samples);
    const index = this.session.sendPcm(wire, gap);
    this._told += gap;
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

  // What keeps audio from being on time, as far as it can be told: pings go the same way as audio, and the server answers
  // them also when it cannot take more.
  _slowWay() {
    // Over a slow way back acknowledgements are late too.
    if (performance.now() - this._droppedAt < 1000 * NOTICE_SECONDS) return "slow_downlink";
    return this.connection.roundTrip / 1000 > this.pacer.bound / 4 ? "slow_uplink" : "slow_server";
  }

  _leftOut(cause) {
    if (this._slow.cause && this._slow.cause !== cause) this.on.notice(this._slow.cause, null);
    this._slow = { cause, until: performance.now() + 1000 * NOTICE_SECONDS };
    this.on.notice(cause, {});
  }

  _noticeSlow() {
    if (!this._slow.cause || performance.now() < this._slow.until) return;
    this.on.notice(this._slow.cause, null);
    this._slow.cause = null;
  }

  _report(report) {
    this.report = report;
    this._fills = [...this._fills, report.fill].slice(-MEASURED_KEPT);
    this.on.levels("output", report.rms, report.peak, report.levels);
    if (this._draining && report.streams === 0) return this.on.ended();
    if (report.streams && this.hello.mode !== "room") this._measure(report);
  }

  // Where on the audio clock the sample `index` was captured, if it is known.
  _capturedAt(index) {
    const block = this._captured.find((one) => one.index > index);
    return block ? block.end - ((block.index - index) * this.graph.rate) / this.graph.wireRate : null;
  }

  // How late the sample is that is played now, or waited for.
  _measure({ source, position }) {
    const captured = this._capturedAt(source);
    if (captured === null) return;
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
      case "dropped":
        this._droppedAt = performance.now();
        this._leftOut("slow_downlink");
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
