// Plays what the server sends: a jitter buffer for each speaker, mixed.
//
// To it: { samples, stream, index, gap, last } one packet; { end: stream } no more comes; { clear } forget all;
//        { tap: true or false } whether played blocks are to be posted back.
// From it, ten times a second: { report }, the figures below; and { played, position } while it is tapped.

import { Playout } from "./playout.js";

const REPORTS_PER_SECOND = 10;

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this._streams = new Map();
    this._past = { underruns: 0, cuts: 0, gaps: 0 }; // of streams that are gone
    this._tap = false;
    this._position = this._square = this._peak = this._measured = 0;
    this.port.onmessage = ({ data }) => this._take(data);
  }

  _take(message) {
    if (message.samples) {
      let playout = this._streams.get(message.stream);
      if (!playout) {
        playout = new Playout(sampleRate);
        this._streams.set(message.stream, playout);
        message.gap = 0; // before a listener came is no gap to be heard
      }
      playout.push(message.samples, message);
    } else if ("end" in message) {
      this._streams.get(message.end)?.end();
    } else if (message.clear) {
      for (const playout of this._streams.values()) this._forget(playout);
      this._streams.clear();
    } else if ("tap" in message) {
      this._tap = message.tap;
    }
  }

  _forget(playout) {
    for (const name of Object.keys(this._past)) this._past[name] += playout[name];
  }

  process(inputs, [[out]]) {
    out.fill(0);
    for (const [stream, playout] of this._streams) {
      playout.mix(out);
      if (playout.done) {
        this._forget(playout);
        this._streams.delete(stream);
      }
    }
    for (const value of out) {
      this._square += value * value;
      this._peak = Math.max(this._peak, Math.abs(value));
    }
    if (this._tap) this.port.postMessage({ played: out.slice(), position: this._position });
    this._position += out.length;
    this._measured += out.length;
    if (this._measured >= sampleRate / REPORTS_PER_SECOND) this._report();
    return true;
  }

  _report() {
    const report = { ...this._past, fill: 0, target: 0, playing: 0, streams: this._streams.size };
    for (const [stream, playout] of this._streams) {
      if (playout.playing) Object.assign(report, { stream, source: playout.source, position: currentFrame + 128 });
      for (const name of Object.keys(this._past)) report[name] += playout[name];
      report.fill = Math.max(report.fill, playout.fill / sampleRate);
      report.target = Math.max(report.target, playout.target / sampleRate);
      report.playing += playout.playing ? 1 : 0;
    }
    report.rms = Math.sqrt(this._square / this._measured);
    report.peak = this._peak;
    this._square = this._peak = this._measured = 0;
    this.port.postMessage({ report });
  }
}

registerProcessor("streamcodec-playback", Playback);
