// The settings of a song: one table says what there is, and the rows of the form follow from it.

import {byId, element, roundButton, when} from "./dom.js";
import {exactClock, secondsOf} from "./texts.js";

const LENGTHS = [4, 6, 8, 10, 15, 20, 24, 30, 40, 50, 60, 75, 90, 105, 120, 150, 180, 210, 240, 300, 360, 480, 600];

/**
 * `name` is the setting of the API, which has `scale` for each one that is shown. The field beside a slider also takes
 * what lies outside its range; `stops` are what a slider of times has; `choices` are [value, label].
 */
const DIALS = [
  {name: "max_audio_length_ms", label: "Length", hint: "At most; songs end by themselves",
   scale: 1000, stops: LENGTHS},
  {name: "songs", label: "Variations", hint: "Songs of the same words with other seeds",
   least: 1, most: 8, step: 1},
  {name: "temperature", label: "Temperature", hint: "Above 1 wilder, below 1 tamer", least: 0.1, most: 2, step: 0.05},
  {name: "cfg_scale", label: "Guidance", hint: "How closely to follow lyrics and tags; 1 is off, and half the work",
   least: 1, most: 5, step: 0.1},
  {name: "quality", label: "Quality", hint: "How exactly the sound is worked out",
   choices: [["reference", "Reference"], ["balanced", "Balanced"], ["fast", "Fast"]]},
  {name: "seed", label: "Seed", hint: "The same seed makes the same song again"},
  {name: "codec_steps", label: "Steps", hint: "Of what makes the sound; empty: by the quality",
   least: 1, most: 20, step: 1, more: true},
  {name: "topk", label: "Top-k", hint: "Sample among so many likeliest codes", least: 1, most: 250, step: 1, more: true},
  {name: "windows", label: "First sound", hint: "Early: music is heard sooner",
   choices: [["reference", "As heartlib"], ["early", "Early"]], more: true},
  {name: "fade_out_ms", label: "Fade-out", hint: "Seconds, of a song that ends by its length", least: 0, most: 10,
   step: 0.5, scale: 1000, more: true},
];

// What the server has no default for: one song, any seed, steps as the quality has them.
const OURS = {songs: 1, seed: "", codec_steps: null};

export class Dials {
  #rows = new Map();  // name -> {get, set, ...}
  #defaults = OURS;

  constructor(changed) {
    for (const dial of DIALS) {
      const row = (dial.choices ? choice : dial.name === "seed" ? seed : slider)(dial, changed);
      this.#rows.set(dial.name, row);
      byId(dial.more ? "more-dials" : "dials").append(element("div", {class: "dial", title: dial.hint}, ...row.nodes));
    }
    when("defaults", "click", () => { this.value = {}; changed(); });
  }

  /** What the server would take for each setting, and how long a song may be. */
  configure(limits) {
    this.#defaults = {max_audio_length_ms: Math.min(60000, limits.max_audio_length_ms), ...limits.defaults, ...OURS};
    this.#rows.get("max_audio_length_ms").limit(limits.max_audio_length_ms / 1000);
    this.#rows.get("songs").limit(limits.songs_per_request);
  }

  /** Settings by name; what is missing has its default. */
  get value() {
    return Object.fromEntries([...this.#rows].map(([name, row]) => [name, row.get()]));
  }

  set value(settings) {
    for (const [name, row] of this.#rows) row.set(settings[name] ?? this.#defaults[name] ?? null);
  }

  setSeed(text) { this.#rows.get("seed").set(text); }

  /** The first setting that makes no sense, in words; null if all do. */
  get complaint() {
    return [...this.#rows.values()].map((row) => row.complaint?.()).find(Boolean) ?? null;
  }
}

/** A slider, and a field for what is exact; an empty field is null. */
function slider({name, label, scale = 1, stops, least, most, step}, changed) {
  const show = stops ? exactClock : String;
  const read = stops ? secondsOf : (text) => Number(text.replace(",", "."));
  const id = `dial-${name}`;
  const range = element("input", {type: "range", min: stops ? 0 : least, max: most, step: stops ? 1 : step, "aria-label": label});
  const field = element("input", {id, class: "small", inputmode: "decimal", placeholder: "auto"});
  let places = stops;
  const follow = () => {
    const value = read(field.value || "10");
    range.value = places ? places.findLastIndex((place) => place <= value) : value;
    range.setAttribute("aria-valuetext", field.value);
  };
  range.addEventListener("input", () => {
    field.value = show(places ? places[range.value] : Number(range.value));
    follow();
    changed();
  });
  field.addEventListener("input", () => { follow(); changed(); });
  return {
    nodes: [element("label", {for: id}, label), range, field],
    get: () => (field.value.trim() === "" ? null : Math.round(read(field.value) * scale * 1e6) / 1e6),
    set: (value) => { field.value = value === null ? "" : show(value / scale); follow(); },
    limit: (greatest) => {
      places = places && [...stops.filter((stop) => stop < greatest), greatest];
      range.max = places ? places.length - 1 : Math.min(most, greatest);
    },
    complaint: () => (field.value === "" || Number.isFinite(read(field.value)) ? null
      : `${label}: “${field.value}” is not a ${stops ? "time" : "number"}`),
  };
}

function choice({name, label, choices}, changed) {
  const id = `dial-${name}`;
  const select = element("select", {id, change: changed}, ...choices.map(([value, text]) => element("option", {value}, text)));
  return {
    nodes: [element("label", {for: id}, label), select],
    get: () => select.value || null,
    set: (value) => { select.value = value; },
  };
}

/** An empty seed is another one each time. It is a text everywhere: 64 bits are too many for a number. */
function seed({label}, changed) {
  const field = element("input", {id: "dial-seed", inputmode: "numeric", placeholder: "random", input: changed});
  const roll = () => {
    // Short enough to be read out.
    field.value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
    changed();
  };
  return {
    nodes: [element("label", {for: field.id}, label), field, roundButton("dice", "Roll a seed", roll)],
    get: () => field.value.trim() || "-1",
    set: (value) => { field.value = String(value) === "-1" ? "" : value; },
    complaint: () => (/^\d*$/.test(field.value.trim()) ? null : "Seed: a whole number, or nothing"),
  };
}
