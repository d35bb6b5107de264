// When a figure is marked, and the cause that is named.
import assert from "node:assert/strict";
import { test } from "node:test";

import { LONG_DELAY, Recent, TOO_LONG_DELAY, ofDelay, ofLoss, ofUnderruns } from "../../streamcodec/server/page/judge.js";
import { delayParts, total, withRest } from "../../streamcodec/server/page/delay.js";
import { hue, initials } from "../../streamcodec/server/page/people.js";

const parts = delayParts({ rtt: 4, delays: { total_ms: 15 }, block: 10, input: 10, output: 30, cushion: 100, room: false });

test("a delay is marked from its bound on", () => {
  assert.equal(ofDelay(LONG_DELAY - 1, parts).level, "");
  assert.equal(ofDelay(LONG_DELAY, parts).level, "warn");
  assert.equal(ofDelay(TOO_LONG_DELAY, parts).level, "bad");
});

test("the cause of a delay is its largest part, and each part there is has words of its own", () => {
  const all = withRest(parts, total(parts) + 1), causes = new Set();
  for (const { name } of all) {
    const { cause } = ofDelay(500, all.map((part) => ({ ...part, ms: part.name === name ? 400 : 20 })));
    assert.doesNotMatch(cause, /takes most of it/, name);
    assert.ok(cause.length <= 24, cause); // fits a tile
    causes.add(cause);
  }
  assert.equal(causes.size, all.length);
  assert.equal(ofDelay(500, withRest(parts, 3000)).cause, "link or server too slow");
  assert.equal(ofDelay(500, [{ name: "Magic", ms: 500 }]).cause, "magic takes most of it");
});

test("underruns and lost sound are marked while they are recent", () => {
  const recent = new Recent();
  const grown = [[0, 0], [1000, 2], [9000, 2], [11500, 2], [12000, 9], [12100, 9]].map(([now, value]) => recent.growth(now, value));
  assert.deepEqual(grown, [0, 2, 2, 0, 7, 7]);
  assert.deepEqual(grown.map((count) => ofUnderruns(count).level), ["", "warn", "warn", "", "bad", "bad"]);
});

test("where sound was lost is told, by the largest part", () => {
  const none = { unsent: 0, missing: 0, left: 0 };
  assert.equal(ofLoss(none).level, "");
  assert.deepEqual(ofLoss({ ...none, unsent: 100 }), { level: "warn", cause: "not sent in time" });
  assert.equal(ofLoss({ ...none, unsent: 100, left: 500 }).level, "bad");
  assert.equal(new Set(Object.keys(none).map((name) => ofLoss({ ...none, [name]: 1 }).cause)).size, 3);
});

test("a face has one or two letters of any name, and a colour of its own", () => {
  for (const [name, letters] of [["Ada Lovelace", "AL"], ["grace", "G"], ["Guest 12", "G1"], ["https://example.org/x", "EX"], ["", "?"],
    ["¿!?", "?"], ["Ægir Øre", "ÆØ"], ["山田 太郎", "山太"], ["𝒜da", "𝒜"]]) assert.equal(initials(name), letters, name);
  for (const name of ["", "Ada", "山田 太郎"]) assert.ok(hue(name) >= 0 && hue(name) < 360);
  assert.equal(hue("Ada"), hue("Ada"));
});
