// A spectrogram that scrolls on a canvas: the last seconds, newest at the right.

import { TICKS, colourMap, height, label, levelOfRow, rowsOfBins } from "./scale.js";

const PIXELS_PER_SECOND = 72; // CSS pixels
const QUIET_DB = -100, LOUD_DB = -28; // of an AnalyserNode's bins: speech at full scale peaks near -25 dB
const SWEEP_HZ = 10; // columns a second where motion is to be reduced

export class Spectrogram {
  // figure: has a canvas, .ticks for the axis, and .span for the seconds that fit.
  constructor(figure) {
    const canvas = figure.querySelector("canvas");
    this.canvas = canvas;
    this.analyser = null; // an AnalyserNode, once there is one
    this._drawn = false; // whether anything was
    this._image = null; // one column, once there is room
    this._span = figure.querySelector(".span");
    this._context = canvas.getContext("2d", { alpha: false });
    this._carry = this._sweepAt = 0;
    this._still = matchMedia("(prefers-reduced-motion: reduce)");
    this._darkness = matchMedia("(prefers-color-scheme: dark)");
    this._darkness.addEventListener("change", () => this._clear());
    new ResizeObserver(() => this._fit()).observe(canvas);
    for (const hz of TICKS) {
      const tick = document.createElement("span");
      tick.textContent = label(hz);
      tick.style.bottom = `${100 * height(hz)}%`;
      figure.querySelector(".ticks").append(tick);
    }
    this._fit();
  }

  // Draws what was heard in the last `seconds`.
  draw(seconds) {
    if (!this.analyser || !this._image) return; // no image while it is not laid out
    if (this._still.matches) this._sweep(seconds);
    else this._scroll(seconds);
  }

  _scroll(seconds) {
    this._carry += seconds * PIXELS_PER_SECOND * this._scale;
    const columns = Math.min(Math.floor(this._carry), this.canvas.width);
    if (columns < 1) return;
    this._carry -= Math.floor(this._carry);
    const { width, height: rows } = this.canvas;
    this._context.drawImage(this.canvas, columns, 0, width - columns, rows, 0, 0, width - columns, rows);
    this._column(width - columns, columns);
  }

  // Nothing moves but a line that is drawn anew from left to right.
  _sweep(seconds) {
    this._carry += seconds;
    if (this._carry < 1 / SWEEP_HZ) return;
    const columns = Math.max(1, Math.round(this._carry * PIXELS_PER_SECOND * this._scale));
    this._carry = 0;
    if (this._sweepAt + columns > this.canvas.width) this._sweepAt = 0;
    this._column(this._sweepAt, columns);
    this._sweepAt += columns;
  }

  _column(x, columns) {
    const { analyser } = this, rows = this.canvas.height;
    this._drawn = true;
    if (this._levels?.length !== analyser.frequencyBinCount || this._rate !== analyser.context.sampleRate) {
      this._levels = new Float32Array(analyser.frequencyBinCount);
      this._rate = analyser.context.sampleRate;
      this._rows = rowsOfBins(rows, this._levels.length, this._rate);
    }
    analyser.getFloatFrequencyData(this._levels);
    const pixels = this._image.data;
    for (let row = 0; row < rows; row++) {
      const share = (levelOfRow(this._levels, this._rows[row]) - QUIET_DB) / (LOUD_DB - QUIET_DB);
      const colour = 4 * Math.round(255 * Math.min(1, Math.max(0, share || 0)));
      for (let n = 0; n < 4; n++) pixels[4 * row + n] = this._map[colour + n];
    }
    for (let n = 0; n < columns; n++) this._context.putImageData(this._image, x + n, 0);
  }

  _fit() {
    this._scale = devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * this._scale);
    const rows = Math.round(this.canvas.clientHeight * this._scale);
    if (!width || !rows || (width === this.canvas.width && rows === this.canvas.height)) return;
    this._span.textContent = `last ${Math.round(this.canvas.clientWidth / PIXELS_PER_SECOND)} s`;
    const before = this._copy();
    this.canvas.width = width;
    this.canvas.height = rows;
    this._levels = null;
    this._image = this._context.createImageData(1, rows);
    this._clear();
    // What was heard stays, newest at the right. (The sweep begins anew.)
    if (before && !this._still.matches) {
      const shown = Math.min(width, before.width);
      this._context.drawImage(before, before.width - shown, 0, shown, before.height, width - shown, 0, shown, rows);
    }
  }

  _copy() {
    if (!this._drawn) return null;
    const copy = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    copy.getContext("2d").drawImage(this.canvas, 0, 0);
    return copy;
  }

  _clear() {
    this._map = colourMap(this._darkness.matches);
    const [red, green, blue] = this._map;
    this._context.fillStyle = `rgb(${red} ${green} ${blue})`;
    this._context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this._sweepAt = 0;
  }
}
