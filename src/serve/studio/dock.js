// The player at the lower edge: what is on, wherever one is on the page.

import {byId, everyFrame, setText, showPlaying, soon, when} from "./dom.js";
import {player} from "./player.js";
import {clock, isOver, letter, titleOf} from "./texts.js";

/** `show` shows a song. */
export function openDock(show) {
  const seek = byId("dock-seek");
  when("dock-play", "click", () => player.toggle());
  when("dock-title", "click", () => show(player.song));
  byId("volume").value = player.volume;
  when("volume", "input", (event) => { player.volume = Number(event.target.value); });
  seek.addEventListener("input", () => player.seek(Number(seek.value)));

  const move = () => {
    const {position, duration} = player;
    seek.max = duration;
    seek.value = position;
    const text = `${clock(position)} / ${clock(duration)}`;
    seek.setAttribute("aria-valuetext", text);
    setText(byId("dock-clock"), text);
  };
  player.addEventListener("change", soon(() => {
    const {song} = player;
    byId("dock").hidden = song === null;
    if (song === null) return;
    showPlaying(byId("dock-play"), player.playing);
    const [title, more] = byId("dock-title").children;
    setText(title, titleOf(song));
    setText(more, !isOver(song) ? "while it is made" : song.variation > 1 ? `variation ${letter(song.variation)}` : "");
    move();
  }));
  everyFrame(() => { if (player.playing) move(); });
}
