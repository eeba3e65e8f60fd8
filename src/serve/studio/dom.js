// Building and filling elements. Texts go in as text only: nothing of a song is ever markup.

import {draw, icon} from "./icons.js";

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Listens to it. */
export const when = (id, type, body) => byId(id).addEventListener(type, body);

/**
 * A new element. `properties` are attributes; functions are listeners ({click: f}), `true` is an attribute without a
 * value, and false, null and undefined are left out, as they are of `children`.
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  if (tag === "button") made.type = "button";
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== false && child !== null && child !== undefined));
  return made;
}

/** A button with a picture and a label. */
export const button = (name, label, click, properties = {}) =>
  element("button", {click, ...properties}, icon(name), element("span", {}, label));

/** A round button with a picture, whose label is only heard. */
export const roundButton = (name, label, click, properties = {}) =>
  element("button", {class: "round", title: label, "aria-label": label, click, ...properties}, icon(name));

/** Changes only what is otherwise: a screen reader need not hear it again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setLabel(node, label) {
  node.setAttribute("aria-label", label);
  node.title = label;
}

export const press = (node, on) => node.setAttribute("aria-pressed", String(on));

/** Lets a button play or pause. */
export function showPlaying(node, playing, what = "") {
  draw(node.firstChild, playing ? "pause" : "play");
  setLabel(node, `${playing ? "Pause" : "Play"}${what}`);
}

/** Puts these nodes into `parent` in this order; what stands right is not moved: focus and scroll stay. */
export function arrange(parent, nodes) {
  for (const child of [...parent.children]) if (!nodes.includes(child)) child.remove();
  nodes.forEach((node, i) => {
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
  });
}

/** Says something to those who listen to the page. */
export function speak(text) {
  byId("spoken").textContent = text;
}

/** Calls `body` once, soon, however often it is asked for; a hidden page has no frames. */
export function soon(body) {
  let asked = false;
  const run = () => { asked = false; body(); };
  return () => {
    if (asked) return;
    asked = true;
    if (document.hidden) setTimeout(run, 200);
    else requestAnimationFrame(run);
  };
}

/** Calls `body` when nobody has asked for it for so long. */
export function whenQuiet(milliseconds, body) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(body, milliseconds);
  };
}

/** Calls `body` in every frame. */
export function everyFrame(body) {
  const frame = () => { body(); requestAnimationFrame(frame); };
  requestAnimationFrame(frame);
}
