// The axis and the colours of the spectrograms, and what the delay is made of.
import assert from "node:assert/strict";
import { test } from "node:test";

import { delayParts, median, total, withRest } from "../../streamcodec/server/page/delay.js";
import { MAX_HZ, TICKS, colourMap, height, hertz, label, levelOfRow, mel, oklch, rowsOfBins } from
  "../../streamcodec/server/page/scale.js";

test("1000 Hz is 1000 mel, and back", () => {
  assert.ok(Math.abs(mel(1000) - 1000) < 0.1);
  for (const hz of [0, 50, 440, 3000, 12000]) assert.ok(Math.abs(hertz(mel(hz)) - hz) < 1e-6);
});

test("the axis goes from 0 Hz to 12 kHz, and its labels rise", () => {
  assert.equal(height(0), 0);
  assert.equal(height(MAX_HZ), 1);
  const places = TICKS.map(height);
  assert.deepEqual(places, [...places].sort((a, b) => a - b));
  assert.deepEqual([label(250), label(12000)], ["250 Hz", "12 kHz"]);
});

for (const rate of [16000, 24000, 44100, 48000]) {
  test(`a tone is drawn at its tick (${rate} Hz)`, () => {
    const rows = 300, bins = 1024, places = rowsOfBins(rows, bins, rate);
    assert.equal(places.length, rows);
    places.forEach(([from, to], row) => {
      assert.ok(from < to);
      if (row) assert.ok(Math.abs(places[row - 1][0] - to) < 1e-9); // no bin is left out, none is in two rows
    });
    for (const hz of TICKS.filter((one) => one < rate / 2 - 500)) {
      const levels = new Float32Array(bins).fill(-100);
      const bin = Math.round((hz * 2 * bins) / rate);
      levels[bin] = -20;
      const drawn = places.map((place) => levelOfRow(levels, place));
      const loudest = drawn.indexOf(Math.max(...drawn));
      assert.ok(Math.abs(1 - (loudest + 0.5) / rows - height((bin * rate) / (2 * bins))) < 0.02, `${hz} Hz`);
    }
  });
}

test("above the highest bin there is a level all the same", () => {
  const levels = new Float32Array(512).fill(-90);
  for (const place of rowsOfBins(200, 512, 16000)) assert.equal(levelOfRow(levels, place), -90);
});

// Relative luminance of sRGB (IEC 61966-2-1).
const luminance = (bytes) => {
  const [r, g, b] = [...bytes].map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

test("OKLCH of the corners: white, black, sRGB red", () => {
  assert.deepEqual(oklch(1, 0, 0), [255, 255, 255]);
  assert.deepEqual(oklch(0, 0, 0), [0, 0, 0]);
  const red = oklch(0.627955, 0.257683, 29.2339);
  assert.ok(Math.abs(red[0] - 255) <= 1 && red[1] <= 1 && red[2] <= 1, String(red));
});

for (const dark of [true, false]) {
  test(`the ${dark ? "dark" : "light"} colours run evenly in lightness`, () => {
    const map = colourMap(dark);
    assert.equal(map.length, 1024);
    const lights = Array.from({ length: 256 }, (_, n) => Math.cbrt(luminance(map.subarray(4 * n, 4 * n + 3))));
    for (let n = 4; n < 256; n++) assert.ok(dark ? lights[n] > lights[n - 4] : lights[n] < lights[n - 4], `at ${n}`);
    const least = Math.min(...lights), most = Math.max(...lights);
    assert.ok(most - least > 0.5);
    for (let n = 0; n < 256; n++) {
      const even = dark ? least + ((most - least) * n) / 255 : most - ((most - least) * n) / 255;
      assert.ok(Math.abs(lights[n] - even) < 0.12, `${lights[n]} at ${n}; ${even} would be even`);
    }
  });
}

test("the delay is the sum of its parts, and what was measured beyond them is told", () => {
  const same = { rtt: 20, delays: { total_ms: 15 }, resampling: 2, block: 10, input: 5, output: 30, waiting: -100,
    cushion: 50 };
  const parts = delayParts({ ...same, room: false });
  assert.equal(total(parts), 132);
  assert.equal(total(withRest(parts, 140)), 140);
  assert.equal(withRest(parts, 140).at(-1).name, "Waiting");
  assert.deepEqual(withRest(parts, 120), parts);
  assert.equal(total(delayParts({ ...same, room: true })), 122);
  const late = delayParts({ ...same, waiting: 700, room: false }); // sent, and not acknowledged
  assert.equal(total(late), 832);
  assert.equal(total(withRest(late, 900)), 900); // what was measured holds it already
  assert.deepEqual(withRest(late, 900).map(({ name }) => name).filter((name) => name === "Waiting"), ["Waiting"]);
  assert.equal(median([]), 0);
  assert.equal(median([3, 100, 1]), 3);
});
