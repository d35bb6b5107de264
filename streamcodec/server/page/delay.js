// Of what the delay that is shown is made. Times in milliseconds.

// rtt: of a ping. delays: of welcome. resampling: of the worklets. block: of the capture worklet. input, output: what the
// browser tells of its devices. waiting: audio that the server should have acknowledged and has not. cushion: what waits
// in the jitter buffer. room: whether the other end's way to the server is not known.
export function delayParts({ rtt, delays, resampling, block, input, output, waiting, cushion, room }) {
  const parts = [
    { name: "Capture", ms: input + block, what: "the microphone, as far as the browser tells, and a block of samples" },
    room
      ? { name: "Network", ms: rtt / 2, what: "half a round trip to the server; the other end's is not known here" }
      : { name: "Network", ms: rtt, what: "to the server and back" },
    { name: "Waiting", ms: waiting, what: "audio that was sent and that the server has not taken yet" },
    { name: "Codec", ms: delays.total_ms + resampling, what: "frame, look-ahead, decoder and resampling, as the server states" },
    { name: "Jitter buffer", ms: cushion, what: "samples that wait here, so that late packets are not heard" },
    { name: "Output", ms: output, what: "from the browser to the loudspeaker" },
  ];
  const known = parts.map((part) => ({ ...part, ms: Math.max(0, part.ms || 0) }));
  return known.filter(({ name, ms }) => name !== "Waiting" || ms > 0);
}

// With a measured total, what the parts do not explain is computing and waiting; what they say in excess is not true.
export function withRest(parts, measured) {
  const rest = { name: "Waiting", ms: measured - total(parts.filter(({ name }) => name !== "Waiting")),
    what: "what else was measured: computing and waiting" };
  const others = parts.filter(({ name }) => name !== "Waiting");
  return rest.ms > 0 ? [...others, rest] : others;
}

export const total = (parts) => parts.reduce((sum, part) => sum + part.ms, 0);

// The middle one of some numbers; 0 of none.
export function median(values) {
  return values.length ? [...values].sort((a, b) => a - b)[values.length >> 1] : 0;
}
