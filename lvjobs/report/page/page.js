"use strict";
// Draws each figure when it comes near the window, or all of them before the page is printed; keeps their colours
// with the theme; lets entries of a legend switch their lines off and on.
(() => {
  const root = document.documentElement;
  const panels = [...document.querySelectorAll(".panel")];
  const system = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const DARK = { "#000000": "#ece9e2", "#666666": "#a9adb5", "#DDDDDD": "#353c46", "#0072B2": "#3f9bd8" };
  const PAINTED = /colou?r$/i;
  const hidden = new WeakMap();
  let chosen = "";
  let printing = false;

  const isDark = () => !printing && (chosen || (system.matches ? "dark" : "light")) === "dark";

  function painted(value, swap) {
    if (Array.isArray(value)) return value.map((item) => painted(item, swap));
    if (value === null || typeof value !== "object") return value;
    const made = {};
    for (const [key, item] of Object.entries(value)) {
      const paints = swap && PAINTED.test(key) && typeof item === "string";
      made[key] = paints ? DARK[item] || item : typeof item === "object" ? painted(item, swap) : item;
    }
    return made;
  }

  // A name that leaves room for the plot: its beginning and its end.
  function short(text, room) {
    const most = Math.max(14, Math.floor(room));
    const plain = text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
    if (plain.length <= most) return text;
    const half = (most - 1) / 2;
    const kept = `${plain.slice(0, Math.ceil(half))}…${plain.slice(-Math.floor(half))}`;
    return kept.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  function draw(panel) {
    const dark = isDark();
    if (!panel.plot) panel.plot = JSON.parse(panel.querySelector("script").textContent);
    const { data, layout } = painted(panel.plot, dark);
    const off = hidden.get(panel.closest("figure")) || new Set();
    for (const trace of data) if (off.has(trace.meta)) trace.visible = false;
    layout.hoverlabel = { bgcolor: dark ? "#1d2229" : "#ffffff", bordercolor: "#7f7f7f", align: "left",
      font: { color: dark ? "#ece9e2" : "#16181d", size: 12 }, namelength: -1 };
    const height = Math.round(Number(panel.dataset.height) * (printing ? 0.8 : 1));
    panel.style.height = `${height}px`;
    layout.height = height;
    layout.width = panel.clientWidth;
    if (layout.xaxis.type === "date") layout.xaxis.nticks = Math.max(2, Math.floor(layout.width / 95));
    if (layout.yaxis.ticktext) layout.yaxis.ticktext = layout.yaxis.ticktext.map((text) => short(text, layout.width / 22));
    if (touch) layout.dragmode = false;
    const bar = ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"];
    const options = { displaylogo: false, modeBarButtonsToRemove: bar, displayModeBar: touch ? false : "hover" };
    try {
      if (!panel.dataset.drawn) panel.textContent = "";
      Plotly.react(panel, data, layout, options);
      panel.dataset.drawn = "yes";
    } catch (error) {
      console.error(error);
    }
  }

  const drawn = () => panels.filter((panel) => panel.dataset.drawn);
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) {
        near.unobserve(target);
        draw(target);
      }
    }
  }, { rootMargin: "300px" });
  panels.forEach((panel) => near.observe(panel));

  let width = innerWidth;
  let waiting = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // a phone's address bar comes and goes
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => drawn().forEach(draw), 120);
  });

  const button = document.getElementById("theme");
  const named = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.hidden = false;
  named();
  button.addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    root.dataset.theme = chosen;
    named();
    drawn().forEach(draw);
  });
  system.addEventListener("change", () => {
    named();
    if (!printing) drawn().forEach(draw);
  });

  document.addEventListener("click", (event) => {
    const key = event.target.closest("button.key");
    if (!key) return;
    const figure = key.closest("figure");
    const off = hidden.get(figure) || new Set();
    hidden.set(figure, off);
    const on = off.delete(key.dataset.key);
    if (!on) off.add(key.dataset.key);
    key.setAttribute("aria-pressed", String(on));
    panels.filter((panel) => panel.dataset.drawn && figure.contains(panel)).forEach(draw);
  });

  addEventListener("beforeprint", () => {
    printing = true;
    root.classList.add("printing");
    panels.forEach(draw);
  });
  addEventListener("afterprint", () => {
    printing = false;
    root.classList.remove("printing");
    drawn().forEach(draw);
  });
})();
