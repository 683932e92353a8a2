"use strict";
// A replay: every number is read from the page's data, none is computed anew but for drawing.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const svg = (tag, attributes, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const [POSTER, DICE, FORWARD, DIFFERENCE, NEURON, BACK, BLAME, UPDATE, FILM, VALLEY, TAPE] =
  Array.from({ length: 11 }, (_, i) => i);
const layers = data.widths.length - 1;
const frames = data.film.steps.length;
const state = { scene: 0, step: 0, edge: [0, 0, 0], frame: frames - 1, walk: data.valley.steps,
  progress: 1, playing: false, speed: 1, fog: true, numbers: false, guessed: false };
const reduced = matchMedia("(prefers-reduced-motion: reduce)");

// Numbers: as fbp.show.payload.shown writes them.
const fixed = (x, decimals) => x.toFixed(decimals);
function shown(x) {
  if (typeof x === "string") x = Number(x.replace("inf", "Infinity"));
  if (Number.isNaN(x)) return "not a number";
  const sign = x < 0 ? "\u2212" : "", size = Math.abs(x);
  if (size === 0) return "0";
  if (size === Infinity) return sign + "\u221e";
  const power = Math.floor(Math.log10(size));
  if (power >= -3 && power < 5) return sign + fixed(size, Math.max(0, 2 - power));
  const raised = String(power).replace(/./g, (c) => "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"["-0123456789".indexOf(c)]);
  return `${sign}${fixed(size / 10 ** power, 2)}\u00b710${raised}`;
}
const edgeName = ([l, i, j]) => `${data.names[l][i]} \u2192 ${data.names[l + 1][j]}`;
function at(path) {
  const [l, i, j] = state.edge;
  const known = { "@s": state.step, "@l": l, "@i": i, "@j": j, "@f": state.frame };
  let value = data;
  for (const part of path.split(".")) {
    if (value === null || value === undefined) return null;
    const key = part in known ? known[part] : part;
    value = Array.isArray(value) ? value[key === "@last" ? value.length - 1 : key] : value[key];
  }
  return value;
}
function written(kind, path) {
  if (path === "chosen") return edgeName(state.edge);
  const value = at(path);
  if (kind === "edge") return edgeName(value);
  if (kind === "integer") return value.toLocaleString("en-US");
  if (kind === "percent") return `${Math.round(100 * value)} %`;
  if (kind === "text") return value;
  return value === null || value === undefined ? "" : shown(value);
}
function writeNumbers() {
  for (const node of document.querySelectorAll("[data-path]"))
    node.textContent = written(node.dataset.kind, node.dataset.path);
}

// Drawing.
const number = (x) => (typeof x === "string" ? Number(x.replace("inf", "Infinity")) : x);
const signOf = (x) => (number(x) < 0 ? "neg" : "pos");
const widthOf = (w) => 0.75 + 7.25 * Math.min(1, Math.abs(number(w)) / data.largest_weight);
// One logarithmic scale for the whole run: the top four decades go from 2 to 10 px.
function pulseRadius(x) {
  const size = Math.abs(number(x)) / data.largest_pulse;
  if (!(size > 0)) return 0;
  return 2 + 8 * Math.max(0, Math.min(1, (Math.log10(size) + 4) / 4));
}
const center = (layer, i) => data.positions[layer][i];
const along = ([x1, y1], [x2, y2], t) => [x1 + (x2 - x1) * t, y1 + (y2 - y1) * t];
const diamond = (x, y, r) => `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z`;
function* everyEdge() {
  for (let l = 0; l < layers; l++)
    for (let i = 0; i < data.widths[l]; i++)
      for (let j = 0; j < data.widths[l + 1]; j++) yield [l, i, j];
}
function pulse(group, value, [x, y], backward) {
  const r = pulseRadius(value);
  const sign = signOf(value);
  if (r === 0) { group.append(svg("text", { x, y: y + 4, class: "zero-signal" }, "0")); return; }
  const look = { class: `pulse ${sign}${r <= 2 ? " small" : ""}`, "data-size": r.toFixed(3) };
  group.append(backward ? svg("path", { d: diamond(x, y, r), ...look }) : svg("circle", { cx: x, cy: y, r, ...look }));
  if (r >= 6) group.append(svg("text", { x, y: y + 4, class: "sign" }, sign === "neg" ? "\u2212" : "+"));
}
function weightsShown() {
  const slow = data.steps[state.step].layers;
  if (state.scene === POSTER) return frameWeights(frames - 1);
  if (state.scene === FILM) return frameWeights(state.frame);
  return slow.map((layer) => (state.scene === UPDATE && state.progress >= 0.5
    ? { w: layer.w_next, b: layer.b_next } : { w: layer.w, b: layer.b }));
}
const frameWeights = (f) => data.film.weights.map((layer) => ({ w: layer.w[f], b: layer.b[f] }));

