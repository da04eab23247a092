// The history in words: what is missing, the values as a table, and links to take them away.

import { PARQUET } from "/assets/has.js";
import { iso, length } from "/assets/range.js";
import { GAP, LOSS, QUALITY, lasting, moment, number, scale, utc, whole, zone } from "/assets/words.js";

const MAX_GAPS = 100;
// A table is read, not scrolled through for ever: as many rows as can be heard.
const TABLE_ROWS = 48;
const FORMATS = [["csv", "CSV"], ["jsonl", "JSON lines"], ["geojson", "GeoJSON"], ["gpx", "GPX"]];
if (PARQUET) FORMATS.push(["parquet", "Parquet"]);

const time = (row, seconds) => {
  const date = new Date(seconds * 1000);
  const at = row.insertCell();
  at.textContent = moment(date);
  at.title = utc(date);
};

export function gaps(root, found, change) {
  const body = root.querySelector("tbody");
  const list = found.gaps.filter(({ kind }) => kind !== "silence").slice(0, MAX_GAPS);
  body.replaceChildren();
  for (const gap of list) {
    const row = body.insertRow();
    time(row, gap.begin);
    time(row, gap.end);
    row.insertCell().textContent = lasting((gap.end - gap.begin) * 1000);
    row.insertCell().textContent = GAP[gap.kind] ?? gap.kind;
    row.insertCell().textContent = LOSS[gap.reason] ?? gap.reason ?? "—";
    for (const n of [gap.records, gap.samples]) row.insertCell().textContent = n == null || gap.kind === "undated" ? "—" : whole(n);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Show";
    button.setAttribute("aria-label", `Show ${GAP[gap.kind] ?? gap.kind} of ${moment(new Date(gap.begin * 1000))}`);
    const room = Math.max((gap.end - gap.begin) / 2, 30);
    button.addEventListener("click", () => change({ from: gap.begin - room, to: gap.end + room }, true));
    row.insertCell().append(button);
  }
  root.querySelector(".wide").hidden = list.length === 0;
  const none = root.querySelector(".none");
  none.hidden = list.length > 0;
  none.textContent = found.told ? "Nothing known to be missing." : "The hub did not say what is missing.";
}

/** The values in rows of equal length, for whoever cannot see the plot. */
export function table(root, channel, found, view, unit) {
  const { factor, shown, digits } = scale({ ...channel, unit: found.unit }, unit);
  const say = (v) => number(v * factor, digits);
  const step = (view.to - view.from) / TABLE_ROWS;
  const parts = Array.from({ length: TABLE_ROWS }, () => ({ n: 0, sum: 0, least: Infinity, most: -Infinity, worst: {} }));
  found.times.forEach((t, i) => {
    const part = parts[Math.floor((t - view.from) / step)];
    if (!part || found.values[i] === null) return;
    part.n += 1;
    part.sum += found.values[i];
    part.least = Math.min(part.least, found.kind === "sums" ? found.low[i] : found.values[i]);
    part.most = Math.max(part.most, found.kind === "sums" ? found.high[i] : found.values[i]);
    part.worst[found.qualities[i]] = (part.worst[found.qualities[i]] ?? 0) + 1;
  });
  root.querySelector("caption").textContent = `${channel.sensor}, ${channel.quantity} in ${shown || found.unit}, in steps of ${length(Number(step.toPrecision(3)))}; times in ${zone(new Date(view.to * 1000))}`;
  const body = root.querySelector("tbody");
  body.replaceChildren();
  parts.forEach((part, i) => {
    const row = body.insertRow();
    time(row, view.from + i * step);
    if (part.n === 0) {
      const none = row.insertCell();
      none.colSpan = 4;
      none.textContent = "No value";
      return;
    }
    for (const text of [say(part.sum / part.n), say(part.least), say(part.most)]) row.insertCell().textContent = text;
    row.insertCell().textContent = Object.keys(part.worst).map((q) => QUALITY[q] ?? q).join(", ");
  });
}

export function exports(root, { gateway, sensor, quantity }, view) {
  root.replaceChildren(...FORMATS.map(([format, name]) => {
    const link = document.createElement("a");
    const asked = new URLSearchParams({ format, gateway, from: iso(view.from), to: iso(view.to) });
    // A track is of the whole gateway: the sensor that knows where it is may be another.
    if (format !== "geojson" && format !== "gpx") { asked.set("sensor", sensor); asked.set("quantity", quantity); }
    link.href = "/api/v1/export?" + asked;
    link.textContent = name;
    link.setAttribute("download", "");
    return link;
  }));
}
