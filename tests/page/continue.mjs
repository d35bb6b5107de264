// node continue.mjs RATE COUNT: how the float32 samples from stdin go on, to stdout.
import { readFileSync } from "node:fs";

import { continued } from "../../streamcodec/server/page/continuing.js";

const [rate, count] = process.argv.slice(2).map(Number);
const bytes = readFileSync(0);
const heard = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
process.stdout.write(Buffer.from(continued(heard, count, rate).buffer));
