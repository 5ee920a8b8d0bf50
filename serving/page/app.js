// The page of the render service: no build step, no library.
const $ = (id) => document.getElementById(id);
const STATES = { queued: "Waiting", running: "Rendering", done: "Done", failed: "Failed", cancelled: "Cancelled" };
const STAGES = { poses: "Detecting poses", rendering: "Rendering", joining: "Joining" };
let render = null; // the one being watched

// Paths are relative to the page, because the service may run under a prefix.
async function call(path, options = {}) {
  const key = $("key").value || sessionStorage.getItem("key") || "";
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const answer = await fetch(path.replace(/^\//, ""), { ...options, headers });
  if (answer.ok) {
    if (key) sessionStorage.setItem("key", key);
    return answer;
  }
  const problem = await answer.json().catch(() => ({ title: answer.statusText, detail: "" }));
  if (answer.status === 401) $("key-field").hidden = false;
  throw new Error(problemText(problem));
}

function problemText(problem) {
  const details = [problem.expected && `expected ${problem.expected}`, problem.got && `got ${problem.got}`];
  const more = details.filter(Boolean).join("; ");
  return `${problem.title}: ${problem.detail}${more ? ` (${more})` : ""}`;
}

function showError(error) {
  $("problem").textContent = error.message;
  $("problem").hidden = false;
}

// URL of a picture or film for an element. With an API key it is fetched here, because the element cannot send the key.
async function mediaUrl(path) {
  if (!sessionStorage.getItem("key")) return path.replace(/^\//, "");
  return URL.createObjectURL(await (await call(path)).blob());
}

async function showDancers() {
  const dancers = await (await call("v1/dancers")).json();
  const available = dancers.filter((dancer) => dancer.consent);
  $("no-dancers").hidden = available.length > 0;
  $("dancers").replaceChildren(...available.map(card));
  for (const dancer of available) {
    mediaUrl(dancer.sample).then((src) => { $(`sample-${dancer.name}-${dancer.version}`).src = src; }).catch(() => {});
  }
  updateSubmit();
}

function card(dancer, i) {
  const label = Object.assign(document.createElement("label"), { className: "dancer" });
  const input = Object.assign(document.createElement("input"),
    { type: "radio", name: "dancer", value: `${dancer.name}:${dancer.version}`, checked: i === 0 });
  const image = Object.assign(document.createElement("img"), { alt: "", id: `sample-${dancer.name}-${dancer.version}` });
  const name = document.createElement("span");
  const small = document.createElement("small");
  small.textContent = ` version ${dancer.version}${dancer.aliases.length ? `, ${dancer.aliases.join(", ")}` : ""}`;
  name.append(dancer.name, small);
  label.append(input, image, name);
  return label;
}

const selectedDancer = () => document.querySelector("input[name=dancer]:checked");

function updateSubmit() {
  $("go").disabled = !($("source").files.length && selectedDancer());
}

// XMLHttpRequest, because fetch reports no upload progress.
function send(form) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const key = sessionStorage.getItem("key") || $("key").value;
    request.open("POST", "v1/renders");
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    // A form that is sent twice results in one render.
    request.setRequestHeader("Idempotency-Key", crypto.randomUUID ? crypto.randomUUID() : String(Math.random()));
    request.responseType = "json";
    request.upload.onprogress = (event) => progress("Uploading", event.loaded, event.total);
    request.onerror = () => reject(new Error("The service does not respond."));
    request.onload = () => request.status === 202 ? resolve(request.response)
      : reject(new Error(request.response ? problemText(request.response) : `HTTP ${request.status}`));
    request.send(form);
  });
}

function progress(state, done, total) {
  $("state").textContent = state;
  if (total) $("progress").value = done / total; else $("progress").removeAttribute("value");
}

async function submit(event) {
  event.preventDefault();
  $("problem").hidden = true;
  $("done").hidden = true;
  $("frames").replaceChildren();
  $("work").hidden = false;
  $("go").disabled = true;
  try {
    const form = new FormData();
    const source = $("source").files[0];
    form.append("dancer", selectedDancer().value);
    form.append("label", $("label").checked);
    form.append("source", source);
    render = await send(form);
    history.replaceState(null, "", `#${render.id}`);
    await watch(render.id, source);
  } catch (error) {
    showError(error);
    $("work").hidden = true;
  }
  updateSubmit();
}

