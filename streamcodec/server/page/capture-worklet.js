// Cuts what comes in into blocks of one length, for the main thread: { samples, peak, rms, position }.
// Several channels are mixed to one, and resampled to `rate`, an option of the processor (Hz).
// position: the audio clock where the block's last sample ends, in samples of the sound context.
// To it: { block }, the samples of one, or 0 to pause.

import { Resampler } from "./resampler.js";

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this._rate = rate;
    this._begin(0);
    this.port.onmessage = ({ data }) => this._begin(data.block);
  }

  _begin(block) {
    this._block = new Float32Array(block);
    this._filled = 0;
    this._resampler = new Resampler(sampleRate, this._rate);
    this._start = null; // the audio clock at the first sample
    this._count = 0; // samples that have come out of the resampler
  }

  process([channels]) {
    if (!this._block.length) return true;
    this._start ??= currentFrame;
    for (const value of this._resampler.push(mixed(channels))) {
      this._block[this._filled++] = value;
      this._count++;
      if (this._filled === this._block.length) this._post();
    }
    return true;
  }

  _post() {
    const samples = this._block;
    let square = 0, peak = 0;
    for (const value of samples) {
      square += value * value;
      peak = Math.max(peak, Math.abs(value));
    }
    this._block = new Float32Array(samples.length);
    this._filled = 0;
    const position = this._start + (this._count * sampleRate) / this._rate;
    this.port.postMessage({ samples, peak, rms: Math.sqrt(square / samples.length), position }, [samples.buffer]);
  }
}

// A source that has not begun has no channels: silence.
function mixed(channels) {
  const out = new Float32Array(channels[0]?.length ?? 128);
  for (const channel of channels) {
    for (let n = 0; n < out.length; n++) out[n] += channel[n] / channels.length;
  }
  return out;
}

registerProcessor("streamcodec-capture", Capture);
