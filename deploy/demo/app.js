"use strict";
// Three players on three cards, drawn from their own events; a map of the ranking, drawn from explain.

const COLOURS = { "c001-bom001": "var(--a)", "c002-bom001": "var(--b)", "c001-del001": "var(--c)", cdn: "var(--d)" };
const PLAYER_COLOURS = { "hls.js": "#ffd166", Shaka: "#ff7eb6", "dash.js": "#7ee8fa" };
const PLACES = { "c001-bom001": [340, 68], "c002-bom001": [340, 214], "c001-del001": [480, 142], cdn: [595, 142] };
const MEANING = { D: "drained", H: "no headroom", U: "unhealthy", S: "stale", F: "other family", R: "region" };
const SEGMENTS = 60;

const machines = {};  // by address, from the demo
const cards = {};     // by player
let listener = "", title = "";

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  Object.assign(made, attributes);
  made.append(...children);
  return made;
};
const nameOf = (url) => machines[new URL(url).hostname] ?? null;

// ---- cards

class Card {
  constructor(name, protocol) {
    this.name = name;
    this.video = element("video", { muted: true, loop: true, playsInline: true, controls: false });
    this.host = element("div", { className: "host", textContent: "…" });
    this.numbers = Object.fromEntries(["throughput", "buffer", "stalled", "asks in"].map((key) => [key, element("b", { textContent: "–" })]));
    this.ranked = element("div", { className: "ranked" });
    this.strip = element("div", { className: "strip" });
    this.errors = element("div", { className: "errors" });
    this.root = element("article", { className: "player" }, this.video, element("div", { className: "inside" },
      element("div", { className: "title" }, element("b", { textContent: name }), element("span", { textContent: protocol })),
      this.host,
      element("div", { className: "numbers" }, ...Object.entries(this.numbers).map(([key, value]) => element("div", {}, element("span", { textContent: key }), value))),
      element("div", { className: "label", textContent: "the last steering manifest" }), this.ranked,
      element("div", { className: "label", textContent: "segments, by appliance" }), this.strip,
      this.errors));
    document.getElementById("players").append(this.root);
    this.current = "";
    this.stalled = 0;
    this.last = { time: 0, at: performance.now() };
    this.throughput = () => null;
    setInterval(() => this.look(), 250);
  }

  segment(url) {
    const name = nameOf(url);
    if (!name) return;
    this.current = name;
    this.host.textContent = `${name}   ${new URL(url).hostname}`;
    this.root.style.setProperty("--own", COLOURS[name]);
    const block = element("i", { title: name });
    block.style.setProperty("--own", COLOURS[name]);
    this.strip.append(block);
    while (this.strip.children.length > SEGMENTS) this.strip.firstChild.remove();
  }

  steering(manifest) {
    const ids = manifest["PATHWAY-PRIORITY"] ?? [];
    this.ranked.replaceChildren(...ids.map((id) => {
      const chip = element("span", { textContent: id });
      chip.style.setProperty("--own", COLOURS[id] ?? "var(--dim)");
      return chip;
    }));
    this.due = performance.now() + 1000 * manifest.TTL;
  }

  error(text) {
    this.errors.textContent = text;
    this.errors.title = text;
    clearTimeout(this.forget);
    this.forget = setTimeout(() => { this.errors.textContent = ""; }, 8000);
  }

  look() {
    const { video, last } = this, now = performance.now();
    if (video.currentTime === last.time && video.currentTime > 0 && !video.ended && now - last.at > 400) {
      this.stalled += (now - Math.max(last.at, last.counted ?? 0)) / 1000;
      last.counted = now;
    }
    if (video.currentTime !== last.time) this.last = { time: video.currentTime, at: now };
    let ahead = 0;
    for (let i = 0; i < video.buffered.length; i++) {
      if (video.buffered.start(i) <= video.currentTime + 0.1) ahead = Math.max(ahead, video.buffered.end(i) - video.currentTime);
    }
    const bits = this.throughput();
    const show = (key, number, digits, unit) =>
      this.numbers[key].replaceChildren(...(Number.isFinite(number) ? [number.toFixed(digits), element("small", { textContent: ` ${unit}` })] : ["–"]));
    show("throughput", bits ? bits / 1e6 : NaN, 1, "Mbit/s");
    show("buffer", ahead, 1, "s");
    show("stalled", this.stalled, 1, "s");
    show("asks in", this.due ? Math.max((this.due - now) / 1000, 0) : NaN, 0, "s");
  }
}

const playlist = (protocol, file) => `${listener}/v1/${protocol}/video/${title}/${file}?session=${crypto.randomUUID()}`;

