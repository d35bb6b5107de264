// The tiles and the bar of the delay, from the numbers of a run.

import { total } from "./delay.js";
import { $, make, setText } from "./dom.js";
import { Recent, ofDelay, ofLoss, ofUnderruns } from "./judge.js";

const lately = (seconds) => (seconds < 120 ? `in ${Math.round(seconds)} s` : `in ${Math.round(seconds / 60)} min`);
const PLACES = ["Capture", "Network", "Codec", "Jitter buffer", "Output", "Waiting"]; // of their colours in stage.css
let recent = null; // a Recent for each figure that is counted

// A run begins, or is over: what stands there is of no weight any more.
export function idle(on) {
  $("tiles").toggleAttribute("data-idle", on);
  for (const tile of $("tiles").children) delete tile.dataset.level;
  recent = { underruns: new Recent(), unsent: new Recent(), missing: new Recent(), left: new Recent() };
}

// now: what `figures` of app.js gives.
export function showFigures(now) {
  const about = now.measured ? "measured" : now.atLeast ? "at least" : "the sum of its parts", ms = now.delay.toFixed(0);
  const at = performance.now(), grown = (name, value) => recent[name].growth(at, value);
  const loss = Object.fromEntries(Object.entries(now.loss).map(([name, value]) => [name, grown(name, value)]));
  const lost = Object.values(now.loss).reduce((sum, value) => sum + value, 0);
  tile("bitrate", now.bitrate.toFixed(now.bitrate < 9.95 ? 1 : 0),
    `link ↑ ${now.up.toFixed(0)} ↓ ${now.down.toFixed(0)} kbit/s`);
  tile("delay", ms, about, ofDelay(now.delay, now.parts));
  tile("underruns", String(now.underruns), `buffer ${now.fill.toFixed(0)} of ${now.target.toFixed(0)} ms`,
    ofUnderruns(grown("underruns", now.underruns)));
  setText($("underruns-unit"), lately(now.seconds));
  tile("lost", lost < 9999.5 ? lost.toFixed(0) : (lost / 1000).toFixed(0), lostMore(now), ofLoss(loss));
  setText($("lost-unit"), lost < 9999.5 ? "ms" : "s");
  setText($("budget-total"), `${ms} ms, ${about}`);
  showParts(now.parts);
}

function lostMore({ lost, concealed, resumes }) {
  const parts = [`${lost} ${lost === 1 ? "frame" : "frames"}`];
  if (concealed >= 0.5) parts.push(`${concealed.toFixed(0)} ms concealed`);
  if (resumes) parts.push(`${resumes} resumed`);
  return parts.length > 1 ? parts.join("; ") : `${parts[0]}, either way`;
}

function tile(id, value, more, { level, cause } = { level: "", cause: "" }) {
  const place = $(id).closest("div");
  if (level) place.dataset.level = level;
  else delete place.dataset.level;
  setText($(id), value);
  setText($(`${id}-more`), level ? cause : more);
  place.title = level ? more : "";
}

function showParts(parts) {
  const sum = Math.max(total(parts), 1);
  while ($("stack").children.length < parts.length) addPart();
  [...$("stack").children].forEach((element, n) => {
    const part = parts[n], item = $("legend").children[n];
    element.style.flexBasis = part ? `${(100 * part.ms) / sum}%` : "0%";
    item.hidden = !part;
    if (!part) return;
    element.className = item.className = `part-${PLACES.indexOf(part.name) + 1}`;
    item.title = part.what;
    setText(item.children[0], part.name);
    setText(item.children[1], `${part.ms.toFixed(0)} ms`);
  });
}

function addPart() {
  $("stack").append(make("div", ""));
  const item = make("li", "");
  item.append(make("span", ""), make("b", ""));
  $("legend").append(item);
}
