"use strict";
// Keeps the page's theme, lets entries of a legend switch their marks off and on, and shows the value at the pointer.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  let chosen = "";

  const isDark = () => (chosen || (system.matches ? "dark" : "light")) === "dark";
  const named = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.hidden = false;
  named();
  button.addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    root.dataset.theme = chosen;
    named();
  });
  system.addEventListener("change", named);

  document.addEventListener("click", (event) => {
    const key = event.target.closest("button.key");
    if (!key) return;
    const off = key.getAttribute("aria-pressed") === "true";
    key.setAttribute("aria-pressed", String(!off));
    for (const one of key.closest("figure").querySelectorAll(`.drawing .${key.dataset.key}`)) {
      one.classList.toggle("off", off);
    }
  });

  const hint = document.getElementById("hint");
  const REACH = 30; // pixels from the pointer to the nearest value that is shown

  function nearest(drawing, event) {
    if (!drawing.spots) drawing.spots = JSON.parse(drawing.querySelector("script").textContent);
    const box = drawing.firstElementChild.getBoundingClientRect();
    const keys = [...drawing.closest("figure").querySelectorAll(".key")];
    let best = null;
    let reach = REACH;
    for (const [key, from, to, y, words] of drawing.spots) {
      if (keys[key] && keys[key].getAttribute("aria-pressed") === "false") continue;
      const [left, right] = [from, to].map((x) => box.left + (x * box.width) / 1000 - event.clientX);
      const far = Math.hypot(Math.max(left, -right, 0), box.top + (y * box.height) / 1000 - event.clientY);
      if (far < reach) {
        reach = far;
        best = [keys[key] ? keys[key].textContent : "", words];
      }
    }
    return best;
  }

  function point(event) {
    const drawing = event.target.closest(".drawing");
    const found = drawing && nearest(drawing, event);
    hint.hidden = !found;
    if (!found) return;
    hint.textContent = found[1].startsWith(found[0]) ? found[1] : found.join("\n");
    const { width, height } = hint.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, root.clientWidth - width - 8);
    const above = event.clientY + height + 24 > innerHeight;
    hint.style.left = `${scrollX + Math.max(4, left)}px`;
    hint.style.top = `${scrollY + event.clientY + (above ? -height - 12 : 16)}px`;
  }
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
})();
