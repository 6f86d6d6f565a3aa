// What is known of a run: its errors and gaps, its command, its hyper-parameters, its groups.
const element = (tag, text, name) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
};
const isKnown = (v) => v !== null && v !== undefined;
// as the sentences of the page write numbers: decimals follow the size
const number = (v) => {
  if (!isKnown(v)) return "\u2013";
  const size = Math.abs(v);
  let text = v.toFixed(size < 10 ? 3 : size < 1000 ? 1 : 0);
  if (Number.isInteger(v)) text = String(v);
  else if (size < .01) text = String(Number(v.toPrecision(2)));
  return text.replace(/^-/, "\u2212");
};

class Answers {
  constructor(data) { this.data = data; }

  heading(i) {
    const { methods, runs } = this.data;
    return `Run ${runs.run[i]}, ${methods[runs.method[i]].name}`;
  }

  values(kind, task, attribute, split) {
    const fits = (m) => m.kind === kind && m.task === task && m.attribute === attribute && m.split === split;
    const found = this.data.metrics.find(fits);
    return found ? found.values : null;
  }

  value(kind, task, attribute, split, i) {
    const values = this.values(kind, task, attribute, split);
    return values ? values[i] : null;
  }

  command(i) {
    const { command, runs, methods } = this.data, method = methods[runs.method[i]];
    if (!command || method.is_reference || method.is_estimator) return "";
    return command.split("{run}").join(runs.run[i]);
  }

  // why there is no command
  without(i) {
    const { command, runs, methods } = this.data;
    if (methods[runs.method[i]].is_estimator) {
      return "An estimator from outside: fit it yourself, and repair its scores with fairjax.Repair or 'fairjax repair'.";
    }
    return command ? "A reference: no command makes a model of it." : "The command that trained these runs was not recorded.";
  }

  // a table of rows of texts; the first cell of a row names it
  table(caption, head, rows) {
    const wide = element("div", undefined, "wide"), table = element("table"), body = element("tbody");
    const line = element("tr");
    for (const name of head) { const cell = element("th", name); cell.scope = "col"; line.append(cell); }
    const top = element("thead");
    top.append(line);
    for (const [name, ...cells] of rows) {
      const row = element("tr"), first = element("th", name);
      first.scope = "row";
      row.append(first, ...cells.map((text) => element("td", text, "number")));
      body.append(row);
    }
    table.append(element("caption", caption), top, body);
    wide.append(table);
    return wide;
  }

  interval(kind, task, attribute, i) {
    const fits = (m) => m.position === i && m.kind === kind && m.task === task && m.attribute === attribute;
    const found = this.data.intervals.find(fits);
    return found && isKnown(found.low) && isKnown(found.high) ? found : null;
  }

  // rows of errors and gaps: on validation, on test, and of the single-task models on test
  measures(i) {
    const { tasks, attributes, single_task: means } = this.data, rows = [];
    const row = (label, kind, task, attribute, mean) => {
      const of = (split) => this.value(kind, task, attribute, split, i), ends = this.interval(kind, task, attribute, i);
      const test = number(of("test")) + (ends ? ` [${number(ends.low)}, ${number(ends.high)}]` : "");
      rows.push([label, number(of("validation")), test, number(mean)]);
    };
    tasks.forEach((task, t) => {
      row(`error, ${task}`, "error", t, null, means[t].error);
      attributes.forEach((attribute, a) => row(`gap, ${task}, ${attribute}`, "gap", t, a, attributes.length === 1 ? means[t].gap : null));
    });
    for (const [kind, name, mean] of this.data.relative) if (this.values(kind, null, null, "test")) row(name, kind, null, null, mean);
    return rows;
  }

  facts(i) {
    const { tasks, hparams, runs } = this.data;
    const facts = hparams.filter(([, values]) => isKnown(values[i])).map(([name, values]) => [name, number(values[i])]);
    tasks.forEach((task, t) => {
      const threshold = this.value("threshold", t, null, "validation", i);
      if (isKnown(threshold)) facts.unshift([`${task}: decides at a probability of`, number(threshold)]);
    });
    return [...facts, ["point", String(runs.point[i])], ["seed", String(runs.seed[i])]];
  }

  // a table of groups per task, or null where none is known
  groups(i) {
    const { rates, positions, rows } = this.data.groups, k = positions.indexOf(i);
    if (k < 0 || !rows.length) return null;
    const tables = element("div");
    for (const task of new Set(rows.map((row) => row.task))) {
      const lines = rows.filter((row) => row.task === task).map(({ attribute, group, count, values }) => [
        group.includes(attribute) ? group : `${attribute}: ${group}`,
        isKnown(count) ? count.toLocaleString("en", { maximumFractionDigits: 1 }) : "\u2013",
        ...values.map((column) => number(column && column[k])),
      ]);
      tables.append(this.table(`${task}, on test rows`, ["group", "rows", ...rates], lines));
    }
    return tables;
  }

  details(summary, content, isOpen) {
    const details = element("details");
    details.open = isOpen;
    details.append(element("summary", summary), content);
    return details;
  }

  async copy(code, button) {
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {  // pages opened from a disk may not reach the clipboard directly
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
  }

  full(i, isOpen) {
    const answer = element("div", undefined, "answer"), command = this.command(i);
    answer.append(element("h3", this.heading(i)));
    const { diverged, verdict } = this.data.runs;
    if (diverged[i]) answer.append(element("p", "This run diverged.", "hint"));
    if (verdict && verdict[i]) answer.append(element("p", `Its tolerance on validation rows: ${verdict[i]}.`, "hint"));
    if (command) {
      const box = element("div", undefined, "command"), code = element("code", command), copy = element("button", "Copy");
      copy.type = "button";
      copy.setAttribute("aria-label", "Copy the command");
      copy.addEventListener("click", () => this.copy(code, copy));
      box.append(code, copy);
      answer.append(element("p", "The command for this model, to be run in the folder of this page:", "hint"), box);
    } else {
      answer.append(element("p", this.without(i), "hint"));
    }
    answer.append(this.table("Errors and gaps.", ["", "validation", "test", "single-task models (test)"], this.measures(i)));
    const groups = this.groups(i);
    if (groups) answer.append(this.details("Groups", groups, isOpen));
    answer.append(this.details("Hyper-parameters", this.table("Hyper-parameters.", ["name", "value"], this.facts(i)), false));
    return answer;
  }

  short(i) {
    const answer = element("div", undefined, "answer");
    answer.append(element("h3", this.heading(i)));
    answer.append(this.table("Errors and gaps.", ["", "validation", "test"], this.measures(i).map((row) => row.slice(0, 3))));
    return answer;
  }
}
