"use strict";
(() => {
  const about = JSON.parse(document.getElementById("about").textContent);
  const byId = (id) => document.getElementById(id);
  const picture = byId("picture"), video = byId("video"), boxes = byId("boxes"), list = byId("list");
  const camera = byId("camera"), choice = byId("faces");
  const SVG = "http://www.w3.org/2000/svg", THUMBNAIL = 224, FRAME = 640, PAUSE = 100;
  let shown = null; // {blob, name, found}: the picture on the page
  let newest = 0; // Number of the newest picture: the answer to an older one is dropped.
  let stream = null; // of the webcam, while it runs

  const percent = (value) => (100 * value).toFixed(1) + " %";

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function drawn(tag, attributes, ...children) {
    const made = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // A screen reader repeats what is set anew, also if it is the same.
  function say(text) { if (byId("status").textContent !== text) byId("status").textContent = text; }

  function complain(text) {
    byId("error").textContent = text;
    byId("error").hidden = !text;
  }

  async function ask(question, blob) {
    let reply;
    try {
      reply = await fetch(question, { method: "POST", body: blob });
    } catch {
      throw new Error("the server does not answer; is fer-jax demo still running?");
    }
    const found = await reply.json();
    if (!reply.ok) throw new Error(found.error);
    return found;
  }

  const judged = (blob) => ask("/faces?faces=" + encodeURIComponent(choice.value), blob);

  function summary(found) {
    if (!found.faces.length) return "No face found";
    const counts = new Map();
    for (const face of found.faces) {
      const name = face.abstained ? "unsure" : face.label;
      counts.set(name, (counts.get(name) || 0) + 1);
    }
    const parts = [...counts].map(([name, count]) => (found.faces.length > 1 ? `${count} ${name}` : name));
    return `${found.faces.length} face${found.faces.length > 1 ? "s" : ""}: ${parts.join(", ")}`;
  }

  function drawBoxes(found) {
    boxes.setAttribute("viewBox", `0 0 ${found.width} ${found.height}`);
    const size = Math.max(found.width, found.height) / 32;
    boxes.replaceChildren(...found.faces.flatMap((face, i) => {
      const [left, top, right, bottom] = face.box, text = `${i + 1} ${face.abstained ? "unsure" : face.label}`;
      const x = Math.max(left, 0), y = Math.max(top - 1.4 * size, 0);
      return [
        drawn("rect", { x: left, y: top, width: right - left, height: bottom - top, class: face.abstained ? "unsure" : "" }),
        drawn("rect", { x, y, width: 0.62 * size * (text.length + 1), height: 1.4 * size, class: "tag" }),
        drawn("text", { x: x + 0.3 * size, y: y + 1.05 * size, "font-size": size }, text),
      ];
    }));
  }

  function bars(face) {
    const best = face.probabilities.indexOf(Math.max(...face.probabilities));
    return element("ul", { class: "bars", "aria-label": "Probabilities" }, ...face.probabilities.map((value, i) => {
      const bar = element("i", {});
      bar.style.width = 100 * value + "%";
      return element("li", i === best ? { class: "best" } : {},
        element("span", { class: "name" }, about.names[i]),
        element("span", { class: "track", "aria-hidden": "true" }, bar),
        element("span", { class: "value" }, percent(value)));
    }));
  }

  function card(face, i, source, explained) {
    const title = `Face ${i + 1}: ${face.abstained ? "unsure, perhaps " : ""}${face.label}`;
    const canvas = element("canvas", { width: THUMBNAIL, height: THUMBNAIL, role: "img", "aria-label": title });
    const made = element("li", { class: "face" }, element("h2", {}, title), canvas, bars(face));
    if (source) drawFace(canvas, source, face.box);
    if (explained && about.explains) made.append(...look(face, i, canvas, title));
    return made;
  }

  function drawFace(canvas, source, [left, top, right, bottom]) {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, THUMBNAIL, THUMBNAIL);
    context.drawImage(source, left, top, right - left, bottom - top, 0, 0, THUMBNAIL, THUMBNAIL);
  }

  // The button that shows where the model looks, the class for which it is asked, and what there is to see in words.
  function look(face, i, canvas, title) {
    const { blob } = shown, told = element("p", { class: "told", role: "status" });
    const button = element("button", { type: "button", "aria-pressed": "false" }, "Where the model looks");
    const names = about.names.map((name) => element("option", name === face.label ? { selected: "" } : {}, name));
    const select = element("select", { "aria-label": `Class to explain in face ${i + 1}` }, ...names);

    async function explain() {
      button.disabled = select.disabled = true;
      told.textContent = "Looking …";
      try {
        const question = `/explanation?box=${face.box}&class=${encodeURIComponent(select.value)}`;
        const found = await ask(question, blob);
        drawFace(canvas, picture, face.box);
        told.textContent = lay(canvas, found.map, select.value);
        canvas.setAttribute("aria-label", `${title}. ${told.textContent}`);
        button.setAttribute("aria-pressed", "true");
      } catch (error) {
        told.textContent = error.message;
      }
      button.disabled = select.disabled = false;
    }

    button.addEventListener("click", () => {
      if (button.getAttribute("aria-pressed") === "false") return explain();
      button.setAttribute("aria-pressed", "false");
      drawFace(canvas, picture, face.box);
      canvas.setAttribute("aria-label", title);
      told.textContent = "";
    });
    select.addEventListener("change", () => { if (button.getAttribute("aria-pressed") === "true") explain(); });
    return [element("div", { class: "look" }, button, element("span", {}, "for"), select), told];
  }

  // Lay the map over the face, the more opaque the larger, and return in words where it is largest.
  function lay(canvas, map, name) {
    const size = map.length, small = element("canvas", { width: size, height: size });
    const context = small.getContext("2d"), pixels = context.createImageData(size, size);
    let most = 0, row = 0, column = 0;
    map.forEach((values, y) => values.forEach((value, x) => {
      pixels.data.set([255, 60, 0, 0.65 * value], 4 * (y * size + x));
      if (value > most) [most, row, column] = [value, y, x];
    }));
    if (!most) return `Nothing in this face speaks for ${name}.`;
    context.putImageData(pixels, 0, 0);
    canvas.getContext("2d").drawImage(small, 0, 0, THUMBNAIL, THUMBNAIL);
    const down = ["upper", "middle", "lower"][Math.floor((3 * row) / size)];
    const across = ["left", "middle", "right"][Math.floor((3 * column) / size)];
    const place = down === across ? "middle" : `${down} ${across}`;
    return `What speaks for ${name} is strongest in the ${place}.`;
  }

  function render(found, source, explained) {
    drawBoxes(found);
    list.replaceChildren(...found.faces.map((face, i) => card(face, i, source, explained)));
    say(summary(found));
    byId("found").hidden = false;
  }

  // Show a picture that was judged.
  async function show(blob, name, found) {
    const before = picture.src;
    shown = { blob, name, found };
    picture.src = URL.createObjectURL(blob);
    if (before) URL.revokeObjectURL(before);
    let seen = true;
    try {
      await picture.decode();
    } catch {
      seen = false; // A kind of file that the server reads and the browser does not.
    }
    if (shown.blob !== blob) return;
    picture.alt = `${name}. ${summary(found)}.`;
    picture.classList.toggle("small", found.width < 320);
    picture.hidden = !seen;
    video.hidden = true;
    byId("caption").textContent = seen ? name : `${name}: this browser cannot show it`;
    render(found, seen ? picture : null, true);
    boxes.style.display = seen ? "" : "none";
  }

  async function judge(blob, name) {
    const number = ++newest;
    stopCamera();
    complain("");
    if (blob.size > about.mostBytes) {
      complain(`${name}: has ${Math.round(blob.size / 2 ** 20)} MiB, expected at most ${about.mostBytes / 2 ** 20} MiB`);
      return;
    }
    say("Judging …");
    try {
      const found = await judged(blob);
      if (number === newest) await show(blob, name, found);
    } catch (error) {
      if (number !== newest) return;
      complain(`${name}: ${error.message}`);
      say("");
    }
  }

  async function startCamera() {
    complain("");
    if (!navigator.mediaDevices) {
      complain("A browser gives its webcam only to pages of this machine or by https; open the demo as localhost.");
      return;
    }
    camera.disabled = true;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: FRAME } } });
    } catch (error) {
      complain(`The webcam cannot be used: ${error.message || error.name}`);
      return;
    } finally {
      camera.disabled = false;
    }
    const number = ++newest;
    video.srcObject = stream;
    camera.textContent = "Stop, and keep this picture";
    boxes.replaceChildren();
    list.replaceChildren();
    picture.hidden = true;
    video.hidden = false;
    boxes.style.display = "";
    byId("caption").textContent = "webcam";
    byId("found").hidden = false;
    say("The webcam is on");
    await video.play();
    watch(number);
  }

  // Judge what the webcam sees, one picture after the other, until it stops.
  async function watch(number) {
    const frame = document.createElement("canvas");
    let last = null;
    while (stream && number === newest) {
      if (video.videoWidth) {
        const scale = Math.min(1, FRAME / Math.max(video.videoWidth, video.videoHeight));
        frame.width = Math.round(scale * video.videoWidth);
        frame.height = Math.round(scale * video.videoHeight);
        frame.getContext("2d").drawImage(video, 0, 0, frame.width, frame.height);
        const blob = await new Promise((done) => frame.toBlob(done, "image/jpeg", 0.9));
        try {
          last = { blob, found: await judged(blob) };
        } catch (error) {
          complain(error.message);
          break;
        }
        if (stream && number === newest) render(last.found, frame, false);
      }
      await new Promise((done) => setTimeout(done, PAUSE));
    }
    stopCamera();
    if (number !== newest) return;
    if (last) await show(last.blob, "webcam", last.found);
    else byId("found").hidden = true;
  }

  function stopCamera() {
    if (stream) stream.getTracks().forEach((track) => track.stop());
    stream = null;
    video.srcObject = null;
    camera.textContent = "Use the webcam";
  }

  camera.addEventListener("click", () => (stream ? stopCamera() : startCamera()));
  choice.addEventListener("change", () => { if (shown && !stream) judge(shown.blob, shown.name); });
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // The same file can be chosen again.
    if (file) judge(file, file.name);
  });
  byId("form").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) judge(file, file.name || "pasted picture");
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); byId("drop").classList.add("over"); });
  document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    byId("drop").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) judge(file, file.name);
    else complain("Drop a picture's file; from another page, save it first.");
  });
})();
