// What is to be made: lyrics, tags and settings. They are kept as a draft, and become a request.

import * as api from "./api.js";
import {Dials} from "./dials.js";
import {byId, setText, when, whenQuiet} from "./dom.js";
import {Editor} from "./editor.js";
import {Tags} from "./tags.js";
import {exactClock, lengthOf, plural, secondsOf, titleOf} from "./texts.js";

const DRAFT = "heartmula.draft";

const EXAMPLE = {
  lyrics: "[Verse]\ngolden morning over the river\nsing me home beautiful moon\n\n[Chorus]\nfollow the sun forever\n",
  tags: "medium,happy,rock,guitar,drums,bass",
};

export class Composer {
  #make;
  #begin = null;       // {song, to_ms, title}: what the song goes on from
  #settings = [];      // names of what the server takes as such
  #longest = Infinity;
  #dials;
  #editor;
  #tags;

  /** `make` sends a request. */
  constructor(make) {
    this.#make = make;
    const changed = () => this.#changed();
    this.#dials = new Dials(changed);
    this.#editor = new Editor(changed);
    this.#tags = new Tags(changed);
    for (const id of ["title", "begin-at"]) when(id, "input", changed);
    when("begin-forget", "click", () => { this.#setBegin(null); changed(); });
    when("composer", "submit", (event) => { event.preventDefault(); this.submit(); });
    when("composer", "keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.submit();
    });
  }

  configure(limits) {
    const draft = byId("make").disabled ? JSON.parse(localStorage.getItem(DRAFT) ?? "{}") : this.#draft;
    this.#settings = Object.keys(limits.defaults);
    this.#longest = limits.max_audio_length_ms;
    this.#dials.configure(limits);
    this.#editor.offerSections(limits.sections);
    this.#tags.configure(limits.tags, limits.tags_known);
    this.#load(draft);
    byId("make").disabled = false;
  }

  showExample() { this.#load({...this.#draft, ...EXAMPLE}); }

  /** A song's words, tags and settings, to be changed. */
  edit(song) {
    const begin = song.begin && {...song.begin, title: "an earlier song"};
    this.#load({...song.request, title: song.title, seed: "", codec_steps: null, begin});
    this.#editor.focus();
  }

  /** Keeps a song up to here, and makes at least so much more. Its words are there to be changed. */
  goOn(song, seconds, more) {
    const length = 1000 * Math.ceil(Math.max(lengthOf(song), seconds + more));
    this.edit({...song, request: {...song.request, max_audio_length_ms: Math.min(this.#longest, length)}});
    this.#setBegin({song: song.id, to_ms: Math.round(seconds * 1000), title: titleOf(song)});
    byId("begin").parentNode.scrollTop = 0;
    this.#changed();
  }

  /** What made a song, with this seed, and without settings of the machine, which the server does not take. */
  requestOf({request, title, begin}, seed) {
    const names = ["lyrics", "tags", ...this.#settings].filter((name) => (request[name] ?? null) !== null);
    return {...Object.fromEntries(names.map((name) => [name, request[name]])), title, seed,
        ...(begin && {begin: {song: begin.song, to_ms: begin.to_ms}})};
  }

  useSeed(text) {
    this.#dials.setSeed(text);
    this.#changed();
  }

  async submit() {
    const complaint = this.#dials.complaint ?? this.#complaint;
    this.#tell(complaint);
    const make = byId("make");
    if (complaint || make.disabled) return;
    make.disabled = true;
    try {
      await this.#make(this.#request);
      this.#setBegin(null);
      this.#changed();
    } catch (refusal) {
      this.#tell(refusal.message);
    }
    make.disabled = false;
  }

  get #complaint() {
    if (!this.#begin) return null;
    const at = secondsOf(byId("begin-at").value);
    const length = this.#dials.value.max_audio_length_ms / 1000;
    return at < length ? null : `A song of ${exactClock(length)} cannot go on after ${byId("begin-at").value}`;
  }

  #tell(line) {
    byId("make-error").hidden = !line;
    byId("make-error").textContent = line;
  }

  get #draft() {
    const begin = this.#begin && {...this.#begin, to_ms: Math.round(1000 * secondsOf(byId("begin-at").value))};
    return {...this.#dials.value, title: byId("title").value, lyrics: this.#editor.value, tags: this.#tags.value, begin};
  }

  get #request() {
    const {begin, ...rest} = this.#draft;
    const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null));
    return begin ? {...given, begin: {song: begin.song, to_ms: begin.to_ms}} : given;
  }

  #load(draft) {
    byId("title").value = draft.title ?? "";
    this.#editor.value = draft.lyrics ?? "";
    this.#tags.value = draft.tags ?? "";
    this.#dials.value = draft;
    this.#setBegin(draft.begin ?? null);
    this.#changed();
  }

  #setBegin(begin) {
    this.#begin = begin;
    byId("begin").hidden = !begin;
    if (!begin) return;
    byId("begin-title").textContent = begin.title;
    byId("begin-at").value = exactClock(begin.to_ms / 1000);
  }

  #changed() {
    const {songs, max_audio_length_ms: length} = this.#dials.value;
    setText(byId("make"), this.#begin ? "Make it go on" : songs > 1 ? `Make ${plural(songs, "song")}` : "Make");
    setText(byId("make-note"), `${songs > 1 ? "each " : ""}at most ${exactClock(length / 1000)} · Ctrl Enter`);
    this.#tell("");
    this.#keep();
    this.#lint();
  }

  #keep = whenQuiet(300, () => localStorage.setItem(DRAFT, JSON.stringify(this.#draft)));

  #lint = whenQuiet(350, async () => {
    const {lyrics, tags, max_audio_length_ms} = this.#draft;
    // That the server is away is told elsewhere.
    const {warnings} = await api.lint({lyrics, tags, max_audio_length_ms}).catch(() => ({warnings: []}));
    if (lyrics !== this.#editor.value) return;
    this.#editor.show(warnings.filter(({field}) => field === "lyrics"));
    this.#tags.showNotes(warnings.filter(({field}) => field === "tags"));
  });
}
