// The newest values as they come, over a WebSocket that is opened again whenever it is lost, and then goes on where it was.

import { askIfThere } from "/assets/session.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;
// Three heartbeats of the hub.
const SILENT_AFTER_MS = 16000;
const SAID = { connecting: "Connecting to the hub", connected: "Connected to the hub", lost: "Hub not reachable, trying again" };

/** Whether the hub is gone: who was connected then may not be so any more. */
export const isLost = () => document.getElementById("feed").dataset.feed === "lost";

/** Shows the state of the connection in the header: the one thing a screen reader is told by itself. */
function show(state) {
  const at = document.getElementById("feed");
  // Each try anew is no news: what was lost stays lost until it is back.
  if (state === "connecting" && at.dataset.feed === "lost") return;
  if (at.dataset.feed === state) return;
  at.dataset.feed = state;
  at.querySelector(".text").textContent = SAID[state];
}

/**
 * Calls on.snapshot(gateways), on.gateway(gateway), on.presence(change), on.registry(what) when a vehicle or customer was
 * registered, changed or removed, and on.begun() whenever the feed begins or goes on:
 * what the hub tells but once may have been missed then. With `gateway` only what concerns that one.
 * What is missed while the connection is away comes with the next snapshot, or one by one when the hub still has it.
 */
export function follow(on, gateway) {
  let wait = FIRST_WAIT_MS;
  let epoch;
  let since; // EPOCH.N of the last message: where to go on from

  function open() {
    show("connecting");
    const asked = new URLSearchParams();
    if (gateway) asked.set("gateway", gateway);
    if (since) asked.set("since", since);
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws${asked.size ? "?" + asked : ""}`);
    let guard;
    let opened = false;
    const alive = () => {
      clearTimeout(guard);
      guard = setTimeout(() => socket.close(), SILENT_AFTER_MS);
    };
    alive();
    socket.onmessage = (event) => {
      alive();
      opened = true;
      wait = FIRST_WAIT_MS;
      show("connected");
      const message = JSON.parse(event.data);
      if (message.epoch !== undefined) epoch = message.epoch;
      since = `${epoch}.${message.n}`;
      if (message.type === "snapshot" || message.type === "resumed") on.begun?.();
      if (message.type === "snapshot") on.snapshot(message.gateways);
      else if (message.type === "gateway") on.gateway(message.gateway);
      else if (message.type === "presence") on.presence?.(message);
      else if (message.type === "registry") on.registry?.(message);
    };
    socket.onclose = () => {
      clearTimeout(guard);
      show("lost");
      // A browser does not say why a WebSocket was refused; another question tells whether one has to log in.
      if (!opened) askIfThere("/api/v1/me").catch(() => {});
      // Jitter, so that a hall full of screens does not come back at once.
      setTimeout(open, wait * (0.5 + Math.random() / 2));
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    };
  }

  open();
}
