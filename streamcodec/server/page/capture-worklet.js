// Cuts what comes in into blocks of one length, for the main thread: { samples, peak, rms, position }.
// position: the audio clock at the block's end, in samples. Several channels are mixed to one.
// To it: { block }, the samples of one, or 0 to pause.

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this._block = new Float32Array(0);
    this._filled = 0;
    this.port.onmessage = ({ data }) => {
      this._block = new Float32Array(data.block);
      this._filled = 0;
    };
  }

  process([channels]) {
    if (!this._block.length) return true;
    const count = channels[0]?.length ?? 128; // a source that has not begun has no channels: silence
    for (let n = 0; n < count; n++) {
      let value = 0;
      for (const channel of channels) value += channel[n];
      this._block[this._filled++] = channels.length > 1 ? value / channels.length : value;
      if (this._filled === this._block.length) this._post(currentFrame + n + 1);
    }
    return true;
  }

  _post(position) {
    const samples = this._block;
    let square = 0, peak = 0;
    for (const value of samples) {
      square += value * value;
      peak = Math.max(peak, Math.abs(value));
    }
    this._block = new Float32Array(samples.length);
    this._filled = 0;
    this.port.postMessage({ samples, peak, rms: Math.sqrt(square / samples.length), position }, [samples.buffer]);
  }
}

registerProcessor("streamcodec-capture", Capture);
