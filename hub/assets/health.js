// How a gateway and its sensors are: what it says of itself, what the hub has of it, and what was lost and why.

import { stateAge, stateOf } from "/assets/columns.js";
import { askIfThere, hubNow } from "/assets/session.js";
import { CLOCK, CONNECTION, COUNTS, GAP, LOSS, REASON, ago, bytes, lasting, moment, roughly, several, utc, whole } from "/assets/words.js";

const DAY_MS = 86_400_000;
const LOSSES_OF_DAYS = 30;
const MAX_LOSSES = 50;

const cell = (row, text, attributes = {}) => {
  const made = document.createElement(attributes.head ? "th" : "td");
  if (attributes.head) made.scope = "row";
  if (attributes.title) made.title = attributes.title;
  if (attributes.kind) made.dataset.kind = attributes.kind;
  made.textContent = text;
  row.append(made);
  return made;
};

/** Writes a table's body only when it says something else than before, so that a selection of text stays. */
function rows(body, key, write) {
  if (body.dataset.shows === key) return;
  body.dataset.shows = key;
  body.replaceChildren();
  write();
}

export class Health {
  constructor(id, parent) {
    this.id = id;
    this.sensorsKnown = new Map(); // what presence says: name -> {state, since, reason}
    parent.insertAdjacentHTML("beforeend", `
      <section class="sheet sensors" aria-labelledby="sensors-title">
        <h2 id="sensors-title">Sensors</h2>
        <div class="wide" tabindex="0" role="region" aria-labelledby="sensors-title"><table>
          <thead><tr><th scope="col">Sensor</th><th scope="col">State</th><th scope="col">Since</th><th scope="col">Reason</th>
            <th scope="col">Inputs</th><th scope="col">Lost</th><th scope="col">Refused</th></tr></thead><tbody></tbody></table></div>
        <p class="none" hidden>Nothing is known of its sensors yet.</p>
      </section>
      <section class="sheet self" aria-labelledby="self-title"><h2 id="self-title">Gateway</h2><dl></dl></section>
      <section class="sheet losses" aria-labelledby="losses-title">
        <h2 id="losses-title">Losses and gaps, last ${LOSSES_OF_DAYS} days</h2>
        <div class="wide" tabindex="0" role="region" aria-labelledby="losses-title" hidden><table>
          <thead><tr><th scope="col">From</th><th scope="col">To</th><th scope="col">What</th><th scope="col">Reason</th>
            <th scope="col">Records</th><th scope="col">Samples</th></tr></thead><tbody></tbody></table></div>
        <p class="none">Being asked for.</p>
      </section>`);
    this.at = (selector) => parent.querySelector(selector);
  }

  show(row, now) {
    this.sensors(row.gateway, row.received, now);
    this.self(row, now);
  }

  sensors(gateway, received, now) {
    const sensors = gateway.health?.sensors?.length ? gateway.health.sensors : fromChannels(gateway);
    const told = sensors.map((sensor) => {
      const known = this.sensorsKnown.get(sensor.name);
      const silent = gateway.channels.find((c) => c.sensor === sensor.name && !(c.quantity in COUNTS) && c.value === null);
      const trouble = sensor.trouble ?? silent?.no_data ?? null;
      const since = known?.since ? Math.max(0, hubNow() - Date.parse(known.since)) : trouble && silent?.age_ms != null ? silent.age_ms + now - received : null;
      const reason = sensor.detail || (trouble ? REASON[known?.reason] ?? known?.reason ?? REASON[trouble] ?? trouble : "");
      return { sensor, trouble, since, reason };
    });
    const count = (n) => (n === undefined || n === null ? "—" : whole(n));
    const body = this.at(".sensors tbody");
    const key = JSON.stringify(told.map(({ sensor, trouble, since, reason }) => [sensor, trouble, reason, since && roughly(since)]));
    rows(body, key, () => {
      for (const { sensor, trouble, since, reason } of told) {
        const row = body.insertRow();
        cell(row, sensor.name, { head: true });
        cell(row, trouble ? (REASON[trouble] ?? trouble).split(":")[0] : "Works", { kind: trouble ? "bad" : "good" });
        cell(row, since === null ? "—" : roughly(since));
        cell(row, reason || "—");
        cell(row, count(sensor.inputs));
        cell(row, count(sensor.lost), { kind: sensor.lost > 0 ? "some" : "" });
        cell(row, count(sensor.rejected), { kind: sensor.rejected > 0 ? "some" : "" });
      }
    });
    this.at(".sensors .wide").hidden = told.length === 0;
    this.at(".sensors .none").hidden = told.length > 0;
  }

