// The message list: in-place updates without flicker or jumps, arrow keys between messages, quiet live edits.

import { $, announce, avatar, clock, h, icon, tag } from "./dom.js";
import { drawComponents, drawEmbed } from "./parts.js";
import { Toolbar } from "./toolbar.js";

const FOLLOWS_WITHIN_MS = 5 * 60 * 1000;
const QUIET_MS = 1500; // a message still edited within this time is not read out yet
const TYPING_MS = 10000;
const SHOWN_AT_MOST = 300;

// Snowflakes are decimal strings of growing length.
const before = (a, b) => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);

export class Log {
  constructor(app) {
    this.app = app;
    this.box = $("log");
    this.shown = new Map(); // id -> { element, message, slots }
    this.readers = new Map(); // id -> timer
    this.toolbar = new Toolbar(app);
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.following = true; // at the end, and to stay there as messages grow
    this.box.addEventListener("scroll", () => {
      this.following = this.atEnd();
      if (this.following) $("newer").hidden = true;
    });
    this.box.addEventListener("click", (event) => event.target.closest(".spoiler")?.classList.add("open"));
    $("newer").addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.following && this.toEnd()).observe(this.box);
  }

  fill(messages, moved) {
    const stay = !moved && !this.following;
    for (const timer of this.readers.values()) clearTimeout(timer);
    this.readers.clear();
    const kept = new Set(messages.map((message) => message.id));
    for (const id of [...this.shown.keys()]) if (moved || !kept.has(id)) this.drop(id);
    for (const message of messages) this.draw(message);
    this.stopTyping();
    this.empty();
    $("newer").hidden = true;
    if (!stay) this.toEnd();
  }

  put(message) {
    if (message.channel !== this.app.state.channel) return;
    const follow = this.atEnd() || (message.own && !this.shown.has(message.id));
    const known = this.shown.has(message.id);
    this.draw(message);
    this.empty();
    this.stopTyping(message.author.name);
    if (this.shown.size > SHOWN_AT_MOST && follow) this.drop(this.box.firstElementChild.message.id);
    if (follow) this.toEnd();
    else if (!known) $("newer").hidden = false;
    if (!message.own && (!known || this.readers.has(message.id))) this.readLater(message);
  }

  remove(id) {
    this.drop(id);
    this.empty();
  }

  drop(id) {
    const entry = this.shown.get(id);
    if (!entry) return;
    const next = entry.element.nextElementSibling;
    const hadFocus = entry.element.contains(document.activeElement);
    if (entry.element.contains(this.toolbar.element)) this.toolbar.hide();
    entry.element.remove();
    this.shown.delete(id);
    this.join(next);
    if (hadFocus) (next ?? $("box"))?.focus();
  }

  // ---- drawing

  draw(message) {
    let entry = this.shown.get(message.id);
    if (!entry) {
      entry = { element: this.frame(message), slots: {} };
      this.shown.set(message.id, entry);
      this.insert(entry.element, message.id);
    }
    const { element, slots } = entry;
    entry.message = message;
    element.message = message;
    element.className = "message";
    for (const name of ["own", "pinged", "ephemeral", "system", "thinking"]) element.classList.toggle(name, message[name]);
    element.classList.toggle("bot", Boolean(message.author.tag));
    element.setAttribute("aria-label", `${message.author.name}, ${clock.format(new Date(message.time))}: ${message.text || "no text"}`);
    const slot = (name, value, build) => {
      const key = JSON.stringify(value);
      if (slots[name] === key) return;
      slots[name] = key;
      const place = element.querySelector(`:scope .s-${name}`);
      const focus = place.contains(document.activeElement) ? document.activeElement.dataset.key ?? "" : null;
      place.replaceChildren(...[build(value)].flat().filter(Boolean));
      if (focus !== null) (place.querySelector(`[data-key="${CSS.escape(focus)}"]`) ?? element).focus({ preventScroll: true });
    };
    slot("reply", [message.reply, message.command], () => this.context(message));
    slot("content", [message.html, message.thinking, message.edited && !message.author.tag], () => this.content(message));
    slot("embeds", message.embeds, (embeds) => embeds.map(drawEmbed));
    slot("files", message.files, (files) => files.map((name) => h("p", { class: "file" }, `📎 ${name}`)));
    slot("part", message.components, (parts) => drawComponents(this.app, message, parts));
    slot("reactions", message.reactions, (reactions) => reactions.map((reaction) => this.reaction(message, reaction)));
    slot("foot", [message.ephemeral, message.thread], () => this.foot(message));
    this.join(element);
    this.join(element.nextElementSibling);
    this.rove(element);
  }

  frame(message) {
    const time = new Date(message.time);
    const stamp = (style) => h("time", { class: style, datetime: message.time, title: time.toLocaleString() }, clock.format(time));
    const element = h(
      "article",
      { class: "message", id: `m-${message.id}`, tabindex: -1 },
      h("div", { class: "gutter" }, avatar(message.author), stamp("small")),
      h(
        "div",
        { class: "body" },
        h("div", { class: "s-reply" }),
        h("div", { class: "line" }, h("b", { class: `name ink-${message.author.hue}` }, message.author.name), tag(message.author), stamp("when")),
        h("div", { class: "s-content content", dir: "auto" }),
        h("div", { class: "s-embeds" }),
        h("div", { class: "s-files" }),
        h("div", { class: "s-part part" }),
        h("div", { class: "s-reactions", role: "group", "aria-label": "Reactions" }),
        h("div", { class: "s-foot" }),
      ),
    );
    element.addEventListener("pointerenter", () => this.toolbar.attach(element));
    element.addEventListener("focusin", () => (this.toolbar.attach(element), this.rove(element)));
    return element;
  }

  insert(element, id) {
    let next = null;
    for (let at = this.box.lastElementChild; at?.message && before(at.message.id, id) > 0; at = at.previousElementSibling) next = at;
    this.box.insertBefore(element, next);
  }

  // Messages of one author in a row share one head.
  join(element) {
    const message = element?.message;
    const above = element?.previousElementSibling?.message;
    if (!message) return;
    const close = above && new Date(message.time) - new Date(above.time) < FOLLOWS_WITHIN_MS;
    const plain = !message.reply && !message.command && !message.system && !above?.system;
    const same = above?.author.id === message.author.id && above?.author.name === message.author.name;
    element.classList.toggle("follows", Boolean(close && plain && same && above.ephemeral === message.ephemeral));
  }

  context(message) {
    if (message.command) return h("p", { class: "context" }, h("b", {}, message.command.who), " used ", h("b", { class: "command-name" }, message.command.name));
    if (!message.reply) return null;
    const text = [h("b", {}, message.reply.name), h("span", {}, message.reply.text || "…")];
    if (!message.reply.id) return h("p", { class: "context" }, icon("reply"), text);
    const go = () => {
      const target = $(`m-${message.reply.id}`);
      target?.scrollIntoView({ block: "center" });
      target?.focus({ preventScroll: true });
    };
    return h("button", { type: "button", class: "context", "aria-label": `Reply to ${message.reply.name}: ${message.reply.text}`, onclick: go }, icon("reply"), text);
  }

  content(message) {
    if (message.thinking) return h("p", { class: "dim dots" }, `${message.author.name} is thinking`);
    if (message.system) {
      return h("p", { class: "dim" }, message.thread ? `${message.author.name} started a thread` : message.text);
    }
    const holder = h("div", { html: message.html });
    // Nobody needs to be told that a bot's message was edited: streaming is edits.
    if (message.edited && !message.author.tag) holder.append(h("span", { class: "dim edited" }, "(edited)"));
    return [...holder.childNodes];
  }

  reaction(message, { emoji, key, count, mine, names }) {
    const label = `${emoji}, ${count}: ${names.join(", ")}`;
    const press = () => this.app.act("react", { message: message.id, emoji: key, on: !mine });
    return h(
      "button",
      { type: "button", class: "reaction", "aria-pressed": String(mine), "aria-label": label, title: names.join(", "), data: { key }, onclick: press },
      emoji,
      h("span", {}, String(count)),
    );
  }

  foot(message) {
    const thread = message.thread;
    return [
      thread && h("button", { type: "button", class: "thread-link", onclick: () => this.app.open(this.app.state.me, thread.id) }, icon("thread"), h("b", {}, thread.name), h("span", {}, `${thread.count} message${thread.count === 1 ? "" : "s"}`)),
      message.ephemeral && h("p", { class: "dim only" }, "Only you can see this."),
    ];
  }

  empty() {
    this.box.querySelector(".empty")?.remove();
    if (this.shown.size) return;
    const { kind, name } = this.app.here();
    const bot = this.app.state.bot.name;
    this.box.append(
      h(
        "div",
        { class: "empty" },
        avatar(this.app.state.bot),
        h("p", {}, h("b", {}, kind === "dm" ? `This is you and ${bot}, nobody else.` : `Nothing in #${name} yet.`)),
        h("p", { class: "dim" }, kind === "dm" ? "Write anything." : `Start with @${bot} and it answers.`),
      ),
    );
  }

  // ---- keyboard and scrolling

  rove(element) {
    for (const { element: other } of this.shown.values()) if (other.tabIndex === 0 && other !== element) other.tabIndex = -1;
    element.tabIndex = 0;
  }

  key(event) {
    const current = event.target.closest?.(".message");
    if (event.target !== current) return;
    const to = {
      ArrowUp: () => current.previousElementSibling,
      ArrowDown: () => current.nextElementSibling,
      Home: () => this.box.firstElementChild,
      End: () => this.box.lastElementChild,
    }[event.key];
    if (to) {
      event.preventDefault();
      to()?.focus();
    } else if (event.key === "Escape") $("box")?.focus();
  }

  atEnd() {
    return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 60;
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
    this.following = true;
    $("newer").hidden = true;
  }

  // ---- what is said aloud

  readLater(message) {
    clearTimeout(this.readers.get(message.id));
    const timer = setTimeout(() => {
      this.readers.delete(message.id);
      const now = this.shown.get(message.id)?.message;
      if (now && !now.thinking) announce(`${now.author.name}: ${now.text}`);
    }, message.author.tag ? QUIET_MS : 0);
    this.readers.set(message.id, timer);
  }

  typing(name) {
    clearTimeout(this.typingTimer);
    this.typist = name;
    $("typing").replaceChildren(h("span", { class: "dots" }, h("b", {}, name), " is typing"));
    this.typingTimer = setTimeout(() => this.stopTyping(), TYPING_MS);
  }

  stopTyping(name = this.typist) {
    if (name === this.typist) $("typing").replaceChildren();
  }
}
