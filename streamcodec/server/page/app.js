// The page: its form, its buttons, and what it shows of a run.

import { microphones } from "./audio.js";
import { debugObject } from "./debug.js";
import { total } from "./delay.js";
import { ASKING, CONNECTING, IDLE, Life, OPEN, READING, RESUMING } from "./life.js";
import { Meter } from "./meter.js";
import { codecsOnOffer } from "./offers.js";
import { sentence } from "./sentences.js";
import { Spectrogram } from "./spectrogram.js";

const FIGURES_SECONDS = 0.4; // between changes of the figures

const $ = (id) => document.getElementById(id);
const form = $("controls");
// key, room, max_delay (seconds), rate (Hz, for tests): never in a query
const fragment = new URLSearchParams(location.hash.slice(1));
const scopes = ["input", "output"].map((name) => {
  const figure = $(`${name}-scope`);
  return {
    spectrogram: new Spectrogram(figure),
    meter: new Meter(figure.querySelector(".meter")),
  };
});

let codecs = [];
let file = null; // a File
let muted = false;
let refused = null; // what the server said last of what it did not take
let shownLive = null; // the life's, as it is drawn
const life = new Life({
  changed,
  event: onEvent,
  levels: (name, rms, peak) => scopes[name === "input" ? 0 : 1].meter.push(rms, peak),
});

const mode = () => form.elements.mode.value;
const codec = () => codecs.find(({ name }) => name === $("codec").value);
const bandwidth = () => Number(form.elements.bandwidth?.value);

// Status and problems

function status(state, text) {
  $("status").dataset.state = state;
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
}

function tellProblem(text) {
  if ($("problem").textContent === (text ?? "")) return;
  $("problem").hidden = !text;
  $("problem").textContent = text ?? "";
  if (text) $("problem").scrollIntoView({ block: "nearest" });
}

function tellNotices(texts) {
  $("notice").hidden = !texts.length;
  $("notice").textContent = texts.join(" ");
}

// The form

function showMode() {
  for (const part of form.querySelectorAll("[data-mode]")) part.hidden = !part.dataset.mode.split(" ").includes(mode());
  $("empty").textContent = {
    roundtrip: "Press Start and speak", room: "Join the call and speak", file: "Choose a file and press Start",
  }[mode()];
  enable();
}

function enable() {
  const { live, running } = life;
  for (const input of form.elements.mode) input.disabled = running;
  for (const id of ["codec", "device", "echo", "member", "file", "key"]) $(id).disabled = running;
  $("room").disabled = running || mode() !== "room";
  if (!codecs.length) $("codec").disabled = true;
  $("start").disabled = !running && (!codecs.length || (mode() === "file" && !file));
  $("start").textContent = running ? "Stop" : mode() === "room" ? "Join the call" : "Start";
  $("start").classList.toggle("running", running);
  document.body.classList.toggle("running-page", running);
  $("mute").disabled = !live;
  for (const input of form.elements.listen) input.disabled = !live;
  for (const note of document.querySelectorAll(".empty")) note.hidden ||= running;
  $("members").hidden = !live || mode() !== "room";
}

function showCodec() {
  const facts = codec();
  if (!facts) return;
  const frame = (1000 * facts.hop_length) / facts.sample_rate;
  $("codec-facts").textContent =
    `${facts.sample_rate / 1000} kHz ${facts.channels > 1 ? "stereo" : "mono"}, frames of ${frame.toFixed(1)} ms, ` +
    `up to ${facts.num_codebooks} codebooks of ${facts.codebook_size}`;
  const wanted = facts.bandwidths.includes(bandwidth()) ? bandwidth() : facts.default_bandwidth;
  $("bandwidth-choices").replaceChildren(
    ...facts.bandwidths.map((value) => {
      const label = document.createElement("label"), input = document.createElement("input");
      const text = document.createElement("span");
      Object.assign(input, { type: "radio", name: "bandwidth", value, checked: value === wanted });
      text.textContent = value;
      label.append(input, text);
      return label;
    }),
  );
}

async function loadCodecs() {
  codecs = await codecsOnOffer(() => {
    refused = sentence({ code: "unreachable" });
    changed();
  });
  refused = null;
  $("codec").replaceChildren(...codecs.map(({ name }) => new Option(name, name)));
  showCodec();
  changed();
}

async function loadDevices() {
  const chosen = $("device").value;
  const found = await microphones();
  const named = found.filter(({ deviceId, label }) => label && deviceId !== "default" && deviceId !== "communications");
  const options = named.map(({ label, deviceId }) => new Option(label, deviceId));
  $("device").replaceChildren(new Option("The system’s own", ""), ...options);
  if (named.some(({ deviceId }) => deviceId === chosen)) $("device").value = chosen;
}

