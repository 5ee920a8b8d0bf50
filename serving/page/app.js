// The page of the render service: no build step, no library.
const $ = (id) => document.getElementById(id);
const STATES = { queued: "Waiting", running: "Rendering", done: "Done", failed: "Failed", cancelled: "Cancelled" };
const STAGES = { poses: "Looking for the dancer", rendering: "Rendering", joining: "Joining" };
let render = null; // the one that is watched

// Relative to where the page lies: it may be served under a prefix.
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
  throw new Error(told(problem));
}

function told(problem) {
  const details = [problem.expected && `expected ${problem.expected}`, problem.got && `got ${problem.got}`];
  const more = details.filter(Boolean).join("; ");
  return `${problem.title}: ${problem.detail}${more ? ` (${more})` : ""}`;
}

function complain(error) {
  $("problem").textContent = error.message;
  $("problem").hidden = false;
}

// A picture or film as an address that an element can show: with a key the browser cannot fetch it by itself.
async function address(path) {
  if (!sessionStorage.getItem("key")) return path.replace(/^\//, "");
  return URL.createObjectURL(await (await call(path)).blob());
}

async function showDancers() {
  const dancers = await (await call("v1/dancers")).json();
  const offered = dancers.filter((dancer) => dancer.consent);
  $("no-dancers").hidden = offered.length > 0;
  $("dancers").replaceChildren(...offered.map(card));
  for (const dancer of offered) {
    address(dancer.sample).then((src) => { $(`sample-${dancer.name}-${dancer.version}`).src = src; }).catch(() => {});
  }
  ready();
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

const chosen = () => document.querySelector("input[name=dancer]:checked");

function ready() {
  $("go").disabled = !($("source").files.length && chosen());
}

// With fetch there is no progress of an upload.
function send(form) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const key = sessionStorage.getItem("key") || $("key").value;
    request.open("POST", "v1/renders");
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    // The same form twice is one render.
    request.setRequestHeader("Idempotency-Key", crypto.randomUUID ? crypto.randomUUID() : String(Math.random()));
    request.responseType = "json";
    request.upload.onprogress = (event) => progress("Sending", event.loaded, event.total);
    request.onerror = () => reject(new Error("The service does not answer."));
    request.onload = () => request.status === 202 ? resolve(request.response)
      : reject(new Error(request.response ? told(request.response) : `HTTP ${request.status}`));
    request.send(form);
  });
}

function progress(state, done, total) {
  $("state").textContent = state;
  if (total) $("progress").value = done / total; else $("progress").removeAttribute("value");
}

async function ask(event) {
  event.preventDefault();
  $("problem").hidden = true;
  $("done").hidden = true;
  $("frames").replaceChildren();
  $("work").hidden = false;
  $("go").disabled = true;
  try {
    const form = new FormData();
    const source = $("source").files[0];
    form.append("dancer", chosen().value);
    form.append("label", $("label").checked);
    form.append("source", source);
    render = await send(form);
    history.replaceState(null, "", `#${render.id}`);
    await watch(render.id, source);
  } catch (error) {
    complain(error);
    $("work").hidden = true;
  }
  ready();
}

// Events only say that there is news; what is shown is always what the service has. A line that breaks is taken up.
async function watch(id, source) {
  let last = "";
  for (;;) {
    render = await (await call(`v1/renders/${id}`)).json();
    show(render);
    if (["done", "failed", "cancelled"].includes(render.state)) break;
    try {
      last = await listen(id, last);
    } catch { await new Promise((later) => setTimeout(later, 1000)); }
  }
  $("work").hidden = true;
  if (render.state === "done") await present(render, source);
  else if (render.state === "failed") complain(new Error(told(render.problem)));
}

// Until the next event that is worth a look.
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
      if (fields.event === "frames") await pictures(id, JSON.parse(fields.data));
      else if (fields.event) { reader.cancel(); return last; }
    }
  }
}

function show(now) {
  const { stage, frames_done, frames_total } = now.progress;
  const state = now.state === "running" ? STAGES[stage] || STATES.running : STATES[now.state];
  progress(state, frames_done, now.state === "running" ? frames_total : 0);
  $("told").textContent = frames_total ? `${frames_done} of ${frames_total} frames` : "";
  $("cancel").disabled = false;
}

async function pictures(id, frames) {
  for (const [number, frame] of Object.entries(frames)) {
    const name = `chunk-${number}`;
    const image = $(name) || Object.assign(document.createElement("img"), { id: name });
    image.alt = `frame ${frame}`;
    image.src = await address(`v1/renders/${id}/frames/${number}?frame=${frame}`);
    if (!image.isConnected) $("frames").append(image);
  }
}

async function present(now, source) {
  $("done").hidden = false;
  $("ours").src = $("download").href = await address(`v1/renders/${now.id}/result`);
  $("theirs").parentElement.hidden = !source;
  if (source) $("theirs").src = URL.createObjectURL(source);
  const notices = now.result.notices.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
  $("notices").replaceChildren(...notices);
  const seams = Object.fromEntries(now.seams.map((seam) => [seam.frame, seam]));
  $("chunks").tBodies[0].replaceChildren(...now.chunks.map((chunk) => {
    const row = document.createElement("tr");
    const seam = seams[chunk.start];
    const seen = seam ? `${seam.psnr_db.toFixed(1)} dB${seam.faded ? ", faded over" : ""}` : "";
    for (const text of [chunk.number, `${chunk.start} to ${chunk.stop - 1}`, chunk.warm_up, chunk.seconds, seen]) {
      row.insertCell().textContent = text;
    }
    return row;
  }));
}

const both = () => [$("ours"), $("theirs")].filter((video) => video.src);

function play() {
  const paused = $("ours").paused;
  for (const video of both()) paused ? video.play() : video.pause();
}

$("ask").addEventListener("submit", ask);
$("ask").addEventListener("change", ready);
$("source").addEventListener("change", () => {
  $("source-name").textContent = $("source").files[0]?.name || "Drop a video here, or choose one";
});
for (const kind of ["dragenter", "dragover"]) $("drop").addEventListener(kind, () => $("drop").classList.add("over"));
for (const kind of ["dragleave", "drop"]) $("drop").addEventListener(kind, () => $("drop").classList.remove("over"));
$("cancel").addEventListener("click", () => {
  $("cancel").disabled = true;
  if (render) call(`v1/renders/${render.id}/cancel`, { method: "POST" }).catch(complain);
});
$("play").addEventListener("click", play);
$("ours").addEventListener("play", () => { $("play").textContent = "Pause"; });
$("ours").addEventListener("pause", () => { $("play").textContent = "Play"; });
$("ours").addEventListener("timeupdate", () => {
  const { currentTime, duration } = $("ours");
  if (duration) $("seek").value = currentTime / duration;
  // The two are one film.
  if ($("theirs").src && Math.abs($("theirs").currentTime - currentTime) > 0.1) $("theirs").currentTime = currentTime;
});
$("seek").addEventListener("input", () => {
  for (const video of both()) video.currentTime = $("seek").value * $("ours").duration;
});
$("key").addEventListener("change", () => { showDancers().catch(complain); $("problem").hidden = true; });

showDancers().catch(complain);
// A page that was closed finds its render again.
if (/^#[0-9a-f]{32}$/.test(location.hash)) {
  $("work").hidden = false;
  watch(location.hash.slice(1), null).catch((error) => { $("work").hidden = true; complain(error); });
}
