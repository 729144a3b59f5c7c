"use strict";
// The crystals of a table: turned by mouse, finger or arrow keys, drawn as SVG, so that no WebGL is needed.
(() => {
  const viewer = document.getElementById("structure"), rows = [...document.querySelectorAll(viewer?.dataset.rows ?? "")];
  if (!rows.length) return;
  const all = JSON.parse(document.getElementById("structures").textContent);
  const svg = viewer.querySelector("svg"), caption = viewer.querySelector("figcaption"), sides = viewer.querySelector("select");
  const HALF = 100, FAR = 4;
  const TILT = [[0.94, -0.34, 0], [0.1, 0.28, 0.95], [-0.33, -0.9, 0.3]];
  let shown = 0, turn = TILT, zoom = 1;

  const add = (name, fields, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(fields)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    svg.append(made);
  };
  const times = (a, b) => a.map((row) => b[0].map((_, j) => row.reduce((sum, value, k) => sum + value * b[k][j], 0)));
  const about = (x, y) => {
    const [c, s, d, t] = [Math.cos(x), Math.sin(x), Math.cos(y), Math.sin(y)];
    return times([[1, 0, 0], [0, d, -t], [0, t, d]], [[c, 0, s], [0, 1, 0], [-s, 0, c]]);
  };
  // black or white, whatever is easier to read on a colour
  const ink = (colour) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#1d2430" : "#fff";
  };

  const draw = () => {
    const scene = all[shown][Number(sides.value)] ?? all[shown][0];
    svg.replaceChildren();
    if (!scene) return;
    const { elements, atoms, bonds, edges } = scene;
    const places = [];
    for (let at = 0; at < atoms.length; at += 4) places.push(atoms.slice(at + 1, at + 4));
    const corners = [];
    for (let at = 0; at < edges.length; at += 3) corners.push(edges.slice(at, at + 3));
    const size = Math.max(1.5, ...[...places, ...corners].map((place) => Math.hypot(...place))) + 0.6;
    // x and y in the picture, depth towards the reader, and how much nearer things grow
    const seen = (place) => {
      const [x, y, z] = turn.map((row) => row[0] * place[0] + row[1] * place[1] + row[2] * place[2]);
      const near = (zoom * HALF / size) * FAR * size / (FAR * size - z);
      return { x: near * x, y: -near * y, z, near };
    };
    const line = (a, b, kind, z = Math.min(a.z, b.z)) =>
      ({ z, put: () => add("line", { x1: a.x.toFixed(1), y1: a.y.toFixed(1), x2: b.x.toFixed(1), y2: b.y.toFixed(1), class: kind }) });
    const balls = places.map(seen), drawn = [];
    for (let at = 0; at < corners.length; at += 2) drawn.push(line(seen(corners[at]), seen(corners[at + 1]), "edge"));
    for (let at = 0; at < bonds.length; at += 2) drawn.push(line(balls[bonds[at]], balls[bonds[at + 1]], "bond"));
    balls.forEach((ball, at) => {
      const [symbol, colour, radius] = elements[atoms[4 * at]], r = radius * ball.near;
      drawn.push({ z: ball.z, put: () => {
        add("circle", { cx: ball.x.toFixed(1), cy: ball.y.toFixed(1), r: r.toFixed(1), fill: colour });
        if (r > 5) add("text", { x: ball.x.toFixed(1), y: ball.y.toFixed(1), "font-size": Math.min(11, r * (symbol.length > 1 ? 0.9 : 1.1)).toFixed(1), fill: ink(colour) }, symbol);
      } });
    });
    drawn.sort((a, b) => a.z - b.z).forEach((one) => one.put());
  };

  const words = (row) => [...row.cells].map((cell) => cell.firstChild.textContent.trim());
  const choose = (index) => {
    shown = index;
    const scenes = all[index], row = rows[index], cells = words(row);
    rows.forEach((each) => each.toggleAttribute("aria-current", each === row));
    sides.closest("label").hidden = scenes.length < 2;
    const description = viewer.dataset.description.replace(/\{(\d+)\}/g, (_, place) => cells[place]);
    caption.textContent = scenes.length ? `${description}.` : `${description}; too large to be drawn here.`;
    svg.setAttribute("aria-label", `Structure of ${description}. Arrow keys turn it, plus and minus zoom, zero goes back.`);
    draw();
  };

  rows.forEach((row, index) => {
    const name = row.cells[0], button = document.createElement("button");
    button.type = "button";
    button.textContent = name.textContent.trim();
    button.setAttribute("aria-label", `Show the structure of ${words(row).join(", ")}`);
    name.replaceChildren(button);
    row.addEventListener("click", () => choose(index));
  });
  sides.addEventListener("change", draw);

  const rotate = (x, y) => { turn = times(about(x, y), turn); draw(); };
  const scale = (factor) => { zoom = Math.min(4, Math.max(0.5, zoom * factor)); draw(); };
  const reset = () => { turn = TILT; zoom = 1; draw(); };
  const keys = {
    ArrowLeft: () => rotate(-0.15, 0), ArrowRight: () => rotate(0.15, 0), ArrowUp: () => rotate(0, -0.15), ArrowDown: () => rotate(0, 0.15),
    "+": () => scale(1.15), "=": () => scale(1.15), "-": () => scale(1 / 1.15), 0: reset,
  };
  svg.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  let last = null;
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); last = event; });
  svg.addEventListener("lostpointercapture", () => { last = null; });
  svg.addEventListener("pointermove", (event) => {
    if (!last) return;
    rotate((event.clientX - last.clientX) * 0.01, (event.clientY - last.clientY) * 0.01);
    last = event;
  });
  svg.addEventListener("dblclick", reset);
  choose(0);
})();
