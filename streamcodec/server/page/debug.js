// window.streamcodec: for the console and for tests.
//
//   streamcodec.live             the run there is, or null: live.session, live.report, live.statistics
//   streamcodec.figures()        what the page shows, as numbers
//   streamcodec.cut()            breaks the connection, as a network would; the page resumes
//   streamcodec.startRecording() keeps, until stopRecording(), what is sent, received and played; before Start, from
//                                the first sample on
//   streamcodec.stopRecording()  { rate, sent, received, places, played, streams, concealed }: s16le samples sent and
//                                received, and float ones that were played, all at `rate`, as base64; places: index
//                                and count of each packet that was received; streams: the numbers of those that were heard;
//                                concealed: samples in which the sound went on, since Start

function bytesOf(blocks) {
  const bytes = new Uint8Array(blocks.reduce((sum, block) => sum + block.byteLength, 0));
  let at = 0;
  for (const block of blocks) {
    bytes.set(new Uint8Array(block.buffer, block.byteOffset, block.byteLength), at);
    at += block.byteLength;
  }
  return bytes;
}

function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
}

// current: gives the Live there is, or null.
export function debugObject(current, figures) {
  let wanted = false;
  const record = (live) => {
    live.record = { sent: [], received: [], played: [] };
    live.graph.tap(true);
  };
  return {
    get live() {
      return current();
    },
    figures,
    cut: () => current()?.connection.cut(),
    // The page's: a run begins.
    began: (live) => wanted && record(live),
    startRecording() {
      wanted = true;
      if (current()) record(current());
    },
    stopRecording() {
      const live = current(), { sent, received, played } = live.record;
      wanted = false;
      live.graph.tap(false);
      live.record = null;
      return {
        rate: live.graph.wireRate,
        sent: base64(bytesOf(sent.map((block) => block.samples))),
        received: base64(bytesOf(received.map((packet) => packet.samples))),
        places: received.map((packet) => [packet.index, packet.samples.length]),
        streams: [...new Set(received.map((packet) => packet.stream))],
        concealed: live.report?.concealed ?? 0,
        played: base64(bytesOf(played.map((block) => block.played))),
      };
    },
  };
}
