// How numbers, times and states are said to a person.

export const QUALITY = { good: "Good", estimated: "Estimated", degraded: "Degraded", stopped: "Stopped" };

export const REASON = {
  "silent": "Silent: nothing heard yet",
  "stale": "Stale: nothing new for too long",
  "not-available": "Not available, says the sensor",
  "sensor-error": "Sensor reports an error",
  "no-fix": "No satellite fix",
  "fault": "Sensor fault",
  "out-of-range": "Out of range",
  "no-target": "Nothing to measure in sight",
  // Said by these pages: the hub has a value, but none of now.
  "gone": "No value now",
};

export const CONNECTION = {
  online: "Connected",
  offline: "Disconnected",
  silent: "Silent: not heard",
  unknown: "Not heard since the hub started",
  never: "Never heard",
};

/** Beside a state while the hub is gone: nobody knows whether it still is so. */
export const AS_TOLD = "when the hub was last heard";

/** The same where there is little room. */
export const STATE = { online: "Connected", offline: "Disconnected", silent: "Silent", unknown: "Not heard", never: "Never heard" };

export const CLOCK = { untrusted: "not trusted", ntp: "NTP", gnss: "GNSS", rtc: "battery clock" };

export const LOSS = {
  "spool-full-oldest": "Disk full: the oldest went",
  "spool-full-newest": "Disk full: the newest were refused",
  "damaged": "Damaged on the gateway's disk",
  "overrun": "Sensor faster than the agent",
  "too-large": "Record too large for the broker",
  "too-old": "Older than the gateway keeps",
  "thinned": "Disk full: thinned to one value a second",
  "disk-failed": "The gateway's disk failed",
  "not-there-any-more": "The gateway no longer had them",
  "clock-never-vouched-for": "Nobody ever vouched for the clock of that boot",
  "no-samples": "No sample came",
};

export const GAP = {
  gap: "Records missing",
  loss: "Declared lost",
  undated: "Time not known",
  silence: "Nothing recorded",
};

export const QUANTITY = {
  "speed": "speed", "rotational-speed": "rotation", "distance": "distance", "latitude": "latitude",
  "longitude": "longitude", "course": "course", "altitude": "altitude", "acceleration": "acceleration", "count": "count",
  "direction": "direction", "angle": "angle", "lost": "lost", "suspected": "suspected lost", "repaired": "put back",
  "rejected": "refused",
};

/** Channels that count what became of a sensor's input: no measurements, and shown as the sensor's quality, in this order. */
export const COUNTS = { "lost": "lost", "suspected": "suspected lost", "repaired": "put back", "rejected": "refused" };

const DIGITS = { "m/s": 2, "km/h": 1, "mph": 1, "rpm": 0, "m": 1, "deg": 5, "m/s2": 2, "1": 0 };
const SHOWN = { "deg": "°", "m/s2": "m/s²", "1": "" };
// A mile is 1609.344 m.
const PER_MPS = { "m/s": 1, "km/h": 3.6, "mph": 3600 / 1609.344 };

/** A value of a channel in the unit the person chose: {factor, unit, shown, digits}. */
export function scale(channel, speedUnit) {
  const unit = channel.unit === "m/s" ? speedUnit : channel.unit;
  const digits = channel.quantity === "course" ? 1 : DIGITS[unit] ?? 2;
  return { factor: channel.unit === "m/s" ? PER_MPS[unit] : 1, unit, shown: SHOWN[unit] ?? unit, digits };
}

/** A number with so many digits; never "-0.0". */
export function number(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text;
}

const WHOLE = new Intl.NumberFormat("en-GB");

/** A whole number with its thousands apart. */
export const whole = (n) => WHOLE.format(n);

/** An uncertainty with two digits that count. */
export function uncertainty(value) {
  const digits = Math.max(0, Math.min(6, 1 - Math.floor(Math.log10(value))));
  return "± " + value.toFixed(digits);
}

/** How long something lasted. */
export function lasting(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return (ms / 1000).toFixed(1) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  if (s < 172800) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " days";
}

/** How long ago. */
export const ago = (ms) => lasting(ms) + " ago";

/** How long ago, for a table: as coarse as a look at it is. */
export function roughly(ms) {
  const s = Math.round(ms / 1000);
  if (s < 120) return s + " s ago";
  if (s < 7200) return Math.floor(s / 60) + " min ago";
  if (s < 172800) return Math.floor(s / 3600) + " h ago";
  return Math.floor(s / 86400) + " days ago";
}

/** Bytes, as disks are sold and configured here. */
export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (n >= 1024 && power < units.length - 1) { n /= 1024; power += 1; }
  return (power ? n.toFixed(1) : n) + " " + units[power];
}

/** A word and its number: "1 gap", "2 gaps". */
export const several = (n, one, many = one + "s") => `${whole(n)} ${n === 1 ? one : many}`;

/** The time zone of this browser, with its distance to UTC at that time: "Europe/Berlin, UTC+1". */
export function zone(at = new Date()) {
  const minutes = -at.getTimezoneOffset();
  const [sign, all] = minutes < 0 ? ["−", -minutes] : ["+", minutes];
  const [h, m] = [Math.floor(all / 60), all % 60];
  const offset = all === 0 ? "UTC" : `UTC${sign}${h}${m ? ":" + String(m).padStart(2, "0") : ""}`;
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return !name || name === "UTC" ? offset : `${name}, ${offset}`;
}

const two = (n) => String(n).padStart(2, "0");

/** A moment on this browser's clock: 2026-05-04 10:00:00, with tenths where they matter. */
export function moment(date, tenths = false) {
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day} ${time}${tenths ? "." + Math.floor(date.getMilliseconds() / 100) : ""}`;
}

/** The same in UTC, for whoever points at it. */
export const utc = (date) => date.toISOString().replace("T", " ").replace(/\.?0*Z$/, "Z").replace(/Z$/, " UTC");
