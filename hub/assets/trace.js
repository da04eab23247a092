// The newest values of one channel over some minutes: what the store has of them, and what comes live.

import { ask } from "/assets/session.js";
import { byQuality } from "/assets/plot.js";

// Live values come once a second; a hole wider than this is shown as a hole.
const GAP_S = 2.5;
// More is not asked of the store: a plot is some hundred pixels wide.
const MAX_POINTS = 2000;

export class Trace {
  /** Points are [unix seconds, value in the channel's own unit or null, uncertainty, quality]. */
  constructor(gateway, channel, windowS) {
    Object.assign(this, { gateway, channel, windowS, points: [] });
  }

  keep(t, { value, uncertainty, quality }) {
    const last = this.points.at(-1);
    // The same value told again, or one from before what is shown, adds nothing.
    if (last && t <= last[0] + 0.05) return;
    this.points.push([t, value, uncertainty, value === null ? "none" : quality]);
  }

  /** What the store has of the window. */
  async past(signal) {
    const { gateway, windowS, channel: { sensor, quantity } } = this;
    const from = new Date(Date.now() - windowS * 1000).toISOString();
    const asked = new URLSearchParams({ gateway, sensor, quantity, from, "max-points": MAX_POINTS });
    try {
      const { points } = await ask("/api/v1/history?" + asked, { signal });
      const first = this.points[0]?.[0] ?? Infinity;
      const past = points.map((p) => [Date.parse(p.t) / 1000, p.value, p.uncertainty, p.quality]);
      this.points.unshift(...past.filter(([t]) => t < first - 0.05));
    } catch { /* The plot begins empty then; the feed tells that the hub is away. */ }
  }

  /** {times, values, low, high, qualities, lines, pieces} of the window that ends at `end`, in a unit `factor` as small; holes are null. */
  lines(end, factor) {
    const { points, windowS } = this;
    let gone = 0;
    while (gone < points.length - 1 && points[gone + 1][0] < end - windowS) gone += 1;
    points.splice(0, gone);
    // Points that were thinned lie further apart.
    const gap = Math.max(GAP_S, (3 * windowS) / MAX_POINTS);
    const [times, values, low, high, qualities, pieces] = [[], [], [], [], [], []];
    const add = (t, value, u, quality) => {
      times.push(t);
      values.push(value);
      low.push(value === null ? null : value - u);
      high.push(value === null ? null : value + u);
      qualities.push(quality);
    };
    for (const [t, value, u, quality] of points) {
      const before = times.at(-1);
      if (before !== undefined && t - before > gap) add(before + 0.001, null, 0, "none");
      else if (before !== undefined) pieces.push({ from: before, to: t, kind: quality });
      add(t, value === null ? null : value * factor, (u ?? 0) * factor, quality);
    }
    return { times, values, low, high, qualities, lines: byQuality(values, qualities), pieces };
  }
}
