// Before the first paint: the colour scheme that was chosen, or the system's. Its own file because the page allows no inline script.
/* global localStorage, matchMedia, document */
(function () {
  function chosen() {
    try {
      return localStorage.getItem("narf-scheme");
    } catch {
      return null; // storage is switched off: the system decides
    }
  }
  var scheme = chosen();
  var dark = scheme === "dark" || (scheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light");
})();