// Events only trigger a refresh: the state shown is always the service's. A lost connection is reopened.
async function watch(id, source) {
  let last = "";
  for (;;) {
    render = await (await call(`v1/renders/${id}`)).json();
    showState(render);
    if (["done", "failed", "cancelled"].includes(render.state)) break;
    try {
      last = await listen(id, last);
    } catch { await new Promise((resolve) => setTimeout(resolve, 1000)); }
  }
  $("work").hidden = true;
  if (render.state === "done") await showFilm(render, source);
  else if (render.state === "failed") showError(new Error(problemText(render.problem)));
}

// Read events until one changes the state; returns the id of the last event.
async function listen(id, last) {
  const answer = await call(`v1/renders/${id}/events`, { headers: last ? { "Last-Event-ID": last } : {} });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return last;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
      if (fields.id) last = fields.id;
      if (fields.event === "frames") await showPreviews(id, JSON.parse(fields.data));
      else if (fields.event) { reader.cancel(); return last; }
    }
  }
}

function showState(current) {
  const { stage, frames_done, frames_total } = current.progress;
  const state = current.state === "running" ? STAGES[stage] || STATES.running : STATES[current.state];
  progress(state, frames_done, current.state === "running" ? frames_total : 0);
  $("frame-count").textContent = frames_total ? `${frames_done} of ${frames_total} frames` : "";
  $("cancel").disabled = false;
}

async function showPreviews(id, frames) {
  for (const [number, frame] of Object.entries(frames)) {
    const name = `chunk-${number}`;
    const image = $(name) || Object.assign(document.createElement("img"), { id: name });
    image.alt = `frame ${frame}`;
    image.src = await mediaUrl(`v1/renders/${id}/frames/${number}?frame=${frame}`);
    if (!image.isConnected) $("frames").append(image);
  }
}

async function showFilm(finished, source) {
  $("done").hidden = false;
  $("film").src = $("download").href = await mediaUrl(`v1/renders/${finished.id}/result`);
  $("source-film").parentElement.hidden = !source;
  if (source) $("source-film").src = URL.createObjectURL(source);
  const notices = finished.result.notices.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
  $("notices").replaceChildren(...notices);
  const seams = Object.fromEntries(finished.seams.map((seam) => [seam.frame, seam]));
  $("chunks").tBodies[0].replaceChildren(...finished.chunks.map((chunk) => {
    const row = document.createElement("tr");
    const seam = seams[chunk.start];
    const seamText = seam ? `${seam.psnr_db.toFixed(1)} dB${seam.faded ? ", faded over" : ""}` : "";
    for (const text of [chunk.number, `${chunk.start} to ${chunk.stop - 1}`, chunk.warm_up, chunk.seconds, seamText]) {
      row.insertCell().textContent = text;
    }
    return row;
  }));
}

const videos = () => [$("film"), $("source-film")].filter((video) => video.src);

function play() {
  const paused = $("film").paused;
  for (const video of videos()) paused ? video.play() : video.pause();
}

$("ask").addEventListener("submit", submit);
$("ask").addEventListener("change", updateSubmit);
$("source").addEventListener("change", () => {
  $("source-name").textContent = $("source").files[0]?.name || "Drop a video here or choose one";
});
for (const kind of ["dragenter", "dragover"]) $("drop").addEventListener(kind, () => $("drop").classList.add("over"));
for (const kind of ["dragleave", "drop"]) $("drop").addEventListener(kind, () => $("drop").classList.remove("over"));
$("cancel").addEventListener("click", () => {
  $("cancel").disabled = true;
  if (render) call(`v1/renders/${render.id}/cancel`, { method: "POST" }).catch(showError);
});
$("play").addEventListener("click", play);
$("film").addEventListener("play", () => { $("play").textContent = "Pause"; });
$("film").addEventListener("pause", () => { $("play").textContent = "Play"; });
$("film").addEventListener("timeupdate", () => {
  const { currentTime, duration } = $("film");
  if (duration) $("seek").value = currentTime / duration;
  // Keep both videos in sync.
  if ($("source-film").src && Math.abs($("source-film").currentTime - currentTime) > 0.1) $("source-film").currentTime = currentTime;
});
$("seek").addEventListener("input", () => {
  for (const video of videos()) video.currentTime = $("seek").value * $("film").duration;
});
$("key").addEventListener("change", () => { showDancers().catch(showError); $("problem").hidden = true; });

showDancers().catch(showError);
// The render id in the address restores the view after a reload.
if (/^#[0-9a-f]{32}$/.test(location.hash)) {
  $("work").hidden = false;
  watch(location.hash.slice(1), null).catch((error) => { $("work").hidden = true; showError(error); });
}
