// Tags as chips, with suggestions of what the model knows.

import {byId, element, speak, when} from "./dom.js";
import {icon} from "./icons.js";

const clean = (text) => text.trim().toLowerCase().replace(/\s+/g, " ");

export class Tags {
  #chosen = [];
  #known = [];
  #input = byId("tag");
  #changed;

  constructor(changed) {
    this.#changed = changed;
    this.#input.addEventListener("input", () => {
      if (this.#input.value.includes(",")) this.#take(this.#input.value);
      else this.#suggest();
    });
    this.#input.addEventListener("keydown", (event) => this.#key(event));
    this.#input.addEventListener("blur", () => this.#take(this.#input.value));
    when("tag-box", "click", (event) => { if (!event.target.closest("button")) this.#input.focus(); });
  }

  get value() { return this.#chosen.join(","); }

  set value(text) {
    this.#chosen = [...new Set(text.split(",").map(clean).filter(Boolean))];
    this.#show();
  }

  /** The vocabulary; `strict` if the checkpoint lists what it was trained on. */
  configure(known, strict) {
    this.#known = known;
    byId("tags-note").textContent = strict ? `this model knows ${known.length}` : "";
  }

  /** What lint says about the tags. */
  showNotes(warnings) {
    byId("tags-lint").replaceChildren(...warnings.map(({message, suggestion}) => element(
      "li", {}, icon("warn"), message, suggestion !== null && element("button", {class: "link", title: suggestion, click: () => {
        this.value = suggestion;
        this.#changed();
      }}, "Fix"))));
  }

  #key(event) {
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();  // also in an empty field: no song is made by accident
      this.#take(this.#input.value);
    } else if (event.key === "Backspace" && this.#input.value === "" && this.#chosen.length > 0) {
      this.#remove(this.#chosen.at(-1));
    }
  }

  #take(text) {
    const before = this.value;
    this.#input.value = "";
    this.value = `${before},${text}`;
    if (this.value !== before) this.#changed();
  }

  #remove(tag) {
    this.#chosen = this.#chosen.filter((other) => other !== tag);
    this.#show();
    this.#changed();
    this.#input.focus();
    speak(`${tag} removed`);
  }

  #show() {
    byId("tags").replaceChildren(...this.#chosen.map((tag) => element("li", {}, tag, element(
      "button", {"aria-label": `Remove ${tag}`, click: () => this.#remove(tag)}, icon("close")))));
    this.#suggest();
  }

  #suggest() {
    const typed = clean(this.#input.value);
    const fitting = this.#known.filter((tag) => tag.includes(typed) && !this.#chosen.includes(tag));
    fitting.sort((a, b) => b.startsWith(typed) - a.startsWith(typed));
    byId("suggestions").replaceChildren(...fitting.map((tag) => element("button", {
      click: () => this.#take(tag),
      // Else the field loses the focus first, and what was typed becomes a tag.
      mousedown: (event) => event.preventDefault(),
    }, tag)));
  }
}