const START = {
  "hls.js"(card) {
    const hls = new Hls({ maxBufferLength: 6, maxMaxBufferLength: 8 });
    hls.on(Hls.Events.FRAG_LOADED, (_, { frag }) => frag.type === "main" && card.segment(frag.url));
    hls.on(Hls.Events.STEERING_MANIFEST_LOADED, (_, { steeringManifest }) => card.steering(steeringManifest));
    hls.on(Hls.Events.ERROR, (_, { details, fatal }) => card.error(`${fatal ? "fatal: " : ""}${details}`));
    hls.on(Hls.Events.MANIFEST_PARSED, () => card.video.play());
    card.throughput = () => hls.bandwidthEstimate;
    hls.loadSource(playlist("hls", "master.m3u8"));
    hls.attachMedia(card.video);
  },
  async Shaka(card) {
    shaka.polyfill.installAll();
    const player = new shaka.Player();
    const { RequestType } = shaka.net.NetworkingEngine;
    player.getNetworkingEngine().registerResponseFilter((type, response) => {
      if (type === RequestType.SEGMENT && response.uri.includes(".m4s") && !response.uri.includes("/sound/")) card.segment(response.uri);
      if (type === RequestType.CONTENT_STEERING) card.steering(JSON.parse(new TextDecoder().decode(response.data)));
    });
    player.addEventListener("error", ({ detail }) => card.error(`shaka ${detail.code}`));
    await player.attach(card.video);
    player.configure({ streaming: { bufferingGoal: 6, rebufferingGoal: 0.5 } });
    card.throughput = () => player.getStats().estimatedBandwidth;
    await player.load(playlist("hls", "master.m3u8"));
    await card.video.play();
  },
  "dash.js"(card) {
    const player = dashjs.MediaPlayer().create();
    const { events } = dashjs.MediaPlayer;
    let measured = 0;
    player.updateSettings({ streaming: { buffer: { bufferTimeDefault: 6, bufferTimeAtTopQuality: 6 } } });
    player.on(events.FRAGMENT_LOADING_COMPLETED, ({ request }) => {
      if (!request.url || request.mediaType !== "video" || request.type !== "MediaSegment") return;
      card.segment(request.url);
      const took = (request.endDate - request.startDate) / 1000;
      if (took > 0 && request.bytesTotal) measured = measured * 0.7 + 0.3 * (8 * request.bytesTotal / took);
    });
    player.on(events.CONTENT_STEERING_REQUEST_COMPLETED, ({ currentSteeringResponseData: manifest }) => {
      if (manifest) card.steering({ TTL: manifest.ttl, "PATHWAY-PRIORITY": manifest.pathwayPriority });
    });
    player.on(events.ERROR, ({ error }) => card.error(`dash.js ${error.code}`));
    card.throughput = () => measured;
    player.initialize(card.video, playlist("dash", "manifest.mpd"), true);
    card.video.addEventListener("ended", () => player.seek(0));
  },
};

// ---- appliances

const ABOUT = {
  "c001-bom001": "Mumbai, inside the ISP", "c002-bom001": "Mumbai, inside the ISP", "c001-del001": "Delhi, the ISP's next site",
};

function showMachines(list, weights) {
  const root = document.getElementById("machines");
  for (const machine of list.filter(({ id }) => id in ABOUT)) {
    if (machine.state === "serving" && weights[machine.id] < 1000) machine.state = "recovering";
    let box = document.getElementById(machine.id);
    if (!box) {
      box = element("div", { className: "machine", id: machine.id });
      box.style.setProperty("--own", COLOURS[machine.id]);
      box.append(element("b", { textContent: machine.id }), element("span", { className: "status" }),
        element("span", { className: "about", textContent: `${ABOUT[machine.id]} · ${machine.address}` }), element("span", { className: "about viewers" }),
        element("div", { className: "buttons" }));
      root.append(box);
    }
    if (box.dataset.state !== machine.state) {
      box.dataset.state = machine.state;
      box.querySelector(".status").textContent = machine.state;
      const actions = ["serving", "recovering"].includes(machine.state) ? ["fail", "drain", "overload"] : ["recover"];
      box.querySelector(".buttons").replaceChildren(...actions.map((action) => {
        const button = element("button", { textContent: action, className: action === "recover" ? "back" : "" });
        button.onclick = () => press(action, machine.id);
        return button;
      }));
    }
    const viewers = Object.values(cards).filter((card) => card.current === machine.id).map((card) => card.name);
    box.querySelector(".viewers").textContent = viewers.join(", ") || "nobody";
  }
}

