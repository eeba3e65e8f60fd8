// The page: its parts, and what they do to each other.

import * as api from "./api.js";
import {Composer} from "./composer.js";
import {Connection} from "./connection.js";
import {openDock} from "./dock.js";
import {byId, setLabel, setText, soon, speak, when} from "./dom.js";
import {icon} from "./icons.js";
import {listenForKeys} from "./keys.js";
import {library} from "./library.js";
import {Listen} from "./listen.js";
import {player} from "./player.js";
import {SongList} from "./songlist.js";
import {isOver, plural, titleOf} from "./texts.js";
import {toast} from "./toasts.js";

for (const node of document.querySelectorAll("[data-icon]")) {
  node.prepend(icon(node.dataset.icon));
  if (node.title) node.setAttribute("aria-label", node.title);
}
const connection = new Connection();

/** Does something, and tells what the server says against it. */
async function attempt(body) {
  try {
    return await body();
  } catch (refusal) {
    toast(refusal.message, {bad: true});
    return null;
  }
}

async function make(request) {
  const {songs} = await api.make(request);
  for (const song of songs) library.take(song);
  select(songs[0]);
  speak(`${plural(songs.length, "song")} will be made`);
}

/** Shows a song; on a narrow screen only if `inFront`. */
function select(song, inFront = true) {
  if (!song) return;
  listen.show(song);
  list.selected = song.id;
  if (inFront) showPane("listen");
  history.replaceState(null, "", `#${song.id}`);
  attempt(() => library.completeSet(song));
}

function play(song, at = null) {
  select(song, false);
  player.play(song, at);
}

function toggle(song) {
  if (player.isOn(song)) player.toggle();
  else play(song);
}

/** Another song of a set: from `seconds` on, or at the same time as the one that is on. */
function variation(song, seconds = null) {
  if (!song) return;
  const together = library.setOf(song).some((other) => player.isOn(other));
  select(song, false);
  if (seconds !== null) player.play(song, seconds);
  else if (together) player.change(song);
}

async function change(song, fields) {
  library.take({...song, ...fields});
  library.take(await attempt(() => api.change(song.id, fields)) ?? song);
}

/** From the page at once, from the server when nobody has taken it back. */
function remove(song) {
  if (!isOver(song)) return;
  const below = list.neighbour(1);
  const next = below === song ? list.neighbour(-1) : below;
  if (player.isOn(song)) player.stop();
  library.hide(song.id);
  select(next, false);
  toast(`“${titleOf(song)}” is deleted.`, {
    undo: () => { library.unhide(song.id); select(song, false); },
    end: () => attempt(() => api.remove(song.id)).then(() => library.forget(song.id)),
  });
}
addEventListener("pagehide", () => library.hidden.forEach(api.remove));

const actions = {
  attempt, toggle, select, variation, remove,
  find: (id) => attempt(async () => select(await library.find(id))),
  seek: (song, seconds) => { if (player.isOn(song)) player.seek(seconds); else play(song, seconds); },
  favourite: (song) => change(song, {favourite: !song.favourite}),
  rename: (song, title) => change(song, {title}),
  cancel: (song) => attempt(async () => library.take(await api.cancel(song.id))),
  // What failed or was cancelled is tried with the same seed.
  again: (song) => attempt(() => make(composer.requestOf(song, song.state === "done" ? "-1" : song.seed_text))),
  edit: (song) => { showPane("write"); composer.edit(song); },
  goOn: (song, seconds, more) => { player.pause(); showPane("write"); composer.goOn(song, seconds, more); },
  useSeed: (text) => { composer.useSeed(text); toast("The seed is in the form."); },
  example: () => { showPane("write"); composer.showExample(); },
};
const composer = new Composer(make);
const listen = new Listen(actions);
const list = new SongList(actions);
openDock(select);

// On a narrow screen one part is seen at a time.
const tabs = document.querySelectorAll(".tabs button");
function showPane(name) {
  document.body.dataset.pane = name;
  for (const tab of tabs) tab.setAttribute("aria-current", tab.dataset.pane === name);
}
for (const tab of tabs) tab.addEventListener("click", () => showPane(tab.dataset.pane));

