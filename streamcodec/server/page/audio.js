// The audio graph: a microphone or a file to blocks of samples, and packets to the loudspeaker.
//
//   microphone or file -> tap (analyser) -> capture worklet -> onBlock, at the rate of the wire
//   play() -> playback worklet -> codec gain -+-> tap (analyser) -> volume -> loudspeaker
//             file -> delay -> original gain -+

import { Problem, within } from "./problem.js";
import { Resampler } from "./resampler.js";

const MOST_RATE = 48000; // what the protocol takes
const FFT = 2048; // 43 ms at 48 kHz: harmonics of a voice apart, syllables too
const GLIDE = 0.015; // seconds in which a gain moves
const MOST_DELAY = 5; // seconds by which the original can be held back
const LOAD_SECONDS = 10; // for the worklets to come from the server
const WAKE_SECONDS = 5; // for a sound context to begin
const WAKE_AGAIN_SECONDS = 1; // between attempts to have one go on that the system has paused
const HEAD_START = 0.05; // seconds
const SETTLE_SECONDS = 1; // a track may be muted until its first samples are there

// rate: Hz, or null for the browser's own.
function openContext(rate) {
  if (!isSecureContext) throw new DOMException("no audio worklets for this page", "InsecureContextError");
  try {
    const context = new AudioContext({ latencyHint: "interactive", ...(rate && { sampleRate: rate }) });
    if (context.sampleRate <= MOST_RATE) return context;
    context.close();
    return new AudioContext({ latencyHint: "interactive", sampleRate: MOST_RATE });
  } catch {
    throw new Problem("no_sound");
  }
}

export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "audioinput" && device.deviceId);
}

// A stream of the microphone. Throws a DOMException.
export async function openMicrophone(deviceId, echoCancellation) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new DOMException("no microphone for this page", isSecureContext ? "NotFoundError" : "InsecureContextError");
  }
  const audio = { echoCancellation, autoGainControl: false, noiseSuppression: false, channelCount: 1 };
  if (deviceId) audio.deviceId = { exact: deviceId };
  return navigator.mediaDevices.getUserMedia({ audio });
}

export class AudioGraph {
  // on: { block({ samples, rms, peak, position }), report(figures), played({ played, position }) while tapped,
  //       ended() when a file is over, failed(code) when there is no microphone any more,
  //       notice(code, details) of what is wrong for a while; details are null where it is over }
  // Throws a DOMException or a Problem.
  // rate: Hz of the sound context, or null for the browser's own. wire: Hz, wished for what goes over the network.
  // most: seconds that may wait to be played.
  static async open(on, { rate, wire, most }) {
    const context = openContext(rate);
    const load = (name) => context.audioWorklet.addModule(new URL(name, import.meta.url));
    try {
      const worklets = ["capture-worklet.js", "playback-worklet.js"].map(load);
      await within(LOAD_SECONDS, "unreachable", Promise.all(worklets));
      await within(WAKE_SECONDS, "sound_blocked", context.resume());
    } catch (problem) {
      context.close();
      throw problem;
    }
    return new AudioGraph(context, on, { rate: Math.min(wire, context.sampleRate), most });
  }

  constructor(context, on, processorOptions) {
    this.context = context;
    this.on = on;
    this.wireRate = processorOptions.rate;
    const filters = [new Resampler(this.rate, this.wireRate), new Resampler(this.wireRate, this.rate)];
    this.resampling = 1000 * (filters[0].delay + filters[1].delay); // ms that the worklets hold back, both ways
    this.inputLatency = 0;
    this._media = this._source = this._file = null;
    this.input = new AnalyserNode(context, { fftSize: FFT, smoothingTimeConstant: 0 });
    this.output = new AnalyserNode(context, { fftSize: FFT, smoothingTimeConstant: 0 });
    this.block = 0; // samples of a block, once it runs
    this._capture = new AudioWorkletNode(context, "streamcodec-capture", { numberOfOutputs: 0, processorOptions });
    this._playback = new AudioWorkletNode(context, "streamcodec-playback", {
      numberOfInputs: 0, outputChannelCount: [1], processorOptions,
    });
    this._codec = new GainNode(context);
    this._original = new GainNode(context, { gain: 0 });
    this._held = new DelayNode(context, { maxDelayTime: MOST_DELAY });
    this._volume = new GainNode(context);
    this._input = new GainNode(context);
    this._input.connect(this.input);
    this._input.connect(this._capture);
    this._playback.connect(this._codec).connect(this.output);
    this._held.connect(this._original).connect(this.output);
    this.output.connect(this._volume).connect(context.destination);
    this._paused = false; // by the system or the browser: a call on a phone, a device that is being changed
    this._waker = this._settling = null;
    context.onstatechange = () => this._stateChanged();
    this._capture.port.onmessage = ({ data }) => on.block(data);
    this._playback.port.onmessage = ({ data }) => (data.report ? on.report(data.report) : on.played?.(data));
  }

