// One gateway: what it measures now, how it and its sensors are, when it was connected, and what was lost.

import { Card } from "/assets/card.js";
import { bestSpeed, stateAge, stateOf } from "/assets/columns.js";
import { follow, isLost } from "/assets/feed.js";
import { Health } from "/assets/health.js";
import { Panel } from "/assets/panel.js";
import { speedUnit } from "/assets/prefs.js";
import { askAll, askIfThere } from "/assets/session.js";
import { Timeline } from "/assets/timeline.js";
import { AS_TOLD, CONNECTION, COUNTS, ago } from "/assets/words.js";

const NUMBERS_EVERY_MS = 200;
const PLOTS_EVERY_MS = 500;
const TABLES_EVERY_MS = 1000;
// Of what is pushed to nobody, as that its customer has another name.
const STANDS_EVERY_MS = 60_000;

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
    document.addEventListener("theme-changed", () => this.repaint());
    setInterval(() => this.numbers(), NUMBERS_EVERY_MS);
    setInterval(() => this.plots(), PLOTS_EVERY_MS);
    setInterval(() => this.tables(), TABLES_EVERY_MS);
    setInterval(() => document.hidden || this.stands(), STANDS_EVERY_MS);
  }

  follow() {
    follow({
      snapshot: (gateways) => {
        const known = gateways.length > 0 || Boolean(this.gateway);
        this.at(".empty").hidden = known;
        if (!known) this.connection("never", CONNECTION.never);
        gateways.forEach((gateway) => this.take(gateway));
      },
      gateway: (gateway) => this.take(gateway),
      presence: (change) => {
        this.pushed?.add(change.kind + change.id);
        this.stand(change);
        if (change.kind !== "gateway") return;
        this.numbers();
        this.timeline.take(change);
      },
      registry: () => this.stands(),
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
    if (!this.tabled) this.tables();
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
    const age = state === "online" ? null : stateAge(this, now);
    const why = state !== "online" && this.presence?.reason ? ": " + this.presence.reason : "";
    const text = CONNECTION[state] + why + (age === null ? "" : `, ${ago(age)}`);
    this.connection(state, text);
    for (const card of this.cards.values()) card.show(now, speedUnit(), state);
    this.panel.show(now, state);
  }

  connection(state, text) {
    this.root.dataset.connection = state;
    this.at(".state").dataset.connection = isLost() ? "untold" : state;
    const [at, said] = [this.at(".state .text"), isLost() ? `${text}, ${AS_TOLD}` : text];
    if (at.textContent !== said) at.textContent = said;
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

  /** How the gateway and its sensors stand, since when and why, and which vehicle it is on; later changes are pushed. */
  async stands() {
    // Of two that are under way the later one has the newer answer, and what is pushed meanwhile is newer still. Times do
    // not tell: the hub's clock may be put back. Without an answer, the ages of the channels tell.
    const pushed = (this.pushed = new Set());
    const list = await askAll("/api/v1/presence", "presence", { gateway: this.id }).catch(() => undefined);
    if (!list || pushed !== this.pushed) return;
    list.forEach((one) => pushed.has(one.kind + one.id) || this.stand(one));
    this.numbers();
    const words = await vehicleWords(list.find(({ kind }) => kind === "vehicle")?.id).catch(() => undefined);
    if (words !== undefined && pushed === this.pushed) this.at(".vehicle").textContent = words;
  }

  stand(one) {
    if (one.kind === "gateway") this.presence = one;
    if (one.kind === "sensor") this.health.sensorsKnown.set(one.id, one);
  }
}

/** A vehicle and whose it is; nothing where there is none. */
async function vehicleWords(id) {
  const of = (kind, id) => id && askIfThere(`/api/v1/${kind}/${encodeURIComponent(id)}`);
  const vehicle = await of("vehicles", id);
  const customer = await of("customers", vehicle?.customer);
  return [vehicle?.registration, vehicle?.name, customer?.name].filter(Boolean).join(" · ");
}
