// The theme that was chosen: "light", "dark", or none, which is the system's.
"use strict";

const THEME = "heartmula.theme";

function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

try {
  applyTheme(localStorage.getItem(THEME));
} catch {
  // A browser that keeps nothing has the system's theme.
}
