// The fleet: a row a gateway, and a row a vehicle of which nothing was ever heard.

import { COLUMNS, STATES, stateOf } from "/assets/columns.js";
import { follow } from "/assets/feed.js";
import { speedUnit } from "/assets/prefs.js";
import { askAll } from "/assets/session.js";
import { Table } from "/assets/table.js";
import { STATE, whole } from "/assets/words.js";

// Nobody reads faster; a thousand gateways a second are then four writes of the page.
const DRAW_MS = 250;
const AGES_MS = 1000;
const VEHICLES_MS = 60_000;
// Whoever registers a fleet does it one vehicle after the other: asked for once they rest.
const REGISTERED_MS = 1000;

export function start(main) {
  document.title = "Fleet · Speedwell";
  main.innerHTML = `
    <div class="head"><h1>Fleet</h1><p class="shown"></p></div>
    <div class="bar">
      <div class="states" role="group" aria-label="Show by status"></div>
      <button type="button" class="filters-open" aria-expanded="false">Sort and filter</button>
      <button type="button" class="clear" hidden>Clear filters</button>
    </div>
    <div class="fleet" hidden></div>
    <p class="empty" hidden>No gateway has been heard yet. As soon as one sends, it appears here.</p>`;
  return new Fleet(main).unitChanged;
}

class Fleet {
  constructor(main) {
    this.main = main;
    this.at = (selector) => main.querySelector(selector);
    this.rows = new Map();
    this.vehicles = new Map(); // of a gateway's id
    this.presence = new Map(); // of a gateway's id
    this.status = "all";
    const asked = new URLSearchParams(location.search);
    this.columns();
    this.states();
    this.table.changed = () => this.changed();
    this.restore(asked);
    this.at(".clear").addEventListener("click", () => this.clear());
    this.at(".filters-open").addEventListener("click", () => this.open());
    this.unitChanged = () => this.draw(true);
    this.follow();
    this.loadVehicles();
    setInterval(() => this.draw(), DRAW_MS);
    setInterval(() => document.hidden || this.table.keepUp(Date.now()), DRAW_MS);
    setInterval(() => this.draw(true), AGES_MS);
    setInterval(() => this.loadVehicles(), VEHICLES_MS);
  }

  columns() {
    this.table = new Table(COLUMNS, {
      caption: "All gateways and vehicles. The buttons in the head sort, the fields under them filter.",
      link: (row) => "/gateway/" + encodeURIComponent(row.id), changed: () => {}, unit: speedUnit,
    });
    this.at(".fleet").append(this.table.root);
    this.main.dataset.vehicles = "none";
  }

  states() {
    this.chips = new Map();
    for (const state of ["all", ...STATES.toReversed()]) {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.dataset.state = state;
      chip.innerHTML = `<span class="dot" aria-hidden="true"></span><span class="text"></span> <span class="count"></span>`;
      chip.querySelector(".text").textContent = state === "all" ? "All" : STATE[state];
      chip.addEventListener("click", () => this.only(state));
      this.at(".states").append(chip);
      this.chips.set(state, { chip, count: chip.querySelector(".count") });
    }
  }

  /** Sort and filters stand in the address, so that a view can be kept and sent. */
  restore(asked) {
    const sort = asked.get("sort") ?? "name";
    const key = sort.replace(/^-/, "");
    if (COLUMNS.some((c) => c.key === key)) this.table.sortBy(key, sort.startsWith("-"));
    for (const { key } of COLUMNS) if (key !== "status" && asked.get(key)) this.table.filterBy(key, asked.get(key));
    this.only(this.chips.has(asked.get("status")) ? asked.get("status") : "all");
  }

  only(state) {
    this.status = state;
    for (const [of, { chip }] of this.chips) chip.setAttribute("aria-pressed", String(of === state));
    this.table.setFilter("status", state === "all" ? null : (_, __, row) => stateOf(row) === state);
  }

  clear() {
    for (const { key, input } of COLUMNS) if (input) this.table.filterBy(key, "");
    this.only("all");
    this.at(".states button").focus();
  }

  open() {
    const open = this.main.classList.toggle("filtering");
    this.at(".filters-open").setAttribute("aria-expanded", String(open));
  }

  changed() {
    const asked = new URLSearchParams();
    const { key, down } = this.table.sort;
    if (key !== "name" || down) asked.set("sort", (down ? "-" : "") + key);
    if (this.status !== "all") asked.set("status", this.status);
    for (const { key, input } of COLUMNS) if (input?.value.trim()) asked.set(key, input.value.trim());
    window.history.replaceState(null, "", asked.size ? "?" + asked : location.pathname);
    const filtered = this.status !== "all" || COLUMNS.some(({ input }) => input?.value.trim());
    this.at(".clear").hidden = !filtered;
    this.counts();
  }

