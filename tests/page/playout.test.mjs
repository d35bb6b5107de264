// The jitter buffer on a clock of its own: what is played is what came, or how it goes on, and nothing clicks.
import assert from "node:assert/strict";
import { test } from "node:test";

import { FADED_SECONDS, FADE_SECONDS, KEPT_SECONDS } from "../../streamcodec/server/page/continuing.js";
import { Playout } from "../../streamcodec/server/page/playout.js";

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

const GOES_ON = Math.round((KEPT_SECONDS + FADED_SECONDS) * RATE);
const sum = (values) => values.reduce((total, value) => total + value * value, 0);
const steps = (values) => Math.max(...values.slice(1).map((value, n) => Math.abs(value - values[n])));

// Harmonics of one pitch.
const voice = (from, count, pitch = 137) =>
  Float32Array.from({ length: count }, (_, n) =>
    [1, 2, 3, 4, 5].reduce((total, k) => total + 0.2 * Math.sin((2 * Math.PI * k * pitch * (from + n)) / RATE + k) / k, 0));

// Samples of the voice, in packets; the first after a gap, the last the stream's last one.
function say(playout, from, count, { gap = 0, last = false } = {}) {
  for (let n = 0; n < count; n += PACKET) {
    const end = last && n + PACKET >= count;
    playout.push(voice(from + n, PACKET), { index: from + n, gap: n ? 0 : gap, last: end });
  }
}

test("a short gap is filled with the voice going on at its pitch, without a jump, and what comes after is what came", () => {
  const playout = make(), gap = 160, out = [];
  say(playout, 0, 1600);
  out.push(...mixed(playout));
  say(playout, 1600 + gap, 1600, { gap, last: true });
  while (!playout.done) out.push(...mixed(playout));
  const whole = [...voice(0, 3200 + gap)];
  assert.ok(sum(out.slice(1600, 1600 + gap)) > 0.5 * sum(whole.slice(1600, 1600 + gap)));
  assert.ok(steps(out.slice(1500, 2200)) < 1.5 * steps(whole));
  for (let n = 1600 + gap + FADE; n < 3200 + gap; n++) assert.ok(Math.abs(out[n] - whole[n]) < 1e-6, `sample ${n}`);
  const { received, missing, concealed } = playout;
  assert.deepEqual({ received, missing, concealed }, { received: 3200, missing: gap, concealed: gap });
});

test("of a long gap the rest is silence, and time stands", () => {
  const playout = make(), gap = 1600, out = [];
  say(playout, 0, 1600);
  out.push(...mixed(playout));
  say(playout, 1600 + gap, 800, { gap, last: true });
  while (!playout.done) out.push(...mixed(playout));
  assert.ok(out.slice(1600 + GOES_ON, 1600 + gap).every((value) => value === 0));
  assert.ok(Math.abs(out[1600 + gap + 400] - voice(1600 + gap + 400, 1)[0]) < 1e-6);
  assert.ok(playout.concealed > 0.9 * GOES_ON && playout.concealed <= GOES_ON);
});

test("a gap before playing begins takes no time", () => {
  const playout = make(), out = [];
  say(playout, 0, 3 * PACKET);
  say(playout, 4000, 1600, { gap: 4000 - 3 * PACKET, last: true });
  while (!playout.done) out.push(...mixed(playout));
  assert.equal(playout.concealed, 0);
  assert.ok(Math.abs(out[3 * PACKET + 400] - voice(4400, 1)[0]) < 1e-6);
});

test("where packets are late the voice goes on, and makes room when they come", () => {
  const playout = make(), out = [];
  say(playout, 0, 1600);
  for (let n = 0; n < 15; n++) out.push(...mixed(playout));
  const { concealed, underruns } = playout;
  assert.equal(underruns, 1);
  assert.ok(sum(out.slice(1600, 1600 + PACKET)) > 0.5 * sum(out.slice(1600 - PACKET, 1600)));
  assert.ok(concealed > 0 && concealed <= 15 * QUANTUM - 1600);
  say(playout, 1600, 1600, { last: true });
  while (!playout.done) out.push(...mixed(playout));
  assert.ok(steps(out.slice(FADE)) < 2 * steps([...voice(0, 3200)]));
  for (let n = 0; n < 1600 - FADE; n++) {
    assert.ok(Math.abs(out[15 * QUANTUM + FADE + n] - voice(1600 + FADE + n, 1)[0]) < 1e-6);
  }
  assert.ok(playout.concealed <= GOES_ON);
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
