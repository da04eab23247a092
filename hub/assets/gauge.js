// A dial for one value: a needle with a band as wide as the value is uncertain, or words where there is none.

import { Reading } from "/assets/card.js";
import { QUALITY, number, scale } from "/assets/words.js";

const [CX, CY, R] = [130, 128, 100];
// The dial is open at the bottom, 60° to either side.
const [FROM, SWEEP] = [150, 240];
const STEPS = [1, 2, 5, 10];
const ENDS = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];

const svg = (name, attributes, parent) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
};

const at = (share, r) => {
  const angle = ((FROM + SWEEP * share) * Math.PI) / 180;
  return [(CX + r * Math.cos(angle)).toFixed(2), (CY + r * Math.sin(angle)).toFixed(2)];
};

const arc = (from, to, r) => `M ${at(from, r)} A ${r} ${r} 0 ${(to - from) * SWEEP > 180 ? 1 : 0} 1 ${at(to, r)}`;

/** The least of these times a power of ten that is not below the value. */
function nice(value, of = ENDS) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * of.find((n) => n * power >= value * (1 - 1e-9));
}

export class Gauge {
  constructor(parent) {
    this.root = document.createElement("div");
    this.root.className = "gauge";
    parent.append(this.root);
    this.dial = svg("svg", { viewBox: "0 0 260 206" }, this.root);
    this.track = svg("path", { class: "track", d: arc(0, 1, R) }, this.dial);
    this.band = svg("path", { class: "band" }, this.dial);
    this.reach = svg("path", { class: "reach" }, this.dial);
    this.marks = svg("g", { class: "marks" }, this.dial);
    this.needle = svg("path", { class: "needle", d: `M ${CX + R - 14} ${CY} L ${CX + R + 13} ${CY}` }, this.dial);
    this.reading = new Reading(this.root);
    this.quality = document.createElement("span");
    this.quality.className = "quality";
    this.root.append(this.quality);
    this.forget();
  }

  /** Another channel: its scale begins anew. */
  forget() {
    this.top = 0;
    this.bottom = 0;
    this.unit = undefined;
  }

  /** The scale takes all that was seen, and never shrinks while a person looks. */
  fit(value, { unit }) {
    const least = unit === "rpm" ? 500 : unit === "m/s" ? 10 : 40;
    const top = nice(Math.max(least, value * 1.05));
    const bottom = value < 0 ? -nice(-value * 1.05) : 0;
    if (this.unit === unit && top <= this.top && bottom >= this.bottom) return;
    this.top = Math.max(this.unit === unit ? this.top : 0, top);
    this.bottom = Math.min(this.unit === unit ? this.bottom : 0, bottom);
    this.unit = unit;
    this.mark();
  }

  mark() {
    this.marks.replaceChildren();
    const span = this.top - this.bottom;
    const step = nice(span / 6, STEPS);
    for (let v = Math.ceil(this.bottom / step) * step; v <= this.top + step / 1e6; v += step) {
      const share = (v - this.bottom) / span;
      const [x0, y0] = at(share, R - 8);
      const [x1, y1] = at(share, R + 8);
      svg("line", { x1: x0, y1: y0, x2: x1, y2: y1 }, this.marks);
      const [x, y] = at(share, R - 25);
      svg("text", { x, y, dy: ".35em" }, this.marks).textContent = Number(v.toFixed(6)).toLocaleString("en-GB");
    }
  }

  show(channel, speedUnit) {
    const scaled = scale(channel, speedUnit);
    const has = channel.value !== null;
    const value = has ? channel.value * scaled.factor : 0;
    this.fit(value, scaled);
    this.reading.write(channel, scaled);
    this.quality.textContent = has ? QUALITY[channel.quality] : "No value";
    this.root.dataset.quality = has ? channel.quality : "none";
    const share = (v) => Math.max(0, Math.min(1, (v - this.bottom) / (this.top - this.bottom)));
    const u = has && channel.uncertainty ? channel.uncertainty * scaled.factor : 0;
    for (const part of [this.band, this.reach, this.needle]) part.toggleAttribute("hidden", !has);
    if (has) {
      this.needle.style.transform = `rotate(${FROM + SWEEP * share(value)}deg)`;
      this.band.setAttribute("d", u ? arc(share(value - u), share(value + u), R) : "");
      const [from, to] = [share(Math.min(0, value)), share(Math.max(0, value))];
      this.reach.setAttribute("d", to > from ? arc(from, to, R) : "");
    }
    this.tell(channel, scaled, has, value, u);
  }

  /** The same for a screen reader: a meter with a value, or a picture of there being none. */
  tell(channel, { shown, digits }, has, value, u) {
    const words = has
      ? `${number(value, digits)} ${shown}${u ? ", plus or minus " + u.toPrecision(2) : ""}, ${QUALITY[channel.quality]}`
      : this.reading.reason.textContent;
    if (this.said === words) return;
    this.said = words;
    this.dial.setAttribute("role", has ? "meter" : "img");
    this.dial.setAttribute("aria-label", has ? `${channel.sensor}, ${channel.quantity}` : `${channel.sensor}: ${words}`);
    const told = { "aria-valuemin": this.bottom, "aria-valuemax": this.top, "aria-valuenow": number(value, digits), "aria-valuetext": words };
    for (const [key, text] of Object.entries(told)) if (has) this.dial.setAttribute(key, text); else this.dial.removeAttribute(key);
  }
}
