// The line to the server: /v1/events, and how it comes back after it was lost.

import * as api from "./api.js";

const WAITS_S = [1, 2, 4, 8, 15];

/**
 * Events: "up" (whoever keeps songs looks at all of them anew), "down" (detail: seconds until the next try), "song"
 * (detail: a song), "deleted" (detail: its id), "ready" (detail: what /ready says).
 */
export class Connection extends EventTarget {
  #source = null;
  #tries = 0;
  #timer = 0;
  needsKey = false;

  constructor() {
    super();
    addEventListener("online", () => this.now());
  }

  async open() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    try {
      this.needsKey = await api.session();
    } catch {
      this.#later();
      return;
    }
    const source = new EventSource(api.EVENTS);
    this.#source = source;
    source.addEventListener("hello", () => {
      this.#tries = 0;
      this.#tell("up");
      this.#askWhetherReady();
    });
    source.addEventListener("song", (event) => this.#tell("song", JSON.parse(event.data)));
    source.addEventListener("deleted", (event) => this.#tell("deleted", JSON.parse(event.data).id));
    // The browser would try again by itself, but says nothing of it and gives up where the answer is an error.
    source.addEventListener("error", () => { if (this.#source === source) this.#later(); });
  }

  /** Does not wait any longer for the next try. */
  now() {
    if (this.#timer !== 0) this.open();
  }

  #later() {
    this.#source?.close();
    this.#source = null;
    const wait = WAITS_S[Math.min(this.#tries++, WAITS_S.length - 1)];
    clearTimeout(this.#timer);
    // Spread out, so that many pages do not come back in the same moment.
    this.#timer = setTimeout(() => this.open(), wait * (800 + 400 * Math.random()));
    this.#tell("down", wait);
  }

  async #askWhetherReady() {
    const state = await api.ready().catch(() => null);
    if (state === null || this.#source === null) return;
    this.#tell("ready", state);
    if (state.status === "loading") setTimeout(() => this.#askWhetherReady(), 700);
  }

  #tell(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, {detail}));
  }
}
