// What a spectrogram is drawn with: the mel axis and the colours. No dependencies.

export const MAX_HZ = 12000;
export const TICKS = [250, 500, 1000, 2000, 4000, 8000, 12000]; // Hz, labelled

// Mel of O'Shaughnessy (Speech Communication, 1987): nearly linear below 700 Hz, logarithmic above.
export const mel = (hz) => 2595 * Math.log10(1 + hz / 700);
export const hertz = (mels) => 700 * (10 ** (mels / 2595) - 1);

// Height of a frequency on the axis: 0 at the bottom (0 Hz), 1 at the top (MAX_HZ).
export const height = (hz) => mel(hz) / mel(MAX_HZ);

export const label = (hz) => (hz >= 1000 ? `${hz / 1000} kHz` : `${hz} Hz`);

// For each of `rows` pixels from the top: the bins (of an FFT of `bins` bins up to rate / 2) between its edges, as
// places [from, to) that need not be whole.
export function rowsOfBins(rows, bins, rate) {
  const bin = (row) => (hertz((1 - row / rows) * mel(MAX_HZ)) * 2 * bins) / rate;
  return Array.from({ length: rows }, (_, row) => [bin(row + 1), bin(row)]);
}

// The level of a row: the loudest bin within it, or, where it is narrower than a bin, between the two nearest.
export function levelOfRow(levels, [from, to]) {
  const first = Math.ceil(from), last = Math.min(Math.ceil(to), levels.length);
  if (first >= last) {
    const middle = Math.min((from + to) / 2, levels.length - 1), below = Math.floor(middle);
    const above = Math.min(below + 1, levels.length - 1);
    return levels[below] + (levels[above] - levels[below]) * (middle - below);
  }
  let most = levels[first];
  for (let bin = first + 1; bin < last; bin++) most = Math.max(most, levels[bin]);
  return most;
}

// OKLCH to sRGB bytes (B. Ottosson, "A perceptual color space for image processing", 2020). hue: degrees.
export function oklch(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180), b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return linear.map((value) => {
    const clipped = Math.min(1, Math.max(0, value));
    return Math.round(255 * (clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * clipped ** (1 / 2.4) - 0.055));
  });
}

// 256 colours from silence to full level, as RGBA bytes. Lightness runs evenly, so that equal steps of level are equal
// steps to the eye, in greyscale too: from night to yellow on a dark page, from paper to violet on a light one.
export function colourMap(dark) {
  const map = new Uint8ClampedArray(4 * 256);
  for (let n = 0; n < 256; n++) {
    const t = n / 255, bow = Math.sin(Math.PI * Math.min(1, 0.08 + t * 0.86));
    const rgb = dark
      ? oklch(0.17 + 0.76 * t, 0.02 + 0.16 * bow * Math.min(1, 3 * t), 280 + 175 * t)
      : oklch(0.975 - 0.7 * t, 0.006 + 0.17 * bow * Math.min(1, 2 * t), 80 - 155 * t);
    map.set([...rgb, 255], 4 * n);
  }
  return map;
}