async function press(action, id) {
  await fetch(`/${action}/${id}`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
  await look();
}

// ---- the map

function showMap(answer) {
  const candidates = Object.fromEntries((answer.explain?.candidates ?? []).map((item) => [item.appliance, item]));
  const picks = answer.targets.map((target) => target.appliance ?? "cdn");
  const client = [70, 142];
  const parts = [];
  for (const [x, text] of [[340, "rank 0 · Mumbai"], [480, "rank 1 · Delhi"], [595, "fallback"]]) {
    parts.push(`<line class="ranking_entry" x1="${x}" y1="30" x2="${x}" y2="272"/><text class="small" x="${x}" y="20" text-anchor="middle">${text}</text>`);
  }
  // Each path is shifted a little, so that paths do not cover each other or the appliances between.
  Object.values(cards).forEach((card, index) => {
    const place = PLACES[card.current];
    if (!place) return;
    const beside = (index - 1) * 7, lift = card.current === "cdn" ? -120 : card.current === "c001-del001" ? 0 : (place[1] - client[1]) * 0.7;
    const colour = PLAYER_COLOURS[card.name];
    parts.push(`<path class="way" stroke="${colour}" d="M${client[0] + 34} ${client[1] + beside} C${client[0] + 130} ${client[1] + beside + lift * .4}, ${place[0] - 130} ${place[1] + beside + (card.current === "cdn" ? -120 : 0)}, ${place[0] - 24} ${place[1] + beside}"/>`);
  });
  for (const [id, [x, y]] of Object.entries(PLACES)) {
    const about = candidates[id], place = picks.indexOf(id);
    const off = about?.reason, full = about ? about.weight / 1000 : 1;
    const colour = off ? "#3a4453" : COLOURS[id];
    parts.push(`<circle cx="${x}" cy="${y}" r="22" fill="#10151c" stroke="${colour}" stroke-width="3" ${off ? 'stroke-dasharray="4 4"' : ""}/>`);
    if (!off && full < 1) parts.push(`<circle cx="${x}" cy="${y}" r="${(22 * Math.sqrt(full)).toFixed(1)}" fill="${colour}" opacity=".35"/>`);
    parts.push(`<text x="${x}" y="${y + 5}" text-anchor="middle" font-weight="700">${off ? off : place >= 0 ? place + 1 : "·"}</text>`);
    parts.push(`<text x="${x}" y="${y + 42}" text-anchor="middle" class="small" style="fill:${off ? "var(--dim)" : colour}">${id}</text>`);
    const more = off ? MEANING[off] ?? off : about ? `weight ${about.weight}` : "";
    parts.push(`<text x="${x}" y="${y + 57}" text-anchor="middle" class="small">${more}</text>`);
  }
  parts.push(`<circle cx="${client[0]}" cy="${client[1]}" r="30" fill="#1f2732" stroke="#2a3341"/>`);
  parts.push(`<text x="${client[0]}" y="${client[1] - 2}" text-anchor="middle">this</text><text x="${client[0]}" y="${client[1] + 14}" text-anchor="middle">page</text>`);
  parts.push(`<text x="${client[0]}" y="${client[1] + 50}" text-anchor="middle" class="small">${answer.explain?.prefix ?? ""}</text>`);
  Object.entries(PLAYER_COLOURS).forEach(([name, colour], index) => {
    parts.push(`<line x1="${20 + index * 90}" y1="288" x2="${40 + index * 90}" y2="288" stroke="${colour}" stroke-width="3"/><text class="small" x="${46 + index * 90}" y="292">${name}</text>`);
  });
  document.getElementById("map").innerHTML = parts.join("");
  document.getElementById("table").textContent = `table ${answer.table}`;
}

// ---- all of it

async function look() {
  const state = await (await fetch("/state")).json();
  ({ listener, title } = state);
  for (const { id, address } of state.machines) machines[address] = id;
  const answer = await (await fetch(`${listener}/v1/steer?title=${title}&n=8&explain=1`)).json();
  if (answer.explain) {
    showMachines(state.machines, Object.fromEntries(answer.explain.candidates.map(({ appliance, weight }) => [appliance, weight])));
    showMap(answer);
  }
  document.getElementById("listener-name").textContent = listener;
}

async function begin() {
  await look();
  for (const [name, protocol] of [["hls.js", "HLS"], ["Shaka", "HLS"], ["dash.js", "DASH"]]) {
    cards[name] = new Card(name, protocol);
    Promise.resolve(START[name](cards[name])).catch((error) => cards[name].error(String(error.message ?? error.code ?? error)));
  }
  setInterval(() => look().catch(() => {}), 1000);
}
begin();
