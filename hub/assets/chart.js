// The plot of the history: the line, its band, what is missing, the strip of quality, and what is under the pointer.

import uPlot from "/assets/uplot.js";
import { CALENDAR, QUALITIES, SAID, Strip, axis, color, legend, paint, qualitySeries, united } from "/assets/plot.js";
import { pointers } from "/assets/zoom.js";
import { GAP, LOSS, QUALITY, moment, number, scale, utc, zone } from "/assets/words.js";

const HEIGHT = 320;
const HEIGHT_PHONE = 240;
// A gap is at least so wide, so that a short one can still be seen and pointed at.
const GAP_PX = 3;
// A selection that is narrower was a click.
const SELECT_PX = 5;
const FROM_ZERO = ["speed", "rotational-speed"];

export class Chart {
  /** `on.view()`, `on.change(range, settled)`, `on.unit()`. */
  constructor(root, readout, legendAt, on) {
    Object.assign(this, { root, readout, legendAt, on });
    this.strip = new Strip(root);
    new ResizeObserver(() => this.show()).observe(root);
  }

  /** What was loaded for a channel; drawn in the range that is shown by then. */
  put(channel, found) {
    Object.assign(this, { channel, found });
    this.remake = true;
    this.show();
  }

  show() {
    if (!this.found || !this.root.clientWidth) return;
    const { unit, factor, shown, digits } = scale({ ...this.channel, unit: this.found.unit }, this.on.unit());
    Object.assign(this, { factor, shown, digits });
    const width = this.root.clientWidth;
    if (this.remake || this.drawnUnit !== unit || this.plot?.width !== width) {
      this.drawnUnit = unit;
      this.make(width);
    }
    this.rescale();
  }

  data() {
    const { times, values, low, high, lines } = this.found;
    const in_ = (column) => (this.factor === 1 ? column : column.map((v) => (v === null ? null : v * this.factor)));
    return [times, in_(high), in_(low), in_(values), ...(lines ?? QUALITIES.map(() => times.map(() => null))).map(in_)];
  }

  make(width) {
    this.remake = false;
    this.plot?.destroy();
    const hidden = { stroke: "transparent", points: { show: false }, spanGaps: false };
    const sums = this.found.kind === "sums";
    this.plot = new uPlot({
      width, height: width < 600 ? HEIGHT_PHONE : HEIGHT, legend: { show: false }, padding: [10, 38, 0, 0],
      cursor: {
        drag: { x: true, y: false, setScale: false }, focus: { prox: -1 }, points: { show: false },
        bind: { dblclick: () => null, mousedown: (_, __, select) => (event) => (event.shiftKey ? null : select(event)) },
      },
      scales: {
        x: { time: true, range: () => { const { from, to } = this.on.view(); return [from, to]; } },
        y: { range: (_, min, max) => this.rangeOf(min, max) },
      },
      axes: [axis({ size: 40, space: width < 600 ? 70 : 90, values: CALENDAR }), axis({ size: 48, space: 32 })],
      series: [{}, hidden, hidden,
        { ...hidden, stroke: sums ? color("--plot") : "transparent", width: 2, points: { show: sums && this.found.points < 200, size: 5 } }, ...qualitySeries()],
      bands: [{ series: [1, 2], fill: color("--plot") + (sums ? "3a" : "33") }],
      hooks: { drawClear: [(u) => this.missing(u)], draw: [(u) => this.under(u)], setSelect: [(u) => this.selected(u)], setCursor: [(u) => this.point(u)] },
    }, this.data(), this.root);
    this.root.prepend(this.plot.root);
    pointers(this.plot.over, this.on);
    this.plot.over.addEventListener("mouseleave", () => this.say());
    this.legends();
  }

  rangeOf(min, max) {
    if (min === null || min === undefined) return [0, 1];
    const zero = FROM_ZERO.includes(this.channel.quantity);
    const [least, most] = zero ? [Math.min(0, min), Math.max(max, 1)] : [min, max];
    const room = (most - least || Math.abs(most) || 1) * 0.08;
    return [zero && least === 0 ? 0 : least - room, most + room];
  }

