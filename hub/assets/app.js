// Every page begins here: the header, who is logged in, and the page that the address names.

import { choices } from "/assets/prefs.js";
import { byAddress, showWho } from "/assets/session.js";

const PAGES = [
  [/^\/$/, "fleet"],
  [/^\/gateway\/([^/]+)$/, "gateway"],
  [/^\/history$/, "history"],
  [/^\/docs$/, "docs"],
  [/^\/login$/, "login"],
];

const main = document.getElementById("main");
const [at, name] = PAGES.map(([path, page]) => [path.exec(location.pathname), page]).find(([found]) => found) ?? [];
document.body.dataset.page = name ?? "none";
document.querySelector(`nav [data-page="${name}"]`)?.setAttribute("aria-current", "page");

if (name) {
  await byAddress();
  // What is described is no secret: there, nobody is sent to the login.
  if (name !== "login") showWho({ stay: name === "docs" });
  const page = await import(`/assets/${name}.js`);
  // A page gives what is to be done when the unit has changed.
  choices(page.start(main, at[1] && decodeURIComponent(at[1])));
} else {
  choices(() => {});
  main.textContent = "There is no such page on this hub.";
}
