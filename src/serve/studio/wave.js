// Pictures over time: waveform and spectrogram, with a playhead, and a place to click.

import {element} from "./dom.js";
import {clock} from "./texts.js";

const BAR = 3;  // pixels of a bar and its gap
const STEP_S = 5;

/** A canvas as sharp as the screen; null where it has no size. */
function contextOf(canvas) {
  const {clientWidth: width, clientHeight: height} = canvas;
  if (width === 0 || height === 0) return null;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  return context;
}

/** The loudest of the peaks (0..255, of `covered` seconds) from a time on. */
function peakAt({peaks, covered}, begin, seconds) {
  const first = Math.floor(begin / covered * peaks.length);
  return Math.max(...peaks.slice(first, first + Math.max(1, seconds / covered * peaks.length)));
}

/** What was heard has the colour of the playhead, and what is not made yet is a thin line. */
function drawWave(canvas, state) {
  const {peaks, covered, made, duration, position} = state;
  const context = contextOf(canvas);
  if (!context || !(duration > 0)) return;
  const {clientWidth: width, clientHeight: height} = canvas;
  const {color, caretColor} = getComputedStyle(canvas);  // of the theme
  const loudest = Math.max(60, ...peaks);
  for (let x = 0; x + 2 <= width; x += BAR) {
    const begin = x / width * duration;
    const peak = begin < covered ? peakAt(state, begin, BAR / width * duration) : 0;
    const bar = Math.max(begin < made ? 6 : 2, peak / loudest * height);
    context.fillStyle = begin < position ? caretColor : color;
    context.globalAlpha = begin < made ? 1 : 0.4;
    context.fillRect(x, (height - bar) / 2, 2, bar);
  }
}

// Where the spectrogram lies in the picture of a song (SongPictureLayout).
const SPECTROGRAM = [72, 145, 1440, 420];

/** Pictures above each other that share a time axis. For keyboard and screen reader they are one slider. */
export class TimeLine {
  #seek;
  #wave = element("canvas", {class: "wave"});
  #head = element("div", {class: "playhead"});
  #hover = element("div", {class: "hover", hidden: true});
  #state = null;
  #drawn = "";

  /** `seek` gets seconds. */
  constructor(label, seek) {
    this.#seek = seek;
    this.node = element("div", {class: "timeline", role: "slider", tabindex: 0, "aria-label": label, "aria-valuemin": 0},
        this.#wave, this.#head, this.#hover);
    this.#listen();
    new ResizeObserver(() => this.redraw()).observe(this.node);
  }

  addSpectrogram(url) {
    const canvas = element("canvas", {class: "spectrogram"});
    const picture = new Image();
    const draw = () => contextOf(canvas)?.drawImage(picture, ...SPECTROGRAM, 0, 0, canvas.clientWidth, canvas.clientHeight);
    picture.addEventListener("load", () => new ResizeObserver(draw).observe(canvas));
    picture.addEventListener("error", () => canvas.remove());
    picture.src = url;
    this.#wave.after(canvas);
  }

  /** {peaks, covered, made, duration, position, available, on}: `on` if the player is at this song. */
  set(state) {
    const {covered, made, duration, position, on} = this.#state = state;
    this.node.setAttribute("aria-valuemax", duration.toFixed(1));
    this.node.setAttribute("aria-valuenow", position.toFixed(1));
    this.node.setAttribute("aria-valuetext", `${clock(position)} of ${clock(duration)}`);
    this.#head.hidden = !on;
    this.#head.style.left = this.#percent(position);
    // Bars change only when the playhead reaches the next one.
    const bar = Math.floor(position / duration * this.node.clientWidth / BAR);
    const now = [bar, covered, made, duration].join();
    if (now !== this.#drawn) drawWave(this.#wave, state);
    this.#drawn = now;
  }

  redraw() {
    this.#drawn = "";
    if (this.#state) this.set(this.#state);
  }

  #percent(seconds) { return `${100 * Math.min(1, seconds / this.#state.duration)}%`; }

  #secondsAt(event) {
    const {left, width} = this.node.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - left) / width)) * this.#state.duration;
  }

  #listen() {
    this.node.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.node.setPointerCapture(event.pointerId);
      this.#seek(this.#secondsAt(event));
    });
    this.node.addEventListener("pointermove", (event) => {
      const seconds = this.#secondsAt(event);
      this.#hover.hidden = event.pointerType === "touch";
      this.#hover.style.left = this.#percent(seconds);
      this.node.title = clock(seconds);
      if (this.node.hasPointerCapture(event.pointerId)) this.#seek(seconds);
    });
    this.node.addEventListener("pointerleave", () => { this.#hover.hidden = true; });
    this.node.addEventListener("keydown", (event) => {
      const {position, available} = this.#state;
      const [back, on] = [position - STEP_S, position + STEP_S];
      const place = {ArrowLeft: back, ArrowDown: back, ArrowRight: on, ArrowUp: on, Home: 0, End: available}[event.key];
      if (place === undefined) return;
      event.preventDefault();
      this.#seek(Math.max(0, place));
    });
  }
}
