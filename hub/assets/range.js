// Ranges of time, in seconds of UTC: what is shown, and how it is moved. Pure.

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;

export const PRESETS = [["1 h", HOUR], ["1 d", DAY], ["7 d", 7 * DAY], ["30 d", 30 * DAY], ["1 y", 365 * DAY]];
/** No plot has more columns worth telling apart, and no browser is asked to draw more than MAX_POINTS. */
const BUCKETS = 1500;
export const MAX_POINTS = 4000;
/** Up to here single samples are shown, above sums of many. */
export const SAMPLES_UP_TO_S = 15 * MINUTE;
const LEAST_S = 1;
const MOST_S = 20 * 365 * DAY;
// Lengths a person can name.
const NICE_S = [1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY];

/** The length of the sums a range is shown in. */
export const bucketOf = ({ from, to }) => NICE_S.find((s) => (to - from) / s <= BUCKETS) ?? NICE_S.at(-1);

/** A range as it may be: not too short, not too long, and not all in the future. */
export function allowed({ from, to }, now = Date.now() / 1000) {
  let span = Math.min(Math.max(to - from, LEAST_S), MOST_S);
  let begin = (from + to) / 2 - span / 2;
  if (begin + span > now + span * 0.05) begin = now + span * 0.05 - span;
  return { from: begin, to: begin + span };
}

/** Longer by `factor`, with the time `at` where it is. */
export function zoomed({ from, to }, factor, at = (from + to) / 2) {
  const share = (at - from) / (to - from);
  const span = Math.min(Math.max((to - from) * factor, LEAST_S), MOST_S);
  return { from: at - span * share, to: at + span * (1 - share) };
}

/** Moved by a share of its length. */
export const panned = ({ from, to }, share) => ({ from: from + (to - from) * share, to: to + (to - from) * share });

export const lastly = (span, now = Date.now() / 1000) => ({ from: now - span, to: now });

export const iso = (s) => new Date(Math.round(s * 1000)).toISOString();

/** The range an address asks for; an hour up to now when it asks for none. */
export function asked(search) {
  const read = (key) => { const ms = Date.parse(search.get(key) ?? ""); return Number.isNaN(ms) ? null : ms / 1000; };
  const [from, to] = [read("from"), read("to")];
  if (from !== null && to !== null && from < to) return allowed({ from, to });
  if (from !== null) return allowed({ from, to: Math.max(from + HOUR, Date.now() / 1000) });
  if (to !== null) return allowed({ from: to - HOUR, to });
  return lastly(HOUR);
}

/** A length of time in words: "30 s", "5 min", "6 h", "2 days". */
export function length(s) {
  if (s < 120) return `${s} s`;
  if (s < 2 * HOUR) return `${s / MINUTE} min`;
  if (s < 2 * DAY) return `${s / HOUR} h`;
  return `${s / DAY} days`;
}
