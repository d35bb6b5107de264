// The form: which mode, codec, microphone and file; what of it is remembered.

import { microphones } from "./audio.js";
import { $, make, setText } from "./dom.js";
import { remember, remembered } from "./memory.js";

export const form = $("controls");
let codecs = [];

export const mode = () => form.elements.mode.value;
export const codec = () => codecs.find(({ name }) => name === $("codec").value);
export const bandwidth = () => Number(form.elements.bandwidth?.value);
export const gain = () => Number($("volume").value) ** 2; // steps of loudness that feel even
export const settings = {
  file: null, // the File that was chosen
  get offered() {
    return codecs.length > 0;
  },
  get ready() {
    return codecs.length > 0 && (mode() !== "file" || settings.file !== null);
  },
};

export function showMode() {
  for (const part of form.querySelectorAll("[data-mode]")) part.hidden = !part.dataset.mode.split(" ").includes(mode());
  setText($("empty"), {
    roundtrip: "Press Start and speak", room: "Join the call and speak", file: "Choose a file and press Start",
  }[mode()]);
}

// What may be changed now. live: whether there is a run. running: the same, or one begins.
export function enable(running, live) {
  for (const input of form.elements.mode) input.disabled = running;
  for (const id of ["codec", "device", "echo", "member", "file", "key"]) $(id).disabled = running;
  $("room").disabled = running || mode() !== "room";
  if (!codecs.length) $("codec").disabled = true;
  for (const input of form.elements.listen) input.disabled = !live;
}

export function offer(found) {
  codecs = found;
  $("codec").replaceChildren(...codecs.map(({ name }) => new Option(name, name)));
  showCodec();
}

function showCodec() {
  const facts = codec();
  if (!facts) return;
  const frame = (1000 * facts.hop_length) / facts.sample_rate;
  setText($("settings-text"), facts.name);
  setText($("codec-facts"),
    `${facts.sample_rate / 1000} kHz ${facts.channels > 1 ? "stereo" : "mono"}, frames of ${frame.toFixed(1)} ms, ` +
    `up to ${facts.num_codebooks} codebooks of ${facts.codebook_size} entries`);
  const wanted = facts.bandwidths.includes(bandwidth()) ? bandwidth() : facts.default_bandwidth;
  $("bandwidth-choices").replaceChildren(...facts.bandwidths.map((value) => choice(value, value === wanted)));
}

function choice(value, checked) {
  const label = make("label", ""), input = make("input", "");
  Object.assign(input, { type: "radio", name: "bandwidth", value, checked });
  label.append(input, make("span", "", value));
  return label;
}

export async function loadDevices() {
  const chosen = $("device").value;
  const found = await microphones();
  const named = found.filter(({ deviceId, label }) => label && deviceId !== "default" && deviceId !== "communications");
  const options = named.map(({ label, deviceId }) => new Option(label, deviceId));
  $("device").replaceChildren(new Option("The system’s own", ""), ...options);
  if (named.some(({ deviceId }) => deviceId === chosen)) $("device").value = chosen;
}

export function takeFile(chosen) {
  settings.file = chosen;
  setText($("file-name"), chosen.name);
  setText($("file-facts"), `${(chosen.size / 1e6).toFixed(1)} MB; choose or drop another one`);
}

function showVolume() {
  const percent = Math.round(100 * Number($("volume").value));
  setText($("volume-text"), percent ? `${percent} %` : "0 %: you hear nothing");
  $("volume").setAttribute("aria-valuetext", `${percent} percent`);
}

// From the last visit; what is there but cannot be is left alone.
function recall() {
  const { room, member, mode: last, volume } = remembered();
  if (typeof room === "string" && /^[A-Za-z0-9_-]{1,64}$/.test(room)) $("room").value = room;
  if (typeof member === "string") $("member").value = member.slice(0, 64);
  if ([...form.elements.mode].some(({ value }) => value === last)) form.elements.mode.value = last;
  if (typeof volume === "number" && volume >= 0 && volume <= 1) $("volume").value = volume;
}

function keep() {
  remember({ room: $("room").value, member: $("member").value, mode: mode(), volume: Number($("volume").value) });
}

recall();
showVolume();
form.addEventListener("change", keep);
$("volume").addEventListener("input", showVolume);
$("codec").addEventListener("change", showCodec);
