// What went wrong, as a sentence for people that says what to do.

const seconds = (value) => `${Math.max(1, Math.ceil(value))} second${value > 1 ? "s" : ""}`;
const choices = (allowed) => (Array.isArray(allowed) && allowed.length ? ` It allows ${allowed.join(", ")}.` : "");

const OF_CODES = {
  unauthorised: () =>
    "The server asks for an access key, and this is not it. Enter the key you were given and start again.",
  forbidden_origin: () =>
    "The server does not serve pages of this address. Open the page at the address its operator gave you.",
  busy: ({ retry_after }) => `The server is full. Try again in ${seconds(retry_after ?? 5)}.`,
  unknown_codec: () => "The server does not offer this codec any more. Reload the page to see what it offers.",
  bad_bandwidth: ({ allowed }) => `This codec has no such bandwidth.${choices(allowed)}`,
  bad_rate: ({ allowed }) =>
    "The server does not take your device's sample rate: choose another microphone, or change the rate in the " +
    `system's settings.${allowed ? ` It takes ${allowed[0]} to ${allowed[1]} Hz.` : ""}`,
  room_name: () => "A room's name may have letters, digits, - and _ only, at most 64 of them.",
  room_full: () => "The room is full. Choose another room, or wait until somebody leaves.",
  resume_unknown: () => "The connection was away for too long, and the server has closed the session. Start again.",
  resume_gap: () => "The connection was away for too long to go on without a gap. Start again.",
  resume_timeout: () => "The server could not be reached in time to go on. Check the network and start again.",
  replaced: () => "The session was taken over in another tab.",
  handshake_timeout: () => "The server waited in vain for the page to speak. Check the network and start again.",
  idle_timeout: () => "The server heard nothing for a while and closed the session. Start again.",
  too_slow: () => "This connection is too slow for the audio. Close other downloads, or try another network.",
  too_fast: () => "The page sent faster than the server allows. Start again.",
  too_many_errors: () =>
    "The server refused too much of what the page sent. Reload the page; if it happens again, tell its operator.",
  unsupported_version: () => "The page and the server are of different versions. Reload the page.",
  server_shutdown: ({ retry_after }) =>
    `The server is going away.${retry_after ? ` It may be back in ${seconds(retry_after)}.` : " Try again later."}`,
  internal: () => "Something failed inside the server. Start again; if it happens again, tell its operator.",
  unreachable: () => "The server does not answer. Check that it runs, and that the network is there.",
  lost: () => "The connection was lost before the session could begin. Start again.",
  // The page's own
  no_sound: () => "The browser could not open the sound. Check that a loudspeaker or headphones are there.",
  sound_blocked: () => "The browser did not let the sound begin. Press Start again.",
  sound_paused: () => "The system has paused the sound, as for a call. It goes on by itself; if not, touch the page.",
  microphone_muted: () => "The system has muted the microphone: nobody hears you. Look for its switch or its key.",
  microphone_gone: () => "The microphone is gone. Plug it in or choose another one, then start again.",
  slow_uplink: () =>
    "This connection is too slow to send: some of the audio is left out, so that the rest is not late. Close other " +
    "uploads, or try another network.",
  slow_downlink: () =>
    "This connection is too slow to receive: some of the audio is left out, so that the rest is not late. Close other " +
    "downloads, or try another network.",
  slow_server: () =>
    "The server cannot keep up: some of the audio is left out, so that the rest is not late. Try a lower bandwidth, or " +
    "come back later.",
  unreadable_file: () => "This file could not be read as audio. Choose another one: WAV, FLAC, OGG or MP3.",
};

// error: a Problem, an error of the protocol, or what came of getUserMedia.
export const sentence = (error) => (typeof error.code === "string" ? ofProtocol(error) : ofMicrophone(error));

// error: { code, message, allowed, retry_after } of the protocol, or of the page's own.
export function ofProtocol(error) {
  const known = OF_CODES[error.code];
  if (known) return known(error);
  return `The server says: ${String(error.message || error.code).replace(/\.?$/, ".")} Start again.`;
}

const DENIED_BY_SYSTEM =
  "The system does not let the browser use the microphone. Allow it in the system's settings, under privacy, then " +
  "start again.";
const INSECURE =
  "Browsers give sound and the microphone to pages from https:// or localhost only. Open the page at such an address.";

// error: a DOMException of getUserMedia, or why there is none.
export function ofMicrophone(error) {
  switch (error?.name) {
    case "InsecureContextError":
      return INSECURE;
    case "NotAllowedError":
    case "SecurityError":
      // Chromium says in English who it was that denied it.
      if (/by system/i.test(error.message)) return DENIED_BY_SYSTEM;
      return "The browser was not allowed to use the microphone. Allow it beside the address, then start again.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No such microphone was found. Plug one in or choose another one, then start again.";
    case "NotReadableError":
    case "AbortError":
      return "The microphone could not be opened; another program may be using it. Close that one, then start again.";
    default:
      return `The microphone could not be opened: ${error?.message ?? error}.`;
  }
}
