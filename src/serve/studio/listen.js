// The song that is looked at: its picture, its variations, what can be done with it, and what it was made of.

import * as api from "./api.js";
import {button, byId, element, everyFrame, press, setText, showPlaying, soon, when} from "./dom.js";
import {icon} from "./icons.js";
import {library} from "./library.js";
import {player} from "./player.js";
import {ago, canBeHeard, clock, exactClock, isMark, isOver, lengthOf, letter, span, standing, tagsOf, titleOf} from "./texts.js";
import {TimeLine} from "./wave.js";

const MORE_S = 30;  // that a song which goes on may become longer
const LEAST_S = 4;  // of a new end

export class Listen {
  song = null;
  #actions;
  #shape = null;   // what decides which parts there are; the rest is filled in
  #parts = {};
  #lines = [];     // [TimeLine, id of its song]
  #lanes = [];

  constructor(actions) {
    this.#actions = actions;
    const show = soon(() => this.#show());
    library.addEventListener("change", show);
    player.addEventListener("change", show);
    everyFrame(() => { if (player.playing) this.#move(); });
    when("song-play", "click", this.#does("toggle"));
    when("favourite", "click", this.#does("favourite"));
    when("delete", "click", this.#does("remove"));
    when("song-title", "change", ({target}) => actions.rename(this.song, target.value.trim()));
    when("song-title", "keydown", ({key, target}) => { if (key === "Enter") target.blur(); });
  }

  show(song) {
    this.song = song;
    this.#show();
  }

  /** A listener that does this with the song. */
  #does(name) { return () => this.#actions[name](this.song); }

  redraw() { for (const [line] of this.#lines) line.redraw(); }

  /** Seconds that "here" means. At the very beginning nobody means to keep nothing: there it is the end. */
  get #here() {
    const at = player.isOn(this.song) ? player.position : 0;
    return at < 0.5 ? lengthOf(this.song) : Math.min(at, lengthOf(this.song));
  }

  #show() {
    const song = this.song && library.get(this.song.id);
    byId("no-song").hidden = Boolean(song);
    byId("song").hidden = !song;
    if (!song?.request) return;
    this.song = song;
    const set = library.setOf(song);
    const shape = [song.id, song.state, set.map((other) => other.id)].join();
    if (shape !== this.#shape) this.#build(song, set);
    this.#shape = shape;
    this.#fill(song);
    this.#move();
  }

  #build(song, set) {
    this.#parts = {};
    this.#lines = [];
    this.#lanes = [];
    byId("song-parts").replaceChildren(
      song.state === "failed" ? element("p", {class: "failure", role: "alert"}, song.error) : this.#stage(song),
      ...(set.length > 1 ? [this.#variations(set)] : []), this.#deeds(song), this.#origin(song));
  }

  #stage(song) {
    const line = new TimeLine(`Position in ${titleOf(song)}`, (seconds) => this.#actions.seek(this.song, seconds));
    if (song.state === "done") line.addSpectrogram(api.pictureOf(song.id));
    this.#lines.push([line, song.id]);
    const now = element("span");
    const work = element("span", {class: "quiet"});
    this.#parts = {now, work};
    const most = isOver(song) ? clock(lengthOf(song)) : `at most ${clock(lengthOf(song))}`;
    return element("div", {class: "stage"}, line.node,
      element("div", {class: "times"}, now, element("span", {class: "quiet"}, most)),
      !isOver(song) && element("div", {class: "times"}, work, button("close", "Cancel", this.#does("cancel"))));
  }

  /** The songs of a set below each other on one time axis. */
  #variations(set) {
    this.#lanes = set.map(({id, variation}) => {
      const name = letter(variation);
      const chosen = (seconds) => this.#actions.variation(library.get(id), seconds);
      const line = new TimeLine(`Position in variation ${name}`, chosen);
      this.#lines.push([line, id]);
      const choose = element("button", {class: "letter", "aria-label": `Variation ${name}`, click: () => chosen(null)}, name);
      const state = element("span", {class: "lane-state quiet"});
      return {id, line, choose, state, node: element("div", {class: "lane"}, choose, element("div", {}, line.node), state)};
    });
    return element("section", {class: "variations"}, element("h3", {}, "Variations"), ...this.#lanes.map(({node}) => node));
  }

  #deeds(song) {
    const again = button("again", song.state === "done" ? "Another seed" : "Try again", this.#does("again"));
    if (song.state !== "done") return element("div", {class: "buttons"}, isOver(song) && again);
    const deed = (name, label, more, title) => {
      const made = button(name, label, () => this.#actions.goOn(this.song, this.#here, more), {title});
      made.append(element("b"));
      return made;
    };
    const node = element("div", {class: "buttons"},
        deed("onward", "Go on from", MORE_S, "Keep the song up to the playhead, and make more of it"),
        deed("cut", "Replace the end from", LEAST_S, "Keep the song up to the playhead, and sing other words after it"),
        again, this.#downloads(song));
    this.#parts.here = node.querySelectorAll("b");
    return node;
  }

  #downloads({id}) {
    const audio = (format) => `${api.audioOf(id, format)}&download=true`;
    const links = [["FLAC", "lossless", audio("flac")], ["WAV", "uncompressed", audio("wav")], ["MP3", "plays everywhere", audio("mp3")],
        ["OGG", "small", audio("ogg")], ["Codes", "to go on from elsewhere", api.codesOf(id)],
        ["Request", "to make it again", api.requestOf(id)]];
    return element("details", {class: "menu", focusout: ({currentTarget, relatedTarget}) => {
      currentTarget.open &&= currentTarget.contains(relatedTarget);
    }}, element("summary", {}, icon("down"), "Download"), element("div", {}, ...links.map(([text, about, href]) => element(
      "a", {href, download: true}, text, element("span", {class: "quiet"}, about)))));
  }

  /** Words, tags, and settings. */
  #origin(song) {
    const {request, begin, seed_text: seed} = song;
    const lines = (request.lyrics.trim() || "Instrumental").split("\n");
    const link = (text, title, click) => element("button", {class: "link", title, click}, text);
    const rows = {
      "Seed": link(seed, "Use this seed", () => this.#actions.useSeed(seed)),
      "Goes on": begin && link(`after ${exactClock(begin.to_ms / 1000)}`, "Show the earlier song", () => this.#actions.find(begin.song)),
      "Length": `at most ${exactClock(request.max_audio_length_ms / 1000)}`,
      "Temperature": request.temperature, "Guidance": request.cfg_scale, "Top-k": request.topk, "Quality": request.quality,
    };
    return element("div", {class: "origin"}, element(
      "section", {}, element("h3", {}, "Lyrics"), ...lines.map((line) => element("p", {class: isMark(line) && "mark"}, line))),
      element("section", {}, element("h3", {}, "Made with"),
          element("ul", {class: "tags"}, ...tagsOf(song).map((tag) => element("li", {}, tag))),
          element("dl", {}, ...Object.entries(rows).filter(([, value]) => value).flatMap(
          ([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
          element("div", {class: "buttons"}, button("pen", "Change and make", this.#does("edit")))));
  }

  #fill(song) {
    const title = byId("song-title");
    showPlaying(byId("song-play"), player.isOn(song) && player.playing);
    byId("song-play").disabled = !canBeHeard(song);
    if (document.activeElement !== title) title.value = song.title;
    title.placeholder = titleOf({...song, title: ""});
    setText(byId("song-facts"), factsOf(song));
    press(byId("favourite"), song.favourite);
    byId("delete").hidden = !isOver(song);
    if (this.#parts.work) setText(this.#parts.work, standing(song));
    const longest = Math.max(...library.setOf(song).map(lengthOf));
    for (const {id, line, choose, state} of this.#lanes) {
      const other = library.get(id);
      if (!other) continue;
      line.node.style.width = `${100 * lengthOf(other) / longest}%`;
      press(choose, id === song.id);
      setText(state, {running: `${Math.round(100 * other.progress)} %`, done: clock(lengthOf(other))}[other.state] ?? other.state);
    }
  }

  /** Everything that follows the playhead. */
  #move() {
    if (this.#shape === null) return;
    for (const [line, id] of this.#lines) {
      const song = library.get(id);
      if (song) line.set(this.#pictureOf(song));
    }
    if (this.#parts.now) setText(this.#parts.now, clock(player.isOn(this.song) ? player.position : 0));
    for (const node of this.#parts.here ?? []) setText(node, clock(this.#here));
  }

  #pictureOf(song) {
    const on = player.isOn(song);
    const duration = lengthOf(song);
    const whole = song.result?.waveform;
    const peaks = whole ?? (on ? player.livePeaks : null) ?? [];
    return {peaks, covered: whole ? duration : peaks.length / 10, made: song.duration ?? song.audio_seconds, duration, on,
        position: on ? player.position : 0, available: on ? player.available : duration};
  }
}

function factsOf({state, started_at: begun, ended_at: ended, variation, result}) {
  const words = {queued: "Waits", running: "Is being made", failed: "Could not be made", cancelled: "Cancelled"};
  return [words[state], ended && ago(ended), variation > 1 && `variation ${letter(variation)}`,
      result && begun && `made in ${span(ended - begun)}`,
      {eos: "ended by itself", length: "ended by its length"}[result?.stop_reason]].filter(Boolean).join(" · ");
}
