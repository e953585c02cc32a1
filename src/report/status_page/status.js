"use strict";
// Asks for status.json every two seconds while the page is visible. Everything that comes from there is set as text, never as markup.

const EVERY_MS = 2000;
const TIMEOUT_MS = 5000;
const SAMPLES = 120;
const STATES = {
  starting: ["starting", "warn"],
  waiting: ["waiting", "warn"],
  running: ["running", "good"],
  caught_up: ["caught up", "good"],
  degraded: ["degraded", "warn"],
  stalled: ["stalled", "bad"],
  draining: ["draining", "warn"],
};
const SIDES = { source: "Reading", target: "Delivery", dead_letters: "Dead letters", commits: "Commits" };
const RECORDS = [
  ["read", "read"], ["delivered", "delivered"], ["already_there", "already there"], ["superseded", "superseded"],
  ["dead_lettered", "dead-lettered"], ["skipped", "skipped"], ["filtered", "filtered"], ["late", "late"],
  ["replayed", "replayed"], ["released", "released"], ["undelivered", "undelivered"],
];
const ALWAYS = new Set(["read", "delivered", "dead_lettered"]);

const element = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en-US");
const rates = [];
let answeredAt = null;
let timer = null;

function text(id, value) {
  const node = element(id);
  if (node.textContent !== value) node.textContent = value;
}

function duration(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const first = units.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0s";
  const [[size, unit], next] = [units[first], units[first + 1]];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)}${unit}${rest ? ` ${rest}${next[1]}` : ""}`;
}

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  const power = count > 0 ? Math.min(Math.floor(Math.log10(count) / 3), units.length - 1) : 0;
  return `${(count / 1000 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

function milliseconds(value) {
  if (value === null) return "–";
  return value < 1000 ? `${value < 10 ? value.toFixed(1) : Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

function made(tag, content, className) {
  const node = document.createElement(tag);
  node.textContent = content;
  if (className) node.className = className;
  return node;
}

function row(...cells) {
  const node = document.createElement("tr");
  node.append(...cells);
  return node;
}

function show(status) {
  const { records } = status;
  const [word, kind] = STATES[status.state] || [status.state, "warn"];
  text("state", word);
  element("state").className = `badge ${kind}`;
  text("flow", status.flow || "sdl");
  const about = [status.command, status.run, `sdl ${status.version}`, `for ${duration(status.seconds)}`, status.waiting];
  text("about", about.filter(Boolean).join(" · "));
  document.title = `${word} · ${number(Math.round(status.records_per_second))}/s · ${status.command || "sdl"}`;

  const problems = status.problems.map(({ side, stalled, code, seconds }) => {
    const item = made("li", `${SIDES[side] || side} ${stalled ? "stalled" : "degraded"} for ${duration(seconds)}: `, stalled ? "bad" : "");
    item.append(made("code", code));
    return item;
  });
  element("problems").replaceChildren(...problems);
  element("problems").hidden = problems.length === 0;

  const rate = status.records_per_second;
  text("rate", rate < 10 ? String(rate) : number(Math.round(rate)));
  rates.push(rate);
  if (rates.length > SAMPLES) rates.shift();
  draw();

  text("delivered", number(records.delivered));
  text("bytes", bytes(records.bytes));
  element("lag-tile").hidden = status.command === "produce-fake";
  text("lag", status.lag === null ? "–" : number(status.lag));
  text("eta", status.lag === null ? "not known yet" : status.lag > 0 && rate > 0 ? `about ${duration(status.lag / rate)}` : "");
  text("in-flight", number(status.in_flight));
  text("retried", records.retried ? `${number(records.retried)} sent again` : "");
  text("dead", number(records.dead_lettered));
  element("dead-tile").classList.toggle("bad", records.dead_lettered > 0);
  text("bad-share", records.skipped ? `${number(records.skipped)} skipped` : "");
  text("p50", milliseconds(status.response_ms.p50));
  text("p99", status.response_ms.p99 === null ? "" : `99 %: ${milliseconds(status.response_ms.p99)}`);

  const causes = status.causes.map(({ code, records: count }) => {
    const name = document.createElement("td");
    name.append(made("code", code));
    return row(name, made("td", number(count), "number"));
  });
  element("causes").replaceChildren(...causes);
  element("causes-section").hidden = causes.length === 0;

  const counts = RECORDS.filter(([name]) => records[name] > 0 || ALWAYS.has(name)).map(([name, label]) => {
    const pair = document.createElement("div");
    const shown = name === "read" && status.command === "produce-fake" ? "made" : label;
    pair.append(made("dt", shown), made("dd", number(records[name])));
    return pair;
  });
  element("records").replaceChildren(...counts);

  const partitions = status.partitions.map((partition) => row(
    made("td", partition.topic),
    made("td", String(partition.partition), "number"),
    made("td", number(partition.position), "number roomier"),
    made("td", partition.committed === null ? "–" : number(partition.committed), "number roomy"),
    made("td", partition.lag === null ? "–" : number(partition.lag), "number"),
  ));
  element("partitions").replaceChildren(...partitions);
  element("partitions-section").hidden = partitions.length === 0 || status.command === "produce-fake";
  const left = status.partition_count - partitions.length;
  text("partition-count", left > 0 ? `${number(partitions.length)} that are furthest behind, of ${number(status.partition_count)}` : `${number(partitions.length)}`);
}

function draw() {
  const most = Math.max(...rates, 1);
  const step = 240 / (SAMPLES - 1);
  const first = SAMPLES - rates.length;
  const points = rates.map((rate, at) => `${((first + at) * step).toFixed(1)},${(39 - (rate / most) * 37).toFixed(1)}`);
  element("line").setAttribute("points", points.join(" "));
  element("area").setAttribute("points", `${(first * step).toFixed(1)},40 ${points.join(" ")} 240,40`);
}

function lost() {
  const since = answeredAt === null ? "" : ` for ${duration((Date.now() - answeredAt) / 1000)}`;
  text("lost", `No answer${since}: the run has ended, or cannot be reached. ${answeredAt === null ? "" : "What is below is old."}`);
  element("lost").hidden = false;
  text("state", "no answer");
  element("state").className = "badge bad";
  document.title = "no answer · sdl";
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.json());
    answeredAt = Date.now();
    element("lost").hidden = true;
    text("updated", `updated at ${new Date().toLocaleTimeString()}`);
  } catch {
    lost();
  }
  clearTimeout(timer);
  timer = setTimeout(poll, EVERY_MS);
}

document.addEventListener("visibilitychange", poll);
poll();