function takeFile(chosen) {
  if (!chosen || life.running) return;
  file = chosen;
  $("file-name").textContent = chosen.name;
  $("file-facts").textContent = `${(chosen.size / 1e6).toFixed(1)} MB; choose or drop another one`;
  enable();
}

// A run

function hello() {
  const values = { mode: mode() === "file" ? "roundtrip" : mode(), codec: $("codec").value, bandwidth: bandwidth() };
  if (mode() === "room") {
    const name = $("room").value, member = $("member").value.trim();
    values.room = { name, role: "both", send: "pcm", receive: "pcm", member };
  }
  if ($("key").value) values.key = $("key").value;
  return values;
}

function choice() {
  return {
    mode: mode(), hello: hello(), device: $("device").value, echo: $("echo").checked, file,
    loop: $("loop").checked, wire: codec().sample_rate, rate: Number(fragment.get("rate")) || null,
    maxDelay: Number(fragment.get("max_delay")) || undefined,
  };
}

const WHY = { ready: "Ready", stopped: "Stopped", over: "The file is over", not_started: "Not started", ended: "Ended" };

// What the life of the run has become.
function changed() {
  const { phase, live, problem, notices } = life;
  if (live && live !== shownLive) began(live);
  else if (!live && shownLive) ended();
  const { mode: chosen, hello: { room } = {} } = life.choice ?? {};
  const [state, text] = {
    [IDLE]: () => (problem ? ["bad", WHY[life.why]] : codecs.length ? ["idle", WHY[life.why]] : ["bad", "No server"]),
    [ASKING]: () => ["wait", "Asking for the microphone"],
    [READING]: () => ["wait", "Reading the file"],
    [CONNECTING]: () => ["wait", "Connecting"],
    [OPEN]: () => ["open", { room: `In room ${room?.name}`, file: "Playing", roundtrip: "Live" }[chosen]],
    [RESUMING]: () => ["wait", "Connection lost, resuming"],
  }[phase]();
  status(state, text);
  tellProblem(problem?.text ?? refused);
  tellNotices([...notices.values()]);
  enable();
}

function began(live) {
  shownLive = live;
  live.graph.volume = Number($("volume").value) ** 2;
  live.graph.muted = muted;
  scopes[0].spectrogram.analyser = live.graph.input;
  scopes[1].spectrogram.analyser = live.graph.output;
  window.streamcodec.began(live);
  if (life.choice.mode !== "file") loadDevices(); // their names are told once one was allowed
  requestAnimationFrame(frame);
}

function ended() {
  shownLive = null;
  if (life.problem?.code === "unauthorised") $("key-box").open = true;
  if (life.problem?.code === "unknown_codec") loadCodecs();
  if (muted) mute();
  form.elements.listen.value = "codec";
  for (const { spectrogram, meter } of scopes) {
    spectrogram.analyser = null;
    meter.reset();
  }
}

function onEvent(event) {
  if (event.type === "error" && event.scope === "message") {
    refused = sentence(event);
    changed();
  } else if (event.type === "bandwidth") {
    const choice = form.querySelector(`[name=bandwidth][value="${event.bandwidth}"]`);
    if (choice) choice.checked = true;
  }
  if (life.live && ["welcome", "joined", "left"].includes(event.type)) showMembers();
}

function showMembers() {
  const { live } = life, own = live.welcome?.room?.id;
  $("member-list").replaceChildren(
    ...[...live.members.values()].map(({ id, member, role }) => {
      const item = document.createElement("li"), note = document.createElement("small");
      note.textContent = id === own ? " you" : role === "listener" ? " listens" : "";
      item.append(member || `Guest ${id}`, note);
      return item;
    }),
  );
}

function mute() {
  muted = !muted;
  $("mute").setAttribute("aria-pressed", muted);
  $("mute").textContent = muted ? "Muted" : "Mute";
  if (life.live) life.live.graph.muted = muted;
}

// Figures and drawing

function figures() {
  const { live } = life;
  if (!live?.welcome) return null;
  const { parts, measured } = live.delay(), [up, down] = live.linkRates();
  const report = live.report ?? { underruns: 0, target: 0, fill: 0 };
  return {
    bitrate: live.bitrate, codebooks: live.codebooks, bandwidth: live.bandwidth, up, down,
    delay: total(parts), parts, measured, atLeast: live.hello.mode === "room",
    leftOut: live.pacer.leftOut / live.graph.wireRate,
    underruns: report.underruns, target: 1000 * report.target, fill: 1000 * report.fill,
    lost: live.lostFrames, resumes: live.statistics?.resumes ?? 0,
  };
}

function text(id, value) {
  if ($(id).textContent !== value) $(id).textContent = value;
}

