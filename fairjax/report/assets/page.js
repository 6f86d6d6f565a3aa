// What the page does: the control, the plots, the table of runs, answers where they were asked for.
(() => {
  const at = (id) => document.getElementById(id);
  const data = JSON.parse(at("data").textContent);
  const answers = new Answers(data);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const positions = [...data.runs.run.keys()];
  const PAGE = 50, REACH = 16, MOST_NAMED = 4;

  // ---- the control: validation chooses, test reports

  const choiceOf = (id) => (at(id).value === "" ? null : Number(at(id).value));
  const listed = (id, names) => (choiceOf(id) === null ? [...names.keys()] : [choiceOf(id)]);
  const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;

  function errorOf(i, split) {
    const tasks = listed("task", data.tasks);
    if (tasks.length > 1 && answers.values("are", null, null, split)) return answers.value("are", null, null, split, i);
    const errors = tasks.map((t) => answers.value("error", t, null, split, i));
    return errors.length && errors.every(isKnown) ? mean(errors) : null;
  }

  // the worst gap of what is asked for; null where the run lacks the gap of a task that others have
  function gapOf(i, split) {
    const gaps = [];
    for (const t of listed("task", data.tasks)) {
      const columns = listed("attribute", data.attributes).map((a) => answers.values("gap", t, a, split));
      const measured = columns.filter((values) => values && values.some(isKnown));
      if (!measured.length) continue;
      const mine = measured.map((values) => values[i]).filter(isKnown);
      if (!mine.length) return null;
      gaps.push(Math.max(...mine));
    }
    return gaps.length ? Math.max(...gaps) : null;
  }

  // the least number of three digits that is not below
  function up(value) {
    if (!(value > 0)) return 0;
    const unit = 10 ** (Math.floor(Math.log10(value)) - 2);
    return Number((Math.ceil(value / unit - 1e-9) * unit).toPrecision(3));
  }

  const nameOfError = () => (listed("task", data.tasks).length === 1 ? "error"
    : answers.values("are", null, null, "validation") ? "ARE (error relative to single-task models)" : "mean error");
  const subject = () => [at("task"), at("attribute")].map((select) => select.selectedOptions[0]?.textContent ?? "").join(", by ");

  function takeable() {
    const may = positions.filter((i) => !data.runs.diverged[i] && !data.methods[data.runs.method[i]].is_reference);
    return may.map((i) => ({ i, error: errorOf(i, "validation"), gap: gapOf(i, "validation") }))
      .filter(({ error, gap }) => isKnown(error) && isKnown(gap));
  }

  const least = (runs, of) => runs.reduce((best, run) => (best === null || of(run) < of(best) ? run : best), null);
  let runs = [];

  // the slider goes over the gaps that runs have; at first the limit is half of the cheapest run's gap
  function start() {
    runs = takeable();
    const gaps = runs.map(({ gap }) => gap);
    const slider = at("slider"), low = gaps.reduce((a, b) => Math.min(a, b), Infinity);
    slider.disabled = at("limit").disabled = !runs.length;
    if (!runs.length) return choose();
    slider.dataset.high = gaps.reduce((a, b) => Math.max(a, b));
    const cheapest = least(runs, ({ error }) => error);
    at("limit").value = up(Math.max(low, cheapest.gap / 2));
    return choose();
  }

  const some = (names) => names.slice(0, MOST_NAMED).join(", ") +
    (names.length > MOST_NAMED ? ` and ${names.length - MOST_NAMED} more` : "");

  // where validation and test disagree: both are noisy, so the interval of their difference is wider by
  // sqrt(2); without an interval the distance alone is known
  function doubts(i) {
    const found = [], far = [], apart = [];
    const compare = (label, kind, t, a) => {
      const chosen = answers.value(kind, t, a, "validation", i), seen = answers.value(kind, t, a, "test", i);
      if (!isKnown(chosen) || !isKnown(seen)) return;
      const ends = answers.interval(kind, t, a, i);
      const named = `${label} (validation ${number(chosen)}, test ${number(seen)})`;
      if (!ends) apart.push(named);
      else if (chosen < seen - Math.SQRT2 * (seen - ends.low) || chosen > seen + Math.SQRT2 * (ends.high - seen)) far.push(named);
    };
    for (const t of listed("task", data.tasks)) {
      compare(`error of ${data.tasks[t]}`, "error", t, null);
      for (const a of listed("attribute", data.attributes)) compare(`gap of ${data.tasks[t]} by ${data.attributes[a]}`, "gap", t, a);
    }
    if (far.length) found.push(`Validation and test disagree by more than their noise: ${some(far)}.`);
    if (apart.length) found.push(`Validation and test differ: ${some(apart)}. How much of that is noise is not known for this run.`);
    return found;
  }

  function choose() {
    const limit = Number(at("limit").value), high = Number(at("slider").dataset.high) || 1;
    at("slider").value = Math.round(1000 * limit / high);
    at("slider").setAttribute("aria-valuetext", String(limit));
    const fitting = runs.filter(({ gap }) => gap <= limit), best = least(fitting, ({ error }) => error);
    at("choice").replaceChildren();
    at("doubts").replaceChildren();
    at("doubts").hidden = true;
    if (best === null) {
      const smallest = least(runs, ({ gap }) => gap);
      at("verdict").textContent = smallest === null ? "No run that may be taken has an error and a gap on validation rows."
        : `No run has a validation gap of at most ${limit} (${subject()}). The smallest is ${number(smallest.gap)}, of ` +
          `${answers.heading(smallest.i)}.`;
      mark(null);
      return;
    }
    const gap = gapOf(best.i, "test");
    at("verdict").replaceChildren(element("strong", answers.heading(best.i)), element("span",
      ` is the cheapest of ${fitting.length.toLocaleString("en")} ${data.is_sample ? "shown " : ""}${fitting.length === 1 ? "run" : "runs"} with a gap of at most ${limit} (${subject()}). On test rows its ${nameOfError()} is ` +
      `${number(errorOf(best.i, "test"))} and its gap ${number(gap)}; on validation rows, ${number(best.error)} and ${number(best.gap)}.`));
    const found = doubts(best.i);
    if (isKnown(gap) && gap > limit) found.unshift(`On test rows the gap, ${number(gap)}, is above the limit of ${limit}.`);
    at("doubts").append(...found.map((text) => element("li", text)));
    at("doubts").hidden = !found.length;
    at("choice").append(answers.full(best.i, true));
    mark(best.i);
  }

  function control() {
    for (const id of ["task", "attribute"]) at(id).addEventListener("change", start);
    at("limit").addEventListener("input", choose);
    at("slider").addEventListener("input", () => {
      at("limit").value = up(at("slider").value / 1000 * Number(at("slider").dataset.high));
      choose();
    });
    for (const button of document.querySelectorAll("button[data-answer]")) {
      button.addEventListener("click", () => unfold(button, Number(button.dataset.answer)));
    }
  }

  function unfold(button, i) {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) button.nextElementSibling.remove();
    else button.after(answers.full(i, true));
    mark(i);
  }

  // ---- the plots

  const hidden = new Set();
  const plots = data.panels.map((panel) => new Scatter(at(`plot-${panel.key}`), panel, data.methods, data.runs.method, hidden));
  const redraw = () => { for (const plot of plots) plot.draw(colour); };

  function mark(i) {
    for (const plot of plots) plot.chosen = i;
    requestAnimationFrame(redraw);
  }

  let opener = null;  // the plot that had the focus when an answer took it

  function showTip(content, x, y, isPinned) {
    const tip = at("tip");
    tip.replaceChildren();
    if (isPinned) {
      const close = element("button", "Close", "close");
      close.type = "button";
      close.addEventListener("click", hideTip);
      tip.append(close);
    }
    tip.append(content);
    tip.classList.toggle("pinned", isPinned);
    tip.hidden = false;
    const width = document.documentElement.clientWidth;
    const left = x + 16 + tip.offsetWidth > width ? x - 16 - tip.offsetWidth : x + 16;
    tip.style.left = `${scrollX + Math.max(4, Math.min(left, width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${scrollY + Math.max(4, isPinned ? y + 12 : Math.min(y + 12, innerHeight - tip.offsetHeight - 4))}px`;
  }

  function hideTip() {
    if (at("tip").contains(document.activeElement)) opener?.focus();
    at("tip").hidden = true;
    at("tip").classList.remove("pinned");
  }

  const isPinned = () => at("tip").classList.contains("pinned");

  function pointers(plot) {
    const { canvas } = plot;
    const place = (e) => { const box = canvas.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; };
    let from = null, dragged = false;
    canvas.addEventListener("pointerdown", (e) => {
      dragged = false;
      if (e.pointerType === "touch") return;
      from = place(e);
      canvas.setPointerCapture(e.pointerId);
    });
    canvas.addEventListener("pointermove", (e) => {
      const to = place(e);
      if (from && Math.hypot(to[0] - from[0], to[1] - from[1]) > 8) {
        dragged = true;
        plot.band = [from, to];
        plot.draw(colour);
        return;
      }
      if (isPinned() || e.pointerType === "touch") return;
      const i = plot.nearest(...to, REACH);
      canvas.classList.toggle("near", i !== null);
      if (i === null) hideTip();
      else showTip(answers.short(i), e.clientX, e.clientY, false);
    });
    canvas.addEventListener("pointerup", (e) => {
      const to = place(e);
      if (dragged && from && Math.abs(to[0] - from[0]) > 8 && Math.abs(to[1] - from[1]) > 8) plot.zoomTo(from, to);
      from = plot.band = null;
      plot.draw(colour);
    });
    canvas.addEventListener("pointerleave", () => { if (!isPinned()) hideTip(); });
    canvas.addEventListener("click", (e) => {
      if (dragged) return;
      const i = plot.nearest(...place(e), e.pointerType === "touch" ? 2 * REACH : REACH);
      if (i === null) { hideTip(); return; }
      mark(i);
      showTip(answers.full(i, false), e.clientX, e.clientY, true);
    });
    canvas.addEventListener("dblclick", () => { plot.reset(); plot.draw(colour); });
  }

  function keys(plot) {
    const { canvas } = plot;
    canvas.addEventListener("keydown", (e) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
      if (e.key === "Escape") hideTip();
      if (by === undefined && e.key !== "Enter" && e.key !== " ") return;
      e.preventDefault();
      const i = by === undefined ? plot.focused : plot.step(by);
      if (i === null) return;
      const box = canvas.getBoundingClientRect(), [x, y] = plot.at(i);
      plot.draw(colour);
      if (by !== undefined) { showTip(answers.short(i), box.left + x, box.top + y, false); return; }
      mark(i);
      showTip(answers.full(i, false), box.left + x, box.top + y, true);
      opener = canvas;
      at("tip").focus();
    });
    canvas.addEventListener("blur", () => {
      plot.focused = null;
      if (!isPinned()) hideTip();
      plot.draw(colour);
    });
  }

  function zooms(plot) {
    const actions = { in: () => plot.zoom(2), out: () => plot.zoom(.5), start: () => plot.reset(), all: () => plot.showAll() };
    for (const button of plot.canvas.closest("figure").querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => { actions[button.dataset.zoom](); plot.draw(colour); });
    }
  }

  function legend() {
    [...at("legend").children].forEach((button, m) => button.addEventListener("click", () => {
      if (!hidden.delete(m)) hidden.add(m);
      button.setAttribute("aria-pressed", String(!hidden.has(m)));
      redraw();
    }));
  }

  // ---- the table of runs, a page of rows at a time

  const column = (label, value, isNumber = true) => ({ label, value, isNumber });
  const columns = [
    column("method", (i) => data.methods[data.runs.method[i]].name, false),
    column("run", (i) => data.runs.run[i]),
    ...(data.runs.verdict ? [column("tolerance is", (i) => data.runs.verdict[i], false)] : []),
    ...data.metrics.map(({ label, values }) => column(label, (i) => values[i])),
    column("seed", (i) => data.runs.seed[i]),
    ...data.hparams.map(([label, values]) => column(label, (i) => values[i])),
  ];
  const shown = { rows: positions, first: 0, sorted: null, down: false };
  const textOf = ({ value, isNumber }, i) => (isNumber ? number(value(i)) : value(i));
  let texts = null;  // of cells by row, made when first looked for

  function heads() {
    const line = element("tr");
    columns.forEach((one, k) => {
      const head = element("th"), button = element("button", one.label);
      head.scope = "col";
      head.style.minWidth = `${Math.min(18, Math.max(...one.label.split(" ").map((word) => word.length))) + 3}ch`;
      button.type = "button";
      button.addEventListener("click", () => {
        shown.down = shown.sorted === k && !shown.down;
        shown.sorted = k;
        for (const other of line.cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", shown.down ? "descending" : "ascending");
        find();
      });
      head.append(button);
      line.append(head);
    });
    at("run-table").tHead.replaceChildren(line);
  }

  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);

  function order(rows) {
    if (shown.sorted === null) return rows;
    const { value } = columns[shown.sorted], known = rows.filter((i) => isKnown(value(i)));
    known.sort((i, j) => compare(value(i), value(j)));
    if (shown.down) known.reverse();
    return [...known, ...rows.filter((i) => !isKnown(value(i)))];  // what is unknown stands last
  }

  // a whole number is a run; anything else is looked for in every cell
  const isMatch = (word, i) => (/^\d+$/.test(word) ? String(data.runs.run[i]) === word
    : texts[i].some((text) => text.includes(word)));

  function find() {
    const words = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean), front = at("frontier").value;
    let rows = front ? data.frontiers[front] : positions;
    if (words.length) {
      texts ??= positions.map((i) => ["run", ...columns.map((one) => textOf(one, i).toLowerCase())]);
      rows = rows.filter((i) => words.every((word) => isMatch(word, i)));
    }
    shown.rows = order([...rows]);
    shown.first = 0;
    fill();
  }

  function fill() {
    const { rows, first } = shown, last = Math.min(rows.length, first + PAGE);
    at("run-table").tBodies[0].replaceChildren(...rows.slice(first, last).map(rowOf));
    at("shown").textContent = rows.length ? `${first + 1} to ${last} of ${rows.length.toLocaleString("en")} runs` : "No run to show.";
    at("before").disabled = !first;
    at("after").disabled = last >= rows.length;
  }

  function rowOf(i) {
    const row = element("tr");
    row.dataset.position = i;
    for (const one of columns) {
      const isRun = one.label === "run", cell = element(isRun ? "th" : "td", undefined, one.isNumber ? "number" : "");
      if (isRun) {
        const button = element("button", textOf(one, i));
        button.type = "button";
        button.setAttribute("aria-expanded", "false");
        button.setAttribute("aria-label", `Show run ${data.runs.run[i]}`);
        cell.scope = "row";
        cell.append(button);
      } else cell.textContent = textOf(one, i);
      row.append(cell);
    }
    row.addEventListener("click", () => expand(row, i));
    return row;
  }

  // the answer stands below the row, as wide as what is seen of the table
  function expand(row, i) {
    const button = row.querySelector("button"), isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) { row.nextElementSibling.remove(); return; }
    const below = element("tr", undefined, "below"), cell = element("td"), inner = answers.full(i, false);
    cell.colSpan = columns.length;
    inner.style.width = `${row.closest(".wide").clientWidth - 24}px`;
    cell.append(inner);
    below.append(cell);
    row.after(below);
    mark(i);
  }

  function turn(by) {
    shown.first += by * PAGE;
    fill();
    at("run-table").parentNode.scrollTop = 0;
  }

  // small tables that stand in the page are sorted by their texts
  function sortStatic(head) {
    const body = head.closest("table").tBodies[0], k = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    // numbers are written for readers, with a true minus sign and commas between thousands
    const value = (row) => {
      const text = row.cells[k].textContent, plain = text.replace(/\u2212/g, "-").replace(/,/g, "");
      return plain === "" || isNaN(plain) ? text : Number(plain);
    };
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return typeof x === typeof y ? compare(x, y) : typeof x === "string" ? 1 : -1;
    });
    body.append(...(down ? rows.reverse() : rows));
  }

  function tables() {
    heads();
    find();
    at("filter").addEventListener("input", find);
    at("frontier").addEventListener("change", find);
    at("before").addEventListener("click", () => turn(-1));
    at("after").addEventListener("click", () => turn(1));
    for (const head of document.querySelectorAll("table.sortable th[scope=col]")) head.addEventListener("click", () => sortStatic(head));
  }

  // ---- paper, colours, sizes

  function surroundings() {
    let closed = [];
    addEventListener("beforeprint", () => {
      closed = [...document.querySelectorAll("details:not([open]):not(.record)")];
      for (const details of closed) details.open = true;
      document.documentElement.classList.add("paper");
      hideTip();
      redraw();
    });
    addEventListener("afterprint", () => {
      for (const details of closed) details.open = false;
      document.documentElement.classList.remove("paper");
      redraw();
    });
    addEventListener("keydown", (e) => { if (e.key === "Escape") hideTip(); });
    addEventListener("pointerdown", (e) => { if (isPinned() && !e.target.closest("#tip, canvas")) hideTip(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    addEventListener("resize", () => requestAnimationFrame(redraw));
  }

  for (const plot of plots) {
    pointers(plot);
    keys(plot);
    zooms(plot);
  }
  legend();
  control();
  tables();
  surroundings();
  start();
  redraw();
  document.body.dataset.ready = "1";
})();
