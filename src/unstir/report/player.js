// Plays movies and moving points: a slider and a button each. What they show is in the page, as JSON.
const {movies, colours} = JSON.parse(document.getElementById("movies").textContent);
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

function draw(canvas, movie, k) {
  const pen = canvas.getContext("2d"), side = canvas.width, frame = movie.frames[k];
  const x = v => (v - movie.x[0]) / (movie.x[1] - movie.x[0]) * side;
  const y = v => side - (v - movie.y[0]) / (movie.y[1] - movie.y[0]) * side;
  pen.clearRect(0, 0, side, side);
  pen.strokeStyle = getComputedStyle(canvas).color;
  pen.globalAlpha = 0.35;
  pen.lineWidth = 1.6;
  for (const [a, b, dx, dy] of frame.arrows ?? []) {
    pen.beginPath();
    pen.moveTo(x(a), y(b));
    pen.lineTo(x(a + dx), y(b + dy));
    for (const turn of [-1, 1]) {
      pen.moveTo(x(a + dx), y(b + dy));
      pen.lineTo(x(a + dx - 0.2 * (dx - turn * dy)), y(b + dy - 0.2 * (dy + turn * dx)));
    }
    pen.stroke();
  }
  pen.globalAlpha = 0.85;
  frame.points.forEach(([a, b], i) => {
    pen.fillStyle = colours[(movie.groups ? movie.groups[i] : 0) % colours.length];
    pen.beginPath();
    pen.arc(x(a), y(b), 4, 0, 7);
    pen.fill();
  });
}

document.querySelectorAll(".player").forEach((player, number) => {
  const movie = movies[number], last = movie.frames.length - 1;
  const screen = player.querySelector("img, canvas"), button = player.querySelector("button");
  const slider = player.querySelector("input"), words = player.querySelector("output");
  let k = 0, timer = null;
  function show(wanted) {
    k = slider.value = wanted;
    if (screen.tagName === "IMG") {
      screen.src = movie.frames[k];
      screen.alt = movie.labels[k];
    } else {
      draw(screen, movie, k);
    }
    words.value = movie.labels ? movie.labels[k] : movie.frames[k].label;
  }
  function next() {
    show(k === last ? 0 : k + 1);
    play(true);
  }
  function play(on) {
    clearTimeout(timer);
    timer = on ? setTimeout(next, k === last ? 1500 : 1000 / movie.fps) : null;
    button.textContent = on ? "❚❚" : "▶";
    button.ariaLabel = on ? "Pause" : "Play";
  }
  slider.max = last;
  slider.oninput = () => { play(false); show(Number(slider.value)); };
  button.onclick = () => play(timer === null);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(k));
  show(still ? last : 0);
  play(!still);
});
