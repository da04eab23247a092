// Asking the hub, and who asks. Whoever must log in first is sent to the login page and comes back from there.

/** A question that was not answered as hoped: `status` is 0 when the hub cannot be reached. */
export class Refused extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

// By how much the hub's clock is ahead of the browser's; a phone's may be minutes off, and what is told by its time is not.
let hubAhead = 0;

/** Now by the hub's clock, ms; the browser's own where the two agree to the second that an answer tells. */
export const hubNow = () => Date.now() + hubAhead;

export const toLogin = () => {
  if (location.pathname !== "/login") location.replace("/login?next=" + encodeURIComponent(location.pathname + location.search));
};

/** The answer of the hub as JSON. `stay` leaves a 401 to the caller. */
export async function ask(path, { signal, method = "GET", body, headers, stay } = {}) {
  let answer;
  try {
    const sent = body === undefined ? headers : { "Content-Type": "application/json", ...headers };
    answer = await fetch(path, { signal, method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The hub cannot be reached.");
  }
  const ahead = Date.parse(answer.headers.get("Date") ?? "") + 500 - Date.now();
  if (!Number.isNaN(ahead)) hubAhead = Math.abs(ahead) > 2000 ? ahead : 0;
  if (answer.status === 401 && !stay) toLogin();
  const text = await answer.text();
  let said = null;
  try { said = text ? JSON.parse(text) : null; } catch { /* Not from the hub's API: a proxy's page, perhaps. */ }
  if (!answer.ok) throw new Refused(answer.status, said?.error ?? `The hub answered ${answer.status}.`, answer.headers.get("Retry-After"));
  return said;
}

/** The answer, or `undefined` where this hub does not have what is asked. */
export async function askIfThere(path, options) {
  try {
    return await ask(path, options);
  } catch (error) {
    if (error.status === 404) return undefined;
    throw error;
  }
}

// Items of a list of many pages: what a page shows at most.
const MAX_ITEMS = 10_000;

/** All pages of a list, or `undefined` where this hub does not have it. */
export async function askAll(path, key, asked = {}, options) {
  const found = [];
  let after;
  do {
    const query = new URLSearchParams(after ? { ...asked, after } : asked);
    const page = await askIfThere(query.size ? `${path}?${query}` : path, options);
    if (!page) return undefined;
    found.push(...page[key]);
    after = page.next;
  } while (after && found.length < MAX_ITEMS);
  return found;
}

/** Where to go after login: a page of this hub, never another's. */
export function next(search) {
  const wanted = new URLSearchParams(search).get("next") ?? "/";
  try {
    const to = new URL(wanted, location.origin);
    return to.origin === location.origin && to.pathname !== "/login" ? to.pathname + to.search : "/";
  } catch { return "/"; }
}

/**
 * A page that was opened with #token=swk_… logs in with that key, and takes it out of the address. What stands after #
 * is never sent to a server, but it would stay in the browser's history.
 */
export async function byAddress() {
  const key = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!key) return;
  history.replaceState(null, "", location.pathname + location.search);
  await ask("/api/v1/login", { method: "POST", body: { key }, stay: true }).catch(() => {
    console.warn("The hub does not know the token in the address.");
  });
}

/** Shows who is logged in, with a button to log out. */
export async function showWho(options) {
  const me = await askIfThere("/api/v1/me", options).catch(() => undefined);
  if (!me?.user) return;
  const who = document.getElementById("who");
  who.querySelector(".name").textContent = me.user.name;
  who.title = `Logged in as ${me.user.name} (${me.role ?? me.user.role})`;
  who.hidden = false;
  who.querySelector("button").addEventListener("click", async () => {
    await ask("/api/v1/logout", { method: "POST" }).catch(() => {});
    location.assign("/login");
  });
}
