// What is sent over a link that may be too slow: never more on its way than may be, and no sample is unaccounted for.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Pacer } from "../../streamcodec/server/page/pacer.js";

const RATE = 8000, BLOCK = 80; // 10 ms

// A microphone of ones, over a link that carries so many times its audio. What came out, block by block.
function carried(speed, seconds, bound) {
  const pacer = new Pacer(RATE, bound), out = [];
  let queued = 0, most = 0; // samples
  for (let n = 0; n < (seconds * RATE) / BLOCK; n++) {
    queued = Math.max(0, queued - speed(n) * BLOCK);
    const chosen = pacer.take(new Float32Array(BLOCK).fill(1), queued / RATE);
    out.push(chosen);
    queued += chosen ? BLOCK : 0;
    most = Math.max(most, queued / RATE);
  }
  return { pacer, out, most };
}

test("a link that is fast enough carries everything, unchanged", () => {
  const { pacer, out } = carried(() => 1, 10, 1);
  assert.equal(pacer.leftOut, 0);
  assert.ok(out.every(({ samples, gap }) => gap === 0 && samples.every((value) => value === 1)));
});

test("a slow link is used in full, and what is on its way stays within its bound", () => {
  for (const bound of [0.3, 1, 3]) {
    for (const speed of [0.05, 0.5, 0.75, 0.98]) {
      const { pacer, out, most } = carried(() => speed, 120, bound);
      assert.ok(most <= bound + (2 * BLOCK) / RATE, `${most} s were on their way`);
      const sent = out.filter(Boolean).length * BLOCK;
      assert.equal(sent + pacer.leftOut, 120 * RATE);
      assert.ok(sent / (120 * RATE) > speed - 0.02, "the link stood idle");
    }
  }
});

test("what is left out lies between fades, and its length is told up to a second", () => {
  const { out } = carried((n) => (n < 1000 ? 0.75 : n < 1500 ? 0 : 2), 30, 0.4);
  const gaps = [];
  let last = 1, hole = 0;
  for (const chosen of out) {
    if (!chosen) {
      hole += BLOCK;
      continue;
    }
    assert.equal(chosen.gap, Math.min(hole, RATE));
    if (chosen.gap) gaps.push(hole);
    hole = 0;
    for (const value of chosen.samples) {
      assert.ok(Math.abs(value - last) <= 1 / 39, "a click");
      last = value;
    }
  }
  assert.ok(gaps.length > 3);
  assert.ok(Math.max(...gaps) > RATE); // longer than what is told
  assert.equal(last, 1);
});
