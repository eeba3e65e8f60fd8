// The keyboard.

import {byId, element} from "./dom.js";

const WORDS = {" ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓"};

/** `deeds`: [keys, what they do, body]; the body gets the event. They work where nobody types. */
export function listenForKeys(deeds) {
  byId("keys-list").replaceChildren(...deeds.flatMap(([keys, about]) => [
    element("dt", {}, ...(keys.length > 2 ? [keys[0], keys.at(-1)] : keys).map((key) => element("kbd", {}, WORDS[key] ?? key))),
    element("dd", {}, about)]));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (isTyped(event) || document.querySelector("dialog[open]")) return;
    const deed = deeds.find(([keys]) => keys.includes(event.key));
    if (!deed) return;
    event.preventDefault();
    deed[2](event);
  });
}

function isTyped({target, key}) {
  if (target.closest("textarea, select, input:not([type=range])")) return true;
  // Controls that these keys press or move themselves.
  if (key === " " || key === "Enter") return target.closest("button, summary, a, input") !== null;
  return key.startsWith("Arrow") && target.closest("input") !== null;
}
