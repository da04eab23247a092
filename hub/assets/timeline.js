// When a gateway was connected over the last day or week, as a strip and in words.

import { paint } from "/assets/plot.js";
import { askAll, hubNow } from "/assets/session.js";
import { STATE, lasting, moment, utc, zone } from "/assets/words.js";

const HOUR_MS = 3_600_000;
const SPANS = [["24 hours", 24 * HOUR_MS], ["7 days", 168 * HOUR_MS], ["30 days", 720 * HOUR_MS]];
const EVERY_MS = 60_000;
// Told apart by hatch as well as by colour.
const LOOK = { online: "good", offline: "loss", silent: "estimated", unknown: "silence" };
const said = (state) => STATE[state] ?? state;

export class Timeline {
  constructor(id, parent) {
    Object.assign(this, { id, span: SPANS[0] });
    parent.insertAdjacentHTML("beforeend", `
      <section class="sheet timeline" aria-labelledby="timeline-title" hidden>
        <div class="bar"><h2 id="timeline-title">When it was connected</h2><div class="spans" role="group" aria-label="Time shown"></div></div>
        <canvas role="img" height="1"></canvas>
        <p class="ends"><span></span><span></span></p>
        <details><summary>Changes as a table</summary><table><thead><tr><th scope="col">From</th><th scope="col">State</th><th scope="col">For</th><th scope="col">Reason</th></tr></thead><tbody></tbody></table></details>
      </section>`);
    this.root = parent.querySelector(".timeline");
    this.canvas = this.root.querySelector("canvas");
    for (const span of SPANS) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = span[0];
      button.setAttribute("aria-pressed", String(span === this.span));
      button.addEventListener("click", () => {
        this.span = span;
        for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
        this.load();
      });
      this.root.querySelector(".spans").append(button);
    }
    this.load();
    setInterval(() => { if (!document.hidden) this.load(); }, EVERY_MS);
    new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
  }

  /** A change as it happens. */
  take(change) {
    this.told = change;
    this.load();
  }

  async load() {
    this.asking?.abort();
    this.asking = new AbortController();
    const to = hubNow();
    const from = to - this.span[1];
    const asked = { kind: "gateway", id: this.id, from: new Date(from).toISOString(), to: new Date(to).toISOString() };
    const changes = await askAll("/api/v1/presence/history", "changes", asked, { signal: this.asking.signal }).catch(() => undefined);
    // A hub that keeps no history of who was connected: nothing is shown.
    if (!changes) return;
    this.pieces = changes
      .map((c) => ({ state: c.state, reason: c.reason, from: Date.parse(c.from), to: c.until ? Date.parse(c.until) : to }))
      .sort((a, b) => a.from - b.from);
    // What was pushed may not be in the store yet.
    const last = this.pieces.at(-1);
    const since = Date.parse(this.told?.since);
    if (since > (last?.from ?? -Infinity)) {
      if (last) last.to = Math.min(last.to, since);
      this.pieces.push({ state: this.told.state, reason: this.told.reason, from: since, to });
    }
    this.range = [from, to];
    this.root.hidden = this.pieces.length === 0;
    this.draw();
    this.list();
  }

  draw() {
    const width = this.root.clientWidth - 2 * parseFloat(getComputedStyle(this.root).paddingLeft);
    if (!this.pieces?.length || width <= 0) return;
    const [from, to] = this.range;
    Object.assign(this.canvas, { width: Math.round(width * devicePixelRatio), height: 28 * devicePixelRatio });
    Object.assign(this.canvas.style, { width: width + "px", height: "28px" });
    const context = this.canvas.getContext("2d");
    const x = (t) => Math.max(0, Math.min(1, (t - from) / (to - from))) * this.canvas.width;
    const lasted = {};
    for (const piece of this.pieces) {
      lasted[piece.state] = (lasted[piece.state] ?? 0) + Math.min(piece.to, to) - Math.max(piece.from, from);
      paint(context, LOOK[piece.state] ?? "none", x(piece.from), 0, Math.max(x(piece.to) - x(piece.from), devicePixelRatio), this.canvas.height);
    }
    const told = Object.entries(lasted).map(([state, ms]) => `${said(state)} ${lasting(ms)}`);
    this.canvas.setAttribute("aria-label", `Last ${this.span[0]}: ${told.join(", ")}`);
    const ends = this.root.querySelectorAll(".ends span");
    ends[0].textContent = `${moment(new Date(from)).slice(0, 16)} (${zone()})`;
    ends[1].textContent = "now";
  }

  list() {
    const body = this.root.querySelector("tbody");
    body.replaceChildren();
    for (const { state, reason, from, to } of this.pieces.toReversed().slice(0, 100)) {
      const row = body.insertRow();
      const at = row.insertCell();
      at.textContent = moment(new Date(from));
      at.title = utc(new Date(from));
      row.insertCell().textContent = said(state);
      row.insertCell().textContent = lasting(to - from);
      row.insertCell().textContent = reason || "—";
    }
  }
}
