// From Start to Stop: whatever comes when, what runs is what was chosen last, and nothing else stays open.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ASKING, CONNECTING, IDLE, Life, OPEN, READING, RESUMING } from "../../streamcodec/server/page/life.js";
import { Problem } from "../../streamcodec/server/page/problem.js";

const settled = () => new Promise((go) => setImmediate(go));

// What a life opens, each answered when the test says so.
function world() {
  const asked = [], open = new Set(), shown = [];
  const later = (kind, choice, make) => new Promise((resolve, reject) => {
    asked.push({ kind, choice, grant: () => resolve(make()), refuse: reject });
  });
  const opened = (thing) => {
    open.add(thing);
    return thing;
  };
  const tools = {
    microphone: (choice) => later("microphone", choice, () => {
      const track = { choice, stop: () => open.delete(track) };
      opened(track);
      return { choice, getTracks: () => [track] };
    }),
    live: (choice, on) => later("live", choice, () => {
      const graph = {
        choice, woken: 0, wake: () => graph.woken++,
        useMicrophone: (stream) => (graph.source = stream.choice),
        useFile: (buffer) => (graph.source = buffer.choice),
        context: { decodeAudioData: (data) => later("file", choice, () => ({ choice: data.choice })) },
      };
      const live = { choice, graph, on, connect: () => (live.connected = true), stop: () => open.delete(live) };
      return opened(live);
    }),
  };
  const life = new Life({ changed: () => shown.push(life.phase), event: () => {}, levels: () => {} }, tools);
  const choose = (mode) => {
    const choice = { mode, hello: { mode }, loop: false };
    choice.file = { arrayBuffer: async () => ({ choice }) };
    return choice;
  };
  const answer = async (how = "grant", error = undefined) => {
    asked.shift()[how](error);
    await settled();
  };
  return { life, asked, open, shown, choose, answer };
}

test("a round trip, from Start to Stop", async () => {
  const { life, open, shown, choose, answer } = world();
  life.start(choose("roundtrip"));
  await answer();
  await answer();
  assert.ok(life.live.connected);
  life.live.on.state("open");
  life.live.on.state("detached");
  life.live.on.state("open");
  assert.equal(open.size, 2);
  life.stop();
  assert.deepEqual([...new Set(shown)], [ASKING, CONNECTING, OPEN, RESUMING, IDLE]);
  assert.deepEqual([life.why, life.problem, life.live, open.size], ["stopped", null, null, 0]);
});

test("over any order of Start, Stop and answers only what was chosen last runs, and after Stop nothing is open", async () => {
  for (let seed = 1; seed <= 100; seed++) {
    let state = seed;
    const random = (below) => (state = (state * 48271) % 2147483647) % below;
    const { life, asked, open, choose } = world();
    let chosen = null;
    for (let step = 0; step < 40; step++) {
      const what = random(5);
      if (what === 0 && !life.running) life.start((chosen = choose(["roundtrip", "room", "file"][random(3)])));
      else if (what === 1) life.stop();
      else if (asked.length) {
        const [one] = asked.splice(random(asked.length), 1);
        if (random(5)) one.grant();
        else one.refuse(new DOMException("no", "NotAllowedError"));
      }
      await settled();
      if (life.live) {
        assert.equal(life.live.choice, chosen);
        if (life.live.connected) assert.equal(life.live.graph.source, chosen);
      }
      assert.ok([...open].every(({ choice }) => choice === chosen), `seed ${seed}`);
      if (!life.running) assert.equal(open.size, 0, `seed ${seed}`);
    }
    life.stop();
    for (const one of asked.splice(0)) one.grant();
    await settled();
    assert.equal(open.size, 0, `seed ${seed}`);
    assert.equal(life.phase, IDLE);
  }
});

test("what keeps a run from starting is named, and an older run's failure is not", async () => {
  for (const [refusals, mode, code] of [
    [[new DOMException("Permission denied by system", "NotAllowedError")], "roundtrip", "NotAllowedError"],
    [[null, new Problem("unreachable")], "roundtrip", "unreachable"],
    [[new Problem("unreachable")], "file", "unreachable"],
    [[null, new Error("not audio")], "file", "unreadable_file"],
  ]) {
    const { life, open, choose, answer } = world();
    life.start(choose(mode));
    assert.equal(life.phase, mode === "file" ? READING : ASKING);
    for (const refusal of refusals) await (refusal ? answer("refuse", refusal) : answer());
    assert.deepEqual([life.phase, life.why, life.problem.code], [IDLE, "not_started", code]);
    assert.ok(life.problem.text.length > 20);
    assert.equal(open.size, 0);
  }
  const { life, asked, choose } = world();
  life.start(choose("roundtrip"));
  life.stop();
  life.start(choose("roundtrip"));
  asked[0].refuse(new DOMException("dismissed", "NotAllowedError"));
  await settled();
  assert.deepEqual([life.phase, life.problem], [ASKING, null]);
});

test("a refusal by the system is told apart from one by the browser", async () => {
  const texts = [];
  for (const message of ["Permission denied by system", "Permission denied"]) {
    const { life, choose, answer } = world();
    life.start(choose("roundtrip"));
    await answer("refuse", new DOMException(message, "NotAllowedError"));
    texts.push(life.problem.text);
  }
  assert.match(texts[0], /^The system does not let/);
  assert.notEqual(texts[0], texts[1]);
});

test("what is survived is a notice as long as it lasts; what is not ends the run", async () => {
  const { life, shown, choose, answer } = world();
  life.start(choose("roundtrip"));
  await answer();
  await answer();
  const { on, graph } = life.live;
  on.state("open");
  on.notice("sound_paused", {});
  on.notice("microphone_muted", {});
  assert.deepEqual([...life.notices.keys()], ["sound_paused", "microphone_muted"]);
  const changes = shown.length;
  on.notice("sound_paused", {});
  assert.equal(shown.length, changes); // nothing new
  life.wake();
  assert.equal(graph.woken, 1);
  on.notice("sound_paused", null);
  assert.deepEqual([...life.notices.keys()], ["microphone_muted"]);
  assert.equal(life.phase, OPEN);
  on.failed("microphone_gone");
  assert.deepEqual([life.phase, life.why, life.problem.code, life.notices.size], [IDLE, "ended", "microphone_gone", 0]);
  on.notice("sound_paused", {}); // of a run that is over
  on.event({ type: "ended", code: "lost" });
  assert.deepEqual([life.problem.code, life.notices.size], ["microphone_gone", 0]);
});