  /** The range has changed, the data not yet. */
  rescale() {
    if (!this.plot) return;
    const { from, to } = this.on.view();
    this.plot.setScale("x", { min: from, max: to });
  }

  under(u) {
    const gaps = this.found.gaps.map(({ begin, end, kind }) => ({ from: begin, to: end, kind }));
    const undated = gaps.filter(({ kind }) => kind === "undated");
    this.strip.draw(u, [...this.found.pieces, ...gaps.filter(({ kind }) => kind !== "undated"), ...united(undated)]);
  }

  /** Hatches what is missing, under the line. */
  missing(u) {
    const { left, top, width, height } = u.bbox;
    for (const { begin, end, kind } of this.found.gaps) {
      // What may lie anywhere in a range does not take the range from what is dated: the strip alone tells it.
      if (kind === "undated") continue;
      const x0 = Math.max(left, u.valToPos(begin, "x", true));
      const x1 = Math.min(left + width, Math.max(u.valToPos(end, "x", true), x0 + GAP_PX * devicePixelRatio));
      if (x1 > left && x0 < left + width) paint(u.ctx, kind, x0, top, x1 - x0, height, kind === "silence" ? 0.18 : 0.35);
    }
  }

  selected(u) {
    const { left, width } = u.select;
    if (width >= SELECT_PX) {
      const [from, to] = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
      u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      this.on.change({ from, to }, true);
    }
  }

  point(u) {
    if (!(u.cursor.left >= 0)) return;
    const t = u.posToVal(u.cursor.left, "x");
    const gap = this.found.gaps.find(({ begin, end, kind }) => kind !== "silence" && t >= begin && t <= end);
    const i = u.cursor.idx;
    const { times, values, low, high, qualities, kind, bucketS } = this.found;
    const near = i !== null && i !== undefined && values[i] !== null && Math.abs(times[i] - t) < Math.max(bucketS, (u.scales.x.max - u.scales.x.min) / 40);
    const say = (v) => number(v * this.factor, this.digits);
    if (near) {
      const about = kind === "sums" ? `from ${say(low[i])} to ${say(high[i])}, ${QUALITY[qualities[i]] ?? ""}` : `${high[i] > values[i] ? "± " + ((high[i] - values[i]) * this.factor).toPrecision(2) + ", " : ""}${QUALITY[qualities[i]]}`;
      this.say(times[i] - (kind === "sums" ? bucketS / 2 : 0), `${kind === "sums" ? "mean " : ""}${say(values[i])} ${this.shown}`, about);
    } else if (gap) this.say(t, GAP[gap.kind] ?? gap.kind, LOSS[gap.reason] ?? gap.reason ?? "");
    else this.say(t, "No value", "");
  }

  /** The line above the plot: without a time, how to use it. */
  say(t, value, about) {
    const [when, what, more] = this.readout.children;
    if (t === undefined) {
      when.textContent = `Times in ${zone(new Date(this.on.view().to * 1000))}`;
      [what.textContent, more.textContent] = ["", ""];
      return;
    }
    const date = new Date(t * 1000);
    when.textContent = `${moment(date, this.found.kind === "samples")} · ${utc(date)}`;
    what.textContent = value;
    more.textContent = about;
  }

  legends() {
    const { kind, qualities, pieces, gaps } = this.found;
    const kinds = kind === "samples" ? QUALITIES.filter((q) => qualities.includes(q)) : ["samples", ...QUALITIES, "few"].filter((k) => pieces.some((p) => p.kind === k));
    legend(this.legendAt, [...kinds, ...new Set(gaps.map((gap) => gap.kind).filter((k) => k in SAID))]);
  }

  repaint() {
    delete this.legendAt.dataset.shows;
    this.remake = true;
    this.show();
  }
}
