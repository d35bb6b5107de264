// Sample rates, streamed: the filter of streamcodec/resample.py, sample for sample. No dependencies: it runs in worklets.
//
// A windowed sinc with 24 zero crossings of the lower rate on each side and a Kaiser window: what would alias is 70 dB
// down, and 24 samples of the lower rate are held back.

const CROSSINGS = 24, BETA = 6.76, CUTOFF = 0.91;

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

// The modified Bessel function of order 0, by its power series.
function bessel0(x) {
  let sum = 1, term = 1;
  for (let n = 1; term > 1e-12 * sum; n++) sum += term *= (x / (2 * n)) ** 2;
  return sum;
}

function tapsOf(up, half, cutoff) {
  const width = 2 * half, taps = new Float32Array(up * width);
  for (let phase = 0; phase < up; phase++) {
    const values = new Float64Array(width);
    for (let n = 0; n < width; n++) {
      const offset = n + 1 - half - phase / up, x = Math.PI * cutoff * offset;
      const window = bessel0(BETA * Math.sqrt(Math.max(0, 1 - (offset / half) ** 2))) / bessel0(BETA);
      values[n] = (x ? Math.sin(x) / x : 1) * window;
    }
    const sum = values.reduce((a, b) => a + b);
    for (let n = 0; n < width; n++) taps[phase * width + n] = values[n] / sum;
  }
  return taps;
}

export class Resampler {
  // source, target: Hz, whole numbers.
  constructor(source, target) {
    const common = gcd(source, target), lower = Math.min(1, target / source);
    this.source = source;
    this.target = target;
    this._same = source === target;
    this._up = target / common;
    this._down = source / common;
    this._half = this._same ? 0 : Math.ceil(CROSSINGS / lower);
    this._taps = this._same ? null : tapsOf(this._up, this._half, CUTOFF * lower);
    this._held = new Float32Array(Math.max(0, this._half - 1)); // before the first sample there is silence
    this._numerator = 0; // of the next output's place after the first held sample's centre, in 1 / up input samples
  }

  // Seconds by which what comes out is late.
  get delay() {
    return this._half / this.source;
  }

  // Input samples without which `count` more cannot come out.
  needed(count) {
    if (this._same) return count;
    const last = Math.floor((this._numerator + (count - 1) * this._down) / this._up) + 2 * this._half;
    return Math.max(0, last - this._held.length);
  }

  // More input, a Float32Array; the output that is final now, at most so many samples. What is more comes with the next.
  push(samples, most = Infinity) {
    if (this._same) return samples;
    const held = new Float32Array(this._held.length + samples.length), width = 2 * this._half;
    held.set(this._held);
    held.set(samples, this._held.length);
    const ready = Math.max(0, Math.ceil(((held.length - width + 1) * this._up - this._numerator) / this._down));
    const out = new Float32Array(Math.min(ready, most));
    for (let n = 0; n < out.length; n++, this._numerator += this._down) {
      const first = Math.floor(this._numerator / this._up), tap = (this._numerator % this._up) * width;
      let sum = 0;
      for (let k = 0; k < width; k++) sum += held[first + k] * this._taps[tap + k];
      out[n] = sum;
    }
    const done = Math.min(Math.floor(this._numerator / this._up), held.length);
    this._numerator -= done * this._up;
    this._held = held.slice(done);
    return out;
  }
}
