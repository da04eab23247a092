// One channel: number, uncertainty, quality, age and the last minute.

import uPlot from "/assets/uplot.js";
import { COUNTS, QUALITY, QUANTITY, REASON, ago, number, scale, uncertainty } from "/assets/words.js";

const WINDOW_S = 60;
// Live values come once a second; a hole wider than this is shown as a hole.
const GAP_S = 2.5;
// A value older than this is no longer "now".
const LATE_MS = 5000;
// A count that has grown stands out for so long.
const GREW_MS = 60000;
export const PLOTTED = ["speed", "rotational-speed"];

function element(name, className, parent) {
  const made = document.createElement(name);
  made.className = className;
  parent.append(made);
  return made;
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Card {
  constructor(gateway, channel, parent) {
    this.gateway = gateway;
    this.major = PLOTTED.includes(channel.quantity);
    this.points = []; // [unix seconds, value in the channel's own unit or null]
    this.root = element("article", this.major ? "channel" : "channel minor", parent);
    Object.assign(this.root.dataset, { sensor: channel.sensor, quantity: channel.quantity });
    this.root.setAttribute("aria-label", `${channel.sensor}, ${QUANTITY[channel.quantity]}`);
    const title = element("h3", "", this.root);
    const name = element("span", "", title);
    name.append(channel.sensor + " ");
    element("small", "", name).textContent = QUANTITY[channel.quantity];
    this.quality = element("span", "quality", title);
    this.reading = element("p", "reading", this.root);
    this.number = element("span", "number", this.reading);
    this.unit = element("span", "unit", this.reading);
    this.uncertainty = element("span", "uncertainty", this.reading);
    this.reason = element("span", "reason", this.reading);
    this.age = element("p", "age", this.root);
    this.counts = new Map(); // quantity -> {value, grew: when it last did, at}
    this.counted = element("p", "counts", this.root);
    if (this.major) {
      this.plotAt = element("div", "plot", this.root);
      this.plotAt.setAttribute("role", "img");
      this.past(channel);
    }
  }

  /** A new state of the channel. */
  update(channel, received) {
    const measured = channel.age_ms === null ? null : received - channel.age_ms;
    if (measured !== null && this.major) this.keep(measured / 1000, channel.value);
    this.channel = channel;
    this.measured = measured;
  }

  /** A new state of a channel that counts what became of this sensor's input. */
  count(channel, received) {
    if (channel.value === null) return;
    const old = this.counts.get(channel.quantity);
    // A count that is smaller than it was began anew with its agent.
    const grew = old && channel.value > old.value ? received : old?.grew;
    if (!old) {
      const at = element("span", "", this.counted);
      at.dataset.count = channel.quantity;
      this.counts.set(channel.quantity, { value: channel.value, grew, at });
    } else Object.assign(old, { value: channel.value, grew });
  }

  keep(t, value) {
    const last = this.points.at(-1);
    // The same value told again, or one from before what is shown, adds nothing.
    if (last && t <= last[0] + 0.05) return;
    this.points.push([t, value]);
  }

  /** What the store has of the last minute. */
  async past(channel) {
    const asked = new URLSearchParams({ gateway: this.gateway, sensor: channel.sensor, quantity: channel.quantity, limit: 5000 });
    try {
      const answer = await fetch("/api/v1/history?" + asked);
      if (!answer.ok) return;
      const first = this.points[0]?.[0] ?? Infinity;
      const points = (await answer.json()).points.map((p) => [Date.parse(p.t) / 1000, p.value]);
      this.points.unshift(...points.filter(([t]) => t < first - 0.05));
    } catch { /* The plot begins empty then; the feed tells that the hub is away. */ }
  }

  /** Writes what is known now; called several times a second. */
  show(now, speedUnit) {
    const channel = this.channel;
    const { factor, unit, shown, digits } = scale(channel, speedUnit);
    const has = channel.value !== null;
    const data = this.root.dataset;
    data.quality = has ? channel.quality : "none";
    data.unit = unit;
    // For tests and for whoever scripts the page: what is shown, or nothing.
    if (has) data.value = number(channel.value * factor, digits); else delete data.value;
    if (has) delete data.noData; else data.noData = channel.no_data;
    this.number.textContent = has ? data.value : "";
    this.unit.textContent = has ? shown : "";
    this.uncertainty.textContent = has && channel.uncertainty ? uncertainty(channel.uncertainty * factor) : "";
    this.reason.textContent = has ? "" : REASON[channel.no_data] ?? channel.no_data;
    this.quality.textContent = has ? QUALITY[channel.quality] : "No value";
    const old = this.measured === null ? null : Math.max(0, now - this.measured);
    this.age.textContent = old === null ? "time not known" : has ? `measured ${ago(old)}` : `so since ${ago(old)}`;
    for (const [quantity, { value, grew, at }] of this.counts) {
      at.textContent = `${COUNTS[quantity]} ${number(value, 0)}`;
      at.classList.toggle("grew", grew !== undefined && now - grew < GREW_MS);
    }
    this.root.classList.toggle("late", old === null || (has && old > LATE_MS));
  }

  /** Draws the last minute. */
  draw(now, speedUnit) {
    if (!this.major || !this.plotAt.clientWidth) return;
    const { factor, unit, digits } = scale(this.channel, speedUnit);
    const end = now / 1000;
    while (this.points.length > 1 && this.points[1][0] < end - WINDOW_S) this.points.shift();
    const [times, values] = [[], []];
    for (const [t, value] of this.points) {
      const before = times.at(-1);
      if (before !== undefined && t - before > GAP_S) { times.push(before + 0.001); values.push(null); }
      times.push(t);
      values.push(value === null ? null : value * factor);
    }
    this.range = [end - WINDOW_S, end];
    const width = this.plotAt.clientWidth;
    if (!this.plot || this.plotUnit !== unit || this.plot.width !== width) this.make(width, unit);
    this.plot.setData([times, values]);
    const real = values.filter((v) => v !== null);
    this.plotAt.setAttribute("aria-label", real.length
      ? `last minute, from ${number(Math.min(...real), digits)} to ${number(Math.max(...real), digits)} ${unit}`
      : "last minute, no value");
  }

  make(width, unit) {
    this.plot?.destroy();
    this.plotUnit = unit;
    const axis = { stroke: color("--soft"), grid: { stroke: color("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    this.plot = new uPlot({
      width, height: 120, legend: { show: false }, cursor: { show: false }, padding: [8, 18, 0, 0],
      scales: {
        x: { time: true, range: () => this.range },
        y: { range: (_, min, max) => min === null ? [0, 1] : [Math.min(0, min), Math.max(max * 1.1, 1)] },
      },
      axes: [
        { ...axis, size: 22, space: 20, incrs: [15],
          values: (_, at) => at.map((t) => { const d = Math.round(this.range[1] - t); return d <= 1 ? "now" : `−${d} s`; }),
          splits: () => (width < 320 ? [60, 30, 0] : [60, 45, 30, 15, 0]).map((s) => this.range[1] - s) },
        { ...axis, size: 40, space: 28 },
      ],
      series: [{}, { stroke: color("--plot"), width: 2, spanGaps: false, points: { show: false }, fill: color("--plot") + "22" }],
    }, [[], []], this.plotAt);
  }

  /** The colours have changed. */
  repaint() {
    this.plot?.destroy();
    this.plot = undefined;
  }
}
