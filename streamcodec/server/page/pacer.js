// What of the microphone's audio is sent: all of it, unless more is on its way than may be. Then some is left out, from
// one fade to another, until half of what may be is on its way.

const FADE_SECONDS = 0.005;
const MOST_GAP = 1; // seconds of silence that stand for what was left out; who listens would not wait for more

export class Pacer {
  // rate: Hz. bound: seconds of audio that may be on their way.
  constructor(rate, bound) {
    this.bound = bound;
    this.leftOut = 0; // samples in all
    this.leaving = false;
    this._rate = rate;
    this._hole = 0; // samples left out since the last one that was sent
  }

  // waiting: seconds of audio that are on their way before this block, with those by which it is late itself.
  // The samples to send and the silence before them, { samples, gap }, or null.
  take(samples, waiting) {
    if (this.leaving) {
      if (waiting > this.bound / 2) return this.leave(samples.length);
      this.leaving = false;
      const gap = Math.min(this._hole, Math.round(MOST_GAP * this._rate));
      this._hole = 0;
      return { samples: this._faded(samples, 1), gap };
    }
    this.leaving = waiting > this.bound;
    return { samples: this.leaving ? this._faded(samples, -1) : samples, gap: 0 };
  }

  // So many samples are not sent.
  leave(count) {
    this.leftOut += count;
    if (this.leaving) this._hole += count;
    return null;
  }

  // way: 1 for a fade in, at the beginning; -1 for one out, at the end.
  _faded(samples, way) {
    const length = Math.min(samples.length, Math.round(FADE_SECONDS * this._rate));
    const faded = samples.slice();
    for (let n = 0; n < length; n++) faded[way > 0 ? n : samples.length - 1 - n] *= n / length;
    return faded;
  }
}
