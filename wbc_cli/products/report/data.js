"use strict";
// The cells of the page by columns, and their pictures, decoded a script at a time when they are wanted.

const data = JSON.parse(document.getElementById("data").textContent);
const count = data.id.length;
const queue = new Set(data.queue);
const pictureScripts = document.getElementsByClassName("pictures");
const pictures = [];

function pictureOf(cell) {
  const part = Math.floor(cell / data.pictures_a_script);
  pictures[part] ??= JSON.parse(pictureScripts[part].textContent);
  const picture = pictures[part][cell % data.pictures_a_script];
  return picture && `data:image/webp;base64,${picture}`;
}

const slideName = (cell) => data.slides[data.slide[cell]][0];
const isRefused = (cell) => data.slides[data.slide[cell]][2];
const givenClass = (cell) => data.classes[data.class[cell]];
const likeliestClass = (cell) => data.classes[data.p[cell].indexOf(Math.max(...data.p[cell]))];

// What it looks like, in words; "" for a cell that is not described.
const lookOf = (cell) => data.looks[data.look[cell]];

// What else it might be, where it was not given the likeliest class: unidentified, or no white cell.
function likeliestIfOther(cell) {
  return likeliestClass(cell) === givenClass(cell) ? "" : likeliestClass(cell).label;
}

function flagsOf(cell) {
  return isRefused(cell) ? [...data.cell_flags[cell], "refused"] : data.cell_flags[cell];
}

function flagInWords(flag) {
  return flag === "refused" ? "its slide was refused" : data.flags[flag] ?? flag;
}

// What a reviewer who confirms it says: its class, or the likeliest one where that is unidentified, which teaches nothing.
function confirmedClass(cell) {
  return givenClass(cell).name === "unidentified" ? likeliestClass(cell) : givenClass(cell);
}

// What a reviewer has said, and when, by cell; kept by the browser, where it does so, for the next time the page is
// opened, and the reviewer's name for every page.
const said = new Map();
const storageKey = `wbc-cli review ${data.run}`, reviewerKey = "wbc-cli reviewer";

function keep(key, text) {
  try {
    localStorage.setItem(key, text);
  } catch { /* a browser may keep nothing for files; the CSV is what counts */ }
}

function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // as above
  }
}

function say(cell, className) {
  if (className === null) said.delete(cell);
  else said.set(cell, { className, time: `${new Date().toISOString().slice(0, 19)}Z` });
  keep(storageKey, JSON.stringify([...said]));
}

for (const [cell, word] of JSON.parse(kept(storageKey) ?? "[]")) said.set(cell, word);

// Filters: each a question that a cell must answer with yes.

function chosenCells(filters) {
  const { view, order, flag, from, to } = filters;
  const taught = new Map(data.teaching.slice(0, Number(filters.taught)).map((cell, i) => [cell, i]));
  const inView = {
    queue: (cell) => queue.has(cell), teaching: (cell) => taught.has(cell), reviewed: (cell) => said.has(cell), all: () => true,
  }[view];
  const flagged = (cell) => {
    if (flag === "") return true;
    const flags = flagsOf(cell);
    return flag === "+" ? flags.length > 0 : flag === "-" ? flags.length === 0 : flags.includes(flag);
  };
  const found = [];
  for (let cell = 0; cell < count; cell++) {
    if (
      inView(cell) && flagged(cell) &&
      (filters.class === "" || data.class[cell] === Number(filters.class)) &&
      (filters.sample === "" || data.slides[data.slide[cell]][3] === Number(filters.sample)) &&
      (filters.slide === "" || data.slide[cell] === Number(filters.slide)) &&
      data.confidence[cell] >= Number(from) && data.confidence[cell] <= Number(to === "" ? 100 : to)
    ) found.push(cell);
  }
  if (view === "teaching") found.sort((a, b) => taught.get(a) - taught.get(b));
  else if (order !== "slide") {
    const sign = order === "least" ? 1 : -1;
    found.sort((a, b) => sign * (data.confidence[a] - data.confidence[b]) || a - b);
  }
  return found;
}

// The file that `wbc-cli merge --review` reads.

function correctionsCsv(reviewer) {
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const rows = [...said].sort(([a], [b]) => a - b).map(([cell, { className, time }]) =>
    `${[data.slides[data.slide[cell]][1], data.id[cell], className, reviewer, time].map((v) => quoted(String(v))).join(",")}\n`);
  return `slide,cell,class,reviewer,time\n${rows.join("")}`;
}
