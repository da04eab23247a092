// The page: one section a gateway, one card a channel.

import "/assets/login.js";
import { Card, PLOTTED } from "/assets/card.js";
import { follow } from "/assets/feed.js";
import { CONNECTION, COUNTS, ago } from "/assets/words.js";

const FEED = { connecting: "Connecting to the hub", connected: "Connected to the hub", lost: "Hub not reachable, trying again" };
const NUMBERS_EVERY_MS = 200;
const PLOTS_EVERY_MS = 500;

const main = document.getElementById("gateways");
const feed = document.getElementById("feed");
const sections = new Map();
let speedUnit = read("speed-unit") === "km/h" ? "km/h" : "m/s";

function read(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

class Section {
  constructor(id) {
    this.id = id;
    this.cards = new Map();
    this.root = document.createElement("section");
    this.root.className = "gateway";
    this.root.dataset.gateway = id;
    this.root.setAttribute("aria-label", `Gateway ${id}`);
    this.root.innerHTML = `<header><h2></h2><p class="state"><span class="dot" aria-hidden="true"></span><span class="text"></span></p><p class="about"></p><p class="stored"></p></header><div class="channels major"></div><div class="channels rest"></div>`;
    this.root.querySelector("h2").textContent = id;
    this.state = this.root.querySelector(".state");
    this.stateText = this.root.querySelector(".text");
    this.about = this.root.querySelector(".about");
    this.stored = this.root.querySelector(".stored");
    this.major = this.root.querySelector(".major");
    this.rest = this.root.querySelector(".rest");
    const after = [...sections.values()].find((other) => other.id > id);
    main.insertBefore(this.root, after?.root ?? null);
  }

  update(gateway, received) {
    this.gateway = gateway;
    this.received = received;
    this.state.dataset.connection = this.root.dataset.connection = gateway.connection;
    // Speeds first, then the rest by name, then the counts, which stand on a card of their sensor.
    const rank = (c) => (c.quantity === "speed" ? "0" : c.quantity === "rotational-speed" ? "1" : c.quantity in COUNTS ? "3" : "2");
    const order = Object.keys(COUNTS);
    const first = (c) => rank(c) + c.sensor + (c.quantity in COUNTS ? order.indexOf(c.quantity) : c.quantity);
    for (const channel of [...gateway.channels].sort((a, b) => (first(a) < first(b) ? -1 : 1))) {
      const of = channel.quantity in COUNTS && [...this.cards.values()].find((card) => card.channel.sensor === channel.sensor);
      if (of) { of.count(channel, received); continue; }
      const key = channel.sensor + "/" + channel.quantity;
      const place = PLOTTED.includes(channel.quantity) ? this.major : this.rest;
      if (!this.cards.has(key)) this.cards.set(key, new Card(this.id, channel, place));
      this.cards.get(key).update(channel, received);
    }
  }

  show(now) {
    const { connection, connection_age_ms: since, heard_age_ms: heard, health, version } = this.gateway;
    const passed = now - this.received;
    const age = connection === "online" ? null : since ?? heard;
    this.stateText.textContent = CONNECTION[connection] + (age === null || age === undefined ? "" : `, ${ago(age + passed)}`);
    const behind = health ? Math.max(0, health["last-seq"] - health["confirmed-seq"]) : 0;
    const lost = health ? health["lost-samples"] : 0;
    this.about.textContent = [
      version && `agent ${version}`,
      health && `${behind} ${behind === 1 ? "record" : "records"} unconfirmed at last report`,
      lost > 0 && `${lost} samples lost`,
      health && (health.clock === "untrusted" ? "clock not trusted" : `clock by ${health.clock.toUpperCase()}`),
    ].filter(Boolean).join(" · ");
    const { thru, gaps, lost_samples: shed, rejected } = this.gateway.stored;
    const missing = [
      shed > 0 && `${shed} samples declared lost`,
      gaps > 0 && `${gaps} ${gaps === 1 ? "gap" : "gaps"} in the records`,
      rejected > 0 && `${rejected} ${rejected === 1 ? "message" : "messages"} set aside`,
    ].filter(Boolean);
    this.stored.textContent = missing.length ? [`stored up to record ${thru}`, ...missing].join(" · ") : "";
    for (const card of this.cards.values()) card.show(now, speedUnit);
  }
}

function take(gateway, received) {
  if (!sections.has(gateway.id)) {
    sections.set(gateway.id, new Section(gateway.id));
    [...sections].sort(([a], [b]) => (a < b ? -1 : 1)).forEach(([id, s]) => { sections.delete(id); sections.set(id, s); });
  }
  sections.get(gateway.id).update(gateway, received);
  sections.get(gateway.id).show(received);
}

follow({
  state(state) {
    feed.dataset.feed = state;
    feed.querySelector(".text").textContent = FEED[state];
  },
  snapshot(gateways) {
    const now = Date.now();
    gateways.forEach((gateway) => take(gateway, now));
    document.getElementById("none").hidden = sections.size > 0;
  },
  gateway(gateway) {
    document.getElementById("none").hidden = true;
    take(gateway, Date.now());
  },
});

for (const choice of document.querySelectorAll("input[name=unit]")) {
  choice.checked = choice.value === speedUnit;
  choice.addEventListener("change", () => {
    speedUnit = choice.value;
    try { localStorage.setItem("speed-unit", speedUnit); } catch { /* It is forgotten then. */ }
    everything();
  });
}

function numbers() {
  const now = Date.now();
  for (const section of sections.values()) section.show(now);
}

function plots() {
  if (document.hidden) return;
  const now = Date.now();
  for (const section of sections.values()) for (const card of section.cards.values()) card.draw(now, speedUnit);
}

function everything() { numbers(); plots(); }

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const section of sections.values()) for (const card of section.cards.values()) card.repaint();
});
setInterval(numbers, NUMBERS_EVERY_MS);
setInterval(plots, PLOTS_EVERY_MS);
