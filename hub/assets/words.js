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
};

export const CONNECTION = {
  online: "Connected",
  offline: "Disconnected",
  silent: "Silent: not heard",
  unknown: "Not heard since the hub started",
};

export const QUANTITY = {
  "speed": "speed", "rotational-speed": "rotation", "distance": "distance", "latitude": "latitude",
  "longitude": "longitude", "course": "course", "altitude": "altitude", "acceleration": "acceleration", "count": "count",
  "direction": "direction", "angle": "angle", "lost": "lost", "suspected": "suspected lost", "repaired": "put back",
  "rejected": "refused",
};

/** Channels that count what became of a sensor's input: no measurements, and shown as the sensor's quality, in this order. */
export const COUNTS = { "lost": "lost", "suspected": "suspected lost", "repaired": "put back", "rejected": "refused" };

const DIGITS = { "m/s": 2, "km/h": 1, "rpm": 0, "m": 1, "deg": 5, "m/s2": 2, "1": 0 };
const SHOWN = { "deg": "°", "m/s2": "m/s²", "1": "" };
const KMH = 3.6;

/** A value of a channel in the unit the person chose: {factor, unit, shown, digits}. */
export function scale(channel, speedUnit) {
  const kmh = channel.unit === "m/s" && speedUnit === "km/h";
  const unit = kmh ? "km/h" : channel.unit;
  const digits = channel.quantity === "course" ? 1 : DIGITS[unit] ?? 2;
  return { factor: kmh ? KMH : 1, unit, shown: SHOWN[unit] ?? unit, digits };
}

/** A number with so many digits; never "-0.0". */
export function number(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text;
}

/** An uncertainty with two digits that count. */
export function uncertainty(value) {
  const digits = Math.max(0, Math.min(6, 1 - Math.floor(Math.log10(value))));
  return "± " + value.toFixed(digits);
}

/** How long ago. */
export function ago(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return (ms / 1000).toFixed(1) + " s ago";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s ago";
  if (s < 172800) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min ago";
  return Math.floor(s / 86400) + " days ago";
}
