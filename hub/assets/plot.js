// What all plots share: colours of the theme, lines by quality, hatches, the strip under a plot.

import { QUALITY } from "/assets/words.js";

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Never by colour alone: each quality has a dash of its own in the line and a hatch of its own in the strip.
const LOOK = {
  good: { color: "--good", dash: [], hatch: "plain" },
  stopped: { color: "--stopped", dash: [2, 3], hatch: "level" },
  estimated: { color: "--warn", dash: [8, 4], hatch: "rising" },
  degraded: { color: "--bad", dash: [8, 3, 2, 3], hatch: "dotted" },
  samples: { color: "--plot", dash: [], hatch: "plain" },
  few: { color: "--plot", dash: [], hatch: "falling" },
  none: { color: "--soft", dash: [], hatch: "empty" },
  gap: { color: "--bad", dash: [], hatch: "falling" },
  loss: { color: "--bad", dash: [], hatch: "crossed" },
  undated: { color: "--warn", dash: [], hatch: "level" },
  silence: { color: "--soft", dash: [], hatch: "falling" },
};
export const SAID = {
  ...QUALITY, samples: "Complete", few: "Fewer samples than usual", none: "No value",
  gap: "Records missing", loss: "Declared lost", undated: "Time not known", silence: "Nothing recorded",
};
export const QUALITIES = Object.keys(QUALITY);