function drawNet() {
  const { scene, progress } = state, slow = data.steps[state.step].layers, now = weightsShown();
  const pulses = byId("pulses"), ghosts = byId("ghosts");
  pulses.replaceChildren(); ghosts.replaceChildren();
  const grown = scene === DICE ? progress : 1;
  for (const [l, i, j] of everyEdge()) {
    const line = byId(`e${l}-${i}-${j}`), w = now[l].w[i][j];
    const chosen = scene !== POSTER && String([l, i, j]) === String(state.edge);
    line.setAttribute("class", `edge ${signOf(w)}${chosen ? " chosen" : ""}`);
    line.setAttribute("stroke-width", (widthOf(w) * grown).toFixed(3));
    if (scene === VALLEY) {
      const walked = data.valley.ends.some((e) => String(e) === String([l, i, j]));
      line.setAttribute("class", `edge ${signOf(w)}${walked ? " chosen" : " dim"}`);
    }
  }
  for (let l = 0; l < data.positions.length; l++)
    for (let i = 0; i < data.widths[l]; i++) {
      const group = byId(`n${l}-${i}`), circle = group.querySelector("circle");
      const bias = group.querySelector(".bias");
      if (bias) bias.setAttribute("class", `bias ${signOf(now[l - 1].b[i])}`);
      group.querySelector(".value").textContent = neuronValue(l, i);
      const d_a = l ? slow[l - 1].d_a[i] : null;
      const reached = scene === BACK ? progress * layers >= layers - l : scene === NEURON ? l === layers : scene === BLAME;
      circle.setAttribute("class", d_a !== null && reached ? signOf(d_a) : "");
    }
  const moved = Math.min(1, progress);
  if (scene === FORWARD) flow(pulses, slow, moved, "carried", false);
  if (scene === BACK) flow(pulses, slow, moved, "message", true);
  if (scene === BLAME)
    for (const [l, i, j] of everyEdge()) {
      const [from, to] = [center(l, i), center(l + 1, j)], meet = rest(l, j);
      pulse(pulses, slow[l].x[i], along(from, to, meet * moved - 0.03), false);
      pulse(pulses, slow[l].d_a[j], along(from, to, 1 - (1 - meet) * moved + 0.03), true);
    }
  if (scene === UPDATE && progress >= 0.5)
    for (const [l, i, j] of everyEdge()) {
      const [x, y] = along(center(l, i), center(l + 1, j), rest(l, j));
      const change = number(slow[l].w_next[i][j]) - number(slow[l].w[i][j]);
      const r = pulseRadius(change);
      const [[x1, y1], [x2, y2]] = [center(l, i), center(l + 1, j)];
      ghosts.append(svg("line", { x1, y1, x2, y2, class: "ghost", "stroke-width": widthOf(slow[l].w[i][j]).toFixed(3) }));
      const tip = change < 0 ? y + r : y - r;
      if (r > 0) pulses.append(svg("path", { class: "arrow", d: `M${x - r * 0.8} ${y}L${x + r * 0.8} ${y}L${x} ${tip}Z` }));
    }
}
// Where a signal comes to rest on its edge: farther on for each next neuron, so that none hides another.
const rest = (l, j) => 0.32 + (0.4 * (j + 0.5)) / data.widths[l + 1];
function flow(group, slow, moved, field, backward) {
  for (const [l, i, j] of everyEdge()) {
    const order = backward ? layers - 1 - l : l;
    const t = Math.max(0, Math.min(1, moved * layers - order));
    if (t === 0) continue;
    const [from, to] = [center(l, i), center(l + 1, j)];
    const stop = rest(l, j);
    pulse(group, slow[l][field][i][j], along(from, to, backward ? 1 - (1 - stop) * t : stop * t), backward);
  }
}
function neuronValue(l, i) {
  const { scene, step, numbers } = state, slow = data.steps[step].layers;
  if (data.radius < 9 && !numbers) return "";
  if ([POSTER, DICE, FILM, VALLEY, TAPE].includes(scene)) return "";
  if (scene === FORWARD && state.progress * layers < l) return "";
  if ([BACK, NEURON].includes(scene) && l > 0) {
    const reached = scene === NEURON ? l === layers : state.progress * layers >= layers - l;
    return reached ? shown(slow[l - 1].d_a[i]) : "";
  }
  return shown(l ? slow[l - 1].h[i] : slow[0].x[i]);
}

