(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // plotly reads a little markup, entities and %{templates} in its texts; the ampersand has to be first
  const literal = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")
    .replace(/%\{/g, "%&#123;");
  const number = (v) => (v === null || v === undefined ? "\u2013" : String(Number(v.toPrecision(5))));
  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const webgl = () => { try { return !!document.createElement("canvas").getContext("webgl"); } catch { return false; } };
  // one kind for all traces: plotly stacks WebGL above SVG, which would bury frontiers under clouds
  const kind = data.runs.run.length > data.many && webgl() ? "scattergl" : "scatter";
  const hidden = new Set();
  const plots = [];

  const heading = (i) => `${data.methods[data.runs.method[i]].name} \u00b7 run ${data.runs.run[i]} \u00b7 ` +
    `point ${data.runs.point[i]} \u00b7 seed ${data.runs.seed[i]}`;

  function facts(into, i) {
    for (const group of [data.hparams, data.metrics]) {
      for (const [name, values] of group) {
        const row = element("div", undefined, "fact");
        row.append(element("span", name), element("span", number(values[i])));
        into.append(row);
      }
    }
  }

  function select(i) {
    at("chosen").textContent = heading(i);
    at("command").textContent = data.command ? data.command.split("{run}").join(data.runs.run[i])
      : "The command that trained these runs was not recorded.";
    at("copy").disabled = !data.command;
    at("copy").textContent = "Copy";
    at("details").replaceChildren();
    facts(at("details"), i);
    for (const row of document.querySelectorAll("tr[data-position]")) {
      row.classList.toggle("chosen", Number(row.dataset.position) === i);
    }
    for (const { div, panel } of plots) {
      Plotly.restyle(div, { x: [[panel.x[i]]], y: [[panel.y[i]]] }, [div.data.length - 1]);
    }
  }

  async function copy() {
    const text = at("command").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // pages opened from a disk may not reach the clipboard directly
      getSelection().selectAllChildren(at("command"));
      document.execCommand("copy");
    }
    at("copy").textContent = "Copied";
  }

  function showTip(i, event) {
    const tip = at("tip");
    tip.replaceChildren(element("strong", heading(i)));
    facts(tip, i);
    tip.hidden = false;
    const [x, y] = event ? [event.clientX, event.clientY] : [0, 0];
    const left = x + 16 + tip.offsetWidth > innerWidth ? x - 16 - tip.offsetWidth : x + 16;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 12, innerHeight - tip.offsetHeight - 4))}px`;
  }

  function traces(panel) {
    const clouds = [], lines = [], fronts = [];
    const pick = (rows) => ({ x: rows.map((i) => panel.x[i]), y: rows.map((i) => panel.y[i]), customdata: rows });
    data.methods.forEach((method, m) => {
      const rows = [...data.runs.method.keys()].filter((i) => data.runs.method[i] === m && panel.x[i] !== null);
      const front = panel.fronts[m], holds = new Set(front.line);
      const faint = Math.min(0.45, Math.max(0.06, 9 / Math.sqrt(panel.runs || 1)));
      clouds.push({ ...pick(rows), type: kind, mode: "markers", meta: m, hoverinfo: "none",
        marker: { color: method.colour, symbol: method.symbol, size: (panel.runs > data.many ? 4 : 6) * method.size, opacity: faint } });
      lines.push({ ...pick(front.line), type: kind, mode: "lines", meta: m, hoverinfo: "skip",
        line: { color: method.colour, width: 2, shape: "hv" } });
      fronts.push({ ...pick(front.chosen), type: kind, mode: "markers", meta: m, hoverinfo: "none",
        marker: { color: method.colour, size: 10 * method.size, opacity: 1,
          symbol: front.chosen.map((i) => method.symbol + (holds.has(i) ? "" : "-open")),
          line: { width: front.chosen.map((i) => (holds.has(i) ? 1 : 1.8)),
            color: front.chosen.map((i) => (holds.has(i) ? colour("--card") : method.colour)) } } });
    });
    const ring = { x: [], y: [], type: kind, mode: "markers", hoverinfo: "skip",
      marker: { symbol: "circle-open", size: 20, color: colour("--ink"), line: { width: 2.5 } } };
    return [...clouds, ...lines, ...fronts, ring];
  }

  function layout(panel) {
    const level = { type: "line", layer: "below", line: { color: colour("--soft"), width: 1, dash: "dash" } };
    const axis = (lines, range) => ({ title: { text: lines.map(literal).join("<br>"), standoff: 8 }, range: range.slice(),
      gridcolor: colour("--grid"), linecolor: colour("--soft"), zeroline: false, showline: true, ticks: "outside",
      tickcolor: colour("--soft"), automargin: true });
    return {
      xaxis: axis(panel.labels[0], panel.limits[0]), yaxis: axis(panel.labels[1], panel.limits[1]),
      shapes: panel.levels ? [{ ...level, x0: 1, x1: 1, yref: "paper", y0: 0, y1: 1 },
        { ...level, y0: 1, y1: 1, xref: "paper", x0: 0, x1: 1 }] : [],
      annotations: panel.runs ? [] : [{ text: "No run to show", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 }],
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 60, r: 16, t: 32, b: 50 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--accent") },
      font: { color: colour("--ink"), size: 12, family: getComputedStyle(document.body).fontFamily },
      showlegend: false, hovermode: "closest", hoverdistance: 12, dragmode: "zoom",
    };
  }

  function draw(panel) {
    const card = element("div", undefined, "plot " + (panel.key === "overall" ? "overall" : "task"));
    const div = element("div", undefined, "canvas");
    div.id = "plot-" + panel.key;
    card.append(element("h2", panel.title), div);
    if (panel.outside) {
      card.append(element("p", `${panel.outside} of ${panel.runs} runs lie outside this view; double-click the plot to see them.`,
        "under"));
    }
    at("plots").append(card);
    plots.push({ div, panel });
    const config = { responsive: true, displaylogo: false, showEditInChartStudio: false,
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
    return Plotly.newPlot(div, traces(panel), layout(panel), config).then(() => {
      const run = (e) => e.points.map((p) => p.customdata).find((i) => i !== undefined && i !== null);
      div.on("plotly_click", (e) => { const i = run(e); if (i !== undefined) select(i); });
      div.on("plotly_hover", (e) => { const i = run(e); if (i !== undefined) showTip(i, e.event); });
      div.on("plotly_unhover", () => { at("tip").hidden = true; });
    });
  }

  function toggle(m, button) {
    if (!hidden.delete(m)) hidden.add(m);
    button.setAttribute("aria-pressed", String(!hidden.has(m)));
    for (const { div } of plots) {
      const mine = [...div.data.keys()].filter((k) => div.data[k].meta === m);
      Plotly.restyle(div, { visible: !hidden.has(m) }, mine);
    }
  }

  function legend() {
    data.methods.forEach((method, m) => {
      const button = element("button"), mark = element("span", method.glyph);
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      mark.style.color = method.colour;
      button.append(mark, element("span", method.label));
      if (method.volume !== null) button.append(element("small", "hypervolume " + Number(method.volume.toPrecision(4))));
      button.addEventListener("click", () => toggle(m, button));
      at("legend").append(button);
    });
  }

  function sort(head) {
    const body = head.closest("table").tBodies[0], k = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    // numbers are written for readers, with a true minus sign and commas between thousands
    const value = (row) => {
      const text = row.cells[k].textContent, plain = text.replace(/\u2212/g, "-").replace(/,/g, "");
      return isNaN(plain) ? text : plain;
    };
    const compare = (a, b) => (isNaN(a) || isNaN(b) ? String(a).localeCompare(String(b)) : a - b);
    const rows = [...body.rows].sort((a, b) => compare(value(a), value(b)));
    body.append(...(down ? rows.reverse() : rows));
  }

  function listen() {
    at("copy").addEventListener("click", copy);
    for (const head of document.querySelectorAll("table:not(.groups) th")) head.addEventListener("click", () => sort(head));
    for (const row of document.querySelectorAll("tr[data-position]")) {
      const choose = () => select(Number(row.dataset.position));
      row.addEventListener("click", choose);
      row.addEventListener("keydown", (e) => { if (e.key === "Enter") choose(); });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const { div, panel } of plots) Plotly.react(div, traces(panel), layout(panel));
    });
  }

  legend();
  listen();
  Promise.all(data.panels.map(draw)).then(() => { document.body.dataset.ready = "1"; });
})();
