// The channel a person watches: its dial, and its last minutes with what is uncertain, what is not good and what is missing.

import uPlot from "/assets/uplot.js";
import { LATE_MS, PLOTTED, ageWords, asNow, before, span } from "/assets/card.js";
import { Gauge } from "/assets/gauge.js";
import { QUALITIES, Strip, axis, color, joined, legend, qualitySeries } from "/assets/plot.js";
import { speedUnit } from "/assets/prefs.js";
import { Trace } from "/assets/trace.js";
import { QUANTITY, scale } from "/assets/words.js";

const MINUTES = [1, 5, 15];
const HEIGHT = 240;

export class Panel {
  constructor(gateway, parent) {
    this.gateway = gateway;
    this.minutes = 5;
    parent.insertAdjacentHTML("beforeend", `
      <section class="panel" aria-label="Watched channel" hidden>
        <div class="dial">
          <label class="watch"><span>Watched</span><select></select></label>
          <p class="age"></p>
        </div>
        <div class="recent">
          <div class="bar"><h2>Last minutes</h2><div class="minutes" role="group" aria-label="Minutes shown"></div></div>
          <div class="plot" role="img"></div>
          <ul class="legend"></ul>
        </div>
      </section>`);
    this.root = parent.querySelector(".panel");
    const at = (selector) => this.root.querySelector(selector);
    Object.assign(this, { select: at("select"), age: at(".age"), plotAt: at(".plot"), legendAt: at(".legend"), longer: parent.closest(".gateway").querySelector(".longer") });
    this.gauge = new Gauge(at(".dial"));
    at(".dial").append(this.age);
    this.strip = new Strip(at(".recent"));
    this.legendAt.before(this.strip.canvas);
    this.select.addEventListener("change", () => this.watch(this.select.value));
    for (const minutes of MINUTES) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${minutes} min`;
      button.setAttribute("aria-pressed", String(minutes === this.minutes));
      button.addEventListener("click", () => this.last(minutes));
      at(".minutes").append(button);
    }
  }

  last(minutes) {
    this.minutes = minutes;
    this.root.querySelectorAll(".minutes button").forEach((b, i) => b.setAttribute("aria-pressed", String(MINUTES[i] === minutes)));
    this.watch(this.key);
  }

  /** The gateway's channels, the best speed first when nothing is watched yet. */
  update(channels, best, received) {
    const watchable = channels.filter((c) => PLOTTED.includes(c.quantity));
    this.root.hidden = watchable.length === 0;
    if (watchable.length === 0) return;
    const keyOf = (c) => `${c.sensor}/${c.quantity}`;
    this.channels = new Map(watchable.map((c) => [keyOf(c), c]));
    if (this.select.options.length !== watchable.length) {
      this.select.replaceChildren(...watchable.map((c) => new Option(`${c.sensor}, ${QUANTITY[c.quantity]}`, keyOf(c))));
    }
    if (!this.channels.has(this.key)) this.watch(keyOf(best ?? watchable[0]));
    this.channel = this.channels.get(this.key);
    this.measured = this.channel.age_ms === null ? null : received - this.channel.age_ms;
    if (this.measured !== null) this.trace.keep(this.measured / 1000, this.channel);
  }

  watch(key) {
    if (key !== this.key) this.gauge.forget();
    this.key = key;
    this.select.value = key;
    this.channel = this.channels.get(key);
    this.asking?.abort();
    this.asking = new AbortController();
    this.trace = new Trace(this.gateway, this.channel, this.minutes * 60);
    this.trace.past(this.asking.signal);
    this.repaint();
  }

  show(now, state) {
    if (!this.channel) return;
    const old = this.measured === null ? null : Math.max(0, now - this.measured);
    const channel = asNow(this.channel, state, old);
    this.gauge.show(channel, speedUnit());
    this.root.classList.toggle("late", channel.value !== null && (old === null || old > LATE_MS));
    this.age.textContent = ageWords(old, channel, scale(channel, speedUnit()));
  }

  draw(now) {
    const width = this.plotAt.clientWidth;
    if (!this.channel || !width) return;
    const { factor, unit, shown, digits } = scale(this.channel, speedUnit());
    const end = now / 1000;
    this.range = [end - this.minutes * 60, end];
    const { times, values, low, high, lines, pieces, qualities } = this.trace.lines(end, factor);
    if (!this.plot || this.plotUnit !== unit || this.plot.width !== width) this.make(width, unit);
    this.pieces = joined(pieces);
    this.plot.setData([times, high, low, ...lines]);
    legend(this.legendAt, QUALITIES.filter((q) => qualities.includes(q)));
    const title = this.minutes === 1 ? "last minute" : `last ${this.minutes} minutes`;
    this.plotAt.setAttribute("aria-label", `${title}, ${span(values, digits, shown)}`);
    const { sensor, quantity } = this.channel;
    this.longer.href = "/history?" + new URLSearchParams({ gateway: this.gateway, sensor, quantity });
  }

  make(width, unit) {
    this.plot?.destroy();
    this.plotUnit = unit;
    const band = { stroke: "transparent", points: { show: false }, spanGaps: false };
    const fromZero = (_, min, max) => (min === null ? [0, 1] : [Math.min(0, min), Math.max(max * 1.1, 1)]);
    this.plot = new uPlot({
      width, height: HEIGHT, legend: { show: false }, cursor: { show: false }, padding: [8, 24, 0, 0],
      scales: { x: { time: true, range: () => this.range }, y: { range: fromZero } },
      axes: [axis({ size: 22, ...before(() => this.range, this.minutes * 60, width < 420 ? 2 : this.minutes === 1 ? 4 : 5) }), axis({ size: 44, space: 32 })],
      series: [{}, band, band, ...qualitySeries()],
      bands: [{ series: [1, 2], fill: color("--plot") + "40" }],
      hooks: { draw: [(u) => this.strip.draw(u, this.pieces ?? [])] },
    }, [[], [], [], [], [], [], []], this.plotAt);
  }

  repaint() {
    this.plot?.destroy();
    this.plot = undefined;
    delete this.legendAt.dataset.shows;
  }
}
