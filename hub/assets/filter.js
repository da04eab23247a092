// What a person types above a column: text that is to be in the cell, or a comparison where the column holds numbers.

const NUMBER = String.raw`(-?\d+(?:[.,]\d+)?)`;
const COMPARE = new RegExp(`^(<=|>=|<|>|=)\\s*${NUMBER}$`);
const RANGE = new RegExp(`^${NUMBER}\\s*(?:\\.\\.|–)\\s*${NUMBER}$`);

const real = (text) => Number(text.replace(",", "."));
// "= 22.2" means what is shown as 22.2, so half of its last digit counts as equal.
const slack = (text) => 0.5 * 10 ** -(text.replace(",", ".").split(".")[1]?.length ?? 0);

/** Whether a cell passes: (number or null, text) -> bool. */
export function matcher(typed, numeric) {
  const wanted = typed.trim().toLocaleLowerCase();
  if (!wanted) return () => true;
  const compared = numeric && COMPARE.exec(wanted);
  if (compared) {
    const [, sign, text] = compared;
    const limit = real(text);
    const holds = {
      "<": (v) => v < limit, ">": (v) => v > limit, "<=": (v) => v <= limit, ">=": (v) => v >= limit,
      "=": (v) => Math.abs(v - limit) < slack(text) + 1e-9,
    }[sign];
    return (value) => value !== null && holds(value);
  }
  const range = numeric && RANGE.exec(wanted);
  if (range) return (value) => value !== null && value >= real(range[1]) && value <= real(range[2]);
  return (_, text) => text.toLocaleLowerCase().includes(wanted);
}
