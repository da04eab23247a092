// The API, to be read and tried. Swagger UI is large, so only this page loads it; see uplot.js for the other guest.

const ELEMENT = "api";

const loaded = (element) => new Promise((resolve, reject) => {
  element.addEventListener("load", resolve);
  element.addEventListener("error", () => reject(new Error(`${element.src ?? element.href} cannot be loaded.`)));
  document.head.append(element);
});

export function start(main) {
  document.title = "API · Speedwell";
  const [note, place] = [document.createElement("p"), document.createElement("div")];
  note.className = "docs-note";
  note.append("Who is logged in here needs no key. Without a login, paste a key under “Authorize”. Readings and changes are real. ");
  const file = Object.assign(document.createElement("a"), { href: "/api/v1/openapi.json", textContent: "The description as a file" });
  note.append(file);
  place.id = ELEMENT;
  main.replaceChildren(note, place);
  colours();
  document.addEventListener("theme-changed", colours);
  show(place);
  return () => {};
}

// Swagger UI has dark colours under a class of its own on the root element.
const colours = () => document.documentElement.classList.toggle("dark-mode", document.documentElement.dataset.theme === "dark");

async function show(place) {
  try {
    const link = (href) => loaded(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
    const script = Object.assign(document.createElement("script"), { src: "/assets/swagger-ui.js" });
    await Promise.all([link("/assets/swagger-ui.css").then(() => link("/assets/docs.css")), loaded(script)]);
  } catch (error) {
    place.textContent = error.message;
    return;
  }
  window.SwaggerUIBundle({
    url: "/api/v1/openapi.json",
    dom_id: `#${ELEMENT}`,
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    tryItOutEnabled: true,
    // The one that is there by default asks a server of others whether the description is right.
    validatorUrl: null,
    // A pasted key is forgotten with the page.
    persistAuthorization: false,
  });
}