  // Seconds that a sample at this place of the audio clock, in samples, is old.
  age(position) {
    return this.context.currentTime - position / this.rate;
  }

  get rate() {
    return this.context.sampleRate;
  }

  // Milliseconds from a sample that is played to the air, as far as the browser tells.
  get outputLatency() {
    return 1000 * (this.context.outputLatency || this.context.baseLatency || 0);
  }

  useMicrophone(stream) {
    this._unplug();
    this._media = stream;
    const [track] = stream.getAudioTracks();
    const tell = () => this.on.notice("microphone_muted", track.muted ? {} : null);
    track.onended = () => this.on.failed("microphone_gone");
    track.onmute = track.onunmute = tell;
    this._settling = setTimeout(tell, 1000 * SETTLE_SECONDS);
    this.inputLatency = 1000 * (track.getSettings().latency ?? 0);
    this._source = new MediaStreamAudioSourceNode(this.context, { mediaStream: stream });
    this._source.connect(this._input);
  }

  // buffer: AudioBuffer. It starts with `run`.
  useFile(buffer, loop) {
    this._unplug();
    this._file = new AudioBufferSourceNode(this.context, { buffer, loop });
    this._file.onended = () => this.on.ended?.();
    this._file.connect(this._input);
    this._file.connect(this._held);
    this._source = this._file;
  }

  set loop(value) {
    if (this._file) this._file.loop = value;
  }

  // Blocks of so many seconds come from now on.
  run(seconds) {
    this.block = Math.round(seconds * this.wireRate);
    this._capture.port.postMessage({ block: this.block });
    this._file?.start(this.context.currentTime + HEAD_START); // the capture has its block by then: nothing is cut off
  }

  pause() {
    this._capture.port.postMessage({ block: 0 });
  }

  // What comes while the sound is paused is not kept: it would be late.
  play(samples, { stream, index, gap, last }) {
    if (this._paused) return;
    this._playback.port.postMessage({ samples, stream, index, gap, last }, [samples.buffer]);
  }

  // No more comes of a stream.
  end(stream) {
    this._playback.port.postMessage({ end: stream });
  }

  tap(on) {
    this._playback.port.postMessage({ tap: on });
  }

  // Before the first block there is nothing to glide from: not a sample of who joins muted is sent.
  set muted(value) {
    if (!this.block) this._input.gain.value = value ? 0 : 1;
    this._input.gain.setTargetAtTime(value ? 0 : 1, this.context.currentTime, GLIDE / 3);
  }

  set volume(value) {
    this._volume.gain.setTargetAtTime(value, this.context.currentTime, GLIDE / 3);
  }

  // What is heard: the codec, or the original, held back by `seconds` so that both say the same at the same time.
  listenTo(original, seconds) {
    const now = this.context.currentTime;
    if (original) this._held.delayTime.setValueAtTime(Math.min(seconds, MOST_DELAY), now);
    this._codec.gain.setTargetAtTime(original ? 0 : 1, now, GLIDE / 3);
    this._original.gain.setTargetAtTime(original ? 1 : 0, now, GLIDE / 3);
  }

  // A sound that was paused goes on, if the browser lets it.
  wake() {
    if (this._paused) this.context.resume().catch(() => {}); // tried again soon
  }

  async close() {
    clearInterval(this._waker);
    this.context.onstatechange = null;
    this._unplug();
    this._capture.port.onmessage = this._playback.port.onmessage = null;
    await this.context.close();
  }

  _stateChanged() {
    const paused = this.context.state !== "running";
    if (paused === this._paused) return;
    this._paused = paused;
    clearInterval(this._waker);
    if (paused) this._waker = setInterval(() => this.wake(), 1000 * WAKE_AGAIN_SECONDS);
    else this._playback.port.postMessage({ clear: true });
    this.on.notice("sound_paused", paused ? {} : null);
  }

  _unplug() {
    clearTimeout(this._settling);
    if (this._file) this._file.onended = null;
    this._source?.disconnect();
    for (const track of this._media?.getTracks() ?? []) {
      track.onended = track.onmute = track.onunmute = null;
      track.stop();
    }
    this._source = this._media = this._file = null;
  }
}

// Float samples as s16le has them: 1.0 is 32767 after clipping.
export function toInt16(samples) {
  return Int16Array.from(samples, (value) => Math.max(-32768, Math.min(32767, Math.round(value * 32768))));
}

export function toFloat32(samples) {
  return Float32Array.from(samples, (value) => value / 32768);
}
