// The life of what runs on the page, from Start to Stop: what is opened for it, and closed whatever was under way.
//
// Each Start has a Run of its own, which takes the person's choice once and is never used again. Only the newest counts:
// what was asked for by one that is over (a microphone whose prompt was open, a file that was being read) is closed as it
// comes.

import { openMicrophone } from "./audio.js";
import { Live } from "./live.js";
import { Problem } from "./problem.js";
import { OPEN as SESSION_OPEN } from "./session.js";
import { sentence } from "./sentences.js";

export const IDLE = "idle", ASKING = "asking", READING = "reading", CONNECTING = "connecting", OPEN = "open",
  RESUMING = "resuming";

// What opens things; tests have their own.
const BROWSER = {
  microphone: ({ device, echo }) => openMicrophone(device, echo),
  live: (choice, on) => Live.open(choice, on),
};

class Run {
  constructor(choice) {
    this.choice = choice;
    this.over = false;
    this._closers = [];
  }

  // What `promise` gives, until the run is over: then `close` is called with it. Never comes back to a run that is over.
  own(promise, close) {
    return new Promise((resolve, reject) => {
      promise.then(
        (value) => {
          if (this.over) return close(value);
          this._closers.push(() => close(value));
          resolve(value);
        },
        (error) => this.over || reject(error),
      );
    });
  }

  end() {
    this.over = true;
    for (const close of this._closers.splice(0).reverse()) close();
  }
}

export class Life {
  // on: { changed() when anything below has, event(event) of the session, levels(name, rms, peak, streams) }.
  constructor(on, tools = BROWSER) {
    this.phase = IDLE;
    this.why = "ready"; // why nothing runs: ready, stopped, over (a file is), not_started or ended
    this.problem = null; // { code, text }: what ended the last run
    this.notices = new Map(); // code: text, of what is wrong now and does not end the run
    this.live = null;
    this._on = on;
    this._tools = tools;
    this._run = null;
  }

  get running() {
    return this.phase !== IDLE;
  }

  // What was chosen at Start, as long as it runs.
  get choice() {
    return this._run?.choice ?? null;
  }

  // choice: { mode ("roundtrip", "room" or "file"), hello, device, echo, file (a Blob), loop, rate }.
  start(choice) {
    if (this.running) return;
    const run = new Run(Object.freeze(choice));
    this._run = run;
    this.problem = null;
    this._move(choice.mode === "file" ? READING : ASKING);
    this._begin(run).catch((error) => this._finish(run, "not_started", error));
  }

  stop() {
    this._finish(this._run, "stopped", null);
  }

  // A gesture: browsers let sound begin, or go on, after one.
  wake() {
    this.live?.graph.wake();
  }

  async _begin(run) {
    const { choice } = run;
    const stream = choice.mode === "file" ? null : await run.own(this._tools.microphone(choice), closeStream);
    if (stream) this._move(CONNECTING);
    const live = await run.own(this._tools.live(choice, this._handlers(run)), (one) => one.stop());
    if (stream) live.graph.useMicrophone(stream);
    else live.graph.useFile(await run.own(read(live.graph.context, choice.file), () => {}), choice.loop);
    this.live = live;
    this._move(CONNECTING);
    live.connect();
  }

  _handlers(run) {
    const current = (call) => (...values) => run === this._run && call(...values);
    return {
      event: current((event) => this._event(run, event)),
      state: current((state) => this._move(state === SESSION_OPEN ? OPEN : RESUMING)),
      levels: current(this._on.levels),
      notice: current((code, details) => this._notice(code, details)),
      ended: current(() => this._finish(run, "over", null)),
      failed: current((code) => this._finish(run, "ended", new Problem(code))),
    };
  }

  _event(run, event) {
    if (event.type === "ended") this._finish(run, "ended", event);
    else this._on.event(event);
  }

  // details: of what sentences.js says; null where it is over.
  _notice(code, details) {
    const before = this.notices.get(code), text = details && sentence({ code, ...details });
    if (text) this.notices.set(code, text);
    else this.notices.delete(code);
    if (text !== (before ?? null)) this._on.changed();
  }

  _move(phase) {
    this.phase = phase;
    this._on.changed();
  }

  // error: what sentences.js knows, or null.
  _finish(run, why, error) {
    if (!run || run !== this._run) return;
    this._run = this.live = null;
    run.end();
    this.notices.clear();
    this.why = why;
    this.problem = error && { code: error.code || error.name, text: sentence(error) };
    this._move(IDLE);
  }
}

function closeStream(stream) {
  for (const track of stream.getTracks()) track.stop();
}

async function read(context, file) {
  try {
    return await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Problem("unreadable_file");
  }
}