  follow() {
    const take = (gateway, received) =>
      this.put({ id: gateway.id, gateway, received, presence: this.presence.get(gateway.id), vehicle: this.vehicles.get(gateway.id) });
    follow({
      begun: () => this.loadPresence(),
      snapshot: (gateways) => {
        const now = Date.now();
        gateways.forEach((gateway) => take(gateway, now));
        this.heard = true;
        this.draw();
      },
      gateway: (gateway) => take(gateway, Date.now()),
      presence: (change) => {
        if (change.kind !== "gateway") return;
        this.pushed?.add(change.id);
        this.stands(change);
      },
      registry: () => this.loadVehiclesSoon(),
    });
  }

  async loadPresence() {
    // What is pushed while the list is on its way is the newer of the two. Times do not tell: the hub's clock may be put back.
    const pushed = (this.pushed = new Set());
    // Without an answer the feed's own word for the connection stands.
    const list = await askAll("/api/v1/presence", "presence", { kind: "gateway" }).catch(() => undefined);
    if (pushed === this.pushed) list?.forEach((one) => pushed.has(one.id) || this.stands(one));
  }

  /** How a gateway stands. */
  stands(one) {
    this.presence.set(one.id, one);
    const row = this.rows.get(one.id);
    if (row) this.put({ ...row, presence: one });
  }

  loadVehiclesSoon() {
    clearTimeout(this.registering);
    this.registering = setTimeout(() => this.loadVehicles(), REGISTERED_MS);
  }

  put(row) {
    this.rows.set(row.id, row);
    this.table.put(row);
    this.news = true;
  }

  drop(id) {
    this.rows.delete(id);
    this.table.remove(id);
  }

  draw(all = false) {
    if (document.hidden || (!all && !this.news)) return;
    this.news = false;
    this.table.draw(Date.now(), all);
    this.counts();
  }

  counts() {
    const n = Object.fromEntries(STATES.map((state) => [state, 0]));
    for (const row of this.rows.values()) n[stateOf(row)] += 1;
    n.all = this.rows.size;
    for (const [state, { chip, count }] of this.chips) {
      const text = whole(n[state]);
      if (count.textContent !== text) count.textContent = text;
      // A state in which nothing is needs no button, unless it is the one that is shown.
      chip.hidden = n[state] === 0 && state !== "all" && state !== this.status;
    }
    const shown = this.table.shown;
    const text = shown === n.all ? "" : shown === 0 ? `None of ${whole(n.all)} passes the filters` : `${whole(shown)} of ${whole(n.all)} shown`;
    if (this.at(".shown").textContent !== text) this.at(".shown").textContent = text;
    this.at(".fleet").hidden = n.all === 0;
    this.at(".bar").hidden = n.all === 0;
    this.at(".empty").hidden = n.all > 0 || !this.heard;
  }

  /** What vehicle a gateway is on, and whose that is; hubs without a fleet answer 404 and the columns stay away. */
  async loadVehicles() {
    try {
      const [vehicles, customers] = await Promise.all([askAll("/api/v1/vehicles", "vehicles"), askAll("/api/v1/customers", "customers")]);
      if (!vehicles) return;
      const names = new Map((customers ?? []).map((c) => [c.id, c.name]));
      const bare = new Map();
      this.vehicles.clear();
      for (const v of vehicles) {
        const vehicle = { registration: v.registration, name: v.name ?? "", customer: names.get(v.customer) ?? v.customer };
        if (v.gateways.length === 0) bare.set("vehicle " + v.id, vehicle);
        for (const id of v.gateways) this.vehicles.set(id, vehicle);
      }
      // Rows are there for what is heard or registered: one that is neither any more goes.
      for (const row of [...this.rows.values()]) {
        if (row.gateway) this.put({ ...row, vehicle: this.vehicles.get(row.id) });
        else if (!bare.has(row.id) && !this.vehicles.has(row.id)) this.drop(row.id);
      }
      for (const [id, vehicle] of bare) this.put({ id, gateway: null, received: 0, vehicle, bare: true });
      for (const [id, vehicle] of this.vehicles) if (!this.rows.get(id)?.gateway) this.put({ id, gateway: null, received: 0, vehicle });
      this.main.dataset.vehicles = vehicles.length ? "some" : "none";
      this.draw(true);
    } catch { /* The feed tells that the hub is away; the columns keep what they had. */ }
  }
}