const YEAR = "\n{YYYY}";
const DAY = "\n{YYYY}-{MM}-{DD}";
/** How times are written under an axis: by the day's 24 hours, and the date where it changes. */
export const CALENDAR = [
  [31_536_000, "{YYYY}", null, null, null, null, null, null, 1],
  [2_419_200, "{MMM}", YEAR, null, null, null, null, null, 1],
  [86_400, "{D} {MMM}", YEAR, null, null, null, null, null, 1],
  [60, "{HH}:{mm}", DAY, null, DAY, null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", DAY, null, DAY, null, null, null, 1],
  [0.001, "{ss}.{fff} s", DAY + " {HH}:{mm}", null, DAY + " {HH}:{mm}", null, "\n{HH}:{mm}", null, 1],
];

export function axis(more) {
  return { stroke: color("--soft"), grid: { stroke: color("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif", ...more };
}

/** One series of uPlot a quality, so that each part of the line has its look. */
export function qualitySeries() {
  return QUALITIES.map((quality) => ({
    label: QUALITY[quality], stroke: color(LOOK[quality].color), dash: LOOK[quality].dash, width: 2, spanGaps: false,
    points: { show: false, size: 5, fill: color(LOOK[quality].color), filter: (u, i) => alone(u.data[i]) },
  }));
}

// A line needs two points; a value between two holes would not be seen without a dot.
const alone = (values) => values.flatMap((v, i) => (v !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null ? [i] : []));

/** Values of each quality, those at the beginning of its stretch included, so that the line is whole. */
export function byQuality(values, qualities) {
  return QUALITIES.map((quality) => values.map((v, i) => (qualities[i] === quality || qualities[i + 1] === quality ? v : null)));
}

function hatched(context, name, ratio) {
  const look = LOOK[name];
  const ink = color(look.color);
  if (look.hatch === "plain") return ink;
  const side = 8 * ratio;
  const tile = new OffscreenCanvas(side, side);
  const draw = tile.getContext("2d");
  draw.fillStyle = ink + "30";
  draw.fillRect(0, 0, side, side);
  draw.strokeStyle = ink;
  draw.lineWidth = 2 * ratio;
  const line = (x0, y0, x1, y1) => { draw.beginPath(); draw.moveTo(x0, y0); draw.lineTo(x1, y1); draw.stroke(); };
  // Each diagonal three times, so that the corners of the tile meet those of the next.
  const diagonals = (up) => { for (const d of [-side, 0, side]) up ? line(d - 1, side + 1, d + side + 1, -1) : line(d - 1, -1, d + side + 1, side + 1); };
  if (look.hatch === "rising" || look.hatch === "crossed") diagonals(true);
  if (look.hatch === "falling" || look.hatch === "crossed") diagonals(false);
  if (look.hatch === "dotted") { draw.fillStyle = ink; draw.fillRect(0, 0, side / 2, side / 2); draw.fillRect(side / 2, side / 2, side / 2, side / 2); }
  if (look.hatch === "level") line(0, side / 2, side, side / 2);
  return context.createPattern(tile, "repeat");
}

/** Fills a part of a canvas the way a state is told; sizes in pixels of the canvas. */
export function paint(context, name, x, y, width, height, alpha = 1) {
  context.save();
  context.globalAlpha = alpha;
  context.fillStyle = hatched(context, name, devicePixelRatio);
  context.fillRect(x, y, width, height);
  context.restore();
}

function canvas(width, height) {
  const made = document.createElement("canvas");
  size(made, width, height);
  return made;
}

function size(made, width, height) {
  made.width = Math.round(width * devicePixelRatio);
  made.height = Math.round(height * devicePixelRatio);
  made.style.width = width + "px";
  made.style.height = height + "px";
}

/** What the looks mean, for those that occur. */
export function legend(at, names) {
  const key = names.join() + document.documentElement.dataset.theme;
  if (at.dataset.shows === key) return;
  at.dataset.shows = key;
  at.replaceChildren(...names.map((name) => {
    const item = document.createElement("li");
    const swatch = canvas(22, 12);
    swatch.setAttribute("aria-hidden", "true");
    paint(swatch.getContext("2d"), name, 0, 0, swatch.width, swatch.height);
    item.append(swatch, SAID[name]);
    return item;
  }));
}

const STRIP_HEIGHT = 14;

/** A strip under a plot that says of each time how good its values are: pieces are {from, to, kind}, s. */
export class Strip {
  constructor(parent) {
    this.canvas = canvas(10, STRIP_HEIGHT);
    this.canvas.className = "strip";
    this.canvas.setAttribute("role", "img");
    parent.append(this.canvas);
  }

  draw(plot, pieces) {
    const { left, width } = plot.bbox;
    size(this.canvas, plot.width, STRIP_HEIGHT);
    const context = this.canvas.getContext("2d");
    const { min, max } = plot.scales.x;
    const x = (t) => left + Math.max(0, Math.min(1, (t - min) / (max - min))) * width;
    context.fillStyle = color("--grid");
    context.fillRect(left, 0, width, this.canvas.height);
    const lasted = {};
    for (const { from, to, kind } of pieces) {
      const [begin, end] = [x(from), x(to)];
      lasted[kind] = (lasted[kind] ?? 0) + Math.max(0, Math.min(to, max) - Math.max(from, min));
      // A short one is still seen.
      if (to < min || from > max || kind === "none") continue;
      // What may lie anywhere here leaves the quality of what does lie here to be seen.
      const top = kind === "undated" ? this.canvas.height * 0.65 : 0;
      paint(context, kind, begin, top, Math.max(end - begin, devicePixelRatio), this.canvas.height - top);
    }
    const share = (s) => Math.round((100 * s) / (max - min)) + " %";
    const told = Object.entries(lasted).filter(([, s]) => s > 0).map(([kind, s]) => `${SAID[kind]} ${share(s)}`);
    this.canvas.setAttribute("aria-label", "Quality: " + (told.join(", ") || "nothing known"));
  }
}

/** Pieces of one kind that overlap, as one. */
export function united(pieces) {
  const all = [];
  for (const piece of [...pieces].sort((a, b) => a.from - b.from)) {
    const last = all.at(-1);
    if (last && piece.from <= last.to) last.to = Math.max(last.to, piece.to);
    else all.push({ ...piece });
  }
  return all;
}

/** Pieces of equal kind next to each other, as one. */
export function joined(pieces) {
  const all = [];
  for (const piece of pieces) {
    const last = all.at(-1);
    if (last && last.kind === piece.kind && piece.from - last.to < 1e-3) last.to = piece.to;
    else all.push({ ...piece });
  }
  return all;
}
