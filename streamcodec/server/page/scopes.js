// The two plots, of what goes in and of what comes out, each with its meter.

import { $ } from "./dom.js";
import { Meter } from "./meter.js";
import { Spectrogram } from "./spectrogram.js";

const scope = (name) => {
  const figure = $(`${name}-scope`);
  const meter = new Meter(figure.querySelector(".meter"), figure.querySelector(".level"));
  return { spectrogram: new Spectrogram(figure), meter };
};

export const scopes = { input: scope("input"), output: scope("output") };

// graph: an AudioGraph, or null for a run that is over.
export function watch(graph) {
  for (const [name, { spectrogram, meter }] of Object.entries(scopes)) {
    spectrogram.analyser = graph?.[name] ?? null;
    if (!graph) meter.reset();
  }
}

export function drawScopes(seconds) {
  for (const { spectrogram, meter } of Object.values(scopes)) {
    spectrogram.draw(seconds);
    meter.draw(seconds);
  }
}
