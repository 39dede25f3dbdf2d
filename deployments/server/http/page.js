"use strict";
const REFRESH_MS = 2000;
const find = (id) => document.getElementById(id);
let token = ""; // in memory only
let models = {};

class Refused extends Error {}

async function ask(method, path, body) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const reply = await fetch(path, { method, headers, body });
  if (reply.status === 401) throw new Refused((await reply.json()).error);
  return reply;
}

const read = async (method, path) => (await ask(method, path)).json();

function row(...cells) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const place = line.appendChild(document.createElement("td"));
    place.append(cell);
    if (cell === "READY") place.className = "good";
    if (String(cell).startsWith("UNAVAILABLE")) place.className = "bad";
  }
  return line;
}

const tensors = (list) => list.map((t) => `${t.name} ${t.datatype} [${t.shape}]`).join(", ");

// quorate_member_replicas{ensemble="e",member="m",state="connected"} 1.0, where a port is shared with a pid
function samples(metrics, name) {
  const found = [];
  for (const [, labels, value] of metrics.matchAll(new RegExp(`^${name}\\{(.*)\\} (\\S+)$`, "gm"))) {
    const told = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key, text]);
    found.push({ ...Object.fromEntries(told), value: Number(value) });
  }
  return found;
}

const sumBy = (found, label) => {
  const sums = {};
  for (const one of found) sums[one[label]] = (sums[one[label]] ?? 0) + one.value;
  return sums;
};
const counts = (sums) => Object.entries(sums).map(([what, count]) => `${what} ${count}`).join(", ");
const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(2)} %` : "");

function age(seconds) {
  const [count, unit] = seconds < 120 ? [seconds, "s"] : seconds < 7200 ? [seconds / 60, "min"] : [seconds / 3600, "h"];
  return count > 72 && unit === "h" ? `${(count / 24).toFixed(0)} d` : `${count.toFixed(0)} ${unit}`;
}

function memberRows(metrics) {
  const members = {};
  for (const one of samples(metrics, "quorate_member_replicas")) (members[one.member] ??= {})[one.state] = one.value;
  const thinned = sumBy(samples(metrics, "quorate_member_thinned_seconds"), "member");
  return Object.entries(members).map(([name, m]) =>
    row(name, String(m.connected ?? 0), String(m.left_out ?? 0), thinned[name] ? `for ${age(thinned[name])}` : ""));
}

function recordRows(metrics) {
  const [bytes] = samples(metrics, "quorate_record_bytes");
  const [oldest] = samples(metrics, "quorate_record_oldest_timestamp_seconds");
  const kept = sumBy(samples(metrics, "quorate_recorded_answers_total"), "outcome");
  const labels = sumBy(samples(metrics, "quorate_labels_total"), "verdict");
  if (!bytes && ![kept, labels].some((sums) => Object.values(sums).some(Boolean))) return [];
  const held = bytes ? `; ${(bytes.value / 1e6).toFixed(1)} MB, the oldest ${age(Date.now() / 1e3 - oldest.value)} ago` : "";
  return [row("answers recorded", counts(kept) + held), row("labels", counts(labels))];
}

function shadowRows(metrics) {
  const of = (name) => {
    const found = {};
    for (const one of samples(metrics, name)) found[`${one.shadow} ${one.output}`] = one;
    return (key) => found[key]?.value ?? 0;
  };
  const [changed, apart] = [of("quorate_shadow_changed_rows_total"), of("quorate_shadow_distance_total")];
  const [fused, judged] = [of("quorate_shadow_fuse_seconds_total"), of("quorate_shadow_judged_rows_total")];
  const gains = samples(metrics, "quorate_shadow_gain");
  const asked = samples(metrics, "quorate_shadow_member_rows_total");
  const seconds = samples(metrics, "quorate_shadow_member_reply_seconds_sum");
  const replies = samples(metrics, "quorate_shadow_member_reply_seconds_count");
  return samples(metrics, "quorate_shadow_rows_total").map(({ shadow, output, value: rows }) => {
    const key = `${shadow} ${output}`;
    const gain = gains.filter((one) => one.shadow === shadow && one.output === output);
    const by = Object.fromEntries(gain.map((one) => [one.bound, one.value.toFixed(4)]));
    const within = by.least ? ` (${by.least} to ${by.most}, 95 %)` : "";
    const better = by.mean ? `${by.mean} ${gain[0].metric}${within} on ${judged(key)} rows` : "";
    const own = sumBy(asked.filter((one) => one.shadow === shadow), "member");
    const alone = Object.entries(own).map(([member, count]) => {
      const mine = (one) => one.shadow === shadow && one.member === member;
      const [took, of, bad] = [seconds.find(mine), replies.find(mine), asked.filter(mine)];
      const failed = bad.reduce((sum, one) => sum + (one.outcome === "ok" ? 0 : one.value), 0);
      const reply = of?.value ? `, ${((1e3 * took.value) / of.value).toFixed(1)} ms` : "";
      return `${member}: ${count} rows${reply}${failed ? `, ${failed} failed` : ""}`;
    }).join("; ");
    const distance = rows ? (apart(key) / rows).toFixed(4) : "";
    const fusing = rows ? `${((1e6 * fused(key)) / rows).toFixed(1)} us` : "";
    return row(output ? key : shadow, String(rows), percent(changed(key), rows), distance, better, fusing, alone);
  });
}

function showBack(metrics) {
  const [door] = samples(metrics, "quorate_door_info");
  if (door) find("door").textContent = `${door.door}, process ${door.process},`;
  const [record, shadows] = [recordRows(metrics), shadowRows(metrics)];
  find("record").replaceChildren(...record);
  find("shadows").replaceChildren(...shadows);
  show({ back: record.length + shadows.length > 0, "shadow-table": shadows.length > 0 });
}

// quorate_drift{ensemble="e",output="",member="m",statistic="loss"} 1.0
function driftRows(metrics) {
  const drifted = {};
  for (const [, member, statistic, count] of metrics.matchAll(
    /^quorate_drift\{.*?member="([^"]*)".*?statistic="([^"]*)".*?\} (\S+)$/gm,
  )) {
    const found = (drifted[member || "the answers"] ??= []);
    if (Number(count) > 0) found.push(Number(count) > 1 ? `${statistic} (${Number(count)})` : statistic);
  }
  return Object.entries(drifted).map(([member, found]) => row(member, found.length ? found.join(", ") : "as it was"));
}

const date = (us) => new Date(us / 1e3).toISOString().slice(0, 19).replace("T", " ");

// A line of [time, value] for each series, all between the same two values; marks stand where something happened.
function line(title, series, [least, most], marks = []) {
  const svg = find("blank").cloneNode(false);
  svg.removeAttribute("id");
  svg.removeAttribute("hidden");
  const part = (kind, attributes, parent = svg) => {
    const made = parent.appendChild(document.createElementNS(svg.namespaceURI, kind));
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const times = series[0].points.map(([time]) => time);
  const [first, last] = [times[0], times[times.length - 1]];
  const x = (time) => ((100 * (time - first)) / (last - first || 1)).toFixed(2);
  const y = (value) => (19 - (18 * (value - least)) / (most - least || 1)).toFixed(2);
  for (const [name, value] of [["viewBox", "0 0 100 20"], ["preserveAspectRatio", "none"]]) svg.setAttribute(name, value);
  part("title", {}).textContent = `${title}, ${date(first)} to ${date(last)} UTC`;
  for (const { time, kind } of marks) {
    if (time >= first) part("line", { x1: x(Math.min(time, last)), x2: x(Math.min(time, last)), y1: 0, y2: 20, class: kind });
  }
  for (const { points, kind } of series) {
    part("polyline", { points: points.map(([time, value]) => `${x(time)},${y(value)}`).join(" "), class: kind });
  }
  return svg;
}

// What a bandit asks, and how often it is right beside its floor; dashed is what was learned, and the floor.
function policyRows(policy, named, marks) {
  const through = (number) => policy.points.map((at) => [at.time_us, number(at)]);
  const drawn = (title, solid, dashed) => {
    const series = [{ points: through(solid), kind: "" }, { points: through(dashed), kind: "bound" }];
    const values = series.flatMap(({ points }) => points.map(([, value]) => value));
    return values.length ? line(title, series, [Math.min(...values), Math.max(...values)], marks) : "";
  };
  const floor = (at) => at.everyone - policy.max_loss;
  const asked = drawn("members asked of a row", (at) => at.asked, (at) => at.learned_asks);
  const right = drawn("accuracy, and its floor", (at) => at.accuracy, floor);
  return [
    row(named("members asked of a row"), policy.asked.toFixed(2), policy.learned_asks.toFixed(2), "", asked),
    row(named("accuracy"), policy.accuracy.toFixed(4), policy.learned.toFixed(4), floor(policy).toFixed(4), right),
  ];
}

function policySaid({ output, policy }) {
  const said = `${output} asks ${policy.asked.toFixed(2)} of ${policy.members} members a row`;
  if (!policy.gain) return said;
  const [mean, least, most] = policy.gain.map((value) => value.toFixed(4));
  return `${said}; what was learned would gain ${mean} (${least} to ${most}) in being right less what is asked`;
}

function regretRows(output, named) {
  const standings = output.standings;
  const last = standings[standings.length - 1];
  return last.rivals.map((rival, at) => {
    const of = (what) => standings.map((standing) => [standing.time_us, standing.rivals[at][what]]);
    const series = [{ points: of("regret"), kind: "" }, { points: of("bound"), kind: "bound" }];
    const values = series.flatMap(({ points }) => points.map(([, value]) => value));
    const range = [Math.min(0, ...values), Math.max(0, ...values)];
    const loss = `${(rival.total / last.labels).toFixed(4)} ${output.loss}`;
    const drawn = line(`regret to ${rival.name}`, series, range);
    return row(named(rival.name), loss, rival.regret.toFixed(1), rival.bound.toFixed(1), drawn);
  });
}

function weightRows(output, named, told) {
  const points = output.weights;
  const happened = told.filter((one) => output.output in one.weights);
  const marks = happened.map((one) => ({ time: one.time_us, kind: one.taken_back ? "back" : "" }));
  return output.members.map((member, at) => {
    const series = [{ points: points.map((point) => [point.time_us, point.weights[at]]), kind: "" }];
    const live = output.live_weights ? output.live_weights[at].toFixed(4) : "";
    const drawn = line(`weight of ${member}`, series, [0, 1], marks);
    return row(named(member), points[points.length - 1].weights[at].toFixed(4), live, drawn);
  });
}

function toldRow(one) {
  const gains = Object.entries(one.gains);
  const better = gains.map(([output, gain]) => {
    const by = `${gain.toFixed(4)} over ${one.decided_by[output]} labels`;
    return gains.length > 1 ? `${output}: ${by}` : by;
  });
  return row(date(one.time_us), one.taken_back ? "taken back" : "went live", one.revision, better.join("; "));
}

function shares(column) {
  const [[name, most], ...others] = Object.entries(column).sort((one, other) => other[1] - one[1]);
  return others.length && most < 0.75 ? Object.entries(column).map(([of, share]) => `${of} ${share}`).join(", ") : name;
}

function relabelledRows(output, named) {
  return output.relabelled.map((called) => {
    const since = called.since_us === null ? "" : date(called.since_us);
    const names = [shares(called.labelled_as), shares(called.answered_as)];
    return row(named(called.class), ...names, since, String(called.labels || ""));
  });
}

function learningSaid(report) {
  const last = (output) => output.standings[output.standings.length - 1];
  const lost = report.outputs.filter((output) => output.standings.length).map((output) =>
    `${output.output} ${(last(output).total / last(output).labels).toFixed(4)} ${output.loss} a row`);
  const how = report.mode === "live" ? `live, at most every ${report.publish_every}` : "in the shadow";
  const bandits = report.outputs.filter(({ policy }) => policy).map(policySaid);
  const said = [`${how}: ${report.labels} labels`, ...lost, ...bandits];
  said.push(`went live by itself ${report.published} times, taken back ${report.rolled_back} times`);
  if (report.left_out_rows) said.push(`${report.left_out_rows} labelled rows left out`);
  if (report.waits) said.push("what was learned waits; quorate status says why");
  return said.join("; ");
}

async function showOnline(metrics) {
  const learns = samples(metrics, "quorate_online_changes_total").length > 0;
  const report = learns ? await read("GET", "/v2/online") : {};
  if (!report.mode) return show({ online: false });
  const several = report.outputs.length > 1;
  const known = report.outputs.filter((output) => output.standings.length);
  const rows = { relabelled: [], regret: [], weight: [], policy: [], told: report.told.map(toldRow).reverse() };
  for (const { output, policy } of report.outputs.filter(({ policy }) => policy)) {
    const happened = report.told.filter(({ policies }) => output in (policies ?? {}));
    const marks = happened.map(({ time_us, taken_back }) => ({ time: time_us, kind: taken_back ? "back" : "" }));
    rows.policy.push(...policyRows(policy, (name) => (several ? `${output}: ${name}` : name), marks));
  }
  for (const output of known) {
    const named = (name) => (several ? `${output.output}: ${name}` : name);
    rows.relabelled.push(...relabelledRows(output, named));
    rows.regret.push(...regretRows(output, named));
    if (output.weights.length) rows.weight.push(...weightRows(output, named, report.told));
  }
  find("learning").textContent = learningSaid(report);
  for (const [id, lines] of Object.entries(rows)) {
    find(id).replaceChildren(...lines);
    show({ [`${id}-table`]: lines.length > 0 });
  }
  show({ online: true });
}

function modelRow(found, statistics) {
  const { success, fail } = statistics.inference_stats;
  const mean = success.count ? `${(success.ns / success.count / 1e6).toFixed(2)} ms` : "";
  const state = found.reason ? `${found.state}: ${found.reason}` : found.state;
  const { inputs, outputs } = models[found.name];
  return row(found.name, state, tensors(inputs), tensors(outputs), String(success.count), String(fail.count), mean);
}

async function refresh() {
  const index = await read("POST", "/v2/repository/index");
  const statistics = (await read("GET", "/v2/models/stats")).model_stats;
  for (const { name } of index) models[name] ??= await read("GET", `/v2/models/${encodeURIComponent(name)}`);
  const byName = Object.fromEntries(statistics.map((s) => [s.name, s]));
  find("models").replaceChildren(...index.map((found) => modelRow(found, byName[found.name])));
  const metrics = await (await ask("GET", "/metrics")).text();
  find("members").replaceChildren(...memberRows(metrics));
  showBack(metrics);
  find("drift").replaceChildren(...driftRows(metrics));
  show({ drifting: find("drift").rows.length > 0 });
  await showOnline(metrics);
  if (find("model").length !== index.length) {
    find("model").replaceChildren(...index.map(({ name }) => new Option(name)));
    fillRequest();
  }
  const ready = index.every(({ state }) => state === "READY");
  say(ready ? "all models take calls" : "not all models take calls", ready ? "good" : "bad");
  show({ content: true, login: false });
}

function say(text, kind = "") {
  find("state").textContent = text;
  find("state").className = kind;
}

function show(parts) {
  for (const [id, visible] of Object.entries(parts)) find(id).hidden = !visible;
}

function example(tensor) {
  const shape = tensor.shape.map((size) => (size < 0 ? 1 : size));
  const size = shape.reduce((product, n) => product * n, 1);
  const value = { BYTES: "", BOOL: false }[tensor.datatype] ?? 0;
  return { name: tensor.name, datatype: tensor.datatype, shape, data: Array(size).fill(value) };
}

function fillRequest() {
  const inputs = models[find("model").value].inputs.map((tensor) => `  ${JSON.stringify(example(tensor))}`).join(",\n");
  const parameters = find("explain").checked ? ',\n "parameters": {"explain": true}' : "";
  find("request").value = `{"inputs": [\n${inputs}\n ]${parameters}}`;
}

async function infer(event) {
  event.preventDefault();
  const started = performance.now();
  const path = `/v2/models/${encodeURIComponent(find("model").value)}/infer`;
  const reply = await ask("POST", path, find("request").value);
  const text = JSON.stringify(await reply.json(), null, 1);
  find("answer").textContent = `${reply.status}, ${(performance.now() - started).toFixed(1)} ms\n${text}`;
  find("answer").hidden = false;
}

async function showDocs() {
  const page = new DOMParser().parseFromString(await (await ask("GET", "/docs")).text(), "text/html");
  find("docs").replaceChildren(...page.querySelector("main").childNodes);
}

const attempt = (work) => async (event) => {
  try {
    await work(event);
  } catch (error) {
    const refused = error instanceof Refused;
    say(refused ? error.message : `no answer: ${error.message}`, "bad");
    if (refused) show({ login: true, content: false });
  }
};

find("login").addEventListener("submit", attempt(async (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  find("token").value = "";
  await refresh();
}));
find("try").addEventListener("submit", attempt(infer));
find("model").addEventListener("change", fillRequest);
find("explain").addEventListener("change", fillRequest);
find("show-docs").addEventListener("click", attempt(showDocs));
const tick = attempt(refresh);
setInterval(() => document.hidden || (find("login").hidden && tick()), REFRESH_MS);
tick();
