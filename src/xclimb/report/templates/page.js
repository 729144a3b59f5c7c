"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const figures = read("figures"), dark = read("dark");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const isNarrow = () => innerWidth <= 620;

  // a copy of a figure with every light colour exchanged for its dark twin
  const dyed = (node) => {
    if (typeof node === "string") return isDark() && node in dark ? dark[node] : node;
    if (Array.isArray(node)) return node.map(dyed);
    if (node && typeof node === "object") return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, dyed(value)]));
    return node;
  };

  const assign = (target, path, value) => {
    const keys = path.split("."), last = keys.pop();
    for (const key of keys) target = target[key] ??= {};
    target[last] = value;
  };

  const draw = (place) => {
    const stored = figures[place.dataset.figure];
    if (!stored) return Promise.resolve();
    const { data, layout } = dyed(stored);
    if (isNarrow()) {
      for (const [path, value] of Object.entries(layout.meta?.narrow ?? {})) assign(path.startsWith("data.") ? { data } : layout, path, value);
    }
    place.style.minHeight = `${layout.height}px`;
    return Plotly.react(place, data, layout, {
      responsive: true, displaylogo: false, displayModeBar: isNarrow() ? false : "hover",
      modeBarButtons: [["resetScale2d"]],
    });
  };

  const places = [...document.querySelectorAll(".plot")];
  const drawAll = async () => {
    for (const place of places) await draw(place);
    document.querySelectorAll(".save").forEach((each) => { each.hidden = false; });
    document.body.dataset.drawn = String(places.length);
  };

  const trouble = (text) => {
    byId("trouble").textContent = text;
    byId("trouble").hidden = false;
    places.forEach((place) => { place.style.minHeight = 0; });
  };

  const unpack = async () => {
    const packed = Uint8Array.from(atob(byId("plotly").textContent.trim()), (letter) => letter.charCodeAt(0));
    const code = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
    byId("plotly").remove();
  };

  const start = async () => {
    if (!places.length) return;
    if (!("DecompressionStream" in window)) {
      trouble("The figures need a browser from 2023 or later (one with DecompressionStream); all tables are complete without it.");
      return;
    }
    try {
      await unpack();
      await drawAll();
    } catch (error) {
      console.error(error);
      trouble("The figures could not be drawn in this browser; all tables are complete without them.");
      return;
    }
    system.addEventListener("change", drawAll);
    let narrow = isNarrow();
    addEventListener("resize", () => {
      if (narrow !== isNarrow()) { narrow = isNarrow(); drawAll(); }
    });
  };

  // what was folded away had no width when it was drawn
  document.querySelectorAll("details").forEach((each) => {
    each.addEventListener("toggle", () => { if (window.Plotly) each.querySelectorAll(".plot").forEach(draw); });
  });

  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    if (window.Plotly) drawAll();
  });

  document.querySelectorAll("select[data-for]").forEach((select) => {
    const place = places.find((each) => each.dataset.figure.startsWith(`${select.dataset.for}:`));
    const choose = () => { place.dataset.figure = select.value; if (window.Plotly) draw(place); };
    select.addEventListener("change", choose);
    choose(); // browsers keep the choice over a reload
  });

  document.querySelectorAll("button[data-save]").forEach((button) => {
    button.addEventListener("click", () => {
      const place = button.closest("figure").querySelector(".plot"), format = button.dataset.save;
      const filename = place.dataset.figure.replace(/[^\w.+-]+/g, "-");
      Plotly.downloadImage(place, { format, filename, width: place.offsetWidth, height: place.offsetHeight, scale: format === "png" ? 2 : 1 });
    });
  });

  // sorting: numbers by data-sort, names by text, what is missing always last
  const sortBy = (table, column, heading) => {
    const up = heading.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("thead th").forEach((each) => each.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)], [m, n] = [Number(x), Number(y)];
      const [noX, noY] = [x === "nan", y === "nan"];
      if (noX || noY) return noX - noY;
      const order = Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n;
      return up ? order : -order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("thead th").forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => sortBy(table, column, heading));
    });
  });

  start();
})();
