// Keeps the parts of a page that are marked data-live up to date, by fetching the page itself. Without
// this script everything works by reloading.
"use strict";

(() => {
  const INTERVAL_MS = 2000;
  const INTERVAL_MAX_MS = 30000;
  const TIMEOUT_MS = 10000;
  const TYPING_MS = 200;

  const status = document.getElementById("live");
  const pause = document.getElementById("pause");
  const isLive = document.body.hasAttribute("data-refresh");
  let timer = 0;
  let running = null;
  let failures = 0;
  let paused = false;

  const say = (text, state) => {
    if (!status) return;
    // Only what has changed, so that it is read out once.
    if (status.textContent !== text) status.textContent = text;
    status.dataset.state = state;
  };

  // Makes one node like another, touching only what differs; what a person types in, and where the
  // focus is, stays.
  const morph = (from, to) => {
    if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) {
      from.replaceWith(document.adoptNode(to));
      return;
    }
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    if (from.matches("input, select, textarea")) return;
    const open = from.nodeName === "DETAILS" && from.open;
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name)) from.removeAttribute(name);
    }
    for (const { name, value } of [...to.attributes]) {
      if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    if (open) from.open = true;
    const before = [...from.childNodes];
    const after = [...to.childNodes];
    after.forEach((node, i) => {
      if (i < before.length) morph(before[i], node);
      else from.append(document.adoptNode(node));
    });
    before.slice(after.length).forEach((node) => node.remove());
  };

  const apply = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const part of document.querySelectorAll("[data-live][id]")) {
      const now = page.getElementById(part.id);
      if (now) morph(part, now);
    }
  };

  const schedule = () => {
    clearTimeout(timer);
    if (!isLive || paused || document.hidden) return;
    const wait = Math.min(INTERVAL_MS * 2 ** failures, INTERVAL_MAX_MS);
    timer = setTimeout(refresh, wait);
  };

  const refresh = async () => {
    clearTimeout(timer);
    if (running) running.abort();
    const mine = new AbortController();
    running = mine;
    const late = setTimeout(() => mine.abort(), TIMEOUT_MS);
    try {
      const answer = await fetch(location.href, {
        headers: { Accept: "text/html" },
        cache: "no-store",
        signal: mine.signal,
      });
      // The log-in has ended: the page asks for it.
      if (answer.status === 401) {
        location.reload();
        return;
      }
      if (answer.status >= 500 || answer.status === 429) throw new Error(answer.statusText);
      apply(await answer.text());
      failures = 0;
      if (isLive && !paused) say("Live", "live");
    } catch {
      // One that a later one has replaced says nothing.
      if (running !== mine) return;
      failures = Math.min(failures + 1, 8);
      say("The relay does not answer; trying again", "lost");
    } finally {
      clearTimeout(late);
      if (running === mine) {
        running = null;
        schedule();
      }
    }
  };

  // Forms that filter do so while a person types or chooses.
  for (const form of document.querySelectorAll("form[data-filter]")) {
    let typing = 0;
    const filter = () => {
      const query = new URLSearchParams();
      for (const [name, value] of new FormData(form)) {
        if (value) query.append(name, value);
      }
      const text = query.toString();
      history.replaceState(null, "", form.action.split("?")[0] + (text && "?" + text));
      refresh();
    };
    form.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(filter, TYPING_MS);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(typing);
      filter();
    });
  }

  // Once is enough.
  for (const form of document.querySelectorAll("form[data-once]")) {
    form.addEventListener("submit", () => {
      for (const button of form.querySelectorAll("button")) button.disabled = true;
    });
  }

  if (!isLive) return;

  if (pause) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.textContent = paused ? "Resume" : "Pause";
      if (paused) {
        clearTimeout(timer);
        say("Paused", "paused");
      } else {
        refresh();
      }
    });
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (!paused) refresh();
  });
  say("Live", "live");
  schedule();
})();
