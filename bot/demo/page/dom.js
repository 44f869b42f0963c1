// Small helpers for elements, icons, popovers, toasts and what screen readers hear.

const PATHS = {
  menu: "M4 7h16M4 12h16M4 17h16",
  star: "M12 4l2.4 5 5.6.7-4.1 3.8 1 5.5L12 16.3 7.1 19l1-5.5L4 9.7 9.6 9z",
  reply: "M10 8V4L3 11l7 7v-4c5 0 8 1.5 11 6-.5-7-4-12-11-12z",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  smile: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M8.5 14.5c1.8 2.5 5.2 2.5 7 0M9 9.5h.01M15 9.5h.01",
  send: "M4 12l16-8-6 16-3-7z",
  thread: "M5 5h14v10H10l-5 4z",
  lock: "M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13z",
  close: "M6 6l12 12M18 6L6 18",
};

export const $ = (id) => document.getElementById(id);

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key === "html") element.innerHTML = value; // only what the server's markup module made
    else if (key === "data") Object.assign(element.dataset, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("glyph");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

export const avatar = (who) => h("span", { class: `avatar hue-${who.hue}`, "aria-hidden": "true" }, [...who.name][0]);

export const tag = (who) =>
  who.tag && h("span", { class: "tag", title: who.tag === "AI" ? "A bot; its words are generated" : "A bot" }, who.tag);

export function toast(sentence) {
  const line = h("p", { class: "toast" }, sentence);
  $("toasts").append(line);
  setTimeout(() => line.remove(), 7000);
}

export function announce(sentence) {
  $("announcer").textContent = sentence;
}

let closeOpen = null;

// Show `content` near `anchor`; arrow keys move between its buttons, Escape closes and gives the focus back.
export function popover(anchor, content, label, columns = 1) {
  closeOpen?.();
  const box = h("div", { class: "popover", role: "menu", "aria-label": label }, content);
  document.body.append(box);
  const at = anchor.getBoundingClientRect();
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`;
  box.style.top = `${at.top - height - 6 < 8 ? Math.min(at.bottom + 6, innerHeight - height - 8) : at.top - height - 6}px`;
  const items = [...box.querySelectorAll("button")];
  const close = () => {
    document.removeEventListener("pointerdown", outside, true);
    box.remove();
    anchor.setAttribute("aria-expanded", "false");
    closeOpen = null;
  };
  const outside = (event) => box.contains(event.target) || close();
  document.addEventListener("pointerdown", outside, true);
  box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (step) {
      event.preventDefault();
      const next = items.indexOf(document.activeElement) + step;
      items[(next + items.length) % items.length].focus();
    } else if (event.key === "Escape" || event.key === "Tab") {
      event.preventDefault();
      close();
      anchor.focus();
    }
  });
  anchor.setAttribute("aria-expanded", "true");
  closeOpen = close;
  items[0]?.focus();
  return close;
}

export const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
