// The page: what people do leads to the life of a run, and what that becomes is shown.

import { debugObject } from "./debug.js";
import { total } from "./delay.js";
import { $ } from "./dom.js";
import { idle, showFigures } from "./figures.js";
import { onKeys, onPress } from "./keys.js";
import { ASKING, CONNECTING, IDLE, Life, OPEN, READING, RESUMING } from "./life.js";
import { notices, problem, showMuted, status } from "./notice.js";
import { codecsOnOffer } from "./offers.js";
import { People, SELF } from "./people.js";
import { drawScopes, scopes, watch } from "./scopes.js";
import { sentence } from "./sentences.js";
import { bandwidth, codec, enable, form, gain, loadDevices, mode, offer, settings, showMode, takeFile } from "./settings.js";
import { keepAwake } from "./wake.js";

const FIGURES_SECONDS = 0.4; // between changes of the figures

// key, room, max_delay (seconds), rate (Hz, for tests): never in a query
const fragment = new URLSearchParams(location.hash.slice(1));
const people = new People();
let muted = false; // stays as it was from run to run: nobody is heard without knowing it
let refused = null; // what the server said last of what it did not take
let shownLive = null; // the life's, as it is drawn
const life = new Life({ changed, event: onEvent, levels: onLevels });

// The life of the run

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
    mode: mode(), hello: hello(), device: $("device").value, echo: $("echo").checked, file: settings.file,
    loop: $("loop").checked, wire: codec().sample_rate, rate: Number(fragment.get("rate")) || null,
    maxDelay: Number(fragment.get("max_delay")) || undefined,
  };
}

function start() {
  if (life.running || !settings.ready || !form.reportValidity()) return;
  refused = null;
  life.start(choice());
}

async function loadCodecs() {
  const found = await codecsOnOffer(() => {
    refused = sentence({ code: "unreachable" });
    changed();
  });
  refused = null;
  offer(found);
  changed();
}

const reload = () => location.reload();
const WHY = { ready: "Ready", stopped: "Stopped", over: "The file is over", not_started: "Not started", ended: "Ended" };

// What the life of the run has become.
function changed() {
  const { phase, live } = life;
  if (live && live !== shownLive) began(live);
  else if (!live && shownLive) ended();
  const { mode: chosen, hello: { room } = {} } = life.choice ?? {};
  const [state, text] = {
    [IDLE]: () => (life.problem ? ["bad", WHY[life.why]] : settings.offered ? ["idle", WHY[life.why]] : ["bad", "No server"]),
    [ASKING]: () => ["wait", "Asking for the microphone"],
    [READING]: () => ["wait", "Reading the file"],
    [CONNECTING]: () => ["wait", "Connecting"],
    [OPEN]: () => ["open", { room: `In room ${room?.name}`, file: "Playing", roundtrip: "Live" }[chosen]],
    [RESUMING]: () => ["wait", "Connection lost, resuming"],
  }[phase]();
  status(state, text);
  problem(life.problem?.text ?? refused, life.problem ? start : settings.offered ? null : reload);
  notices([...life.notices.values()]);
  showRunning();
}

function showRunning() {
  const { live, running } = life;
  enable(running, Boolean(live));
  $("start").disabled = !running && !settings.ready;
  $("start").textContent = running ? "Stop" : mode() === "room" ? "Join the call" : "Start";
  $("start").classList.toggle("running", running);
  document.body.classList.toggle("running-page", running);
  $("members").hidden = !live || mode() !== "room";
  showMute();
}

function began(live) {
  shownLive = live;
  document.body.classList.remove("fresh-page");
  scrollTo(0, 0); // on a phone what happens comes before the form now
  live.graph.volume = gain();
  watch(live.graph);
  idle(false);
  keepAwake(true);
  window.streamcodec.began(live);
  if (life.choice.mode !== "file") loadDevices(); // their names are told once one was allowed
  requestAnimationFrame(frame);
}

function ended() {
  shownLive = null;
  if (life.problem?.code === "unauthorised") $("key-box").open = true;
  if (life.problem?.code === "unknown_codec") loadCodecs();
  form.elements.listen.value = "codec";
  watch(null);
  idle(true);
  keepAwake(false);
}

function onEvent(event) {
  if (event.type === "error" && event.scope === "message") {
    refused = sentence(event);
    problem(null); // the same one again is told again
    changed();
  } else if (event.type === "bandwidth") {
    const choice = form.querySelector(`[name=bandwidth][value="${event.bandwidth}"]`);
    if (choice) choice.checked = true;
  }
  const { live } = life;
  if (live && ["welcome", "joined", "left"].includes(event.type)) {
    const room = live.welcome?.room;
    if (room) people.show([...live.members.values()], room.id, room.name);
  }
}

function onLevels(name, rms, peak, streams = []) {
  scopes[name].meter.push(rms, peak);
  if (name === "input") people.push(SELF, rms);
  for (const [stream, level] of streams) people.push(stream, level);
}

function mute() {
  if (mode() === "file") return;
  muted = !muted;
  showMute();
}

// A file cannot be muted: there is the volume.
function showMute() {
  const silent = muted && mode() !== "file";
  $("mute").hidden = mode() === "file";
  showMuted(silent, life.running, mode());
  people.muted = silent;
  if (life.live) life.live.graph.muted = silent;
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
    lost: live.lostFrames, loss: live.loss, concealed: live.concealed, resumes: live.statistics?.resumes ?? 0,
    seconds: live.seconds,
  };
}

let drawn = 0, shown = 0;

// Browsers call it for visible pages only, so a hidden one draws nothing.
function frame(now) {
  if (!life.live) return;
  const seconds = Math.min(0.25, (now - drawn) / 1000);
  drawn = now;
  drawScopes(seconds);
  people.draw(seconds);
  if (now - shown > 1000 * FIGURES_SECONDS) {
    shown = now;
    const numbers = figures();
    if (numbers) showFigures(numbers);
  }
  requestAnimationFrame(frame);
}

// What people do

onPress($("start"), () => (life.running ? life.stop() : start()));
onPress($("mute"), mute);
onKeys(form, { start, stop: () => life.stop(), mute });
form.elements.mode.forEach((input) => input.addEventListener("change", () => (showMode(), showRunning())));
$("bandwidth-choices").addEventListener("change", () => life.live?.changeBandwidth(bandwidth()));
$("volume").addEventListener("input", () => {
  if (life.live) life.live.graph.volume = gain();
});
$("loop").addEventListener("change", () => {
  if (life.live) life.live.graph.loop = $("loop").checked;
});
$("listen").addEventListener("change", () => {
  const { live } = life;
  live?.graph.listenTo(form.elements.listen.value === "original", live.pathSeconds);
});

function chooseFile(file) {
  if (!file || life.running) return;
  takeFile(file);
  showRunning();
}

$("file").addEventListener("change", () => chooseFile($("file").files[0]));
for (const type of ["dragover", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", type === "dragover");
    if (type === "drop" && event.dataTransfer.files.length && !life.running) {
      form.elements.mode.value = "file";
      showMode();
      chooseFile(event.dataTransfer.files[0]);
    }
  });
}
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));

async function copyLink({ currentTarget: button }) {
  const url = new URL(location.href);
  url.hash = new URLSearchParams({ room: $("room").value });
  try {
    await navigator.clipboard.writeText(url.href);
    button.textContent = "Copied";
  } catch {
    button.textContent = url.href;
  }
}

for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", copyLink);
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
idle(true);
showMode();
showRunning();
loadDevices();
loadCodecs();
