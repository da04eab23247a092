// The columns of the fleet's table: what each shows of a row, sorts by and is filtered by.
//
// A row is {id, gateway, received, presence, vehicle}: a gateway as the hub tells it, when that came, since when it is
// connected or not and why, and the vehicle it is on. Any of them may be missing; a vehicle without a gateway is a `bare` row.

import { isLost } from "/assets/feed.js";
import { AS_TOLD, CLOCK, CONNECTION, QUALITY, REASON, STATE, ago, number, roughly, scale, several, whole } from "/assets/words.js";
import { hubNow } from "/assets/session.js";

// As long as the hub takes a gateway for connected: a speed that is older is none of now.
const NOW_MS = 150_000;
// Of a gateway that is gone nothing is of now for longer than this.
const GONE_NOW_MS = 5_000;
// A live value comes every second; one that is older has its age beside it.
const FRESH_MS = 5_000;

/** States, the worst first: that is how they sort. */
export const STATES = ["offline", "silent", "unknown", "never", "online"];
const BEST = ["good", "stopped", "estimated", "degraded"];

/** The hub's judgement, which outlasts its restarts and knows how often a device speaks; without it, what the feed says. */
export const stateOf = (row) => (row.gateway ? row.presence?.state ?? row.gateway.connection : "never");

/** For how long it has been so, ms, or null. */
export function stateAge(row, now) {
  if (!row.gateway) return null;
  if (row.presence) return Math.max(0, hubNow() - Date.parse(row.presence.since));
  return age(row, row.gateway.connection_age_ms, now);
}

/** Whether a value of that age says how it is now. */
export const isNow = (state, old) => old !== null && old <= (state === "online" ? NOW_MS : GONE_NOW_MS);

const passed = (row, now) => Math.max(0, now - row.received);
const age = (row, ms, now) => (ms === null || ms === undefined ? null : ms + passed(row, now));

/** The channel whose speed is the gateway's: one with a value before one without, then quality, then uncertainty. */
export function bestSpeed(gateway) {
  const rank = (c) => [c.value === null, c.age_ms === null, c.age_ms > NOW_MS, BEST.indexOf(c.quality), c.uncertainty ?? 0];
  let best = null;
  for (const channel of gateway?.channels ?? []) {
    if (channel.quantity !== "speed") continue;
    if (!best || before(rank(channel), rank(best))) best = channel;
  }
  return best;
}

function before(a, b) {
  const at = a.findIndex((part, i) => part !== b[i]);
  return at >= 0 && a[at] < b[at];
}

/** The speed of now in the unit chosen, or why there is none: {value, text, unit, quality, channel, age, why}. */
export function speedOf(row, now, unit) {
  const channel = bestSpeed(row.gateway);
  if (!channel) return { value: null, why: row.gateway ? "No speed channel" : "" };
  const { factor, digits, shown } = scale(channel, unit);
  const old = age(row, channel.age_ms, now);
  const text = channel.value === null ? "" : number(channel.value * factor, digits);
  const found = { text, unit: shown, quality: channel.quality, channel, age: old };
  if (channel.value === null) return { ...found, value: null, why: REASON[channel.no_data] ?? channel.no_data };
  if (!isNow(stateOf(row), old)) return { ...found, value: null, why: REASON.gone, last: true };
  return { ...found, value: channel.value * factor, fresh: old <= FRESH_MS };
}

const lost = (row) => (row.gateway ? Math.max(row.gateway.stored.lost_samples, row.gateway.health?.["lost-samples"] ?? 0) : null);
const missing = (row) => row.gateway?.stored.missing_records ?? 0;
const unconfirmed = (row) => {
  const health = row.gateway?.health;
  return health ? Math.max(0, health["last-seq"] - health["confirmed-seq"]) : null;
};

