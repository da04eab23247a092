// One gateway: what it measures now, how it and its sensors are, when it was connected, and what was lost.

import { Card } from "/assets/card.js";
import { bestSpeed, stateAge, stateOf } from "/assets/columns.js";
import { follow } from "/assets/feed.js";
import { Health } from "/assets/health.js";
import { Panel } from "/assets/panel.js";
import { speedUnit } from "/assets/prefs.js";
import { askAll, askIfThere, hubNow } from "/assets/session.js";
import { Timeline } from "/assets/timeline.js";
import { CONNECTION, COUNTS, ago } from "/assets/words.js";

const NUMBERS_EVERY_MS = 200;
const PLOTS_EVERY_MS = 500;
const TABLES_EVERY_MS = 1000;
// Asked for one by one; a gateway has a handful.
const MAX_SENSORS = 32;

export function start(main, id) {
  document.title = `${id} · Speedwell`;
  main.innerHTML = `
    <div class="gateway">
      <div class="head"><h1></h1><p class="state"><span class="dot" aria-hidden="true"></span><span class="text"></span></p><p class="vehicle"></p>
        <p class="tools"><a class="longer">History</a></p></div>
      <p class="empty" hidden>Nothing is known of this gateway. It appears here as soon as it sends; its name has to be written exactly so.</p>
      <div class="of"></div>
      <h2 class="channels-title" hidden>Channels</h2>
      <div class="channels major"></div><div class="channels rest"></div>
    </div>`;
  return new Page(main.querySelector(".gateway"), id).unitChanged;
}

class Page {
  constructor(root, id) {
    Object.assign(this, { root, id, cards: new Map() });
    this.at = (selector) => root.querySelector(selector);
    root.dataset.gateway = id;
    this.at("h1").textContent = id;
    this.at(".tools .longer").href = "/history?" + new URLSearchParams({ gateway: id });
    this.panel = new Panel(id, this.at(".of"));
    const below = document.createElement("div");
    below.className = "sheets";
    root.append(below);
    this.health = new Health(id, below);
    this.timeline = new Timeline(id, below);
    this.unitChanged = () => { this.numbers(); this.plots(); };
    this.follow();
    this.vehicle();
    document.addEventListener("theme-changed", () => this.repaint());
    setInterval(() => this.numbers(), NUMBERS_EVERY_MS);
    setInterval(() => this.plots(), PLOTS_EVERY_MS);
    setInterval(() => this.tables(), TABLES_EVERY_MS);
  }

  follow() {
    follow({
      snapshot: (gateways) => {
        this.at(".empty").hidden = gateways.length > 0 || Boolean(this.gateway);
        gateways.forEach((gateway) => this.take(gateway));
      },
      gateway: (gateway) => this.take(gateway),
      presence: (change) => {
        if (change.kind === "gateway" && change.id === this.id) {
          this.presence = change;
          this.numbers();
          this.timeline.take(change);
        }
        if (change.kind === "sensor" && change.gateway === this.id) this.health.sensorsKnown.set(change.id, change);
      },
      begun: () => {
        this.timeline.load();
        this.stands();
      },
    }, this.id);
  }

  take(gateway) {
    const received = Date.now();
    Object.assign(this, { gateway, received });
    this.at(".empty").hidden = true;
    this.at(".channels-title").hidden = gateway.channels.length === 0;
    this.channels(gateway, received);
    this.panel.update(gateway.channels, bestSpeed(gateway), received);
    this.health.losses(gateway);
    this.numbers();
    if (!this.tabled) { this.tables(); this.stands(); }
  }

  channels(gateway, received) {
    // Speeds first, then the rest by name, then the counts, which stand on a card of their sensor.
    const rank = (c) => (c.quantity === "speed" ? "0" : c.quantity === "rotational-speed" ? "1" : c.quantity in COUNTS ? "3" : "2");
    const order = Object.keys(COUNTS);
    const first = (c) => rank(c) + c.sensor + (c.quantity in COUNTS ? order.indexOf(c.quantity) : c.quantity);
    for (const channel of [...gateway.channels].sort((a, b) => (first(a) < first(b) ? -1 : 1))) {
      const of = channel.quantity in COUNTS && [...this.cards.values()].find((card) => card.channel.sensor === channel.sensor);
      if (of) { of.count(channel, received); continue; }
      const key = channel.sensor + "/" + channel.quantity;
      if (!this.cards.has(key)) {
        const major = channel.quantity === "speed" || channel.quantity === "rotational-speed";
        this.cards.set(key, new Card(this.id, channel, this.at(major ? ".channels.major" : ".channels.rest")));
      }
      this.cards.get(key).update(channel, received);
    }
  }

  numbers() {
    if (!this.gateway || document.hidden) return;
    const now = Date.now();
    const state = stateOf(this);
    this.at(".state").dataset.connection = this.root.dataset.connection = state;
    const age = state === "online" ? null : stateAge(this, now);
    const why = state !== "online" && this.presence?.reason ? ": " + this.presence.reason : "";
    const text = CONNECTION[state] + why + (age === null ? "" : `, ${ago(age)}`);
    const at = this.at(".state .text");
    if (at.textContent !== text) at.textContent = text;
    for (const card of this.cards.values()) card.show(now, speedUnit(), state);
    this.panel.show(now, state);
  }

  plots() {
    if (!this.gateway || document.hidden) return;
    const now = Date.now();
    for (const card of this.cards.values()) card.draw(now, speedUnit());
    this.panel.draw(now);
  }

  tables() {
    if (!this.gateway || document.hidden) return;
    this.tabled = true;
    this.health.show(this, Date.now());
  }

  repaint() {
    for (const card of this.cards.values()) card.repaint();
    this.panel.repaint();
    this.timeline.draw();
    this.plots();
  }

  /** The vehicle this gateway is on and whose that is, where the hub knows vehicles. */
  async vehicle() {
    try {
      const found = (await askAll("/api/v1/vehicles", "vehicles"))?.find((v) => v.gateways.includes(this.id));
      if (!found) return;
      const customer = found.customer && (await askIfThere("/api/v1/customers/" + encodeURIComponent(found.customer)));
      this.at(".vehicle").textContent = [found.registration, found.name, customer?.name].filter(Boolean).join(" · ");
    } catch { /* Without it the page says what it can. */ }
  }

  /** Since when and why the gateway and each of its sensors are as they are; later changes are pushed. */
  async stands() {
    const last = async (what) => {
      const now = new Date(hubNow()).toISOString();
      // Where that fails the ages of the channels tell.
      const answer = await askIfThere("/api/v1/presence/history?" + new URLSearchParams({ ...what, from: now, to: now })).catch(() => undefined);
      return answer?.changes.findLast((change) => !change.until);
    };
    const sensors = [...new Set((this.gateway?.channels ?? []).map((c) => c.sensor))].slice(0, MAX_SENSORS);
    const newer = (known, found) => (known && Date.parse(known.since) > Date.parse(found.from) ? known : { ...found, since: found.from });
    await Promise.all([
      last({ kind: "gateway", id: this.id }).then((found) => { if (found) this.presence = newer(this.presence, found); }),
      ...sensors.map((id) => last({ kind: "sensor", gateway: this.id, id }).then((found) => {
        if (found) this.health.sensorsKnown.set(id, newer(this.health.sensorsKnown.get(id), found));
      })),
    ]);
    this.numbers();
  }
}
