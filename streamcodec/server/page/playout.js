// The jitter buffer: a cushion of samples that takes up what the network and the page are late by, and no clicks where
// it fails. The rules are those of streamcodec/live/playout.py. It runs in a worklet and in node.
//
// Playing begins when a cushion is there. Where the cushion does not last (an underrun), the sound goes on for up to
// 70 ms and fades, the cushion grows, and the sound fades in when the new one is full. Where for 3 s there was always
// more than needed, the surplus is left out under a crossfade; at once, where more waits than may. For what the server
// left out (DISCONTINUITY) the sound goes on and fades too, then it is silence, and blends into what comes after.

import { FADED_SECONDS, FADE_SECONDS, HISTORY_SECONDS, KEPT_SECONDS, continued } from "./continuing.js";

const FIRST_MARGIN = 0.04; // a page's main thread draws and collects garbage: tens of milliseconds
const MORE_MARGIN = 0.02; // added by every underrun
const MOST_MARGIN = 0.4; // beyond this a conversation is lost anyway
const LEAST_MARGIN = 0.02;
const WINDOW = 3; // seconds over which samples must not have been needed before they are cut
const SHORT_WINDOW = 1, MUCH = 0.1; // a surplus of so much, as after a pause of the network, is cut sooner
const CAPACITY = 12; // seconds: more than the server may send at once
const MOST_GAP = 1; // seconds that stand for one gap; a listener that comes late has missed all before

const NO_EVENTS = 256; // changes of course that are remembered, so that memory is bounded

export class Playout {
  // rate: Hz. packet: seconds that come at a time. base: seconds by which the cushion must be larger for the blocks of
  // the device. most: seconds that may wait.
  //
  // Counted, in samples: received; missing, which the server left out; concealed, in which the sound went on in place
  // of missing or late ones; silence, in which nothing was played.
  constructor(rate, { packet = 0.02, base = 0.005, margin = FIRST_MARGIN, most = CAPACITY } = {}) {
    this.rate = rate;
    this.fade = Math.max(1, Math.round(FADE_SECONDS * rate));
    this.underruns = this.cuts = this.gaps = this.position = 0;
    this.received = this.missing = this.concealed = this.silence = 0;
    this.playing = false;
    this.events = []; // { kind, position, source }: what is played from `position` on is what came as `source`
    this._ring = new Float32Array(Math.round(CAPACITY * rate));
    this._read = this._fill = 0;
    this._index = 0; // of the sample after the last one pushed, in its stream
    this._burst = Math.round(packet * rate);
    this._base = Math.round(base * rate);
    this._margin = Math.round(margin * rate);
    this._most = Math.round(most * rate);
    this._ended = true; // no stream yet: that nothing comes is no underrun
    this._written = 0; // samples of this stretch that were written to the ring
    this._joint = new Float32Array(0); // how the sound goes on that stood for a gap: blends into what comes after
    this._blended = this.fade; // samples of that which were pushed
    this._up = this.fade; // how far the gain has risen
    this._last = 0; // the last sample played
    this._tail = new Float32Array(0); // a sound that goes on where nothing is there to be played
    this._tailAt = 0; // samples of it that were played
    this._concealing = false; // whether it stands for what is late, and not for an end
    this._cut = null; // { length, at }: a surplus that is being left out
    this._square = this._mixed = 0; // of what was played since `takeLevel`
    this._forgetWatch();
  }

  get fill() {
    return this._fill;
  }

  // Samples that must be there before playing begins.
  get target() {
    return Math.min(this._burst + this._base + this._margin, this._ring.length - this._burst);
  }

  // Index in its stream of the sample that is played next.
  get source() {
    return this._index - this._fill;
  }

  // samples: Float32Array. index: of the first in its stream. gap: samples that are missing before them. last: the
  // stream ends after them.
  push(samples, { index = this._index, gap = 0, last = false } = {}) {
    if (this._ended) this._written = 0;
    if (gap > 0) this._pushGap(gap);
    this.received += samples.length;
    if (samples.length > this._burst) this._burst = Math.min(samples.length, Math.round(0.5 * this.rate));
    this._write(this._blended < this.fade ? this._joined(samples) : samples);
    this._index = index + samples.length;
    this._ended = last;
  }

  // Nothing more comes: what is there is played out.
  end() {
    this._ended = true;
  }

  // Whether there is nothing left to be heard.
  get done() {
    return this._ended && this._fill === 0 && this._tailAt === this._tail.length;
  }

  // Adds the next samples to `out`, a Float32Array. Nothing is allocated here, but where an underrun begins.
  mix(out) {
    if (!this.playing && this._fill > 0 && (this._fill >= this.target || this._ended)) this._start();
    for (let n = 0; n < out.length; n++) {
      let value = 0;
      if (this.playing && this._fill === 0) this._stop(this.position + n);
      if (this.playing) {
        value = this._next();
        if (this._up < this.fade) value *= ++this._up / this.fade;
        this._last = value;
      }
      const tail = this._tailAt < this._tail.length ? this._tail[this._tailAt++] : 0;
      if (!this.playing) this._countUnplayed(tail);
      value += tail;
      out[n] += value;
      this._square += value * value;
    }
    this.position += out.length;
    this._mixed += out.length;
    this._watch(out.length);
  }

  // RMS of what was played since the last call, full scale 1.
  takeLevel() {
    const level = this._mixed ? Math.sqrt(this._square / this._mixed) : 0;
    this._square = this._mixed = 0;
    return level;
  }

