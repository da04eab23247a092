// The history of a channel: its address holds what is shown, so that it can be kept, sent and gone back to.

import { Chart } from "/assets/chart.js";
import { follow } from "/assets/feed.js";
import { exports, gaps, table } from "/assets/listing.js";
import { speedUnit } from "/assets/prefs.js";
import { PRESETS, allowed, asked, iso, lastly, panned, zoomed } from "/assets/range.js";
import { ask, askAll } from "/assets/session.js";
import { load } from "/assets/source.js";
import { QUANTITY, moment, whole, zone } from "/assets/words.js";
import { keys } from "/assets/zoom.js";

// While a finger or wheel moves, nothing is asked for; then at once.
const SETTLE_MS = 180;

export function start(main) {
  document.title = "History · Speedwell";
  main.innerHTML = `
    <div class="head"><h1>History</h1><p class="tools"><a class="live" hidden>Live</a></p></div>
    <form class="choose">
      <label><span>Gateway</span><select name="gateway"></select></label>
      <label><span>Channel</span><select name="channel"></select></label>
      <label><span>From</span><input name="from" type="datetime-local" step="1"></label>
      <label><span>To</span><input name="to" type="datetime-local" step="1"></label>
      <button type="submit">Show</button>
    </form>
    <div class="bar">
      <div class="presets" role="group" aria-label="Up to now"></div>
      <div class="move" role="group" aria-label="Move and zoom">
        <button type="button" data-move="earlier" aria-label="Earlier">◀</button>
        <button type="button" data-move="out" aria-label="Zoom out">−</button>
        <button type="button" data-move="in" aria-label="Zoom in">+</button>
        <button type="button" data-move="later" aria-label="Later">▶</button>
      </div>
    </div>
    <section class="sheet time" aria-label="Plot">
      <p class="readout"><span class="when"></span> <b class="what"></b> <span class="more"></span></p>
      <div class="chart" tabindex="0" role="group" aria-roledescription="zoomable plot" aria-describedby="how"></div>
      <ul class="legend"></ul>
      <p class="notes"></p>
      <button type="button" class="newest" hidden>Show the newest there is</button>
      <p id="how" class="how">Drag to zoom, wheel or + and − to zoom in and out, arrow keys or Shift and drag to move, Home for the last hour.</p>
    </section>
    <section class="sheet gaps" aria-labelledby="gaps-title"><h2 id="gaps-title">Missing in this range</h2>
      <div class="wide" tabindex="0" role="region" aria-labelledby="gaps-title" hidden><table><thead><tr><th scope="col">From</th><th scope="col">To</th><th scope="col">For</th><th scope="col">What</th>
        <th scope="col">Reason</th><th scope="col">Records</th><th scope="col">Samples</th><th scope="col">Zoom</th></tr></thead><tbody></tbody></table></div>
      <p class="none">Being asked for.</p></section>
    <details class="sheet values"><summary>The same as a table</summary>
      <div class="wide" tabindex="0" role="region" aria-label="Values"><table><caption></caption><thead><tr><th scope="col">From</th><th scope="col">Mean</th><th scope="col">Least</th><th scope="col">Most</th><th scope="col">Quality</th></tr></thead><tbody></tbody></table></div>
    </details>
    <section class="sheet export" aria-labelledby="export-title"><h2 id="export-title">Take it away</h2><p class="links"></p></section>`;
  const page = new History(main);
  return () => page.draw();
}

/** The hour that ends with the last value stored. */
const newestOf = ({ last }) => { const to = Date.parse(last) / 1000 + 1; return { from: to - PRESETS[0][1], to }; };

