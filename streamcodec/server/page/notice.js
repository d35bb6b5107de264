// What the page says of itself: the status, what went wrong, "muted", and the tab's title that has them all.

import { $, setText } from "./dom.js";

const NAME = "streamcodec";
const QUIET = new Set(["idle"]); // states that the title need not tell
let state = "idle", muted = false;
let told = null, again = null; // the problem that is shown, and what "Try again" does


function title() {
  const parts = [muted && "🔇 Muted", !QUIET.has(state) && $("status-text").textContent, NAME];
  document.title = parts.filter(Boolean).join(" · ");
}

// state: idle, wait, open or bad.
export function status(now, text) {
  state = now;
  $("status").dataset.state = now;
  $("status").title = text;
  setText($("status-text"), text);
  title();
}

// text: a sentence, or null for none. act: what "Try again" does; without it there is no such button.
export function problem(text, act = null) {
  if (text === told && again === act) return;
  told = text;
  again = act;
  $("again").hidden = !act;
  $("problem").textContent = text ?? "";
  $("problem-box").hidden = !text;
}

// texts: sentences on what is wrong now and does not end the run.
export function notices(texts) {
  $("notice").hidden = !texts.length;
  setText($("notice"), texts.join(" "));
}

// on: whether the microphone is muted. running: whether that goes for a run. where: in whose words it is told.
export function showMuted(on, running, where) {
  muted = on && running;
  $("mute").setAttribute("aria-pressed", on);
  $("mute").querySelector("use").setAttribute("href", on ? "#mic-off" : "#mic");
  setText($("mute-text"), on ? "Muted" : "Mute");
  $("muted-sign").hidden = $("veil").hidden = !muted;
  setText($("veil-text"), where === "room" ? "Muted: nobody hears you" : "Muted: silence is sent");
  title();
}

$("again").addEventListener("click", () => again?.());
$("dismiss").addEventListener("click", () => ($("problem-box").hidden = true)); // until there is another one
