// How the resampler is used in a worklet: so many samples are wanted at a time. Its numbers are held to those of
// streamcodec/resample.py by test_resampler.py.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Resampler } from "../../streamcodec/server/page/resampler.js";

for (const [source, target] of [[24000, 48000], [16000, 44100], [44100, 48000], [24000, 24000]]) {
  test(`quanta of 128 at ${target} Hz from ${source} Hz: no more input is taken than is needed, and none is missing`, () => {
    const resampler = new Resampler(source, target), whole = new Resampler(source, target);
    const input = Float32Array.from({ length: source }, (_, n) => Math.sin(n / 10)), out = [];
    let taken = 0;
    for (let quantum = 0; quantum < 100; quantum++) {
      const count = resampler.needed(128);
      const given = resampler.push(input.subarray(taken, taken + count), 128);
      assert.equal(given.length, 128);
      taken += count;
      out.push(...given);
      // A sample that is played was taken `delay` before.
      const late = (taken * target) / source - out.length - resampler.delay * target;
      assert.ok(Math.abs(late) <= 1 + target / source, `${late} samples late`);
    }
    assert.deepEqual(out, [...whole.push(input)].slice(0, out.length));
  });
}
