// How a person moves through time on a plot: drag, wheel, pinch and keys become new ranges.

import { panned, zoomed } from "/assets/range.js";

const WHEEL_STEP = 1.2;
const KEY_STEP = 1.6;
const KEY_PAN = 0.2;

/**
 * `view()` is the range shown; `change(range, settled)` asks for another. `settled` is false while a finger or a wheel is
 * still moving, so that only where it stops becomes a step to go back to.
 */
export function keys(root, { view, change, home }) {
  const does = {
    ArrowLeft: () => panned(view(), -KEY_PAN), ArrowRight: () => panned(view(), KEY_PAN),
    PageUp: () => panned(view(), -1), PageDown: () => panned(view(), 1),
    "+": () => zoomed(view(), 1 / KEY_STEP), "=": () => zoomed(view(), 1 / KEY_STEP),
    "-": () => zoomed(view(), KEY_STEP), Home: home,
  };
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !does[event.key]) return;
    event.preventDefault();
    change(does[event.key](), true);
  });
}

export function pointers(over, { view, change }) {
  const share = (clientX) => { const box = over.getBoundingClientRect(); return (clientX - box.left) / box.width; };
  const time = (range, clientX) => range.from + share(clientX) * (range.to - range.from);

  over.addEventListener("wheel", (event) => {
    event.preventDefault();
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.shiftKey ? event.deltaY : 0;
    if (sideways) change(panned(view(), sideways / 1000), false);
    else change(zoomed(view(), event.deltaY > 0 ? WHEEL_STEP : 1 / WHEEL_STEP, time(view(), event.clientX)), false);
  }, { passive: false });

  // One finger moves, two stretch. A mouse draws a selection instead, which the plot itself does; with Shift it moves.
  const held = new Map();
  let begun; // the range when the fingers that are down were put there
  const hold = () => { begun = { view: view(), at: [...held.values()] }; };
  over.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && !event.shiftKey) return;
    over.setPointerCapture(event.pointerId);
    held.set(event.pointerId, event.clientX);
    hold();
  });
  over.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    held.set(event.pointerId, event.clientX);
    const [a, b] = [...held.values()];
    const [was, wasToo] = begun.at;
    if (b === undefined) return change(panned(begun.view, share(was) - share(a)), false);
    // The times under the two fingers stay under them.
    const [t0, t1] = [time(begun.view, was), time(begun.view, wasToo)];
    const width = share(b) - share(a);
    if (Math.abs(width) < 0.02) return undefined;
    const span = Math.abs((t1 - t0) / width);
    const from = t0 - share(a) * span;
    return change({ from, to: from + span }, false);
  });
  const release = (event) => {
    if (!held.delete(event.pointerId)) return;
    if (held.size) hold(); else change(view(), true);
  };
  over.addEventListener("pointerup", release);
  over.addEventListener("pointercancel", release);
}
