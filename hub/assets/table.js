// A table of many rows that change all the time: sorted and filtered by what they hold, not by what stands in the page.
//
// Every row is in the page, so that a search in it, a printer and a screen reader find it; the browser lays out only those
// in view (`content-visibility` in fleet.css), and only they are written as soon as something is new. The others are made
// and kept up a few at a time, so that no number of rows keeps the page from answering.
// Rows are put in order again at most every RESORT_MS, and not under a pointer that moves over them: what a person is
// about to press must not jump away. A row that has the focus is never taken out of the page, so it keeps the focus.

import { matcher } from "/assets/filter.js";

const RESORT_MS = 1000;
const POINTER_RESTS_MS = 2000;
// Rows that are made at a time, and rows out of view that are written at a time.
const MADE = 40;
const KEPT_UP = 30;
// Rows so near to the view are written as if they were in it: scrolled to, they are right already.
const NEAR = "200px 0px";

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export class Table {
  /** `on.link(row)` is where a row's name leads; `on.changed()` hears that sort or filter did. */
  constructor(columns, { caption, link, changed, unit }) {
    Object.assign(this, { columns, link, changed, unit });
    this.rows = new Map();
    this.sort = { key: "name", down: false };
    this.filters = {};
    this.order = [];
    this.collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
    this.sorted = 0;
    this.pointed = -Infinity;
    this.near = new Set();
    this.next = 0; // of the rows out of view, the one to be kept up next
    this.observer = new IntersectionObserver((changes) => this.looked(changes), { rootMargin: NEAR });
    this.build(caption);
    window.addEventListener("beforeprint", () => this.made().forEach((known) => this.write(known, Date.now())));
  }

  build(caption) {
    // The roles are named since a phone shows the rows as cards, and a table that is laid out as none is none to all browsers.
    this.body = make("tbody", { role: "rowgroup" });
    const [heads, filters] = [make("tr", { role: "row", class: "heads" }), make("tr", { role: "row", class: "filters" })];
    for (const column of this.columns) {
      const button = make("button", { type: "button" }, make("span", {}, column.title), make("span", { class: "arrow", "aria-hidden": "true" }));
      button.addEventListener("click", () => this.sortBy(column.key));
      column.head = make("th", { role: "columnheader", scope: "col", "data-column": column.key }, button);
      heads.append(column.head);
      const cell = make("td", { role: "cell", "data-column": column.key });
      if (column.key !== "status") {
        const hint = column.numeric ? ">5, 0..9" : "contains";
        column.input = make("input", { type: "search", "aria-label": `Filter by ${column.title.toLowerCase()}`, placeholder: hint, name: column.key, autocomplete: "off", spellcheck: "false" });
        column.input.addEventListener("input", () => this.filterBy(column.key, column.input.value));
        cell.append(make("span", { class: "of", "aria-hidden": "true" }, column.title), column.input);
      }
      filters.append(cell);
    }
    this.blank = make("tr", { role: "row" }, ...this.columns.map(({ key, title }) => make("td", { role: "cell", "data-column": key, "data-label": title })));
    this.root = make("table", { role: "table" }, make("caption", {}, caption), make("thead", { role: "rowgroup" }, heads, filters), this.body);
    this.body.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") this.pointed = performance.now(); });
    this.showSort();
  }

  /** A row that is new or has changed. */
  put(row) {
    let known = this.rows.get(row.id);
    if (!known) {
      known = { shown: true };
      this.rows.set(row.id, known);
      this.order.push(known);
      this.unsorted = true;
    }
    known.row = row;
    known.dirty = true;
  }

  /** A row that there is no more. */
  remove(id) {
    const known = this.rows.get(id);
    if (!known) return;
    this.rows.delete(id);
    this.order.splice(this.order.indexOf(known), 1);
    this.near.delete(known);
    if (!known.root) return;
    this.observer.unobserve(known.root);
    known.root.remove();
  }

  /** Writes what changed and is in view. `all` also what only time changes, as ages. */
  draw(now, all) {
    for (const known of this.order) {
      if (!known.dirty && !all) continue;
      known.dirty = false;
      this.pass(known, now);
      if (this.near.has(known)) this.write(known, now);
    }
    const rested = performance.now();
    if (this.unsorted || (rested - this.sorted > RESORT_MS && rested - this.pointed > POINTER_RESTS_MS)) this.arrange(now);
    if (!this.making) this.make();
  }

  /** Writes a few of the rows out of view, each time the next ones. */
  keepUp(now) {
    const made = this.made();
    for (let n = Math.min(KEPT_UP, made.length); n > 0; n -= 1) {
      const known = made[this.next++ % made.length];
      if (!this.near.has(known)) this.write(known, now);
    }
    this.next %= made.length || 1;
  }

  /** Those that are in the page, in the order in which they stand there. */
  made() {
    return this.order.filter(({ root }) => root);
  }

  /** Puts rows into the page that are not there yet: a few, and the next ones once the browser has shown those. */
  make() {
    const now = Date.now();
    let left = MADE;
    let before = null;
    this.making = false;
    for (const known of this.order) {
      if (!known.root && left === 0) {
        this.making = true;
        requestAnimationFrame(() => this.make());
        return;
      }
      if (!known.root) {
        left -= 1;
        known.root = this.blank.cloneNode(true);
        known.root.dataset.row = known.row.id;
        known.root.hidden = !known.shown;
        known.cells = [...known.root.children].map((cell) => ({ root: cell, parts: [] }));
        this.write(known, now);
        if (before) before.after(known.root); else this.body.prepend(known.root);
        this.observer.observe(known.root);
      }
      before = known.root;
    }
  }

  looked(changes) {
    const now = Date.now();
    for (const { target, isIntersecting } of changes) {
      const known = this.rows.get(target.dataset.row);
      if (!isIntersecting) this.near.delete(known);
      else if (known && !this.near.has(known)) {
        this.near.add(known);
        this.write(known, now);
      }
    }
  }

  write(known, now) {
    this.columns.forEach((column, i) => this.writeCell(known, known.cells[i], column.cell(known.row, now, this.unit())));
  }

  writeCell(known, cell, { parts, kind, late, label }) {
    parts.forEach(([name, text], i) => {
      let part = cell.parts[i];
      if (!part || part.name !== name) {
        const made = name === "link" ? make("a", { href: this.link(known.row) }) : make("span", { class: name });
        if (name === "dot") made.setAttribute("aria-hidden", "true");
        if (part) part.root.replaceWith(made); else cell.root.append(made);
        part = cell.parts[i] = { name, root: made, text: "" };
      }
      if (part.text !== text) { part.root.textContent = part.text = text; }
    });
    while (cell.parts.length > parts.length) cell.parts.pop().root.remove();
    if (cell.kind !== kind) { cell.kind = kind; if (kind) cell.root.dataset.kind = kind; else delete cell.root.dataset.kind; }
    if (cell.late !== late) { cell.late = late; cell.root.classList.toggle("late", Boolean(late)); }
    if (cell.label !== label) { cell.label = label; if (label) cell.root.title = label; else cell.root.removeAttribute("title"); }
  }

  /** Whether the filters let a row through. */
  pass(known, now) {
    const shown = this.columns.every((column) => {
      const filter = this.filters[column.key];
      if (!filter) return true;
      const text = column.cell(known.row, now, this.unit()).parts.map(([, part]) => part).filter(Boolean).join(" ");
      return filter(column.numeric ? column.sort(known.row, now, this.unit()) : null, text, known.row);
    });
    if (shown === known.shown) return;
    known.shown = shown;
    if (known.root) known.root.hidden = !shown;
  }

  arrange(now) {
    this.unsorted = false;
    this.sorted = performance.now();
    this.made().forEach((known, at) => { known.at = at; });
    const column = this.columns.find(({ key }) => key === this.sort.key);
    for (const known of this.order) known.by = column.sort(known.row, now, this.unit());
    const sign = this.sort.down ? -1 : 1;
    const order = (a, b) => (typeof a === "string" ? this.collator.compare(a, b) : a - b);
    this.order.sort((a, b) => {
      // What is not known is neither least nor most.
      if (a.by === null || b.by === null) return (a.by === null) - (b.by === null) || this.collator.compare(a.row.id, b.row.id);
      return sign * order(a.by, b.by) || this.collator.compare(a.row.id, b.row.id);
    });
    this.move();
  }

  /** Puts the rows of the page in their order by the fewest moves; the row with the focus stays and the others go round it. */
  move() {
    const made = this.made();
    const focused = this.body.contains(document.activeElement) ? document.activeElement.closest("tr") : null;
    const stay = staying(made.map(({ at }) => at), made.findIndex(({ root }) => root === focused));
    let after = null;
    for (let i = made.length - 1; i >= 0; i -= 1) {
      const { root } = made[i];
      if (!stay.has(i)) this.body.insertBefore(root, after);
      after = root;
    }
  }

  sortBy(key, down = this.sort.key === key ? !this.sort.down : false) {
    this.sort = { key, down };
    this.showSort();
    this.arrange(Date.now());
    this.changed();
  }

  showSort() {
    for (const { key, head } of this.columns) {
      const way = key !== this.sort.key ? "none" : this.sort.down ? "descending" : "ascending";
      head.setAttribute("aria-sort", way);
      head.querySelector(".arrow").textContent = { none: "", ascending: "▲", descending: "▼" }[way];
    }
  }

  filterBy(key, typed) {
    const column = this.columns.find((c) => c.key === key);
    if (column.input && column.input.value !== typed) column.input.value = typed;
    this.setFilter(key, typed.trim() ? matcher(typed, column.numeric) : null);
  }

  /** A filter of one's own: (number, text, row) -> bool. */
  setFilter(key, passes) {
    if (passes) this.filters[key] = passes; else delete this.filters[key];
    const now = Date.now();
    for (const known of this.rows.values()) this.pass(known, now);
    this.changed();
  }

  /** How many rows pass. */
  get shown() {
    let n = 0;
    for (const { shown } of this.rows.values()) n += shown;
    return n;
  }
}

/**
 * Which of the rows may stay where they are, the most that can: `at` is where each stood, in the order they are to have.
 * Those that stay are a longest ascending row of numbers; the one at `kept`, if any, is among them.
 */
export function staying(at, kept = -1) {
  const ends = []; // of the ascending rows of each length the least last one, as its index
  const previous = [];
  at.forEach((value, i) => {
    if (kept >= 0 && i !== kept && (i < kept) !== (value < at[kept])) return;
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (at[ends[middle]] < value) low = middle + 1; else high = middle;
    }
    previous[i] = ends[low - 1];
    ends[low] = i;
  });
  const stay = new Set();
  for (let i = ends.at(-1); i !== undefined; i = previous[i]) stay.add(i);
  return stay;
}
