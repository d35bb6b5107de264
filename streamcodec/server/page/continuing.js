// How a sound goes on that breaks off: its last period again and again, fading. As streamcodec/continuing.py does it.
// No dependencies: it runs in a worklet and in node.

export const FADE_SECONDS = 0.005; // long enough not to click, too short to be heard as a fade
export const KEPT_SECONDS = 0.01, FADED_SECONDS = 0.06; // at its full level; and from there to silence
const LOWEST = 66, HIGHEST = 400; // Hz, of a voice
const COMPARED_SECONDS = 0.01; // at the end of the sound, to find where it was like this before
export const HISTORY_SECONDS = COMPARED_SECONDS + 1 / LOWEST; // that is looked at

// The next `count` samples of a sound of which `heard` are the last, at `rate` Hz. Silence from 70 ms on. Where less was
// heard than is looked at, the last sample fades, within 5 ms.
export function continued(heard, count, rate) {
  const out = new Float32Array(count), period = periodOf(heard, rate);
  if (!period) return faded(out, heard.at(-1) ?? 0, Math.max(1, Math.round(FADE_SECONDS * rate)));
  const kept = Math.round(KEPT_SECONDS * rate), fade = Math.round(FADED_SECONDS * rate);
  const from = heard.length - period, end = Math.min(count, kept + fade);
  for (let n = 0; n < end; n++) out[n] = heard[from + (n % period)] * Math.min(1, (kept + fade - n) / fade);
  return out;
}

function faded(out, last, fade) {
  for (let n = 0; n < Math.min(fade, out.length); n++) out[n] = last * (1 - (n + 1) / fade);
  return out;
}

// Samples after which the end of the sound is most like itself; 0 where too little was heard.
function periodOf(heard, rate) {
  const compared = Math.round(COMPARED_SECONDS * rate), least = Math.round(rate / HIGHEST);
  const most = Math.round(rate / LOWEST), end = heard.length - compared;
  if (end < most || least < 1) return 0;
  let best = -Infinity, period = 0;
  for (let lag = most; lag >= least; lag--) {
    let product = 0, energy = 0;
    for (let n = end; n < heard.length; n++) {
      const before = heard[n - lag];
      product += before * heard[n];
      energy += before * before;
    }
    const likeness = product / Math.sqrt(energy + 1e-9);
    if (likeness > best) [best, period] = [likeness, lag];
  }
  return period;
}
