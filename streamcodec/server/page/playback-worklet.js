// Plays what the server sends: a jitter buffer for each speaker, mixed, and resampled to the rate of the sound context.
//
// Options of the processor: rate, of what the server sends (Hz), and most, the seconds that may wait of a speaker.
// To it: { samples, stream, index, gap, last } one packet; { end: stream } no more comes; { clear } forget all;
//        { tap: true or false } whether played blocks are to be posted back.
// From it, ten times a second: { report }, the figures below; and { played, position } while it is tapped, at the
// server's rate.

import { Playout } from "./playout.js";
import { Resampler } from "./resampler.js";

const REPORTS_PER_SECOND = 10;

class Playback extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate, most } }) {
    super();
    this._rate = rate;
    this._most = most;
    this._resampler = new Resampler(rate, sampleRate);
    this._streams = new Map();
    this._past = { underruns: 0, cuts: 0, gaps: 0, received: 0, missing: 0, concealed: 0 }; // of streams that are gone
    this._tap = false;
    this._position = this._square = this._peak = this._measured = 0;
    this.port.onmessage = ({ data }) => this._take(data);
  }

  _take(message) {
    if (message.samples) {
      let playout = this._streams.get(message.stream);
      if (!playout) {
        playout = new Playout(this._rate, { most: this._most });
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
    out.set(this._resampler.push(this._mixed(this._resampler.needed(out.length)), out.length));
    for (const value of out) {
      this._square += value * value;
      this._peak = Math.max(this._peak, Math.abs(value));
    }
    this._measured += out.length;
    if (this._measured >= sampleRate / REPORTS_PER_SECOND) this._report();
    return true;
  }

  // The next `count` samples at the server's rate.
  _mixed(count) {
    const mix = new Float32Array(count);
    for (const [stream, playout] of this._streams) {
      playout.mix(mix);
      if (playout.done) {
        this._forget(playout);
        this._streams.delete(stream);
      }
    }
    if (this._tap) this.port.postMessage({ played: mix.slice(), position: this._position });
    this._position += count;
    return mix;
  }

  _report() {
    const report = { ...this._past, fill: 0, target: 0, playing: 0, streams: this._streams.size, levels: [] };
    for (const [stream, playout] of this._streams) {
      // The sample that is heard when this quantum is over; where nothing plays, the one that is waited for.
      const source = playout.source - this._resampler.delay * this._rate;
      Object.assign(report, { stream, source, position: currentFrame + 128 });
      for (const name of Object.keys(this._past)) report[name] += playout[name];
      report.fill = Math.max(report.fill, playout.fill / this._rate);
      report.target = Math.max(report.target, playout.target / this._rate);
      report.playing += playout.playing ? 1 : 0;
      report.levels.push([stream, playout.takeLevel()]);
    }
    report.rms = Math.sqrt(this._square / this._measured);
    report.peak = this._peak;
    this._square = this._peak = this._measured = 0;
    this.port.postMessage({ report });
  }
}

registerProcessor("streamcodec-playback", Playback);
