// A level meter: RMS as a bar, the peak as a line that falls slowly.

const FLOOR_DB = -60;
const FALL_DB = 18; // a second
const CLIP_SECONDS = 1.5; // for which a peak at full scale stays marked
const TOLD_SECONDS = 1; // between changes of what a screen reader is told
const WRITTEN_SECONDS = 0.25; // between changes of the figure

export const decibel = (level) => 20 * Math.log10(Math.max(level, 1e-6));

export class Meter {
  // element: has .bar and .peak. figure: where the peak is written.
  constructor(element, figure) {
    this._figure = figure;
    this._element = element;
    this._bar = element.querySelector(".bar");
    this._line = element.querySelector(".peak");
    this.reset();
  }

  reset() {
    this._rms = this._peak = FLOOR_DB;
    this._newRms = this._newPeak = 0;
    this._clip = this._told = this._written = this._most = 0;
    this.draw(0);
    this._figure.textContent = "";
  }

  // rms, peak: of a block, full scale 1.
  push(rms, peak) {
    this._newRms = Math.max(this._newRms, rms);
    this._newPeak = Math.max(this._newPeak, peak);
  }

  draw(seconds) {
    this._rms = Math.max(FLOOR_DB, this._rms - 2 * FALL_DB * seconds, decibel(this._newRms));
    this._peak = Math.max(FLOOR_DB, this._peak - FALL_DB * seconds, decibel(this._newPeak));
    this._clip = this._newPeak >= 0.999 ? CLIP_SECONDS : Math.max(0, this._clip - seconds);
    this._most = Math.max(this._most, this._newPeak);
    this._newRms = this._newPeak = 0;
    this._bar.style.transform = `scaleY(${1 - this._rms / FLOOR_DB})`;
    this._line.style.bottom = `${100 * (1 - this._peak / FLOOR_DB)}%`;
    this._line.hidden = this._peak <= FLOOR_DB;
    this._element.classList.toggle("clipped", this._clip > 0);
    this._write(seconds);
    this._told -= seconds;
    if (this._told > 0) return;
    this._told = TOLD_SECONDS;
    const value = Math.round(this._rms);
    this._element.setAttribute("aria-valuenow", value);
    this._element.setAttribute("aria-valuetext", value <= FLOOR_DB ? "silence" : `${value} decibels`);
  }

  _write(seconds) {
    this._written -= seconds;
    if (this._written > 0) return;
    this._written = WRITTEN_SECONDS;
    const peak = Math.round(decibel(this._most));
    this._figure.textContent = peak <= FLOOR_DB ? "silence" : `${peak} dB`.replace("-", "−");
    this._most = 0;
  }
}
