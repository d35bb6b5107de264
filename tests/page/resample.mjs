// node resample.mjs SOURCE TARGET CUTS...: float32 from stdin, resampled in pieces of these lengths, to stdout.
import { readFileSync } from "node:fs";

import { Resampler } from "../../streamcodec/server/page/resampler.js";

const [source, target, ...cuts] = process.argv.slice(2).map(Number);
const bytes = readFileSync(0);
const samples = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
const resampler = new Resampler(source, target), out = [];
for (let at = 0, n = 0; at < samples.length; at += cuts[n++ % cuts.length]) {
  out.push(...resampler.push(samples.subarray(at, at + cuts[n % cuts.length])));
}
process.stdout.write(Buffer.from(Float32Array.from(out).buffer));
