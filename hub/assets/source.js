// A channel over a range of time, as the hub has it: single samples of a short range, sums of a long one, and what is missing.

import { byQuality, joined } from "/assets/plot.js";
import { MAX_POINTS, SAMPLES_UP_TO_S, bucketOf, iso, length } from "/assets/range.js";
import { ask, askIfThere } from "/assets/session.js";
import { CLOCK, whole } from "/assets/words.js";

const SAMPLES = 2000;
// Of the samples a bucket usually holds; with less it is said to be thin.
const FEW = 0.5;

/**
 * {kind: "samples" | "sums", unit, bucketS, times, values, low, high, qualities, lines, pieces, gaps, told, notes, points};
 * `told` is whether the hub said what is missing.
 * Times are seconds of UTC, values in the channel's own unit; a hole is a null between two values.
 */
export async function load(channel, view, signal) {
  const gaps = gapsOf(channel, view, signal);
  // If the values fail, what is missing is of no interest; its own failure is told in the notes.
  gaps.catch(() => {});
  const found = (view.to - view.from > SAMPLES_UP_TO_S && (await sums(channel, view, signal))) || (await samples(channel, view, signal));
  const missing = await gaps.catch((error) => { if (error.name === "AbortError") throw error; return null; });
  if (missing === null) found.notes.push("What is missing could not be asked for.");
  if (missing === undefined) found.notes.push("This hub does not tell what is missing; a hole in the line may be a loss or silence.");
  if (missing?.some((gap) => gap.kind === "undated")) found.notes.push("There are samples whose time is not known and that may belong here.");
  return { ...found, gaps: missing ?? [], told: Boolean(missing) };
}

const query = ({ gateway, sensor, quantity }, { from, to }, more) => new URLSearchParams({ gateway, sensor, quantity, from: iso(from), to: iso(to), ...more });

async function sums(channel, view, signal) {
  const bucketS = bucketOf(view);
  const word = { 1: "1s", 60: "1m", 3600: "1h" }[bucketS] ?? `${bucketS}s`;
  const buckets = [];
  let unit;
  let next = iso(view.from);
  while (next && buckets.length < MAX_POINTS) {
    const asked = "/api/v1/rollup?" + query(channel, view, { bucket: word, from: next });
    // A hub that still makes the sums says so by 503; it draws the same range from what it has.
    const page = await askIfThere(asked, { signal }).catch((error) => { if (error.status !== 503) throw error; });
    if (!page) return null;
    unit = page.unit;
    buckets.push(...page.buckets);
    next = page.next;
  }
  return shapeSums(buckets.slice(0, MAX_POINTS), bucketS, unit, next);
}

export function shapeSums(buckets, bucketS, unit, next) {
  const found = shape();
  const counts = buckets.map((b) => b.count).sort((a, b) => a - b);
  const usual = counts[Math.floor(counts.length / 2)] ?? 0;
  let end;
  buckets.forEach((bucket, i) => {
    const begin = Date.parse(bucket.t) / 1000;
    if (end !== undefined && begin - end > bucketS * 0.5) found.hole(end + bucketS * 0.01);
    end = begin + bucketS;
    // What goes round, as a course does, has no mean; the newest of it stands for it then.
    found.add(begin + bucketS / 2, bucket.mean ?? bucket.last, bucket.min, bucket.max, bucket.quality ?? "good");
    // The first and the last bucket may begin or end in the range.
    const few = bucket.count < usual * FEW && i > 0 && i < buckets.length - 1;
    found.pieces.push({ from: begin, to: end, kind: few ? "few" : bucket.quality ?? "samples" });
  });
  const notes = [];
  if (buckets.length) notes.push(`Each point sums up ${length(bucketS)}: the line is the mean, the band goes from the least to the most, the strip tells the worst quality.`);
  if (next) notes.push("There is more than can be shown; zoom in.");
  return { kind: "sums", unit, bucketS, notes, ...found.done(false) };
}

async function samples(channel, view, signal) {
  const answer = await ask("/api/v1/history?" + query(channel, view, { "max-points": SAMPLES }), { signal });
  return shapeSamples(answer);
}

export function shapeSamples(answer) {
  const found = shape();
  let before = null;
  for (const { t, value, uncertainty, quality } of answer.points.slice(0, MAX_POINTS)) {
    const at = Date.parse(t) / 1000;
    // The hub marks a hole by a point without a value.
    if (value === null) found.hole(at);
    else found.add(at, value, value - (uncertainty ?? 0), value + (uncertainty ?? 0), quality);
    if (before !== null && value !== null) found.pieces.push({ from: before, to: at, kind: quality });
    before = value === null ? null : at;
  }
  const notes = [];
  if (answer.method?.name !== "all" && answer.method?.samples) notes.push(`They stand for ${whole(answer.method.samples)} samples; no peak is left out.`);
  if (answer.truncated) notes.push("The range holds more than can be shown at once: the end is missing. Zoom in.");
  if (answer.clock) {
    const off = answer.utc_uncertainty_s == null ? "" : `, at most ${answer.utc_uncertainty_s.toPrecision(2)} s off`;
    notes.push(answer.clock === "untrusted" ? "Nobody vouches for these times." : `Times vouched for by ${CLOCK[answer.clock] ?? answer.clock}${off}.`);
  }
  return { kind: "samples", unit: answer.unit, bucketS: 0, notes, ...found.done(true) };
}

function shape() {
  const [times, values, low, high, qualities, pieces] = [[], [], [], [], [], []];
  const push = (t, value, least, most, quality) => {
    times.push(t); values.push(value); low.push(least); high.push(most); qualities.push(quality);
  };
  let points = 0;
  return {
    pieces,
    add: (...what) => { points += 1; push(...what); },
    hole: (t) => push(t, null, null, null, "none"),
    done: (lines) => ({ times, values, low, high, qualities, pieces: joined(pieces), points, lines: lines ? byQuality(values, qualities) : null }),
  };
}

async function gapsOf({ gateway, sensor, quantity }, { from, to }, signal) {
  const asked = { gateway, sensor, quantity, from: iso(from), to: iso(to) };
  const answer = await askIfThere("/api/v1/gaps?" + new URLSearchParams(asked), { signal });
  const seconds = (text, otherwise) => (text ? Date.parse(text) / 1000 : otherwise);
  const gaps = answer?.gaps.map((gap) => ({ ...gap, begin: seconds(gap.from, from), end: seconds(gap.to, to) }));
  // Where something is known to be lost, that nothing came is no news.
  const explained = (silence) => gaps.some((gap) => (gap.kind === "loss" || gap.kind === "gap") && gap.begin < silence.end && gap.end > silence.begin);
  return gaps?.filter((gap) => gap.kind !== "silence" || !explained(gap));
}
