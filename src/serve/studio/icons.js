// Line drawings of 24 x 24.

const PATHS = {
  again: "M19 8a8 8 0 1 0 1 6M20 4v4.5h-4.5",
  bin: "M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7",
  close: "M6 6l12 12M18 6L6 18",
  cut: "M4 12h7M14 5v14M17 12h.01M20.5 12h.01",
  dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01",
  down: "M12 4v11M7.5 11l4.5 4.5L16.5 11M5 20h14",
  heart: "M12 20s-7.5-4.6-7.5-10A4.3 4.3 0 0 1 12 7.3 4.3 4.3 0 0 1 19.5 10c0 5.4-7.5 10-7.5 10z",
  keys: "M3 6h18v12H3zM7 10h.01M11 10h.01M15 10h.01M8 14h8",
  leave: "M10 5H5v14h5M14 8l4 4-4 4M18 12H9",
  list: "M5 7h14M5 12h14M5 17h9",
  logo: "M3 10v4M7.5 6v10M12 9v11M16.5 6v10M21 10v4",
  onward: "M4 12h13M13 7l5 5-5 5M21 6v12",
  pause: "M8 6v12M16 6v12",
  pen: "M5 19l1-4L16 5l3 3L9 18z",
  play: "M8 5.5v13l11-6.5z",
  search: "M10.5 4.5a6 6 0 1 0 0 12a6 6 0 1 0 0-12M15 15l5 5",
  theme: "M19.5 14A8 8 0 1 1 10 4.5a6.5 6.5 0 0 0 9.5 9.5z",
  volume: "M4 10v4h3l5 4V6L7 10zM16 9a4 4 0 0 1 0 6",
  warn: "M12 5l8 14H4zM12 10.5v4M12 16.8h.01",
};
const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.append(document.createElementNS(SVG, "path"));
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  draw(svg, name);
  return svg;
}

/** Makes another drawing of one. */
export function draw(svg, name) {
  svg.setAttribute("class", `icon ${name}`);
  svg.firstChild.setAttribute("d", PATHS[name]);
}
