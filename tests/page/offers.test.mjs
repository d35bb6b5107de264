// The codecs on offer are asked for until the server answers.
import assert from "node:assert/strict";
import { test } from "node:test";

import { codecsOnOffer } from "../../streamcodec/server/page/offers.js";

test("codecs are asked for again, ever more slowly, until the server answers", async () => {
  const waits = [], codecs = [{ name: "one" }];
  let attempts = 0, failures = 0;
  const fetch = async (path, { signal }) => {
    assert.equal(path, "v1/codecs");
    assert.ok(signal instanceof AbortSignal); // an attempt has a time limit
    attempts += 1;
    if (attempts < 3) throw new TypeError("no network");
    if (attempts < 7) return { ok: false, status: 503 };
    return { ok: true, json: async () => ({ codecs }) };
  };
  const setTimeout = (call, ms) => {
    waits.push(ms);
    call();
  };
  assert.equal(await codecsOnOffer(() => failures++, { fetch, setTimeout }), codecs);
  assert.equal(failures, 6);
  assert.deepEqual(waits, [1000, 2000, 4000, 8000, 10000, 10000]);
});
