// The one player of the page: a finished song comes from its file, one in work from its stream.

import * as api from "./api.js";
import {LiveSource} from "./live.js";
import {canBeHeard, isOver, lengthOf} from "./texts.js";

const VOLUME = "heartmula.volume";

/** A finished song. The <audio> element asks for ranges, so it seeks without loading everything. */
class FileSource {
  isLive = false;
  #audio = new Audio();

  constructor(url, at, changed) {
    this.#audio.preload = "auto";
    this.#audio.src = url;
    this.#audio.currentTime = at;
    for (const type of ["playing", "pause", "ended", "seeked", "error"]) this.#audio.addEventListener(type, changed);
  }

  get position() { return this.#audio.currentTime; }
  get playing() { return !this.#audio.paused && !this.#audio.ended; }
  get ended() { return this.#audio.ended; }
  set volume(volume) { this.#audio.volume = volume; }

  // A pause before it has begun ends the promise with an error: nothing is wrong then.
  play() { this.#audio.play().catch(() => {}); }
  pause() { this.#audio.pause(); }
  seek(seconds) { this.#audio.currentTime = seconds; }

  /** Is done when it can be heard from where it stands. */
  async prepared() {
    if (this.#audio.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA && !this.#audio.seeking) return;
    await new Promise((resolve) => {
      for (const type of ["canplay", "error"]) this.#audio.addEventListener(type, resolve, {once: true});
    });
  }

  close() {
    this.#audio.pause();
    this.#audio.removeAttribute("src");
    this.#audio.load();
  }
}

/** Events: "change": another song, another state, or more of it is there. */
class Player extends EventTarget {
  song = null;
  #source = null;
  #volume = Number(localStorage.getItem(VOLUME) ?? 1);

  get playing() { return this.#source?.playing ?? false; }
  get position() { return this.#source?.position ?? 0; }
  get duration() { return this.song === null ? 0 : lengthOf(this.song); }
  /** Seconds that can be sought to. */
  get available() { return this.#source?.isLive ? this.#source.available : this.duration; }
  /** Of a song in work, a peak for each tenth of a second. */
  get livePeaks() { return this.#source?.peaks ?? null; }
  get volume() { return this.#volume; }

  set volume(volume) {
    this.#volume = volume;
    localStorage.setItem(VOLUME, volume);
    if (this.#source) this.#source.volume = volume;
  }

  isOn(song) { return this.song?.id === song.id; }

  /** Plays a song, from `at` seconds on if that is given; one that is on goes on from where it is. */
  play(song, at = null) {
    if (!canBeHeard(song)) return;
    if (!this.isOn(song)) {
      this.stop();
      this.#open(song, at ?? 0);
    } else if (at !== null || this.#source.ended) {
      this.seek(at ?? 0);
    }
    this.#source.play();
    this.#tell();
  }

  /** Another variation at the same place. The old one is heard until the new one can be. */
  async change(song) {
    const old = this.#source;
    if (this.isOn(song) || !old) return;
    if (!old.playing || old.isLive || song.state !== "done") return void this.play(song, this.position);
    const source = this.#sourceOf(song, old.position);
    await source.prepared();
    source.seek(old.position);
    await source.prepared();
    if (this.#source !== old) return void source.close();
    old.close();
    this.#source = source;
    this.song = song;
    source.play();
    this.#tell();
  }

  pause() {
    this.#source?.pause();
    this.#settle(this.position);
    this.#tell();
  }

  toggle() {
    if (this.playing) this.pause();
    else if (this.song) this.play(this.song);
  }

  seek(seconds) {
    if (!this.#source) return;
    const at = Math.min(Math.max(0, seconds), Math.max(0, this.available - 0.05));
    this.#settle(at);
    this.#source.seek(at);
    this.#tell();
  }

  stop() {
    this.#source?.close();
    this.#source = null;
    this.song = null;
    this.#tell();
  }

  /** A song has news. */
  update(song) {
    if (!this.isOn(song)) return;
    this.song = song;
    this.#tell();
  }

  #open(song, at) {
    this.song = song;
    this.#source = this.#sourceOf(song, at);
  }

  #sourceOf(song, at) {
    const changed = () => {
      if (this.#source !== source) return;
      if (source.ended) this.#settle(this.duration);
      this.#tell();
    };
    const source = song.state === "done" ? new FileSource(api.audioOf(song.id, "flac"), at, changed)
        : new LiveSource(api.streamOf(song.id), at, () => isOver(this.song), changed);
    source.volume = this.#volume;
    return source;
  }

  /** From the stream of a song that is done by now to its file; never while it is heard, as nobody shall hear a seam. */
  #settle(at) {
    const live = this.#source;
    if (!live?.isLive || this.song.state !== "done") return;
    const goOn = live.playing;
    live.close();
    this.#open(this.song, at);
    if (goOn) this.#source.play();
  }

  #tell() { this.dispatchEvent(new Event("change")); }
}

export const player = new Player();
