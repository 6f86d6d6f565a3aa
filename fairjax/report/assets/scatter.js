"use strict";
// A plot of points on a canvas: clouds, frontiers, references, zoom, and the point that is nearest.
// `panel` has x, y, limits, fronts, references, levels; `methods` has looks and `methodOf` each
// point's method. `hidden` is a set of methods that are not drawn.
const SHAPES = (() => {
  const polygon = (corners, turn, size) => Array.from({ length: corners }, (_, k) => {
    const angle = turn + (2 * Math.PI * k) / corners;
    return [size * Math.sin(angle), -size * Math.cos(angle)];
  });
  const plus = [[-.4, -1.1], [.4, -1.1], [.4, -.4], [1.1, -.4], [1.1, .4], [.4, .4],
    [.4, 1.1], [-.4, 1.1], [-.4, .4], [-1.1, .4], [-1.1, -.4], [-.4, -.4]];
  const half = Math.SQRT1_2;
  return {
    circle: polygon(20, 0, 1), square: polygon(4, Math.PI / 4, 1.25), diamond: polygon(4, 0, 1.3),
    triangle: polygon(3, 0, 1.25), wedge: polygon(3, Math.PI, 1.25), pentagon: polygon(5, 0, 1.15),
    plus, cross: plus.map(([x, y]) => [half * (x - y), half * (x + y)]),
  };
})();

class Scatter {
  constructor(canvas, panel, methods, methodOf, hidden) {
    Object.assign(this, { canvas, panel, methods, methodOf, hidden });
    this.margin = { left: 52, right: 14, top: 12, bottom: 28 };
    this.chosen = null;
    this.focused = null;
    this.band = null;
    this.reset();
  }

  reset() { this.view = this.panel.limits.map((ends) => [...ends]); }

  showAll() {
    const { x, y, references } = this.panel;
    const around = (values) => {
      const known = values.filter((v) => v !== null);
      if (!known.length) return [0, 1];
      const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
      const room = .05 * (high - low) || .05;
      return [low - room, high + room];
    };
    this.view = [around([...x, ...references.map(({ error }) => error)]), around([...y, ...references.map(({ gap }) => gap)])];
  }

  zoom(factor) {
    this.view = this.view.map(([low, high]) => {
      const middle = (low + high) / 2, reach = (high - low) / 2 / factor;
      return [middle - reach, middle + reach];
    });
  }

  zoomTo([x0, y0], [x1, y1]) {
    const [a, b] = [this.unplace(Math.min(x0, x1), Math.max(y0, y1)), this.unplace(Math.max(x0, x1), Math.min(y0, y1))];
    this.view = [[a[0], b[0]], [a[1], b[1]]];
  }

  get box() {
    const { left, right, top, bottom } = this.margin;
    return { left, top, width: this.canvas.clientWidth - left - right, height: this.canvas.clientHeight - top - bottom };
  }

  place(x, y) {
    const { left, top, width, height } = this.box, [[x0, x1], [y0, y1]] = this.view;
    return [left + width * (x - x0) / (x1 - x0), top + height * (1 - (y - y0) / (y1 - y0))];
  }

  unplace(left, top) {
    const box = this.box, [[x0, x1], [y0, y1]] = this.view;
    return [x0 + (x1 - x0) * (left - box.left) / box.width, y1 - (y1 - y0) * (top - box.top) / box.height];
  }

  at(i) { return this.place(this.panel.x[i], this.panel.y[i]); }

  isShown(i) { return this.panel.x[i] !== null && !this.hidden.has(this.methodOf[i]); }

  isInside([x, y]) {
    const { left, top, width, height } = this.box;
    return x >= left - 1 && x <= left + width + 1 && y >= top - 1 && y <= top + height + 1;
  }

  // the point within reach that is nearest to a place, or null
  nearest(x, y, reach) {
    let best = null, least = reach * reach;
    for (let i = 0; i < this.panel.x.length; i++) {
      if (!this.isShown(i)) continue;
      const place = this.at(i), distance = (place[0] - x) ** 2 + (place[1] - y) ** 2;
      if (distance <= least && this.isInside(place)) [best, least] = [i, distance];
    }
    return best;
  }

  // the next point of the frontiers, from left to right
  step(by) {
    const chosen = this.panel.fronts.flatMap((front) => front.chosen).filter((i) => this.isShown(i));
    chosen.sort((a, b) => this.panel.x[a] - this.panel.x[b]);
    if (!chosen.length) return null;
    const last = chosen.indexOf(this.focused), start = by > 0 ? -1 : chosen.length;
    const next = (last < 0 ? start : last) + by;
    this.focused = chosen[Math.max(0, Math.min(chosen.length - 1, next))];
    return this.focused;
  }