  self(row, now) {
    const { gateway, received, presence } = row;
    const { health, stored, heard_age_ms: heard } = gateway;
    const [state, since, passed] = [stateOf(row), stateAge(row, now), now - received];
    const why = state !== "online" && presence?.reason ? ": " + presence.reason : "";
    const behind = health ? Math.max(0, health["last-seq"] - health["confirmed-seq"]) : null;
    const items = [
      ["Connection", CONNECTION[state] + why + (since === null ? "" : ", " + (state === "online" ? "for " + lasting(since) : ago(since))), state === "online" ? "" : "bad"],
      ["Last heard", heard == null ? "not since the hub started" : ago(heard + passed)],
      ["Unconfirmed", behind === null ? null : several(behind, "record") + " at its last report"],
      ["Refused", gateway.refused && `its next batch, which it keeps and sends again: ${gateway.refused}`, "bad"],
      ["Spool on its disk", health && bytes(health["spool-bytes"])],
      ["Declared lost", `${several(stored.lost_samples, "sample")} stored as lost` + (health ? `, ${whole(health["lost-samples"])} since its agent started` : ""), stored.lost_samples > 0 ? "some" : ""],
      ["Missing", stored.gaps > 0 ? `${several(stored.missing_records, "record")} in ${several(stored.gaps, "gap")}` : "0 records", stored.gaps > 0 ? "some" : ""],
      ["Set aside", several(stored.rejected, "message"), stored.rejected > 0 ? "some" : ""],
      ["Clock", health && (health.clock === "untrusted" ? "Not trusted: nobody vouches for its time" : `Vouched for by ${CLOCK[health.clock] ?? health.clock}`), health?.clock === "untrusted" ? "some" : ""],
      ["Stored up to", stored.log ? `record ${whole(stored.thru)}` : stored.readings > 0 ? several(stored.readings, "single reading") : "nothing yet"],
      ["Agent", gateway.version || null],
      ["Agent runs for", health && lasting(health["uptime-s"] * 1000 + passed)],
      ["Boot", health && "number " + whole(health.boot)],
      ["Memory", health && bytes(health["rss-bytes"])],
    ].filter(([, text]) => text !== null && text !== undefined);
    const list = this.at(".self dl");
    if (list.children.length !== items.length) {
      list.replaceChildren(...items.map(() => {
        const pair = document.createElement("div");
        pair.append(document.createElement("dt"), document.createElement("dd"));
        return pair;
      }));
    }
    items.forEach(([name, text, kind], i) => {
      const [dt, dd] = list.children[i].children;
      if (dt.textContent !== name) dt.textContent = name;
      if (dd.textContent !== text) dd.textContent = text;
      dd.dataset.kind = kind ?? "";
    });
  }

  /** What was lost and why; asked anew when the hub counted more of it. */
  async losses(gateway) {
    const { lost_samples: lost, gaps } = gateway.stored;
    if (this.lostThen === `${lost}/${gaps}`) return;
    this.lostThen = `${lost}/${gaps}`;
    const none = this.at(".losses .none");
    const from = new Date(Date.now() - LOSSES_OF_DAYS * DAY_MS).toISOString();
    let answer;
    try {
      answer = await askIfThere("/api/v1/gaps?" + new URLSearchParams({ gateway: this.id, from, to: new Date().toISOString() }));
    } catch (error) {
      none.textContent = error.message;
      return;
    }
    if (!answer) { none.textContent = "This hub does not list losses."; return; }
    // Silence is no loss: nothing was there to be lost.
    const losses = answer.gaps.filter((gap) => gap.kind !== "silence").toReversed();
    const shown = losses.slice(0, MAX_LOSSES);
    const body = this.at(".losses tbody");
    rows(body, JSON.stringify(shown), () => {
      for (const loss of shown) {
        const row = body.insertRow();
        for (const time of [loss.from, loss.to]) cell(row, time ? moment(new Date(time)) : "—", { title: time ? utc(new Date(time)) : "" });
        cell(row, GAP[loss.kind] ?? loss.kind, { kind: "some" });
        cell(row, LOSS[loss.reason] ?? loss.reason ?? "—");
        for (const n of [loss.records, loss.samples]) cell(row, n == null || loss.kind === "undated" ? "—" : whole(n));
      }
    });
    this.at(".losses .wide").hidden = shown.length === 0;
    none.hidden = shown.length > 0 && shown.length === losses.length;
    none.textContent = shown.length === 0 ? "Nothing lost and nothing missing." : `The newest ${MAX_LOSSES} of ${losses.length}.`;
  }
}

/** Of a gateway that tells no health: its sensors, as their channels are. */
function fromChannels(gateway) {
  const names = [...new Set(gateway.channels.map((c) => c.sensor))];
  return names.map((name) => {
    const own = gateway.channels.filter((c) => c.sensor === name && !(c.quantity in COUNTS));
    const count = (quantity) => gateway.channels.find((c) => c.sensor === name && c.quantity === quantity)?.value;
    return { name, trouble: own.every((c) => c.value === null) ? own[0]?.no_data ?? null : null, lost: count("lost"), rejected: count("rejected") };
  });
}
