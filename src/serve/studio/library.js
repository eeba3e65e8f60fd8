// All songs that the page knows of, kept up to date by events.

import * as api from "./api.js";
import {isOver, titleOf} from "./texts.js";

const PAGE = 40;

const older = (a, b) => a.created_at - b.created_at || a.variation - b.variation;

/** Events: "change" (something looks otherwise), "song" (detail: {song, before}). */
class Library extends EventTarget {
  #songs = new Map();
  #listed = [];              // ids of what the search found, newest first
  #next = null;              // where its next page begins
  #asked = 0;                // counts searches: the answer to an older one is late
  #fetching = new Set();
  hidden = new Set();        // ids of what is deleted, but can still be taken back
  filter = {search: "", favourite: false};
  loaded = false;

  get(id) { return this.hidden.has(id) ? undefined : this.#songs.get(id); }
  get hasMore() { return this.#next !== null; }

  /** What is made now and what waits, in the order in which it is made. */
  get inWork() {
    const rank = (song) => (song.state === "running" ? -1 : song.place ?? Infinity);
    return this.#all().filter((song) => !isOver(song)).sort((a, b) => rank(a) - rank(b) || older(a, b));
  }

  /** What is over and fits the search, newest first. */
  get history() {
    return this.#listed.map((id) => this.get(id)).filter((song) => song && isOver(song));
  }

  /** The variations that were made together with this one. */
  setOf(song) {
    return this.#all().filter((other) => other.set === song.set).sort((a, b) => a.variation - b.variation);
  }

  #all() { return [...this.#songs.values()].filter((song) => !this.hidden.has(song.id)); }

  /** Looks at everything anew: at the beginning, for another search, and after the line was lost. */
  async refresh() {
    const asked = ++this.#asked;
    const [page, work] = await Promise.all([
      api.songs({...this.filter, limit: PAGE}), api.songs({state: "queued,running", limit: 200})]);
    if (asked !== this.#asked) return;
    this.#listed = page.songs.map((song) => song.id);
    this.#next = page.next;
    this.loaded = true;
    const known = [...page.songs, ...work.songs];
    for (const song of known) this.#merge(song);
    // What was in work and is not any more has ended while we did not look.
    for (const {id} of this.inWork) if (!known.some((song) => song.id === id)) this.#fetch(id);
    this.#changed();
  }

  async more() {
    const asked = this.#asked;
    const page = await api.songs({...this.filter, limit: PAGE, before: this.#next});
    if (asked !== this.#asked) return;
    this.#next = page.next;
    for (const song of page.songs) this.#merge(song);
    this.#listed = [...new Set([...this.#listed, ...page.songs.map((song) => song.id)])];
    this.#changed();
  }

  /** All variations of a song's set, of which the list may hold only some. */
  async completeSet(song) {
    for (const other of (await api.songs({set: song.set})).songs) this.#merge(other);
    this.#changed();
  }

  /** A song as the server told it, in full or without its request and result. */
  take(song) {
    if (!this.#songs.has(song.id) && this.#fits(song)) this.#listed.unshift(song.id);
    const {request, state, result} = this.#merge(song);
    if (!request || (state === "done" && !result)) this.#fetch(song.id);
    this.#changed();
  }

  /** A song that may be none of the listed ones. */
  async find(id) {
    if (!this.#songs.has(id)) this.#merge(await api.song(id));
    return this.get(id);
  }

  forget(id) {
    this.#songs.delete(id);
    this.hidden.delete(id);
    this.#changed();
  }

  hide(id) {
    this.hidden.add(id);
    this.#changed();
  }

  unhide(id) {
    this.hidden.delete(id);
    this.#changed();
  }

  #merge(song) {
    const before = this.#songs.get(song.id);
    const merged = {...before, ...song, result: song.result ?? before?.result};
    this.#songs.set(song.id, merged);
    this.dispatchEvent(new CustomEvent("song", {detail: {song: merged, before}}));
    return merged;
  }

  async #fetch(id) {
    if (this.#fetching.has(id)) return;
    this.#fetching.add(id);
    try {
      this.take(await api.song(id));
    } catch (refusal) {
      if (refusal.status === 404) this.forget(id);
    } finally {
      this.#fetching.delete(id);
    }
  }

  #fits(song) {
    const text = [titleOf(song), song.request?.lyrics, song.request?.tags].join("\n").toLowerCase();
    return text.includes(this.filter.search.toLowerCase()) && (song.favourite || !this.filter.favourite);
  }

  #changed() { this.dispatchEvent(new Event("change")); }
}

export const library = new Library();
