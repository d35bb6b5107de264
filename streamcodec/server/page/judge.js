// When a figure is worth a warning, and the cause in words. No dependencies.

// Milliseconds. ITU-T G.114: a conversation suffers from 150 ms on, and plans should not go beyond 400 ms.
export const LONG_DELAY = 400, TOO_LONG_DELAY = 1000;
const RECENT_MS = 10000; // for which a hiccup stays marked
const MANY_UNDERRUNS = 5, MUCH_LOST_MS = 500; // within that time

const OF_PARTS = {
  Capture: "the microphone is slow",
  Network: "the network is slow",
  Codec: "this codec needs so long",
  "Jitter buffer": "sound comes unevenly",
  Output: "the loudspeaker is slow",
  Waiting: "link or server too slow",
};

const FINE = { level: "", cause: "" };

// parts: of { name, ms }. The cause is the largest of them.
export function ofDelay(ms, parts) {
  if (ms < LONG_DELAY) return FINE;
  const most = parts.reduce((one, other) => (other.ms > one.ms ? other : one));
  const cause = OF_PARTS[most.name] ?? `${most.name.toLowerCase()} takes most of it`;
  return { level: ms < TOO_LONG_DELAY ? "warn" : "bad", cause };
}

// count: underruns lately.
export function ofUnderruns(count) {
  if (!count) return FINE;
  return { level: count < MANY_UNDERRUNS ? "warn" : "bad", cause: "sound came too late" };
}

// Milliseconds of sound lately: unsent: never left this page. missing: did not reach the server. left: the server left
// out.
export function ofLoss({ unsent, missing, left }) {
  const sum = unsent + missing + left;
  if (!sum) return FINE;
  const level = sum < MUCH_LOST_MS ? "warn" : "bad", most = Math.max(unsent, missing, left);
  if (most === unsent) return { level, cause: "not sent in time" };
  return { level, cause: most === missing ? "on the way to the server" : "left out by the server" };
}

// By how much a figure that only grows has grown lately.
export class Recent {
  constructor() {
    this._seen = []; // [now, value]
  }

  // now: ms.
  growth(now, value) {
    this._seen.push([now, value]);
    while (now - this._seen[0][0] > RECENT_MS) this._seen.shift();
    return Math.max(0, value - this._seen[0][1]);
  }
}