// The picture beside the network.
const WIDE = 380, HIGH = 300;
function drawSide() {
  const side = byId("side");
  side.querySelectorAll(":scope > g").forEach((node) => node.remove());
  const group = svg("g", {});
  side.append(group);
  const draw = { [POSTER]: film, [DICE]: bars, [FORWARD]: squash, [DIFFERENCE]: bars, [NEURON]: tangent,
    [BACK]: sizes, [BLAME]: sizes, [UPDATE]: sizes, [FILM]: film, [VALLEY]: valley, [TAPE]: sizes }[state.scene];
  byId("side-d").textContent = draw(group);
}
function scale(low, high, from, to) {
  const span = high - low || 1;
  return (x) => from + ((x - low) / span) * (to - from);
}
function bars(group) {
  const last = data.steps[state.step].layers[layers - 1];
  if (state.scene === DICE) {
    group.append(svg("text", { x: WIDE / 2, y: HIGH / 2 }, "Nothing flows yet."));
    return "Nothing flows yet.";
  }
  const count = Math.min(10, last.h.length), t = data.steps[state.step].t;
  const low = Math.min(0, ...last.h.map(number), ...t.map(number));
  const high = Math.max(1, ...last.h.map(number), ...t.map(number));
  const x = scale(low, high, 70, WIDE - 40);
  for (let k = 0; k < count; k++) {
    const top = 40 + (k * 220) / count, tall = Math.min(40, 160 / count);
    const h = number(last.h[k]), target = number(t[k]);
    group.append(svg("text", { x: 8, y: top + tall / 2 + 4, class: "left" }, data.names[layers][k].slice(0, 9)));
    group.append(svg("rect", { x: Math.min(x(0), x(h)), y: top, width: Math.abs(x(h) - x(0)), height: tall, class: "bar" }));
    group.append(svg("rect", { x: Math.min(x(h), x(target)), y: top + tall * 0.35, width: Math.abs(x(h) - x(target)), height: tall * 0.3, class: "gap" }));
    group.append(svg("line", { x1: x(target), x2: x(target), y1: top - 4, y2: top + tall + 4, class: "target" }));
    group.append(svg("text", { x: WIDE - 34, y: top + tall / 2 + 4, class: "left" }, shown(last.h[k])));
  }
  group.append(svg("text", { x: WIDE / 2, y: 22 }, "bar: output; dashed line: target; orange: the difference"));
  return last.h.map((h, k) => `${data.names[layers][k]} says ${shown(h)}, should say ${shown(t[k])}.`).join(" ");
}
function curveOf(group, which) {
  const xs = data.curves.x, ys = data.curves[which];
  const x = scale(xs[0], xs[xs.length - 1], 36, WIDE - 16);
  const y = scale(Math.min(0, ...ys), Math.max(1, ...ys), HIGH - 40, 30);
  group.append(svg("path", { class: "axis", d: `M36 ${y(0)}H${WIDE - 16}M${x(0)} 30V${HIGH - 40}` }));
  group.append(svg("path", { class: "curve", d: xs.map((v, k) => `${k ? "L" : "M"}${x(v).toFixed(1)} ${y(ys[k]).toFixed(1)}`).join("") }));
  return [x, y, xs[0], xs[xs.length - 1]];
}
function squash(group) {
  const [l, , j] = state.edge, isLast = l === layers - 1;
  const which = isLast ? "last" : "hidden";
  if (!data.curves[which]) return sizes(group);
  const [x, y, low, high] = curveOf(group, which), part = data.steps[state.step].layers[l];
  const a = number(part.a[j]), h = number(part.h[j]), inside = Math.max(low, Math.min(high, a));
  group.append(svg("path", { class: "target", d: `M${x(inside)} ${y(0)}V${y(h)}H${x(0)}` }));
  group.append(svg("circle", { class: "walker", cx: x(inside), cy: y(h), r: 6 }));
  group.append(svg("text", { x: WIDE / 2, y: 18 }, `${data.names[l + 1][j]}: a = ${shown(part.a[j])} becomes h = ${shown(part.h[j])}`));
  return `The squashing function: the sum ${shown(part.a[j])} becomes ${shown(part.h[j])}.`;
}
function tangent(group) {
  const part = data.steps[state.step].layers[layers - 1];
  if (!data.curves.last || !part.slope) return sizes(group);
  const [x, y, low, high] = curveOf(group, "last");
  const a = number(part.a[0]), h = number(part.h[0]), slope = number(part.slope[0]);
  const inside = Math.max(low, Math.min(high, a)), reach = 1.4 * state.progress;
  group.append(svg("line", { class: "tangent", x1: x(inside - reach), x2: x(inside + reach), y1: y(h - reach * slope), y2: y(h + reach * slope) }));
  group.append(svg("circle", { class: "walker", cx: x(inside), cy: y(h), r: 6 }));
  group.append(svg("text", { x: WIDE / 2, y: 18 }, `slope ${shown(part.slope[0])} at a = ${shown(part.a[0])}`));
  return `The squashing function has the slope ${shown(part.slope[0])} at ${shown(part.a[0])}.`;
}
// The sizes of a layer's numbers, as bars on one logarithmic axis.
function sizes(group) {
  const field = { [BLAME]: "d_w", [UPDATE]: "d_w" }[state.scene] || "message";
  const title = field === "d_w" ? "size of dL/dw, layer by layer" : "size of what each edge carries back";
  const slow = data.steps[state.step].layers, values = slow.map((part) => part[field].flat().map(number));
  const top = Math.max(1e-12, ...values.flat().map(Math.abs).filter(Number.isFinite));
  const y = (v) => 40 + (HIGH - 80) * Math.min(1, Math.max(0, -Math.log10(Math.abs(v) / top) / 4));
  group.append(svg("text", { x: WIDE / 2, y: 18 }, title));
  for (let d = 0; d <= 4; d += 2) {
    group.append(svg("path", { class: "axis", d: `M60 ${40 + ((HIGH - 80) * d) / 4}H${WIDE - 10}` }));
    group.append(svg("text", { class: "left", x: 4, y: 44 + ((HIGH - 80) * d) / 4 }, shown(top / 10 ** d)));
  }
  values.forEach((column, l) => {
    const x = 60 + ((l + 0.5) * (WIDE - 70)) / layers;
    column.forEach((v, k) => {
      const shift = x + ((k + 0.5) / column.length - 0.5) * Math.min(60, (WIDE - 90) / layers);
      if (v !== 0) group.append(svg("path", { class: `pulse ${signOf(v)}`, d: diamond(shift, y(v), 4) }));
    });
    group.append(svg("text", { x, y: HIGH - 14 }, l === 0 ? "first edges" : l === layers - 1 ? "last edges" : `edges ${l + 1}`));
  });
  return `${title}; the largest is ${shown(top)}.`;
}
const decode = (packed) => Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
const mapBytes = data.film.maps && decode(data.film.maps), surfaceBytes = decode(data.valley.surface);
function blend(t, dark) {
  // From orange over the paper to blue, zero in the middle.
  const [from, mid, to] = dark ? [[253, 174, 97], [36, 36, 36], [116, 173, 209]] : [[224, 130, 20], [247, 247, 247], [67, 147, 195]];
  const [a, b, s] = t < 0.5 ? [from, mid, t * 2] : [mid, to, t * 2 - 1];
  return `rgb(${a.map((c, k) => Math.round(c + (b[k] - c) * s)).join(",")})`;
}
const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches && !state.printing;
function field(group, bytes, offset, side, [left, top, wide, high], color) {
  const levels = new Map(), w = wide / side, h = high / side;
  for (let r = 0; r < side; r++)
    for (let c = 0; c < side; c++) {
      const level = Math.round(bytes[offset + r * side + c] / 16);
      const cell = `M${(left + c * w).toFixed(2)} ${(top + r * h).toFixed(2)}h${(w + 0.3).toFixed(2)}v${(h + 0.3).toFixed(2)}h-${(w + 0.3).toFixed(2)}z`;
      levels.set(level, (levels.get(level) || "") + cell);
    }
  for (const [level, path] of levels) group.append(svg("path", { d: path, fill: color(level / 16) }));
}
function film(group) {
  const f = state.scene === POSTER ? frames - 1 : state.frame, maps = data.film.maps;
  let left = 20;
  if (maps) {
    const dark = isDark(), box = [10, 34, 190, 190], [x0, x1, y0, y1] = data.film.plane;
    field(group, mapBytes, f * maps.side ** 2, maps.side, box, (t) => blend(maps.low + t * (maps.high - maps.low), dark));
    const x = scale(x0, x1, 10, 200), y = scale(y0, y1, 224, 34);
    data.film.points.forEach(([px, py], k) => {
      const one = number(data.film.targets[k]) > 0.5;
      group.append(one ? svg("circle", { class: "one", cx: x(px), cy: y(py), r: 5 })
        : svg("rect", { class: "zero", x: x(px) - 4.5, y: y(py) - 4.5, width: 9, height: 9 }));
    });
    group.append(svg("text", { x: 105, y: 22 }, "output over the plane"));
    group.append(svg("text", { x: 105, y: 246 }, "disc: 1; square: 0"));
    left = 232;
  }
  const losses = data.film.losses.map(number), steps = data.film.steps;
  const real = losses.filter((v) => v > 0 && Number.isFinite(v)).map(Math.log10);
  const x = scale(0, Math.log10(steps[steps.length - 1] + 1), left + 26, WIDE - 10);
  const y = scale(Math.min(...real), Math.max(...real), 224, 34);
  const line = losses.map((v, k) => v > 0 && Number.isFinite(v) ? `${x(Math.log10(steps[k] + 1)).toFixed(1)} ${y(Math.log10(v)).toFixed(1)}` : null).filter(Boolean);
  group.append(svg("path", { class: "axis", d: `M${left + 26} 34V224H${WIDE - 10}` }));
  group.append(svg("path", { class: "curve", d: "M" + line.join("L") }));
  group.append(svg("text", { class: "left", x: left - 20, y: 32 }, shown(10 ** Math.max(...real))));
  group.append(svg("text", { class: "left", x: left - 20, y: 240 }, shown(10 ** Math.min(...real))));
  group.append(svg("text", { x: (left + WIDE) / 2, y: 22 }, "mean loss"));
  group.append(svg("text", { x: (left + WIDE) / 2, y: 258 }, `step ${steps[f].toLocaleString("en-US")}, log axes`));
  if (losses[f] > 0) group.append(svg("circle", { class: "walker", cx: x(Math.log10(steps[f] + 1)), cy: y(Math.log10(losses[f])), r: 5 }));
  if (data.film.diverged !== null) group.append(svg("text", { x: WIDE / 2, y: 284 }, `diverged at step ${data.film.diverged}`));
  return `Mean loss ${shown(data.film.losses[f])} at step ${steps[f]}.`;
}
function valley(group) {
  const { axes, surface, walks } = data.valley, dark = isDark();
  const gray = (t) => { const v = dark ? 40 + 150 * t : 110 + 145 * t; return `rgb(${v},${v},${Math.min(255, v + 12)})`; };
  const shownSteps = Math.round(state.progress * data.valley.steps);
  const size = 116, top = 60;
  walks.forEach((walk, k) => {
    const left = 8 + k * (size + 8), clip = `clip${k}`;
    const x = scale(axes[0][0], axes[0][1], left, left + size), y = scale(axes[1][0], axes[1][1], top + size, top);
    const box = svg("clipPath", { id: clip });
    box.append(svg("rect", { x: left, y: top, width: size, height: size }));
    group.append(box);
    const inner = svg("g", { "clip-path": `url(#${clip})` });
    group.append(inner);
    // The surface's first row is the smallest second weight: it stands at the bottom.
    const flipped = surfaceFlipped();
    field(inner, flipped, 0, surface.side, [left, top, size, size], gray);
    const here = walk.points.slice(0, shownSteps + 1).map(([a, b]) => [number(a), number(b)]).filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b));
    const [px, py] = here[here.length - 1];
    const inside = px >= axes[0][0] && px <= axes[0][1] && py >= axes[1][0] && py <= axes[1][1];
    if (state.fog) {
      const cx = x(px), cy = y(py), r = 16;
      inner.append(svg("path", { class: "fog", "fill-rule": "evenodd", d: `M${left} ${top}h${size}v${size}h-${size}z M${cx - r} ${cy}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z` }));
    }
    inner.append(svg("path", { class: "walk", d: "M" + here.map(([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("L") }));
    if (inside) inner.append(svg("circle", { class: "walker", cx: x(px), cy: y(py), r: 5, "data-loss": number(walk.losses[here.length - 1]) }));
    group.append(svg("text", { x: left + size / 2, y: top - 22 }, `rate ${shown(walk.rate)}`));
    group.append(svg("text", { x: left + size / 2, y: top - 8 }, inside ? walk.outcome : "out of sight"));
    group.append(svg("text", { x: left + size / 2, y: top + size + 18 }, `step ${shownSteps}`));
    group.append(svg("text", { x: left + size / 2, y: top + size + 34 }, `loss ${shown(walk.losses[shownSteps])}`));
  });
  group.append(svg("text", { x: WIDE / 2, y: 22 }, "the loss over two weights, from above"));
  group.append(svg("text", { x: WIDE / 2, y: 252 }, `across: ${edgeName(data.valley.ends[0])}; up: ${edgeName(data.valley.ends[1])}`));
  return walks.map((walk) => `Rate ${shown(walk.rate)} ${walk.outcome}.`).join(" ");
}
let flippedSurface = null;
function surfaceFlipped() {
  if (flippedSurface) return flippedSurface;
  const side = data.valley.surface.side;
  flippedSurface = new Uint8Array(side * side);
  for (let r = 0; r < side; r++) flippedSurface.set(surfaceBytes.subarray(r * side, (r + 1) * side), (side - 1 - r) * side);
  return flippedSurface;
}

// The tape of the step that is shown.
const flat = (value) => (value === null ? [] : Array.isArray(value) ? value.flatMap(flat) : [value]);
const summary = (value) => { const all = flat(value); return all.slice(0, 4).map(shown).join(", ") + (all.length > 4 ? ", \u2026" : ""); };
function writeTape() {
  document.querySelectorAll("[data-entry]").forEach((button) => {
    const entry = data.steps[state.step].tape[Number(button.dataset.entry)];
    const row = button.closest("tr");
    for (const cell of row.querySelectorAll("[data-entry-field]")) cell.textContent = entry ? summary(entry[cell.dataset.entryField]) : "";
  });
}
function lightEntry(button) {
  const entry = data.steps[state.step].tape[Number(button.dataset.entry)];
  document.querySelectorAll(".edge.lit").forEach((edge) => edge.classList.remove("lit"));
  document.querySelectorAll("tr.chosen").forEach((row) => row.classList.remove("chosen"));
  button.closest("tr").classList.add("chosen");
  const layer = /(\d+)$/.exec(entry.scope);
  if (!layer) return;
  for (const [l, i, j] of everyEdge())
    if (l === Number(layer[1])) byId(`e${l}-${i}-${j}`).classList.add("lit");
}

// What is shown follows from the state alone.
function show() {
  document.querySelectorAll(".scene").forEach((scene, k) => scene.classList.toggle("now", k === state.scene));
  byId("scene").value = state.scene;
  byId("example-label").hidden = [POSTER, FILM, VALLEY].includes(state.scene);
  byId("frame-label").hidden = ![FILM, VALLEY].includes(state.scene);
  byId("fog").hidden = state.scene !== VALLEY;
  byId("frame").max = state.scene === VALLEY ? data.valley.steps : frames - 1;
  byId("frame").value = state.scene === VALLEY ? Math.round(state.progress * data.valley.steps) : state.frame;
  byId("play").textContent = state.playing ? "Pause" : "Play";
  byId("guess").hidden = state.scene !== UPDATE || reduced.matches;
  document.querySelectorAll("[data-guess]").forEach((button) => { button.disabled = state.guessed; });
  byId("guess-edge").textContent = edgeName(state.edge);
  drawNet(); drawSide(); writeNumbers();
  document.querySelector(`#scene${UPDATE} p`).hidden = state.scene === UPDATE && !state.guessed;
  document.querySelectorAll("[data-edge]").forEach((button) => {
    const chosen = button.dataset.edge === state.edge.join("-");
    button.closest("tr").classList.toggle("chosen", chosen);
    button.setAttribute("aria-pressed", chosen);
  });
}
function settle() {
  const scene = document.querySelector(".scene.now");
  byId("net-d").textContent = scene.textContent;
  byId("live").textContent = scene.textContent;
  history.replaceState(null, "", `#scene=${state.scene}&step=${state.step}&edge=${state.edge.join("-")}`);
}
let last = null;
function tick(time) {
  if (!state.playing) return;
  const seconds = data.scenes[state.scene].seconds / state.speed;
  state.progress = Math.min(1, state.progress + (last === null ? 0 : (time - last) / 1000) / seconds);
  last = time;
  if (state.scene === FILM) state.frame = Math.round(state.progress * (frames - 1));
  if (state.progress >= 1) pause();
  show();
  if (state.playing) requestAnimationFrame(tick); else settle();
}
function pause() { state.playing = false; last = null; }
function play() {
  state.guessed = true;
  if (data.scenes[state.scene].seconds === 0) { go(state.scene + 1); return; }
  if (state.progress >= 1) state.progress = 0;
  if (state.scene === FILM) state.frame = Math.round(state.progress * (frames - 1));
  state.playing = true; last = null;
  requestAnimationFrame(tick);
}
function go(scene) {
  pause();
  state.scene = Math.max(0, Math.min(TAPE, scene));
  state.guessed = state.scene === UPDATE && reduced.matches;
  state.progress = 1;
  if (state.scene === FILM) state.frame = frames - 1;
  if (state.scene === UPDATE && !state.guessed) { state.progress = 0; byId("guess-answer").textContent = ""; show(); settle(); return; }
  const moves = data.scenes[state.scene].seconds > 0 && !reduced.matches;
  if (moves) { state.progress = 0; if (state.scene === FILM) state.frame = 0; state.playing = true; requestAnimationFrame(tick); }
  show();
  if (!moves) settle();
}
function choose(edge) { state.edge = edge.split("-").map(Number); byId("guess-answer").textContent = ""; show(); settle(); }

const controls = byId("controls"), stage = byId("stage");
controls.hidden = false; byId("keys").hidden = false; stage.classList.add("played"); byId("scenes").classList.add("staged");
data.scenes.forEach((scene, k) => byId("scene").append(new Option(`${k}. ${scene.title}`, k)));
byId("back").onclick = () => go(state.scene - 1);
byId("next").onclick = () => go(state.scene + 1);
byId("play").onclick = () => { if (state.playing) { pause(); show(); settle(); } else { play(); show(); } };
byId("scene").onchange = (event) => go(Number(event.target.value));
byId("speed").onchange = (event) => { state.speed = Number(event.target.value); };
byId("example").onchange = (event) => { state.step = Number(event.target.value); writeTape(); show(); settle(); };
byId("frame").oninput = (event) => {
  pause();
  if (state.scene === VALLEY) state.progress = Number(event.target.value) / data.valley.steps;
  else { state.frame = Number(event.target.value); state.progress = 1; }
  show();
};
byId("frame").onchange = settle;
byId("fog").onclick = () => { state.fog = !state.fog; byId("fog").setAttribute("aria-pressed", !state.fog); show(); };
byId("numbers").onchange = (event) => { state.numbers = event.target.checked; show(); };
byId("guess").onclick = (event) => {
  if (!event.target.dataset.guess) return;
  const [l, i, j] = state.edge, part = data.steps[state.step].layers[l];
  const fell = number(part.w_next[i][j]) < number(part.w[i][j]);
  const stood = number(part.w_next[i][j]) === number(part.w[i][j]);
  const right = (event.target.dataset.guess === "fall") === fell;
  byId("guess-answer").textContent = stood ? "It stands still: its derivative is 0." : `${right ? "Right" : "No"}: it ${fell ? "falls" : "rises"}, against its derivative.`;
  play(); show();
};
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-edge]"), entry = event.target.closest("[data-entry]");
  if (button) choose(button.dataset.edge);
  if (entry) lightEntry(entry);
  const line = event.target.closest("#edges line");
  if (line) choose(line.id.slice(1));
});
stage.tabIndex = -1;
stage.addEventListener("keydown", (event) => {
  if (["SELECT", "INPUT"].includes(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
  const onButton = event.target.tagName === "BUTTON";
  const keys = { ArrowLeft: () => go(state.scene - 1), ArrowRight: () => go(state.scene + 1), Home: () => go(0), End: () => go(TAPE) };
  if (!onButton) keys[" "] = () => byId("play").click();
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
document.addEventListener("visibilitychange", () => { if (document.hidden && state.playing) { pause(); show(); } });
reduced.addEventListener("change", () => { pause(); state.progress = 1; show(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
byId("save").onclick = () => {
  const copy = byId("net").cloneNode(true), style = document.querySelector("style").textContent;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.prepend(svg("style", {}, style));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }));
  link.download = `scene-${state.scene}.svg`;
  link.click();
};
// On paper: a still of every scene.
addEventListener("beforeprint", () => {
  pause(); state.printing = true;
  const held = { ...state }, stills = byId("stills");
  stills.replaceChildren();
  data.scenes.forEach((_, k) => {
    Object.assign(state, { scene: k, progress: 1, frame: frames - 1, fog: false, guessed: true });
    show();
    const still = document.createElement("div");
    still.className = "still";
    still.append(byId("net").cloneNode(true), byId("side").cloneNode(true), document.querySelector(".scene.now").cloneNode(true));
    still.querySelectorAll("[id]").forEach((node) => node.removeAttribute("id"));
    stills.append(still);
  });
  Object.assign(state, held, { printing: false });
  show();
});
addEventListener("afterprint", () => byId("stills").replaceChildren());
function readHash() {
  const wish = new URLSearchParams(location.hash.slice(1));
  const inRange = (x, n) => Number.isInteger(x) && x >= 0 && x < n;
  const step = Number(wish.get("step") ?? 0), edge = (wish.get("edge") || "").split("-").map(Number);
  if (inRange(step, data.steps.length)) state.step = step;
  if (edge.length === 3 && inRange(edge[0], layers) && inRange(edge[1], data.widths[edge[0]]) && inRange(edge[2], data.widths[edge[0] + 1])) state.edge = edge;
  const scene = Number(wish.get("scene") ?? 0);
  if (inRange(scene, data.scenes.length)) state.scene = scene;
  state.guessed = reduced.matches;
  if (state.scene === UPDATE && !state.guessed) state.progress = 0;
  byId("example").value = state.step;
}
byId("sizes").textContent = `Sizes of signals are on one logarithmic scale for the whole run: the largest is ${shown(data.largest_pulse)}, the smallest mark ${shown(data.largest_pulse / 1e4)} or less, and 0 has a 0.`;
readHash(); writeTape(); show();
