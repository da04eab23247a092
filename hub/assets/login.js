// The login page; it goes back to where the person came from.

import { ask, next } from "/assets/session.js";

export function start(main) {
  document.title = "Log in · Speedwell";
  main.innerHTML = `
    <form class="login" aria-labelledby="login-title">
      <h1 id="login-title">Log in</h1>
      <label>Name<input name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required></label>
      <label>Password<input name="password" type="password" autocomplete="current-password" required></label>
      <p class="wrong" role="alert"></p>
      <button type="submit">Log in</button>
    </form>`;
  const form = main.querySelector("form");
  const wrong = main.querySelector(".wrong");
  const button = main.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    button.disabled = true;
    try {
      const body = { name: form.elements.name.value.trim(), password: form.elements.password.value };
      await ask("/api/v1/login", { method: "POST", body, stay: true });
      location.replace(next(location.search));
    } catch (error) {
      wrong.textContent = said(error);
      form.elements.password.value = "";
      form.elements.password.focus();
    } finally { button.disabled = false; }
  });
  form.elements.name.focus();
  return () => {};
}

function said(error) {
  if (error.status === 401) return "Name or password is wrong.";
  if (error.status === 404) return "This hub has no login; all may look.";
  if (error.status === 429) return `Too many tries. Wait ${error.retryAfter ? error.retryAfter + " s" : "a while"}, then try again.`;
  return error.message;
}
