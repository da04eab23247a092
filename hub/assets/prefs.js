// What a person chose, kept in the browser: the unit of speed and the colours.

export const UNITS = ["m/s", "km/h", "mph"];
export const THEMES = ["auto", "light", "dark"];

function read(key, allowed) {
  try {
    const kept = localStorage.getItem(key);
    return allowed.includes(kept) ? kept : allowed[0];
  } catch { return allowed[0]; }
}

function write(key, value) {
  try { localStorage.setItem(key, value); } catch { /* It is forgotten when the page is left. */ }
}

let unit = read("speed-unit", UNITS);

export const speedUnit = () => unit;

/** Puts the two choices of the header to work; `changed` is called after the unit was changed. */
export function choices(changed) {
  const units = document.getElementById("unit");
  units.value = unit;
  units.addEventListener("change", () => {
    unit = units.value;
    write("speed-unit", unit);
    changed();
  });
  const themes = document.getElementById("theme");
  themes.value = read("theme", THEMES);
  themes.addEventListener("change", () => {
    write("theme", themes.value);
    document.dispatchEvent(new CustomEvent("theme-chosen", { detail: themes.value }));
  });
}
