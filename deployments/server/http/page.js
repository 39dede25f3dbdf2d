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
function memberRows(metrics) {
  const members = {};
  for (const [, name, state, count] of metrics.matchAll(
    /^quorate_member_replicas\{.*?member="([^"]*)".*?state="([^"]*)"\} (\S+)$/gm,
  )) (members[name] ??= {})[state] = Number(count);
  return Object.entries(members).map(([name, m]) => row(name, String(m.connected ?? 0), String(m.left_out ?? 0)));
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
  find("members").replaceChildren(...memberRows(await (await ask("GET", "/metrics")).text()));
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
