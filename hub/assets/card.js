// One channel: number, uncertainty, quality, age, what was counted, and the last minute of a speed.

import uPlot from "/assets/uplot.js";
import { axis, color, qualitySeries } from "/assets/plot.js";
import { Trace } from "/assets/trace.js";
import { isNow } from "/assets/columns.js";
import { COUNTS, QUALITY, QUANTITY, REASON, ago, number, scale, uncertainty } from "/assets/words.js";

const WINDOW_S = 60;
// A value older than this is no longer "now".
export const LATE_MS = 5000;
// A count that has grown stands out for so long.
const GREW_MS = 60000;
export const PLOTTED = ["speed", "rotational-speed"];

function element(name, className, parent) {
  const made = document.createElement(name);
  made.className = className;
  parent.append(made);
  return made;
}

/** Where a number, its unit and uncertainty, or the reason for there being none, are written. */
export class Reading {
  constructor(parent) {
    this.root = element("p", "reading", parent);
    for (const part of ["number", "unit", "uncertainty", "reason"]) this[part] = element("span", part, this.root);
  }

  write(channel, { factor, shown, digits }) {
    const has = channel.value !== null;
    const put = (at, text) => { if (at.textContent !== text) at.textContent = text; };
    put(this.number, has ? number(channel.value * factor, digits) : "");
    put(this.unit, has ? shown : "");
    put(this.uncertainty, has && channel.uncertainty ? uncertainty(channel.uncertainty * factor) : "");
    put(this.reason, has ? "" : REASON[channel.no_data] ?? channel.no_data);
  }
}

/** The channel as it is now: a value that is too old to be one is none, and stands in the words of its age. */
export const asNow = (channel, state, old) =>
  (channel.value === null || isNow(state, old) ? channel : { ...channel, value: null, quality: null, no_data: "gone", last: channel.value });

export function ageWords(old, { value, last }, { factor, shown, digits }) {
  if (old === null) return "time not known";
  if (last !== undefined) return `last ${number(last * factor, digits)} ${shown}, ${ago(old)}`;
  return `${value === null ? "told" : "measured"} ${ago(old)}`;
}

export class Card {
  constructor(gateway, channel, parent) {
    this.major = PLOTTED.includes(channel.quantity);
    this.root = element("article", this.major ? "channel" : "channel minor", parent);
    Object.assign(this.root.dataset, { sensor: channel.sensor, quantity: channel.quantity });
    this.root.setAttribute("aria-label", `${channel.sensor}, ${QUANTITY[channel.quantity]}`);
    const title = element("h3", "", this.root);
    const name = element("span", "", title);
    name.append(channel.sensor + " ");
    element("small", "", name).textContent = QUANTITY[channel.quantity];
    this.quality = element("span", "quality", title);
    this.reading = new Reading(this.root);
    this.age = element("p", "age", this.root);
    this.counts = new Map(); // quantity -> {value, grew: when it last did, at}
    this.counted = element("p", "counts", this.root);
    if (this.major) {
      this.trace = new Trace(gateway, channel, WINDOW_S);
      this.plotAt = element("div", "plot", this.root);
      this.plotAt.setAttribute("role", "img");
      this.trace.past();
    }
  }

  /** A new state of the channel. */
  update(channel, received) {
    this.channel = channel;
    this.measured = channel.age_ms === null ? null : received - channel.age_ms;
    if (this.measured !== null) this.trace?.keep(this.measured / 1000, channel);
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

  /** Writes what is known now; called several times a second. */
  show(now, speedUnit, state) {
    const old = this.measured === null ? null : Math.max(0, now - this.measured);
    const channel = asNow(this.channel, state, old);
    const scaled = scale(channel, speedUnit);
    const has = channel.value !== null;
    const data = this.root.dataset;
    data.quality = has ? channel.quality : "none";
    data.unit = scaled.unit;
    // For tests and for whoever scripts the page: what is shown, or nothing.
    if (has) data.value = number(channel.value * scaled.factor, scaled.digits); else delete data.value;
    if (has) delete data.noData; else data.noData = channel.no_data;
    this.reading.write(channel, scaled);
    this.quality.textContent = has ? QUALITY[channel.quality] : "No value";
    this.age.textContent = ageWords(old, channel, scaled);
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
    const { times, values, lines } = this.trace.lines(end, factor);
    this.range = [end - WINDOW_S, end];
    const width = this.plotAt.clientWidth;
    if (!this.plot || this.plotUnit !== unit || this.plot.width !== width) this.make(width, unit);
    this.plot.setData([times, values, ...lines]);
    this.plotAt.setAttribute("aria-label", "last minute, " + span(values, digits, unit));
  }

  make(width, unit) {
    this.plot?.destroy();
    this.plotUnit = unit;
    const fromZero = (_, min, max) => (min === null ? [0, 1] : [Math.min(0, min), Math.max(max * 1.1, 1)]);
    this.plot = new uPlot({
      width, height: 120, legend: { show: false }, cursor: { show: false }, padding: [8, 18, 0, 0],
      scales: { x: { time: true, range: () => this.range }, y: { range: fromZero } },
      axes: [axis({ size: 22, ...before(() => this.range, WINDOW_S, width < 320 ? 2 : 4) }), axis({ size: 40, space: 28 })],
      series: [{}, { stroke: "transparent", spanGaps: false, points: { show: false }, fill: color("--plot") + "22" }, ...qualitySeries()],
    }, [[], [], [], [], [], []], this.plotAt);
  }

  /** The colours have changed. */
  repaint() {
    this.plot?.destroy();
    this.plot = undefined;
  }
}

/** The least and the most of values, in words. */
export function span(values, digits, unit) {
  let [least, most] = [Infinity, -Infinity];
  for (const v of values) if (v !== null) { least = Math.min(least, v); most = Math.max(most, v); }
  return least > most ? "no value" : `from ${number(least, digits)} to ${number(most, digits)} ${unit}`;
}

/** Marks of a time axis that ends now, as distances to now. */
export function before(range, windowS, parts) {
  const said = (s) => (s <= 1 ? "now" : s < 120 ? `−${s} s` : `−${Math.round(s / 60)} min`);
  return {
    space: 20, incrs: [windowS / parts],
    values: (_, at) => at.map((t) => said(Math.round(range()[1] - t))),
    splits: () => Array.from({ length: parts + 1 }, (_, i) => range()[1] - windowS * (1 - i / parts)),
  };
}
