// Short messages at the lower edge of the page.

import {byId, element} from "./dom.js";

const STAY_MS = 6000;

/** Shows a line, with a button for `undo` if there is one; `end` is called when its time is over. */
export function toast(line, {undo = null, end = null, bad = false} = {}) {
  const node = element("div", {class: bad ? "toast bad" : "toast"}, line);
  const close = (then) => {
    clearTimeout(timer);
    node.remove();
    then?.();
  };
  const timer = setTimeout(() => close(end), STAY_MS);
  if (undo) node.append(element("button", {class: "link", click: () => close(undo)}, "Undo"));
  byId("toasts").append(node);
}
