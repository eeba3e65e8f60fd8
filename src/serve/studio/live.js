// A song that is heard while it is made.
//
// An <audio> element could play the stream, but not back, and not in every browser. So the samples are kept as
// they come, and handed to the loudspeakers half a second at a time.

const RATE = 48000;
const BLOCK = RATE / 2;   // frames that are handed over together
const PEAK = RATE / 10;   // frames of a bar of the waveform
const AHEAD_S = 2.5;      // a page in the background is woken once a second only
const ENOUGH_S = 0.4;     // what must be there before a song begins, or goes on after it ran dry
const RETRY_MS = 1500;

let shared = null;
function audio() {
  shared ??= new AudioContext({sampleRate: RATE});
  return shared;
}

/** As FileSource in player.js. Times are kept in frames. */
export class LiveSource {
  isLive = true;
  peaks = [];             // 0..255 for each tenth of a second
  #changed;
  #blocks = [];           // Int16Array of BLOCK stereo frames
  #arrived = 0;
  #complete = false;
  #closed = new AbortController();
  #gain = audio().createGain();
  #nodes = new Set();     // that sound or will
  #at;                    // what is heard next, while nothing sounds
  #running = false;       // something sounds: #from did at #begun, and all before #scheduled is handed over
  #from = 0;
  #begun = 0;
  #scheduled = 0;
  #wanted = false;        // to play, as soon as there is something
  #timer = 0;

  /** `isOver` tells whether the song is: a server that stops ends its streams, too. */
  constructor(url, at, isOver, changed) {
    this.#changed = changed;
    this.#at = Math.round(at * RATE);
    this.#gain.connect(audio().destination);
    this.#receive(url, isOver);
  }

  get position() { return this.#now() / RATE; }
  get available() { return this.#arrived / RATE; }
  get playing() { return this.#wanted; }
  get ended() { return this.#complete && this.#now() >= this.#arrived; }
  set volume(volume) { this.#gain.gain.value = volume; }

  play() {
    audio().resume();
    this.#wanted = true;
    this.#timer ||= setInterval(() => this.#pump(), 250);
    this.#pump();
  }

  pause() {
    this.#wanted = false;
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#silence();
  }

  seek(seconds) {
    this.#silence();
    this.#at = Math.min(Math.round(seconds * RATE), this.#arrived);
    if (this.#wanted) this.#pump();
  }

  close() {
    this.#changed = () => {};
    this.pause();
    this.#closed.abort();
    this.#gain.disconnect();
  }

  #now() {
    if (!this.#running) return this.#at;
    const frame = this.#from + Math.round((audio().currentTime - this.#begun) * RATE);
    return Math.min(Math.max(this.#from, frame), this.#scheduled);
  }

  #silence() {
    this.#at = this.#now();
    this.#running = false;
    for (const node of this.#nodes) node.stop();
    this.#nodes.clear();
  }

  /** Begins when enough is there, hands over what is due, and stops where nothing is left. */
  #pump() {
    if (this.#running && this.#now() >= this.#arrived) {
      this.#silence();
      if (this.#complete) this.pause();
      this.#changed();
    }
    if (!this.#wanted) return;
    if (!this.#running) {
      if (this.#arrived - this.#at < (this.#complete ? 1 : ENOUGH_S * RATE)) return;
      this.#from = this.#scheduled = this.#at;
      this.#begun = audio().currentTime + 0.03;
      this.#running = true;
      this.#changed();
    }
    while (this.#scheduled < this.#arrived && this.#timeOf(this.#scheduled) < audio().currentTime + AHEAD_S) this.#schedule();
  }

  #timeOf(frame) { return this.#begun + (frame - this.#from) / RATE; }

  #schedule() {
    const samples = this.#blocks[Math.floor(this.#scheduled / BLOCK)];
    const first = this.#scheduled % BLOCK;
    const count = Math.min(BLOCK - first, this.#arrived - this.#scheduled);
    const buffer = audio().createBuffer(2, count, RATE);
    for (const channel of [0, 1]) {
      const to = buffer.getChannelData(channel);
      for (let i = 0; i < count; ++i) to[i] = samples[2 * (first + i) + channel] / 32768;
    }
    const node = audio().createBufferSource();
    node.buffer = buffer;
    node.connect(this.#gain);
    node.addEventListener("ended", () => this.#nodes.delete(node));
    node.start(this.#timeOf(this.#scheduled));
    this.#nodes.add(node);
    this.#scheduled += count;
  }

  /** Reads the stream to its end; again from its beginning if the line broke. */
  async #receive(url, isOver) {
    const {signal} = this.#closed;
    for (let ended = false; !(ended && isOver());) {
      try {
        const answer = await fetch(url, {signal});
        if (answer.ok) await this.#read(answer.body.getReader());
        ended = answer.ok || answer.status === 409;  // then there is nothing to hear
      } catch {
        if (signal.aborted) return;
      }
      if (!(ended && isOver())) await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
    }
    this.#complete = true;
    this.#pump();
    this.#changed();
  }

  async #read(reader) {
    let known = this.#arrived * 4;  // bytes that we have from before the line broke
    let rest = new Uint8Array(0);   // of a frame that is not whole
    for (;;) {
      const {done, value} = await reader.read();
      if (done) break;
      const fresh = value.subarray(Math.min(known, value.length));
      known -= value.length - fresh.length;
      const bytes = new Uint8Array(rest.length + fresh.length);
      bytes.set(rest);
      bytes.set(fresh, rest.length);
      const whole = bytes.length - bytes.length % 4;
      this.#append(new Int16Array(bytes.buffer, 0, whole / 2));
      rest = bytes.slice(whole);
    }
  }

  #append(samples) {
    for (let from = 0; from < samples.length;) {
      const block = this.#blocks[Math.floor(this.#arrived / BLOCK)] ??= new Int16Array(2 * BLOCK);
      const at = 2 * (this.#arrived % BLOCK);
      const part = samples.subarray(from, from + 2 * BLOCK - at);
      block.set(part, at);
      from += part.length;
      this.#arrived += part.length / 2;
    }
    for (let first; (first = this.peaks.length * PEAK) + PEAK <= this.#arrived;) {
      const begin = 2 * (first % BLOCK);
      const part = this.#blocks[Math.floor(first / BLOCK)].subarray(begin, begin + 2 * PEAK);
      this.peaks.push(Math.min(255, part.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0) >> 7));
    }
    this.#pump();
    this.#changed();
  }
}
