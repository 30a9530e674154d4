"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const make = (tag, text, parent) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; if (parent) parent.append(e); return e; };

// The table of runs. A cell is a value, or [value, its text].
const table = document.getElementById("runs"), body = table.tBodies[0], head = table.tHead.rows[0];
let sorted = { column: -1, up: true };
const valueOf = cell => Array.isArray(cell) ? cell[0] : cell;
const empty = v => v === null || v === "";
const textOf = cell => Array.isArray(cell) ? cell[1] : empty(cell) ? "" : typeof cell === "number" && !Number.isInteger(cell) ? Number(cell.toPrecision(4)).toString() : String(cell);
const isNumeric = data.columns.map((_, i) => data.rows.every(r => empty(valueOf(r.cells[i])) || typeof valueOf(r.cells[i]) === "number"));
for (const state of new Set(data.rows.map(r => r.state))) make("option", state, document.getElementById("state")).value = state;
data.columns.forEach((name, i) => {
  const th = make("th", undefined, head), button = make("button", name, th);
  if (isNumeric[i]) th.className = "number";
  button.type = "button";
  button.onclick = () => { sorted = { column: i, up: sorted.column === i ? !sorted.up : !isNumeric[i] }; draw(); };
});
if (data.links) make("th", "W&B", head);
function draw() {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const state = document.getElementById("state").value;
  let rows = data.rows.filter(r => (!state || r.state === state) && words.every(w => r.text.includes(w)));
  const c = sorted.column;
  [...head.cells].forEach((th, i) => i === c ? th.setAttribute("aria-sort", sorted.up ? "ascending" : "descending") : th.removeAttribute("aria-sort"));
  if (c >= 0) rows = [...rows].sort((a, b) => {
    const x = valueOf(a.cells[c]), y = valueOf(b.cells[c]);
    if (empty(x) || empty(y)) return empty(x) - empty(y);
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
    return sorted.up ? order : -order;
  });
  body.replaceChildren(...rows.map(r => {
    const tr = document.createElement("tr");
    tr.tabIndex = 0;
    r.cells.forEach((cell, i) => { const td = make("td", textOf(cell), tr); td.dataset.label = data.columns[i]; if (isNumeric[i]) td.className = "number"; });
    if (data.links) {
      const td = make("td", undefined, tr);
      if (r.link) { const a = make("a", "run", td); a.href = r.link; a.onclick = e => e.stopPropagation(); td.dataset.label = "W&B"; }
    }
    tr.onclick = () => open(tr, r);
    tr.onkeydown = e => { if (e.key === "Enter" && e.target === tr) open(tr, r); };
    return tr;
  }));
  document.getElementById("shown").textContent = rows.length + " of " + data.rows.length + " runs";
}
function open(tr, r) {
  if (tr.nextSibling && tr.nextSibling.className === "opened") { tr.nextSibling.remove(); return; }
  const more = document.createElement("tr"), td = make("td", undefined, more);
  more.className = "opened"; td.className = "more"; td.colSpan = head.cells.length;
  make("div", r.name, td);
  if (r.error) make("pre", r.error, td);
  make("pre", r.command, td);
  make("pre", r.config, td);
  tr.after(more);
}
data.rows.forEach(r => r.text = [...r.cells.map(textOf), r.name, r.setting, r.command].join(" ").toLowerCase());
document.getElementById("filter").oninput = draw;
document.getElementById("state").onchange = draw;
draw();

for (const button of document.querySelectorAll(".enlarge")) button.onclick = () => button.parentNode.classList.toggle("large");