class History {
  constructor(main) {
    this.main = main;
    this.at = (selector) => main.querySelector(selector);
    this.form = this.at("form");
    const on = { view: () => this.view, change: (range, settled) => this.change(range, settled), unit: speedUnit, home: () => lastly(PRESETS[0][1]) };
    this.chart = new Chart(this.at(".chart"), this.at(".readout"), this.at(".legend"), on);
    keys(this.at(".chart"), on);
    this.buttons();
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.typed(); });
    this.at(".newest").addEventListener("click", () => this.change(newestOf(this.stored), true));
    this.form.elements.gateway.addEventListener("change", () => this.gatewayChosen());
    this.form.elements.channel.addEventListener("change", () => this.channelChosen());
    this.at(".values").addEventListener("toggle", () => this.values());
    addEventListener("popstate", () => this.restore());
    document.addEventListener("theme-changed", () => this.chart.repaint());
    // Only to tell in the header whether the hub can be reached.
    follow({ snapshot() {}, gateway() {} }, new URLSearchParams(location.search).get("gateway") ?? undefined);
    this.restore();
  }

  buttons() {
    for (const [name, span] of PRESETS) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => this.change(lastly(span), true));
      this.at(".presets").append(button);
    }
    const moves = { earlier: () => panned(this.view, -0.5), later: () => panned(this.view, 0.5), in: () => zoomed(this.view, 0.5), out: () => zoomed(this.view, 2) };
    for (const button of this.main.querySelectorAll("[data-move]")) {
      button.addEventListener("click", () => this.change(moves[button.dataset.move](), true));
    }
  }

  /** Shows what the address says. */
  async restore() {
    const search = new URLSearchParams(location.search);
    this.view = asked(search);
    this.channel = { gateway: search.get("gateway") ?? "", sensor: search.get("sensor") ?? "", quantity: search.get("quantity") ?? "" };
    try {
      if (!this.channel.gateway) await this.gateways();
      await this.channels();
    } catch (error) { if (error.name !== "AbortError") this.note(error.message); return; }
    this.address(false);
    await this.load();
    // For whoever wants another one; what the address names is shown first.
    if (this.form.elements.gateway.options.length < 2) this.gateways().catch(() => {});
  }

  async gateways() {
    const { gateways } = await ask("/api/v1/gateways");
    const select = this.form.elements.gateway;
    const names = gateways.map((g) => g.id);
    if (this.channel.gateway && !names.includes(this.channel.gateway)) names.unshift(this.channel.gateway);
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    // Of what is only live there is no history yet.
    this.channel.gateway ||= gateways.find(({ stored }) => stored.log || stored.readings)?.id ?? names[0] ?? "";
    select.value = this.channel.gateway;
  }

  /** The channels of the gateway; a speed when the address names none. */
  async channels() {
    const { gateway, sensor, quantity } = this.channel;
    const [select, live] = [this.form.elements.channel, this.at(".live")];
    if (!this.form.elements.gateway.options.length && gateway) this.form.elements.gateway.replaceChildren(new Option(gateway, gateway));
    live.hidden = !gateway;
    live.href = "/gateway/" + encodeURIComponent(gateway);
    let list = gateway ? await askAll("/api/v1/channels", "channels", { gateway }) : [];
    if (!list) list = (await ask("/api/v1/gateways")).gateways.find((g) => g.id === gateway)?.channels ?? [];
    const key = (c) => `${c.sensor}/${c.quantity}`;
    const wanted = list.find((c) => c.sensor === sensor && (!quantity || c.quantity === quantity)) ?? (sensor ? null : list.find((c) => c.quantity === "speed") ?? list[0]);
    if (wanted) Object.assign(this.channel, { sensor: wanted.sensor, quantity: wanted.quantity });
    // One that the address names and the list does not have is asked for all the same.
    else if (sensor) list = [{ sensor, quantity: quantity || "speed" }, ...list];
    this.channel.quantity ||= "speed";
    this.list = list;
    select.replaceChildren(...list.map((c) => new Option(`${c.sensor}, ${QUANTITY[c.quantity] ?? c.quantity}`, key(c))));
    select.value = key(this.channel);
  }

  async gatewayChosen() {
    this.channel = { gateway: this.form.elements.gateway.value, sensor: "", quantity: "" };
    await this.channels().catch((error) => this.note(error.message));
    this.address(true);
    this.load();
  }

  channelChosen() {
    const [sensor, quantity] = this.form.elements.channel.value.split(/\/(?=[^/]*$)/);
    Object.assign(this.channel, { sensor, quantity });
    this.address(true);
    this.load();
  }

  typed() {
    const [from, to] = ["from", "to"].map((name) => new Date(this.form.elements[name].value).getTime() / 1000);
    if (!(from < to)) return this.note("From has to lie before To, and both have to be there.");
    return this.change({ from, to }, true);
  }

  /** Another range: the plot follows at once with what it has, and the hub is asked as soon as the hand rests. */
  change(range, settled) {
    this.view = allowed(range);
    this.asking?.abort();
    this.chart.rescale();
    clearTimeout(this.settling);
    this.settling = setTimeout(() => { this.address(settled); this.load(); }, settled ? 0 : SETTLE_MS);
  }

  address(step) {
    const { gateway, sensor, quantity } = this.channel;
    const query = new URLSearchParams({ gateway, sensor, quantity, from: iso(this.view.from), to: iso(this.view.to) });
    window.history[step ? "pushState" : "replaceState"](null, "", "/history?" + query);
    const local = (s) => { const d = new Date(s * 1000); return new Date(d - d.getTimezoneOffset() * 60_000).toISOString().slice(0, 19); };
    this.form.elements.from.value = local(this.view.from);
    this.form.elements.to.value = local(this.view.to);
    this.chart.say();
    for (const [i, button] of [...this.at(".presets").children].entries()) {
      const [span, now] = [PRESETS[i][1], Date.now() / 1000];
      button.setAttribute("aria-pressed", String(Math.abs(this.view.to - this.view.from - span) < span * 0.01 && Math.abs(this.view.to - now) < span * 0.02));
    }
  }

  async load() {
    if (!this.channel.gateway || !this.channel.sensor) { this.main.dataset.state = "empty"; return this.note("Nothing has been recorded yet."); }
    this.asking?.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const [channel, view] = [{ ...this.channel }, { ...this.view }];
    this.main.dataset.state = "loading";
    try {
      const found = await load(channel, view, signal);
      if (signal.aborted) return undefined;
      Object.assign(this, { found, loaded: channel });
      this.main.dataset.points = found.points;
      this.main.dataset.kind = found.kind;
      this.draw();
      this.main.dataset.state = "shown";
    } catch (error) {
      if (error.name === "AbortError") return undefined;
      this.main.dataset.state = "failed";
      this.note(error.message);
      // What is known of another range says nothing of this one.
      this.found = undefined;
      this.at(".values tbody").replaceChildren();
      gaps(this.at(".gaps"), { gaps: [], told: false });
      exports(this.at(".export .links"), channel, view);
    }
    return undefined;
  }

  draw() {
    if (!this.found) return;
    const { found, loaded: channel } = this;
    this.chart.put(channel, found);
    // A clock that was wrong, or a gateway that is long gone: what there is may be years away.
    this.stored = found.points === 0 ? this.list.find((c) => c.sensor === channel.sensor && c.quantity === channel.quantity && c.last) : undefined;
    const none = "Nothing was recorded in this range." + (this.stored ? ` The newest value there is is of ${moment(new Date(this.stored.last))}.` : "");
    this.note([found.points === 0 ? none : `${whole(found.points)} points.`, ...found.notes].join(" "));
    this.at(".newest").hidden = !this.stored;
    this.at(".chart").setAttribute("aria-label", `${channel.sensor}, ${QUANTITY[channel.quantity] ?? channel.quantity} of ${channel.gateway}, ${whole(found.points)} points, times in ${zone()}`);
    gaps(this.at(".gaps"), found, (range, settled) => this.change(range, settled));
    exports(this.at(".export .links"), channel, this.view);
    this.values();
  }

  values() {
    if (this.found && this.at(".values").open) table(this.at(".values"), this.loaded, this.found, this.view, speedUnit());
  }

  note(text) { this.at(".notes").textContent = text; }
}
