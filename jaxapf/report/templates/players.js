  // Players: one position shared by all, one of them audible at a time.
  const players = new Map();
  for (const box of document.querySelectorAll(".player")) {
    const audio = box.querySelector("audio");
    audio.controls = false;
    players.set(box.dataset.key, { box, audio, button: box.querySelector("button") });
  }
  let current = players.get("50-before") ?? players.values().next().value;
  const playing = () => !current.audio.paused && !current.audio.ended;

  const show = () => {
    for (const player of players.values()) {
      const on = player === current;
      player.box.classList.toggle("on", on);
      player.box.classList.toggle("playing", on && playing());
      player.button.setAttribute("aria-pressed", String(on && playing()));
    }
    byId("play").textContent = playing() ? "Pause" : "Play";
    byId("ab").disabled = !counterpart();
    showTime();
  };
  const showTime = () => {
    const duration = current.audio.duration || 0;
    const at = current.audio.currentTime;
    byId("seek").value = duration ? (1000 * at) / duration : 0;
    byId("seek").setAttribute("aria-valuetext", at.toFixed(1) + " seconds");
    byId("time").textContent = at.toFixed(1) + " / " + duration.toFixed(1) + " s";
    if (playing()) requestAnimationFrame(showTime);
  };
  const start = (player) => player.audio.play().catch((error) => {
    if (error.name !== "AbortError") announce("This browser cannot play it: " + error.message);
  });
  const choose = (player, play) => {
    const at = current.audio.ended ? 0 : current.audio.currentTime;
    if (player !== current) {
      const before = current;
      current = player;
      before.audio.pause();
      current.audio.currentTime = at;
    }
    if (play) start(current); else current.audio.pause();
    show();
  };
  const counterparts = { before: "after", after: "before", dry: "aligned", aligned: "dry" };
  const counterpart = () => {
    const parts = current.box.dataset.key.split("-");
    parts.push(counterparts[parts.pop()]);
    return players.get(parts.join("-"));
  };
  const swap = () => { const other = counterpart(); if (other) choose(other, playing()); };

  for (const player of players.values()) {
    player.button.addEventListener("click", () => choose(player, player !== current || !playing()));
    for (const event of ["play", "pause", "ended", "loadedmetadata"]) {
      player.audio.addEventListener(event, () => { if (player === current) show(); });
    }
    player.audio.addEventListener("error", () => { player.button.disabled = true; });
  }
  byId("play").addEventListener("click", () => choose(current, !playing()));
  byId("ab").addEventListener("click", swap);
  byId("seek").addEventListener("input", (event) => {
    current.audio.currentTime = ((current.audio.duration || 0) * event.target.value) / 1000;
    showTime();
  });
  byId("loop").addEventListener("change", (event) => {
    for (const player of players.values()) player.audio.loop = event.target.checked;
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "b") swap();
    if (event.key === "p") choose(current, !playing());
  });
  show();
