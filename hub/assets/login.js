// A page that was opened as /#token=swk_… logs in with that key, and takes it out of the address.
// What stands after # is never sent to a server; it would stay in the browser's history.

const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {
  history.replaceState(null, "", location.pathname + location.search);
  const answer = await fetch("/api/v1/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ key: token }),
  }).catch(() => null);
  if (!answer?.ok) console.warn("The hub does not know the token in the address.");
}
