// A table of many rows that change all the time: sorted, filtered, and written only where something is new.
//
// Rows are put in order again at most every RESORT_MS, and not under a pointer that moves over them: what a person is
// about to press must not jump away. A row that has the focus is never taken out of the page, so it keeps the focus.

import { matcher } from "/assets/filter.js";

const RESORT_MS = 1000;
const POINTER_RESTS_MS = 2000;

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
    this.build(caption);
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
    this.filterRow = filters;
    this.root = make("table", { role: "table" }, make("caption", {}, caption), make("thead", { role: "rowgroup" }, heads, filters), this.body);
    this.body.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") this.pointed = performance.now(); });
    this.showSort();
  }

  /** A row that is new or has changed. */
  put(row) {
    let known = this.rows.get(row.id);
    if (!known) {
      known = { cells: {}, shown: true };
      known.root = make("tr", { role: "row", "data-row": row.id });
      for (const { key, title } of this.columns) {
        const cell = make("td", { role: "cell", "data-column": key, "data-label": title });
        known.root.append(cell);
        known.cells[key] = { root: cell, parts: [], text: "" };
      }
      this.rows.set(row.id, known);
      this.order.push(known);
      this.body.append(known.root);
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
    known.root.remove();
  }

  /** Writes what changed. `all` also what only time changes, as ages. */
  draw(now, all) {
    for (const known of this.rows.values()) {
      if (!known.dirty && !all) continue;
      known.dirty = false;
      for (const column of this.columns) this.write(known, column, now);
      this.pass(known, now);
    }
    const rested = performance.now();
    if (this.unsorted || (rested - this.sorted > RESORT_MS && rested - this.pointed > POINTER_RESTS_MS)) this.arrange(now);
  }

  write(known, column, now) {
    const cell = known.cells[column.key];
    const { parts, kind, late, label } = column.cell(known.row, now, this.unit());
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
    cell.text = parts.map(([, text]) => text).filter(Boolean).join(" ");
  }

  /** Whether the filters let a row through. */
  pass(known, now) {
    const shown = this.columns.every((column) => {
      const filter = this.filters[column.key];
      return !filter || filter(column.numeric ? column.sort(known.row, now, this.unit()) : null, known.cells[column.key].text, known.row);
    });
    if (shown !== known.shown) { known.shown = shown; known.root.hidden = !shown; }
  }

  arrange(now) {
    this.unsorted = false;
    this.sorted = performance.now();
    const column = this.columns.find(({ key }) => key === this.sort.key);
    for (const known of this.order) known.by = column.sort(known.row, now, this.unit());
    const sign = this.sort.down ? -1 : 1;
    const order = (a, b) => (typeof a === "string" ? this.collator.compare(a, b) : a - b);
    this.order.sort((a, b) => {
      // What is not known is neither least nor most.
      if (a.by === null || b.by === null) return (a.by === null) - (b.by === null) || this.collator.compare(a.row.id, b.row.id);
      return sign * order(a.by, b.by) || this.collator.compare(a.row.id, b.row.id);
    });
    // From the last to the first, each before the one after it; the row with the focus stays and the others go round it.
    const kept = this.body.contains(document.activeElement) ? document.activeElement.closest("tr") : null;
    let after = null;
    for (let i = this.order.length - 1; i >= 0; i -= 1) {
      const { root } = this.order[i];
      if (root !== kept && root.nextElementSibling !== after) this.body.insertBefore(root, after);
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