  ticks([low, high], room) {
    const rough = (high - low) / Math.max(2, Math.floor(room)), power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough) || power;
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), ticks = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) ticks.push([k * step, (k * step).toFixed(Math.min(digits, 20))]);
    return ticks;
  }

  draw(colour) {
    const { canvas, panel } = this, dense = devicePixelRatio || 1, pen = canvas.getContext("2d");
    canvas.width = Math.round(canvas.clientWidth * dense);
    canvas.height = Math.round(canvas.clientHeight * dense);
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    const { left, top, width, height } = this.box;
    const line = (x0, y0, x1, y1) => { pen.beginPath(); pen.moveTo(x0, y0); pen.lineTo(x1, y1); pen.stroke(); };
    pen.font = "12px system-ui, sans-serif";
    pen.lineWidth = 1;
    pen.fillStyle = colour("--soft");
    pen.strokeStyle = colour("--grid");
    pen.textAlign = "center"; pen.textBaseline = "top";
    for (const [value, text] of this.ticks(this.view[0], width / 70)) {
      const [x] = this.place(value, 0);
      line(x, top, x, top + height);
      pen.fillText(text, x, top + height + 7);
    }
    pen.textAlign = "right"; pen.textBaseline = "middle";
    for (const [value, text] of this.ticks(this.view[1], height / 45)) {
      const [, y] = this.place(0, value);
      line(left, y, left + width, y);
      pen.fillText(text, left - 7, y);
    }
    pen.strokeStyle = colour("--soft");
    line(left, top, left, top + height);
    line(left, top + height, left + width, top + height);
    if (!panel.runs) {
      pen.textAlign = "center";
      pen.fillText("No run to show", left + width / 2, top + height / 2);
      return;
    }
    pen.save();
    pen.beginPath(); pen.rect(left, top, width, height); pen.clip();
    if (panel.levels) {
      const [x, y] = this.place(1, 1);
      pen.setLineDash([5, 4]);
      line(x, top, x, top + height);
      line(left, y, left + width, y);
      pen.setLineDash([]);
    }
    this.drawRuns(pen, colour);
    this.drawReferences(pen, colour, left + width);
    for (const [i, size] of [[this.focused, 13], [this.chosen, 10]]) {
      if (i === null || panel.x[i] === null) continue;
      pen.strokeStyle = colour("--ink"); pen.lineWidth = 2.5;
      pen.beginPath(); pen.arc(...this.at(i), size, 0, 2 * Math.PI); pen.stroke();
    }
    if (this.band) {
      const [[x0, y0], [x1, y1]] = this.band;
      pen.lineWidth = 1;
      pen.strokeStyle = colour("--accent");
      pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    pen.restore();
  }

  mark(pen, [x, y], shape, size) {
    pen.beginPath();
    for (const [dx, dy] of SHAPES[shape]) pen.lineTo(x + size * dx, y + size * dy);
    pen.closePath();
  }

  drawRuns(pen, colour) {
    const { panel, methods } = this;
    pen.globalAlpha = Math.min(.45, Math.max(.08, 9 / Math.sqrt(panel.runs)));
    const small = panel.runs > 2000 ? 2 : 3;
    for (let i = 0; i < panel.x.length; i++) {
      if (!this.isShown(i)) continue;
      const look = methods[this.methodOf[i]];
      pen.fillStyle = look.colour;
      this.mark(pen, this.at(i), look.symbol, small * look.size);
      pen.fill();
    }
    pen.globalAlpha = 1;
    panel.fronts.forEach((front, m) => {
      if (this.hidden.has(m)) return;
      const look = methods[m], holds = new Set(front.line);
      pen.strokeStyle = look.colour; pen.lineWidth = 2;
      pen.beginPath();
      let last = 0;
      front.line.forEach((i, k) => {
        const [x, y] = this.at(i);
        if (k) pen.lineTo(x, last);
        pen.lineTo(x, y);
        last = y;
      });
      pen.stroke();
      for (const i of front.chosen) {
        this.mark(pen, this.at(i), look.symbol, 5 * look.size);
        pen.fillStyle = holds.has(i) ? look.colour : colour("--card");
        pen.strokeStyle = holds.has(i) ? colour("--card") : look.colour;
        pen.lineWidth = holds.has(i) ? 1 : 1.8;
        pen.fill(); pen.stroke();
      }
    });
  }

  drawReferences(pen, colour, right) {
    pen.textBaseline = "bottom";
    for (const { name, error, gap } of this.panel.references) {
      const [x, y] = this.place(error, gap);
      const onRight = x + 8 + pen.measureText(name).width < right;
      pen.fillStyle = pen.strokeStyle = colour("--ink");
      pen.lineWidth = 2;
      for (const turn of [-1, 1]) {
        pen.beginPath(); pen.moveTo(x - 5, y - 5 * turn); pen.lineTo(x + 5, y + 5 * turn); pen.stroke();
      }
      pen.textAlign = onRight ? "left" : "right";
      pen.fillText(name, x + (onRight ? 8 : -8), y - 3);
    }
  }
}