  _countUnplayed(value) {
    if (value && this._concealing) this.concealed++;
    else this.silence++;
  }

  _pushGap(gap) {
    this.gaps++;
    this.missing += gap;
    if (this._fill === 0 && !this.playing) return; // the sound has gone on already
    // Before playing begins no time passes: then the gap is but a place to blend.
    const gone = this.playing ? Math.min(gap, Math.round(MOST_GAP * this.rate)) : 0;
    const length = Math.round((KEPT_SECONDS + FADED_SECONDS) * this.rate), goesOn = this._goesOn(length);
    const stand = new Float32Array(gone);
    stand.set(goesOn.subarray(0, gone));
    this.concealed += sounding(stand);
    this._write(stand);
    this._joint = goesOn.subarray(gone);
    this._blended = 0;
  }

  // How what was written to the ring last goes on.
  _goesOn(length) {
    const size = this._ring.length, count = Math.min(this._written, Math.round(HISTORY_SECONDS * this.rate) + 2);
    const heard = new Float32Array(count), from = this._read + this._fill - count + size;
    for (let n = 0; n < count; n++) heard[n] = this._ring[(from + n) % size];
    return continued(heard, length, this.rate);
  }

  _joined(samples) {
    const joined = samples.slice(), count = Math.min(this.fade - this._blended, joined.length);
    for (let n = 0; n < count; n++) {
      const share = ++this._blended / this.fade;
      joined[n] = joined[n] * share + (this._joint[n] ?? 0) * (1 - share);
    }
    this._joint = this._joint.subarray(count);
    return joined;
  }

  // What does not fit pushes out the oldest.
  _write(samples) {
    const size = this._ring.length;
    for (const value of samples) {
      this._ring[(this._read + this._fill) % size] = value;
      if (this._fill < size) this._fill++;
      else this._read = (this._read + 1) % size;
    }
    this._written += samples.length;
  }

  _start() {
    this.playing = true;
    this._up = 0;
    this._tail = this._tail.subarray(this._tailAt, this._tailAt + this.fade); // it makes room
    this._tailAt = 0;
    for (let n = 0; n < this._tail.length; n++) this._tail[n] *= 1 - (n + 1) / this.fade;
    this._note("start", this.position);
    this._forgetWatch();
  }

  _stop(position) {
    this.playing = false;
    this._cut = null;
    this._note("stop", position);
    this._concealing = !this._ended;
    this._leaveTail();
    if (this._ended) return;
    this.underruns++;
    this._margin = Math.min(this._margin + Math.round(MORE_MARGIN * this.rate), Math.round(MOST_MARGIN * this.rate));
  }

  // What is heard from here on: the sound going on, at an end its last sample fading; and what was left of another tail.
  _leaveTail() {
    const left = this._tail.subarray(this._tailAt);
    const length = Math.round((KEPT_SECONDS + FADED_SECONDS) * this.rate), gain = this._up / this.fade;
    const goesOn = this._concealing ? this._goesOn(length).map((value) => value * gain) : null;
    this._tail = goesOn ?? continued(Float32Array.of(this._last), this.fade, this.rate);
    for (let n = 0; n < Math.min(left.length, this._tail.length); n++) this._tail[n] += left[n];
    this._tailAt = 0;
  }

  _next() {
    const size = this._ring.length;
    let value = this._ring[this._read];
    if (this._cut) {
      const { length } = this._cut, share = ++this._cut.at / this.fade;
      value = value * (1 - share) + this._ring[(this._read + length) % size] * share;
      if (this._cut.at === this.fade) {
        this._read = (this._read + length) % size;
        this._fill -= length;
        this._cut = null;
      }
    }
    this._read = (this._read + 1) % size;
    this._fill--;
    return value;
  }

  _forgetWatch() {
    this._lowest = this._ring.length;
    this._watched = 0;
  }

  // Lets go of a cushion that was larger than needed for a whole window: first of what is there above the target, and
  // slowly of the margin itself.
  _watch(count) {
    if (!this.playing || this._cut || this._ended) return;
    if (this._fill > Math.max(this._most, this.target + this._burst)) {
      this._leaveOut(this._fill - this.target - this.fade);
      return this._forgetWatch();
    }
    this._lowest = Math.min(this._lowest, this._fill);
    this._watched += count;
    const much = this._lowest > this._margin + MUCH * this.rate;
    if (this._watched < (much ? SHORT_WINDOW : WINDOW) * this.rate) return;
    const least = Math.round(LEAST_MARGIN * this.rate);
    if (this._lowest > this._margin && this._margin > least) {
      this._margin = Math.max(least, this._margin - Math.round((MORE_MARGIN / 2) * this.rate));
    }
    const surplus = this._lowest - this._margin - this.fade;
    if (surplus > 2 * this.fade && this._fill > surplus + this.fade) this._leaveOut(surplus);
    this._forgetWatch();
  }

  _leaveOut(length) {
    this._cut = { length, at: 0 };
    this.cuts++;
    this._note("cut", this.position, length);
  }

  _note(kind, position, skipped = 0) {
    if (this.events.length < NO_EVENTS) {
      this.events.push({ kind, position, source: this.source + skipped });
    }
  }
}

// Samples up to the last that is no silence.
function sounding(samples) {
  let count = samples.length;
  while (count && samples[count - 1] === 0) count--;
  return count;
}
