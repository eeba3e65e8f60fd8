// The list of songs: what is in work, and what was made, with a search.

import {arrange, byId, element, press, roundButton, setLabel, setText, showPlaying, soon, when, whenQuiet} from "./dom.js";
import {icon} from "./icons.js";
import {library} from "./library.js";
import {player} from "./player.js";
import {ago, canBeHeard, isOver, letter, standing, tagsOf, titleOf} from "./texts.js";

export class SongList {
  #actions;
  #rows = new Map();
  #selected = null;  // id

  constructor(actions) {
    this.#actions = actions;
    const show = soon(() => this.#show());
    library.addEventListener("change", show);
    player.addEventListener("change", show);
    setInterval(show, 30000);  // of ages
    const find = () => {
      library.filter.search = byId("search").value.trim();
      actions.attempt(() => library.refresh());
    };
    when("search", "input", whenQuiet(250, find));
    when("only-favourites", "click", () => {
      library.filter.favourite = !library.filter.favourite;
      press(byId("only-favourites"), library.filter.favourite);
      find();
    });
    when("more-songs", "click", () => actions.attempt(() => library.more()));
    when("example", "click", actions.example);
  }

  set selected(id) {
    this.#selected = id;
    this.#show();
  }

  /** The song so many rows below the selected one; at the end of the list, that one itself. */
  neighbour(step) {
    const all = [...library.inWork, ...library.history];
    const at = all.findIndex((song) => song.id === this.#selected);
    return all[Math.min(Math.max(0, at + step), all.length - 1)];
  }

  scrollTo(song) { this.#rows.get(song.id)?.node.scrollIntoView({block: "nearest"}); }

  #show() {
    const {inWork, history, filter, loaded, hasMore} = library;
    const empty = loaded && inWork.length + history.length === 0;
    const filtered = filter.favourite || filter.search !== "";
    const shown = new Set([...inWork, ...history].map((song) => song.id));
    for (const id of this.#rows.keys()) if (!shown.has(id)) this.#rows.delete(id);
    arrange(byId("work-rows"), inWork.map((song) => this.#row(song)));
    arrange(byId("rows"), history.map((song) => this.#row(song)));
    byId("work").hidden = inWork.length === 0;
    byId("history").hidden = history.length === 0;
    byId("more-songs").hidden = !hasMore;
    byId("no-songs").hidden = !empty || filtered;
    byId("nothing-found").hidden = !empty || !filtered;
  }

  #row(song) {
    if (!this.#rows.has(song.id)) this.#rows.set(song.id, new Row(song.id, this.#actions));
    const row = this.#rows.get(song.id);
    row.show(song, song.id === this.#selected, library.setOf(song).length > 1);
    return row.node;
  }
}

class Row {
  #song;

  constructor(id, actions) {
    this.play = element("button", {class: "round", click: () => actions.toggle(this.#song)}, icon("play"));
    this.title = element("button", {class: "row-title", click: () => actions.select(this.#song)});
    this.take = element("span", {class: "take"});
    this.state = element("span", {class: "row-state"});
    this.tags = element("span");
    this.bar = element("div", {class: "bar"}, element("div"));
    this.heart = roundButton("heart", "Favourite", () => actions.favourite(this.#song));
    this.cancel = roundButton("close", "Cancel", () => actions.cancel(this.#song));
    this.node = element("li", {class: "row", "data-id": id, click: (event) => {
      if (!event.target.closest("button")) actions.select(this.#song);
    }}, this.play, element("div", {class: "row-text"}, element("div", {class: "row-line"}, this.title, this.take),
        element("div", {class: "row-line quiet"}, this.state, this.tags), this.bar), this.heart, this.cancel);
  }

  show(song, selected, isOneOfMany) {
    const over = isOver(song);
    const on = player.isOn(song);
    const title = titleOf(song);
    this.#song = song;
    this.node.dataset.state = song.state;
    this.node.classList.toggle("selected", selected);
    this.node.classList.toggle("on", on);
    this.title.setAttribute("aria-current", selected);
    setText(this.title, title);
    setText(this.take, isOneOfMany ? letter(song.variation) : "");
    setText(this.state, over ? `${standing(song)} · ${ago(song.ended_at ?? song.created_at)}` : standing(song));
    setText(this.tags, tagsOf(song).join(", "));
    showPlaying(this.play, on && player.playing, ` ${title}`);
    this.play.disabled = !canBeHeard(song);
    press(this.heart, song.favourite);
    setLabel(this.heart, `Favourite: ${title}`);
    this.heart.hidden = !over;
    setLabel(this.cancel, `Cancel ${title}`);
    this.cancel.hidden = over;
    this.bar.hidden = song.state !== "running";
    this.bar.firstChild.style.width = `${100 * song.progress}%`;
  }
}
