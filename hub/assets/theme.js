// Sets the colours before anything is drawn. No module: those run after the first paint, which would flash white at night.
{
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen;
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return chosen; } };
  const apply = () => {
    chosen = stored();
    const theme = chosen === "dark" || chosen === "light" ? chosen : dark.matches ? "dark" : "light";
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new Event("theme-changed"));
  };
  apply();
  dark.addEventListener("change", apply);
  // Chosen on this page, or on another of the same hub.
  document.addEventListener("theme-chosen", (event) => { chosen = event.detail; apply(); });
  addEventListener("storage", apply);
}
