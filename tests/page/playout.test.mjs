// The jitter buffer on a clock of its own: what is played is what came, or silence, and nothing clicks.
import assert from "node:assert/strict";
import { test } from "node:test";

import { FADE_SECONDS, Playout } from "../../streamcodec/server/page/playout.js";

const RATE = 8000, QUANTUM = 128, PACKET = 80; // 10 ms
const FADE = Math.round(FADE_SECONDS * RATE);

const make = () => new Playout(RATE, { packet: PACKET / RATE });
const ramp = (from, count) => Float32Array.from({ length: count }, (_, n) => (from + n + 1) / 2 ** 20); // never 0

function mixed(playout, count = QUANTUM) {
  const out = new Float32Array(count);
  playout.mix(out);
  return [...out];
}

// Packets and quanta as a schedule has them; `late(n)` gives by how many samples packet n is late.
function played(playout, packets, late, tail = 40) {
  const out = [], waiting = Array.from({ length: packets }, (_, n) => n);
  for (let clock = 0; waiting.length || tail-- > 0; clock += QUANTUM) {
    while (waiting.length && (waiting[0] + 1) * PACKET + late(waiting[0]) <= clock) {
      const n = waiting.shift();
      playout.push(ramp(n * PACKET, PACKET), { index: n * PACKET, last: n === packets - 1 });
    }
    out.push(...mixed(playout));
  }
  return out;
}

// The stretches between fades, by the events: [first position, source, length].
function stretches(playout, end) {
  const found = [];
  playout.events.forEach(({ kind, position, source }, n) => {
    const next = playout.events[n + 1]?.position ?? end;
    if (kind !== "stop") found.push([position + FADE, source + FADE, next - position - FADE]);
  });
  return found;
}

function checkStretches(playout, out) {
  let total = 0;
  for (const [position, source, length] of stretches(playout, out.length)) {
    if (length <= 0) continue;
    const wanted = ramp(source, length);
    for (let n = 0; n < length; n++) assert.equal(out[position + n], wanted[n], `sample ${position + n}`);
    total += length;
  }
  return total;
}

test("packets on time are played to the bit, after a fade-in, and the end is no underrun", () => {
  const playout = make(), out = played(playout, 300, () => 0);
  assert.deepEqual(playout.events.map(({ kind }) => kind), ["start", "stop"]);
  assert.equal(checkStretches(playout, out), 300 * PACKET - FADE);
  assert.equal(playout.underruns, 0);
  assert.ok(playout.done);
  const start = playout.events[0].position;
  for (let n = 0; n < FADE; n++) assert.ok(Math.abs(out[start + n] - (ramp(n, 1)[0] * (n + 1)) / FADE) < 1e-9);
});

test("lateness within the cushion is not heard", () => {
  let state = 7;
  const random = (below) => (state = (state * 48271) % 2147483647) % below;
  const late = Array.from({ length: 400 }, () => random(Math.round(0.03 * RATE)));
  const playout = make();
  played(playout, 400, (n) => late[n]);
  assert.equal(playout.underruns, 0);
});

test("a stall is one underrun; the cushion grows; what is played stays what came", () => {
  const playout = make(), before = playout.target;
  const out = played(playout, 230, (n) => (n < 150 ? 0 : Math.max(0, 2000 - (n - 150) * PACKET)));
  assert.equal(playout.underruns, 1);
  assert.equal(playout.target - before, Math.round(0.02 * RATE));
  assert.deepEqual(playout.events.map(({ kind }) => kind).slice(0, 3), ["start", "stop", "start"]);
  assert.equal(playout.events[1].source, playout.events[2].source); // nothing is left out
  checkStretches(playout, out);
});

test("no jump is larger than a fade allows, whatever is late or missing", () => {
  for (let seed = 1; seed <= 30; seed++) {
    let state = seed;
    const random = (below) => (state = (state * 48271) % 2147483647) % below;
    const playout = make(), out = [];
    let index = 0;
    for (let step = 0; step < 600; step++) {
      if (random(40) === 0) step += random(60); // a stall
      for (let n = random(3); n > 0; n--) {
        const gap = random(30) === 0 ? 1 + random(1000) : 0;
        // A constant is the hardest: every missing sample would be a step of full height.
        playout.push(new Float32Array(PACKET).fill(1), { index: index + gap, gap });
        index += gap + PACKET;
      }
      out.push(...mixed(playout));
    }
    for (let n = 1; n < out.length; n++) {
      assert.ok(Math.abs(out[n] - out[n - 1]) <= 2.01 / FADE, `seed ${seed}: ${out[n - 1]} to ${out[n]} at ${n}`);
      assert.ok(out[n] >= -1e-6 && out[n] <= 1 + 1e-6, `seed ${seed}: ${out[n]}`);
    }
  }
});

test("a surplus after a pause of the network is cut under a crossfade", () => {
  const playout = make(), late = (n) => (n < 100 ? 0 : n < 300 ? (300 - n) * PACKET : 0);
  const out = played(playout, 1500, late);
  assert.ok(playout.cuts >= 1);
  assert.ok(playout.events.some(({ kind }) => kind === "cut"));
  checkStretches(playout, out);
  const waited = [...playout.events].reverse().find(({ kind }) => kind !== "stop");
  assert.ok(waited.position - waited.source < 0.3 * RATE, "the delay came back");
});

test("a gap while playing is silence between fades, and time stands", () => {
  const playout = make();
  for (let n = 0; n < 20; n++) playout.push(new Float32Array(PACKET).fill(0.5), { index: n * PACKET });
  playout.push(new Float32Array(PACKET).fill(0.5), { index: 20 * PACKET + 400, gap: 400 }); // before: a fade
  mixed(playout);
  playout.push(new Float32Array(800).fill(0.5), { index: 21 * PACKET + 800, gap: 400, last: true });
  const out = [];
  while (!playout.done) out.push(...mixed(playout));
  assert.equal(playout.gaps, 2);
  assert.equal(out.filter((value, n) => value === 0 && n > 1540 && n < 2600).length, 400 - FADE + 1);
});

test("what comes at once after a pause is cut at once where more waits than may", () => {
  const playout = new Playout(RATE, { packet: PACKET / RATE, most: 1 }), out = [];
  for (let n = 0; n < 400; n++) playout.push(ramp(n * PACKET, PACKET), { index: n * PACKET }); // 4 s
  for (let n = 0; n < 2; n++) out.push(...mixed(playout));
  assert.equal(playout.cuts, 1);
  assert.ok(playout.fill <= playout.target);
  out.push(...mixed(playout, 400));
  checkStretches(playout, out);
});

test("memory is bounded: what does not fit pushes out the oldest", () => {
  const playout = make(), capacity = 12 * RATE;
  for (let n = 0; n < 2 * capacity; n += PACKET) playout.push(ramp(n, PACKET), { index: n });
  assert.equal(playout.fill, capacity);
  assert.equal(playout.source, capacity);
});

test("the level is that of what was played since the last one", () => {
  const playout = make(), out = [];
  playout.push(ramp(0, 4000), { index: 0, last: true });
  assert.equal(playout.takeLevel(), 0);
  for (let turn = 0; turn < 3; turn++) {
    for (let n = 0; n < 5; n++) out.push(...mixed(playout));
    const since = out.slice(-5 * QUANTUM), square = since.reduce((sum, value) => sum + value * value, 0);
    assert.ok(Math.abs(playout.takeLevel() - Math.sqrt(square / since.length)) < 1e-9);
  }
  assert.equal(playout.takeLevel(), 0);
});