function speedCell(row, now, unit) {
  const { value, text, unit: shown, quality, channel, age: old, why, last, fresh } = speedOf(row, now, unit);
  if (value === null) {
    const was = last ? `last ${text} ${shown}${old === null ? "" : ", " + roughly(old)}` : "";
    return { parts: [["why", why], ["note", was]], kind: "none", label: channel ? `${channel.sensor}: ${why}` : why };
  }
  return {
    parts: [["value", text], ["unit", shown], ["quality", QUALITY[quality]], ["note", fresh ? "" : roughly(old)]],
    kind: quality, late: !fresh,
    label: `${channel.sensor}, ${channel.quantity}${old === null ? "" : ", measured " + ago(old)}`,
  };
}

const plain = (text) => ({ parts: [["text", text]] });

/**
 * key, title, numeric?, cell(row, now, unit) -> {parts: [[class, text]…], kind?, late?, label?},
 * sort(row, now, unit) -> number, text or null (null goes last either way). What a filter sees is the text of the cell;
 * a numeric column also takes >, <, = and a range.
 */
export const COLUMNS = [
  {
    key: "status", title: "Status",
    cell: (row, now) => {
      const state = stateOf(row);
      const since = state === "online" ? null : stateAge(row, now);
      const why = state === "online" || state === "never" ? "" : row.presence?.reason ?? "";
      const parts = [["dot", ""], ["text", STATE[state]], ["note", why], ["note", since === null ? "" : roughly(since)], ["note", isLost() ? AS_TOLD : ""]];
      return { parts, kind: isLost() ? "untold" : state, label: CONNECTION[state] };
    },
    sort: (row) => STATES.indexOf(stateOf(row)),
  },
  { key: "name", title: "Gateway", cell: (row) => (row.bare ? plain("—") : { parts: [["link", row.id]] }), sort: (row) => (row.bare ? null : row.id) },
  {
    key: "vehicle", title: "Vehicle", fleet: true,
    cell: (row) => ({ parts: [["text", row.vehicle?.registration ?? "—"], ["note", row.vehicle?.name ?? ""]] }),
    sort: (row) => row.vehicle?.registration ?? null,
  },
  { key: "customer", title: "Customer", fleet: true, cell: (row) => plain(row.vehicle?.customer ?? "—"), sort: (row) => row.vehicle?.customer ?? null },
  { key: "speed", title: "Speed", numeric: true, cell: speedCell, sort: (row, now, unit) => speedOf(row, now, unit).value },
  {
    key: "heard", title: "Last heard",
    cell: (row, now) => {
      const heard = age(row, row.gateway?.heard_age_ms, now);
      return plain(heard === null ? "—" : roughly(heard));
    },
    sort: (row, now) => age(row, row.gateway?.heard_age_ms, now),
  },
  {
    key: "unconfirmed", title: "Unconfirmed", numeric: true,
    cell: (row) => {
      const n = unconfirmed(row);
      return { parts: [["text", n === null ? "—" : whole(n)], ["note", !n ? "" : n === 1 ? "record" : "records"]] };
    },
    sort: unconfirmed,
  },
  {
    key: "losses", title: "Losses", numeric: true,
    cell: (row) => {
      const [n, gone] = [lost(row), missing(row)];
      if (n === null) return plain("—");
      if (n === 0 && gone > 0) return { parts: [["text", whole(gone)], ["note", gone === 1 ? "record missing" : "records missing"]], kind: "some" };
      const note = [n > 0 && (n === 1 ? "sample" : "samples"), gone > 0 && several(gone, "record") + " missing"].filter(Boolean).join(", ");
      return { parts: [["text", whole(n)], ["note", note]], kind: n > 0 ? "some" : "zero" };
    },
    // Records that are missing weigh like the samples they held, of which nobody knows the number.
    sort: (row) => { const n = lost(row); return n === null ? null : n + missing(row); },
  },
  {
    key: "clock", title: "Clock",
    cell: (row) => {
      const clock = row.gateway?.health?.clock;
      return { parts: [["text", clock ? CLOCK[clock] ?? clock : "—"]], kind: clock === "untrusted" ? "some" : "zero" };
    },
    sort: (row) => row.gateway?.health?.clock ?? null,
  },
];