// The spheres, which turn together. Past ten classes colours repeat, with another symbol.
if (data.spheres.length && window.Plotly) {
  document.getElementById("sphere-part").hidden = false;
  document.getElementById("sphere-note").textContent = data.spheres_note;
  const symbols = [["circle", "●"], ["square", "■"], ["cross", "✚\uFE0E"], ["x", "✖\uFE0E"], ["circle-open", "○"], ["square-open", "□"], ["diamond-open", "◇"]];
  const colours = data.colours, key = document.getElementById("classes"), tip = document.getElementById("tip"), plots = [];
  const nameOf = label => data.classes[label] ?? "class " + label, symbolOf = label => symbols[Math.floor(label / 10) % symbols.length];
  const swatch = (label, parent) => { const s = make("span", symbolOf(label)[1], parent); s.className = "mark"; s.style.color = colours[label]; };
  let shown = null, pinned = null;
  const colourOf = label => shown === null || label === shown ? colours[label] : "#e2e2e2";
  const standOut = label => {
    if (label === shown) return;
    shown = label;
    for (const entry of key.children) entry.classList.toggle("on", entry.label === shown);
    plots.forEach((plot, i) => {
      const sphere = data.spheres[i];
      Plotly.restyle(plot, { "marker.color": [sphere.labels.map(colourOf), sphere.prototypes.map((_, l) => colourOf(l))] }, [1, 2]);
      Plotly.restyle(plot, { "marker.line.color": shown === null ? ink : "#cfcfcf" }, [2]);
    });
  };
  const labels = [...new Set(data.spheres.flatMap(sphere => sphere.labels))].sort((a, b) => a - b);
  for (const label of labels) {
    const entry = make("button", undefined, key);
    entry.type = "button"; entry.label = label;
    swatch(label, entry); entry.append(nameOf(label));
    entry.onpointerenter = e => { if (e.pointerType === "mouse") standOut(label); };
    entry.onpointerleave = e => { if (e.pointerType === "mouse") standOut(pinned); };
    entry.onclick = () => { pinned = pinned === label ? null : label; standOut(pinned); };
  }
  const ink = getComputedStyle(document.body).color, line = "#d9d9de";
  const ring = [[], [], []];
  for (const tilt of [0, 45, 90, 135]) {
    for (let a = 0; a <= 360; a += 6) { const t = a * Math.PI / 180, p = tilt * Math.PI / 180; ring[0].push(Math.cos(t) * Math.cos(p)); ring[1].push(Math.cos(t) * Math.sin(p)); ring[2].push(Math.sin(t)); }
    ring.forEach(r => r.push(null));
  }
  for (let a = 0; a <= 360; a += 6) { const t = a * Math.PI / 180; ring[0].push(Math.cos(t)); ring[1].push(Math.sin(t)); ring[2].push(0); }
  let moving = false;
  const together = (from, camera) => {
    if (moving || !camera) return;
    moving = true;
    requestAnimationFrame(() => Promise.all(plots.filter(p => p !== from).map(p => Plotly.relayout(p, { "scene.camera": camera }))).finally(() => { moving = false; }));
  };
  for (const sphere of data.spheres) {
    const figure = make("figure", undefined, document.getElementById("spheres")), div = make("div", undefined, figure);
    div.className = "plot"; make("figcaption", sphere.label, figure);
    const axis = { visible: false, range: [-1.05, 1.05] };
    const scatter = (points, extra) => ({ type: "scatter3d", mode: "markers", x: points.map(p => p[0]), y: points.map(p => p[1]), z: points.map(p => p[2]), hoverinfo: "none", ...extra });
    const traces = [
      { type: "scatter3d", mode: "lines", x: ring[0], y: ring[1], z: ring[2], line: { color: line, width: 2 }, hoverinfo: "skip" },
      scatter(sphere.points, { marker: { size: 3.5, color: sphere.labels.map(colourOf), symbol: sphere.labels.map(l => symbolOf(l)[0]) }, customdata: sphere.labels.map((l, i) => [l, i]) }),
      scatter(sphere.prototypes, { marker: { size: sphere.prototypes.length > 20 ? 5 : 7, symbol: "diamond", color: sphere.prototypes.map((_, l) => colourOf(l)), line: { color: ink, width: 2 } }, customdata: sphere.prototypes.map((_, l) => [l, -1]) }),
    ];
    Plotly.newPlot(div, traces, { margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", scene: { xaxis: axis, yaxis: axis, zaxis: axis, aspectmode: "cube", dragmode: "orbit", camera: { eye: { x: 1, y: 1, z: .7 } } } }, { displayModeBar: false, responsive: true });
    plots.push(div);
    div.on("plotly_relayouting", e => together(div, e["scene.camera"]));
    div.on("plotly_relayout", e => together(div, e["scene.camera"]));
    div.on("plotly_hover", e => {
      const [label, index] = e.points[0].customdata;
      tip.replaceChildren();
      if (index >= 0 && data.thumbnails[index]) make("img", undefined, tip).src = "data:image/png;base64," + data.thumbnails[index];
      const words = make("div", undefined, tip);
      swatch(label, words); words.append((index < 0 ? "prototype of " : "") + nameOf(label));
      for (const entry of key.children) if (entry.label === label) { entry.classList.add("on"); key.scrollTop = entry.offsetTop - key.offsetTop; }
      tip.style.display = "block";
    });
    div.on("plotly_unhover", () => { tip.style.display = "none"; for (const entry of key.children) entry.classList.toggle("on", entry.label === shown); });
    div.onmousemove = e => { tip.style.left = Math.min(e.clientX + 14, innerWidth - 240) + "px"; tip.style.top = e.clientY + 14 + "px"; };
  }
}
window.reportReady = true;