function showFigures() {
  const now = figures();
  if (!now) return;
  const about = now.measured ? "measured" : now.atLeast ? "at least" : "the sum of its parts";
  text("bitrate", now.bitrate.toFixed(now.bitrate < 9.95 ? 1 : 0));
  text("bitrate-more", `link ↑ ${now.up.toFixed(0)} ↓ ${now.down.toFixed(0)}`);
  text("delay", now.delay.toFixed(0));
  text("delay-more", about);
  const tooltip = now.parts.map(({ name, ms, what }) => `${name} ${ms.toFixed(1)} ms: ${what}`);
  $("delay").closest("div").title = tooltip.join("\n");
  text("underruns", String(now.underruns));
  text("underruns-more", `buffer ${now.fill.toFixed(0)} of ${now.target.toFixed(0)} ms`);
  text("lost", String(now.lost));
  text("lost-more", now.resumes ? `on either way; ${now.resumes} resumed` : "on either way");
  text("budget-total", `${now.delay.toFixed(0)} ms, ${about}`);
  showParts(now.parts);
}

function showParts(parts) {
  const sum = Math.max(total(parts), 1);
  while ($("stack").children.length < parts.length) {
    const place = $("stack").children.length + 1;
    $("stack").append(document.createElement("div"));
    const item = document.createElement("li");
    item.append(document.createElement("span"), document.createElement("b"));
    $("legend").append(item);
    for (const element of [$("stack").lastChild, item]) element.className = `part-${place}`;
  }
  [...$("stack").children].forEach((element, n) => {
    const part = parts[n];
    element.style.flexBasis = part ? `${(100 * part.ms) / sum}%` : "0%";
    const item = $("legend").children[n];
    item.hidden = !part;
    if (!part) return;
    item.title = part.what;
    const [name, value] = item.children;
    if (name.textContent !== part.name) name.textContent = part.name;
    value.textContent = `${part.ms.toFixed(0)} ms`;
  });
}

let drawn = 0, shown = 0;

// Browsers call it for visible pages only, so a hidden one draws nothing.
function frame(now) {
  if (!life.live) return;
  const seconds = Math.min(0.25, (now - drawn) / 1000);
  drawn = now;
  for (const { spectrogram, meter } of scopes) {
    spectrogram.draw(seconds);
    meter.draw(seconds);
  }
  if (now - shown > 1000 * FIGURES_SECONDS) {
    shown = now;
    showFigures();
  }
  requestAnimationFrame(frame);
}

// What people do

form.addEventListener("submit", (event) => {
  event.preventDefault();
  refused = null;
  if (life.running) life.stop();
  else life.start(choice());
});
form.elements.mode.forEach((input) => input.addEventListener("change", showMode));
$("codec").addEventListener("change", showCodec);
$("bandwidth-choices").addEventListener("change", () => life.live?.changeBandwidth(bandwidth()));
$("volume").addEventListener("input", () => {
  if (life.live) life.live.graph.volume = Number($("volume").value) ** 2;
});
$("mute").addEventListener("click", mute);
$("loop").addEventListener("change", () => {
  if (life.live) life.live.graph.loop = $("loop").checked;
});
$("listen").addEventListener("change", () => {
  const { live } = life;
  live?.graph.listenTo(form.elements.listen.value === "original", live.pathSeconds);
});
$("file").addEventListener("change", () => takeFile($("file").files[0]));
for (const type of ["dragover", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", type === "dragover");
    if (type === "drop" && event.dataTransfer.files.length && !life.running) {
      form.elements.mode.value = "file";
      showMode();
      takeFile(event.dataTransfer.files[0]);
    }
  });
}
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("copy").addEventListener("click", async () => {
  const url = new URL(location.href);
  url.hash = new URLSearchParams({ room: $("room").value });
  try {
    await navigator.clipboard.writeText(url.href);
    $("copy").textContent = "Copied";
  } catch {
    $("copy").textContent = url.href;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || !life.running) return;
  if (event.key === "Escape") life.stop();
  else if (life.live && event.key.toLowerCase() === "m" && !event.target.matches("[type=text], [type=password], select")) mute();
});
for (const type of ["pointerdown", "keydown", "visibilitychange"]) {
  document.addEventListener(type, () => life.wake());
}
addEventListener("pagehide", () => life.stop()); // so that the server need not wait for a resume
navigator.mediaDevices?.addEventListener("devicechange", loadDevices);

if (fragment.get("key")) $("key").value = fragment.get("key");
if (fragment.get("room")) {
  $("room").value = fragment.get("room");
  form.elements.mode.value = "room";
}
window.streamcodec = debugObject(() => life.live, figures);
showMode();
loadDevices();
loadCodecs();
