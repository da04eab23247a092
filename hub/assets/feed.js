// The newest values as they come, over a WebSocket that is opened again whenever it is lost, and then goes on where it was.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;
// Three heartbeats of the hub.
const SILENT_AFTER_MS = 16000;

/** Calls on.state("connecting" | "connected" | "lost"), on.snapshot(gateways), on.gateway(gateway). */
export function follow(on) {
  let wait = FIRST_WAIT_MS;
  // Up to which change of which hub the page was told.
  let epoch, n;

  function open() {
    on.state("connecting");
    const since = epoch === undefined ? "" : `?since=${epoch}.${n}`;
    const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/ws" + since);
    let guard;
    const alive = () => {
      clearTimeout(guard);
      guard = setTimeout(() => socket.close(), SILENT_AFTER_MS);
    };
    alive();
    socket.onmessage = (event) => {
      alive();
      const message = JSON.parse(event.data);
      if (message.epoch !== undefined) {
        epoch = message.epoch;
        wait = FIRST_WAIT_MS;
        on.state("connected");
      }
      if (message.type === "snapshot") on.snapshot(message.gateways);
      else if (message.type === "gateway") on.gateway(message.gateway);
      n = message.n;
    };
    socket.onclose = () => {
      clearTimeout(guard);
      on.state("lost");
      // Jitter, so that a hall full of screens does not come back at once.
      setTimeout(open, wait * (0.5 + Math.random() / 2));
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    };
  }

  open();
}
