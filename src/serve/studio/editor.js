// The sheet for lyrics: section marks stand out, and lines with a note are marked beside them.
//
// A textarea shows one colour only. So its letters are invisible, and the same text lies behind it, line by line.

import {byId, element} from "./dom.js";
import {icon} from "./icons.js";
import {isMark} from "./texts.js";

export class Editor {
  #text = byId("lyrics");
  #noted = new Set();  // numbers of lines

  constructor(changed) {
    this.#text.addEventListener("input", () => { this.#reflect(); changed(); });
    this.#reflect();
  }

  get value() { return this.#text.value; }

  set value(text) {
    this.#text.value = text;
    this.#noted.clear();
    this.#reflect();
  }

  focus() { this.#text.focus({preventScroll: true}); }

  /** Buttons for what the model knows as sections. */
  offerSections(names) {
    byId("sections").replaceChildren(...names.map((name) => {
      const title = name[0].toUpperCase() + name.slice(1);
      return element("button", {click: () => this.#insert(`[${title}]`)}, title);
    }));
  }

  /** The mark gets a line of its own, after the one with the cursor and an empty one. */
  #insert(mark) {
    const {value, selectionEnd} = this.#text;
    const next = value.indexOf("\n", selectionEnd);
    const end = next < 0 ? value.length : next;
    const before = value.slice(0, end).trimEnd();
    const after = value.slice(end).trimStart();
    const text = `${before && "\n\n"}${mark}\n${after && "\n"}`;
    this.#text.focus();
    this.#text.setSelectionRange(before.length, value.length - after.length);
    this.#type(text);
    const at = before.length + text.length - (after && 1);
    this.#text.setSelectionRange(at, at);
  }

  /** What lint says about the lyrics. */
  show(warnings) {
    this.#noted = new Set(warnings.map((warning) => warning.line));
    byId("lyrics-lint").replaceChildren(...warnings.map(({line, message, suggestion}) => element(
      "li", {}, icon("warn"), line && element("button", {class: "link", click: () => this.#select(line)}, `Line ${line}`),
      element("span", {}, message), line && suggestion !== null && element("button", {class: "link", title: suggestion, click: () => {
        this.#select(line);
        this.#type(suggestion);
      }}, "Fix"))));
    this.#reflect();
  }

  /** Instead of what is selected; this is the only way that the browser's undo knows of. */
  #type(text) { document.execCommand(text ? "insertText" : "delete", false, text); }

  #select(line) {
    const lines = this.value.split("\n");
    const begin = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
    this.#text.focus();
    this.#text.setSelectionRange(begin, begin + (lines[line - 1] ?? "").length);
  }

  #reflect() {
    byId("mirror").replaceChildren(...this.value.split("\n").map((text, i) => element(
      "div", {class: `${isMark(text) ? "mark" : ""} ${this.#noted.has(i + 1) ? "noted" : ""}`},
      text || "\u200b")));  // an empty line needs something that has a height
  }
}