// The server's state, at the top.
let server = {status: "connecting"};
const showServer = soon(() => {
  const {status, progress, error, until} = server;
  const working = library.inWork.length;
  const wait = Math.ceil((until - Date.now()) / 1000);
  setText(byId("server-text"), {
    connecting: "Connecting …", loading: "Loading the model", failed: "No model", down: "No connection",
    ready: working ? `${plural(working, "song")} in work` : "Ready"}[status]);
  setText(byId("banner-text"), {
    loading: "The model is being loaded. Songs that you make wait for it.",
    failed: `The model could not be loaded: ${error}`,
    down: `The server cannot be reached. ${wait > 0 ? `Next try in ${wait} s.` : "Trying …"} What you write is kept.`}[status] ?? "");
  byId("server").dataset.status = byId("banner").dataset.status = status;
  byId("banner").hidden = status === "ready" || status === "connecting";
  byId("banner-progress").hidden = status !== "loading";
  byId("banner-progress").value = progress ?? 0;
  byId("banner-now").hidden = status !== "down";
  if (status === "down") setTimeout(showServer, 500);
});
const setServer = (state) => { server = state; showServer(); };

connection.addEventListener("down", ({detail}) => setServer({status: "down", until: Date.now() + 1000 * detail}));
connection.addEventListener("ready", ({detail}) => setServer(detail));
connection.addEventListener("song", ({detail}) => library.take(detail));
connection.addEventListener("deleted", ({detail}) => library.forget(detail));
connection.addEventListener("up", () => attempt(async () => {
  byId("log-out").hidden = !connection.needsKey;
  const [limits] = await Promise.all([api.limits(), library.refresh()]);
  composer.configure(limits);
  if (listen.song) return;
  // The song of the address, so that a page that is loaded again looks the same; else the newest.
  const asked = location.hash && await library.find(location.hash.slice(1)).catch(() => null);
  select(asked || library.inWork[0] || library.history[0], false);
}));
when("banner-now", "click", () => connection.now());

library.addEventListener("change", showServer);
library.addEventListener("song", ({detail: {song, before}}) => {
  player.update(song);
  if (before && before.state !== song.state && isOver(song)) speak(`${titleOf(song)} is ${song.state}`);
});
player.addEventListener("change", () => {
  document.title = `${player.playing ? `▶ ${titleOf(player.song)} · ` : ""}HeartMuLa studio`;
});

// Theme: the system's, light, or dark; theme.js applies it.
const THEMES = ["", "light", "dark"];
function showTheme() {
  setLabel(byId("theme"), `Theme: ${document.documentElement.dataset.theme || "as the system"}`);
  listen.redraw();
}
when("theme", "click", () => {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "") + 1) % THEMES.length];
  localStorage.setItem(THEME, theme);
  applyTheme(theme);
  showTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
showTheme();

// Where the server asks for a key.
api.whenKeyIsNeeded(() => new Promise((resolve) => {
  byId("login-form").onsubmit = async (event) => {
    event.preventDefault();
    try {
      await api.logIn(byId("key").value.trim());
      byId("login").close();
      resolve();
    } catch (refusal) {
      byId("login-error").textContent = refusal.message;
    }
    byId("key").value = "";
  };
  byId("login").showModal();
}));
when("login", "cancel", (event) => event.preventDefault());
when("log-out", "click", () => api.logOut().then(() => location.reload()));

const ofSong = (body) => (event) => { if (listen.song) body(listen.song, event); };
function go(step) {
  const song = list.neighbour(step);
  select(song, false);
  if (song) list.scrollTo(song);
}
const showKeys = () => byId("keys").showModal();
when("show-keys", "click", showKeys);
listenForKeys([
  [[" "], "Play and pause", ofSong((song) => { if (player.song) player.toggle(); else play(song); })],
  [["ArrowLeft", "ArrowRight"], "5 seconds back and forward; with Shift, 1 second", ({key, shiftKey}) =>
    player.seek(player.position + (key === "ArrowLeft" ? -1 : 1) * (shiftKey ? 1 : 5))],
  [["ArrowUp", "ArrowDown"], "The song above and below", ({key}) => go(key === "ArrowUp" ? -1 : 1)],
  [["Enter"], "Play from the beginning", ofSong((song) => play(song, 0))],
  [[..."123456789"], "Variations A, B, C, … at the same place", ofSong((song, {key}) =>
    variation(library.setOf(song).find((other) => other.variation === Number(key))))],
  [["f"], "Favourite", ofSong(actions.favourite)],
  [["Delete"], "Delete", ofSong(remove)],
  [["w"], "Write lyrics; Ctrl Enter there makes the song", () => { showPane("write"); byId("lyrics").focus(); }],
  [["/"], "Search", () => { showPane("songs"); byId("search").focus(); }],
  [["?"], "These keys", showKeys],
]);

connection.open();
